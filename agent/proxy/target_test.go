package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/fifegateway/fife/agent/http1"
)

func TestParseTarget(t *testing.T) {
	for _, c := range []struct{ uri, origin, path, query string }{
		{"http://a", "http://a", "/", ""},
		{"HTTPS://a.b:8443/x/%2f?y=1&z", "HTTPS://a.b:8443", "/x/%2f", "y=1&z"},
		{"http://[::1]:80?y?z", "http://[::1]:80", "/", "y?z"},
		{"http://a//x/..y/", "http://a", "//x/..y/", ""},

		{uri: ""}, {uri: "http://"}, {uri: "http:///x"}, {uri: "ftp://a/"}, {uri: "a/x"}, {uri: "http:a/x"},
		{uri: "http://user@a/"}, {uri: "http://a:b/"}, {uri: "http://a:/"}, {uri: "http://a b/"}, {uri: "http://a,b/"},
		{uri: "http://[00]/"}, {uri: "http://[1.2.3.4]/"}, {uri: "http://[::1%251]/"},
		{uri: "http://a\\b/"}, {uri: "http://a#b/"}, {uri: "http://a/#b"}, {uri: "http://a/x?y#b"}, {uri: "http://a/x y"},
		{uri: "http://a/x?y z"}, {uri: "http://a/x\r\ny"}, {uri: "http://a/\\"}, {uri: "http://a/é"}, {uri: "http://a/%"}, {uri: "http://a/%zz"},
		{uri: "http://a/.."}, {uri: "http://a/x/./y"}, {uri: "http://a/%2e%2E/y"}, {uri: "http://a/x%2f..%2fy"},
	} {
		got, err := parseTarget(c.uri)
		if (err != nil) != (c.origin == "") || err == nil && (got.origin != c.origin || got.path != c.path || got.query != c.query) {
			t.Errorf("parseTarget(%q) = %+v, %v", c.uri, got, err)
		}
	}
}

// FuzzTarget: a URI that is accepted means the same to net/url, and the request that is
// made of it asks for exactly that, whoever reads it.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{
		"http://a", "https://a.example:8443/x/%2f?y=1", "http://[::1]:80/?", "HTTP://A/..x", "http://a/x?y?z", "http://u@a/", "http://a/#", "http://a/../", "http://a/%2e",
	} {
		f.Add(s, "")
		f.Add(s, "q=1&%zz")
	}
	f.Fuzz(func(t *testing.T, uri, query string) {
		target, err := parseTarget(uri)
		if err != nil {
			return
		}
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatalf("%q: net/url: %v", uri, err)
		}
		path := u.EscapedPath()
		if path == "" {
			path = "/"
		}
		if u.Scheme != "http" && u.Scheme != "https" || (u.Scheme == "https") != target.secure || u.Host != target.authority || u.User != nil || u.Fragment != "" ||
			path != target.path || u.RawQuery != target.query {
			t.Fatalf("%q: got %+v, net/url %+v", uri, target, u)
		}
		if again, err := normalizePath(target.path); again != target.path && !errors.Is(err, errPathByte) {
			t.Fatalf("%q: the path %q is brought into the form %q, %v", uri, target.path, again, err)
		}

		query = normalizeQuery(query)
		line := append(target.appendRequestLine(nil, "GET", query), "Host: "+target.authority+"\r\n\r\n"...)
		want := target.query
		if want != "" && query != "" {
			want += "&"
		}
		want += query
		var own http1.Request
		if n, err := own.Parse(bytes.Clone(line)); len(line) <= http1.MaxTarget && (err != nil || n != len(line)) {
			t.Fatalf("%q: %d of %q are a request, %v", uri, n, line, err)
		} else if err == nil && (own.Path != target.path || own.Query != want) {
			t.Fatalf("%q: %q asks for %q and %q", uri, line, own.Path, own.Query)
		}
		theirs, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(line)))
		if err != nil {
			t.Fatalf("%q: net/http: %q: %v", uri, line, err)
		}
		if path, query, _ := strings.Cut(theirs.RequestURI, "?"); path != target.path || query != want {
			t.Fatalf("%q: net/http takes %q to ask for %q", uri, line, theirs.RequestURI)
		}
	})
}
