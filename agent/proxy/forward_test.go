package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fifegateway/fife/agent/http1"
	"github.com/fifegateway/fife/agent/route"
)

// lineEcho is an upstream that answers with the request line as it came, and counts.
func lineEcho(t testing.TB, requests *atomic.Int64) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				in := bufio.NewReaderSize(c, 2*http1.MaxHead)
				for {
					first := ""
					for {
						line, err := in.ReadString('\n')
						if err != nil {
							return
						}
						if first == "" {
							first = line
						}
						if line == "\r\n" {
							break
						}
					}
					requests.Add(1)
					first = strings.TrimSuffix(first, "\r\n")
					_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(first), first)
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// FuzzForwardedPath sends request targets through the whole agent: the bytes that chose
// the route are those that the upstream gets, and it gets none that would choose another
// route, or leave the one chosen, however it reads them.
func FuzzForwardedPath(f *testing.F) {
	var requests atomic.Int64
	up := lineEcho(f, &requests)
	table := compileRoutes(f, stage(nil), nil, []route.RouteSpec{
		{Method: "ANY", Path: "/{proxy+}", Integration: route.HTTPSpec{URI: up + "/general/{proxy}"}},
		{Method: "ANY", Path: "/admin/{proxy+}", Integration: route.HTTPSpec{URI: up + "/admin/{proxy}"}},
		{Method: "ANY", Path: "/one/{id}/x", Integration: route.HTTPSpec{URI: up + "/one/{id}?own"}},
	})
	p := newProxy(f, table, nil)
	for _, s := range []string{
		"/prod/a", "/prod/admin/x", "/prod/%61dmin/x", "/prod/a/../admin/x", "/prod/a/%2e%2e/admin/x", "/prod//admin/x", "/prod/admin%2fx", "/prod/..%2fadmin/x",
		"/prod/one/1/x?a=b&c", "/prod/one/a%2fb/x", "/prod/one//x", "/%70rod/a", "/prod/./a/", "/other/../prod/a", "/prod/é|\"?é#", "/prod/a?b c", "/prod/a;b=c/d", "//prod/a", "/prod/admin/", "/prod/admin//", "/prod/admin///x/", "/prod/%2e%2e%2fx",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, target []byte) {
		if bytes.ContainsAny(target, "\r\n") || bytes.HasPrefix(target, []byte("http")) {
			return // the line ends, or it names a host
		}
		before := requests.Load()
		status, line := askFor(t, p, target)
		reached := requests.Load() - before
		if status != http.StatusOK {
			if reached != 0 {
				t.Fatalf("%q: answered %d, and %d requests reached the upstream", target, status, reached)
			}
			return
		}
		path, query, _ := strings.Cut(string(target), "?")
		path, err := normalizePath(path)
		if err != nil || reached != 1 {
			t.Fatalf("%q: %d requests reached the upstream, %v", target, reached, err)
		}
		s, rest, ok := table.Lookup("x.test", path, "")
		if !ok {
			t.Fatalf("%q: there is no stage for %q, and the upstream got %q", target, path, line)
		}
		var params route.Params
		r := s.Base().Match("GET", rest, &params)
		if r == nil {
			t.Fatalf("%q: there is no route for %q, and the upstream got %q", target, rest, line)
		}
		_, value := params.At(0)
		if !strings.Contains(rest, value) {
			t.Fatalf("%q: %q is no piece of %q", target, value, rest)
		}
		want := map[string]string{"/{proxy+}": "/general/", "/admin/{proxy+}": "/admin/", "/one/{id}/x": "/one/"}[r.Path] + value
		if queries := []string{normalizeQuery(query)}; r.Path == "/one/{id}/x" {
			want += "?" + strings.Trim(strings.Join(append([]string{"own"}, queries...), "&"), "&")
		} else if query != "" {
			want += "?" + queries[0]
		}
		if line != "GET "+want+" HTTP/1.1" {
			t.Fatalf("%q: the upstream got %q, want %q", target, line, want)
		}
		u, err := url.ParseRequestURI(want)
		if err != nil {
			t.Fatalf("%q: the upstream got %q: %v", target, line, err)
		}
		for i, segment := range strings.Split(u.Path, "/") {
			if segment == "." || segment == ".." || strings.ContainsAny(segment, "\\\x00\r\n") {
				t.Fatalf("%q: the upstream got %q, of which segment %d is %q", target, line, i, segment)
			}
		}
		// Slashes at the end do not count: /admin// is /admin, which is not below it.
		if first, below, _ := strings.Cut(strings.TrimPrefix(u.EscapedPath(), "/general/"), "/"); strings.Trim(below, "/") != "" && r.Path == "/{proxy+}" {
			if name, err := url.PathUnescape(first); err != nil || name == "admin" {
				t.Fatalf("%q: what belongs to /admin went to the upstream as %q", target, line)
			}
		}
	})
}

// askFor sends a request for a target, byte for byte, and returns the answer.
func askFor(t *testing.T, p *Proxy, target []byte) (status int, body string) {
	t.Helper()
	c := connect(p, "192.0.2.1:1")
	go func() { _, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x.test\r\nConnection: close\r\n\r\n", target) }()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%q: no answer: %v", target, err)
	}
	text, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	_ = c.Close()
	<-c.ended
	if err != nil {
		t.Fatalf("%q: half an answer: %v", target, err)
	}
	return res.StatusCode, string(text)
}
