package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// head builds a request with a proper line and Host, and the given field lines.
func head(lines ...string) string {
	return "POST /p HTTP/1.1\r\nHost: a\r\n" + strings.Join(append(lines, "", ""), "\r\n")
}

func TestRequestRefuses(t *testing.T) {
	many := strings.Repeat("x: y\r\n", MaxLines)
	for _, c := range []struct {
		name, in string
		want     *Error
	}{
		{"both framings", head("Content-Length: 3", "Transfer-Encoding: chunked"), errBoth},
		{"both framings, other order", head("Transfer-Encoding: chunked", "Content-Length: 0"), errBoth},
		{"two lengths", head("Content-Length: 3", "Content-Length: 4"), errLengthTwice},
		{"two equal lengths", head("Content-Length: 3", "content-length: 3"), errLengthTwice},
		{"length list", head("Content-Length: 3, 3"), errLength},
		{"length signed", head("Content-Length: +3"), errLength},
		{"length negative", head("Content-Length: -3"), errLength},
		{"length hex", head("Content-Length: 0x3"), errLength},
		{"length empty", head("Content-Length:"), errLength},
		{"length inner space", head("Content-Length: 1 2"), errLength},
		{"length fraction", head("Content-Length: 3.0"), errLength},
		{"length underscore", head("Content-Length: 1_0"), errLength},
		{"length overflow", head("Content-Length: 9223372036854775808"), errLength},
		{"length wraps", head("Content-Length: 18446744073709551619"), errLength},
		{"length other digits", head("Content-Length: ٣"), errLength},
		{"encoding gzip", head("Transfer-Encoding: gzip, chunked"), errEncoding},
		{"encoding twice in one", head("Transfer-Encoding: chunked, chunked"), errEncoding},
		{"encoding twice", head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), errEncodingTwice},
		{"encoding identity", head("Transfer-Encoding: identity"), errEncoding},
		{"encoding xchunked", head("Transfer-Encoding: xchunked"), errEncoding},
		{"encoding quoted", head(`Transfer-Encoding: "chunked"`), errEncoding},
		{"encoding parameter", head("Transfer-Encoding: chunked;q=1"), errEncoding},
		{"encoding comma", head("Transfer-Encoding: chunked,"), errEncoding},
		{"encoding vertical tab", head("Transfer-Encoding: \x0bchunked"), errFieldValue},
		{"encoding empty", head("Transfer-Encoding:"), errEncoding},
		{"encoding in 1.0", "POST /p HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", errEncodingOld},

		{"folded", head("X: a", " b"), errFieldFolded},
		{"folded by tab", head("X: a", "\tb"), errFieldFolded},
		{"folded first line", "GET / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n", errFieldFolded},
		{"bare LF after request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", errLineEnd},
		{"bare LF after field", "GET / HTTP/1.1\r\nHost: a\n\r\n", errLineEnd},
		{"bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", errLineEnd},
		{"bare CR in value", head("X: a\rb"), errLineEnd},
		{"bare CR at the end", "GET / HTTP/1.1\r\nHost: a\r\n\rx", errLineEnd},
		{"CR CR LF", "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", errLineEnd},
		{"NUL in value", head("X: a\x00b"), errFieldValue},
		{"NUL in value, aligned", head("X: aaaaaaaaaaaaaaaaaaaaaa\x00b"), errFieldValue},
		{"DEL in value", head("X: a\x7fb"), errFieldValue},
		{"NUL in name", head("X\x00: a"), errFieldName},
		{"space before colon", head("Content-Length : 3"), errFieldName},
		{"tab before colon", head("X\t: 3"), errFieldName},
		{"no colon", head("X"), errFieldName},
		{"no name", head(": a"), errFieldName},
		{"name with slash", head("a/b: c"), errFieldName},
		{"name above ASCII", head("Tränsfer: c"), errFieldName},

		{"HTTP/0.9", "GET /\r\n", errTarget},
		{"HTTP/0.9 with space", "GET / \r\n", errVersion},
		{"HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", errVersionOther},
		{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", errVersionOther},
		{"HTTP/9.9", "GET / HTTP/9.9\r\nHost: a\r\n\r\n", errVersionOther},
		{"HTTP/1.10", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", errLineEnd},
		{"HTTP/01.1", "GET / HTTP/01.1\r\nHost: a\r\n\r\n", errVersion},
		{"http/1.1", "GET / http/1.1\r\nHost: a\r\n\r\n", errVersion},
		{"HTTP/1,1", "GET / HTTP/1,1\r\nHost: a\r\n\r\n", errVersion},
		{"ICY", "GET / ICY/1.1\r\nHost: a\r\n\r\n", errVersion},
		{"space behind the version", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", errLineEnd},
		{"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", errTarget},
		{"two spaces before the version", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", errVersion},
		{"tabs", "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", errMethod},
		{"space in target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", errVersion},
		{"space in front", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", errMethod},
		{"two empty lines in front", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", errMethod},
		{"bare LF in front", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", errMethod},
		{"method with a control", "GE\x01T / HTTP/1.1\r\nHost: a\r\n\r\n", errMethod},
		{"method too long", strings.Repeat("A", maxMethod+1) + " / HTTP/1.1\r\nHost: a\r\n\r\n", errMethod},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00", errMethod},
		{"fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", errTarget},
		{"NUL in target", "GET /a\x00b HTTP/1.1\r\nHost: a\r\n\r\n", errTarget},
		{"relative", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", errTargetForm},
		{"query only", "GET ?a HTTP/1.1\r\nHost: a\r\n\r\n", errTargetForm},
		{"authority for GET", "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", errTargetForm},
		{"asterisk for GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", errTargetForm},
		{"ftp", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", errTargetForm},
		{"absolute, other host", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", errHostOther},
		{"absolute, other port", "GET http://a:81/ HTTP/1.1\r\nHost: a:80\r\n\r\n", errHostOther},
		{"absolute with user", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", errHostOther},

		{"no Host", "GET / HTTP/1.1\r\n\r\n", errHostCount},
		{"two Hosts", head("Host: b"), errHostCount},
		{"two equal Hosts", head("hOsT: a"), errHostCount},
		{"two Hosts in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", errHostCount},
		{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", errHost},
		{"Host with user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", errHost},
		{"Host list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", errHost},
		{"Host with path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", errHost},
		{"Host with bad port", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", errHost},
		{"Host with large port", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", errHost},
		{"Host with two ports", "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", errHost},
		{"Host with no address in brackets", "GET / HTTP/1.1\r\nHost: [00]\r\n\r\n", errHost},
		{"Host with IPv4 in brackets", "GET / HTTP/1.1\r\nHost: [127.0.0.1]\r\n\r\n", errHost},
		{"Host with a zone", "GET / HTTP/1.1\r\nHost: [fe80::1%eth0]\r\n\r\n", errHost},
		{"Host with open bracket", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", errHost},

		{"Expect", head("Expect: 200-ok"), errExpect},
		{"Expect list", head("Expect: 100-continue, x"), errExpect},

		{"too many lines", "GET / HTTP/1.1\r\n" + many + "Host: a\r\n\r\n", errHeadLines},
		{"target too long", "GET /" + strings.Repeat("a", MaxTarget) + " HTTP/1.1\r\nHost: a\r\n\r\n", errTargetLong},
		{"target too long and not at its end", "GET /" + strings.Repeat("a", MaxTarget), errTargetLong},
		{"head too large", head("X: " + strings.Repeat("a", MaxHead)), errHeadLarge},
		{"head too large and not at its end", head("X: " + strings.Repeat("a", MaxHead))[:MaxHead], errHeadLarge},
	} {
		var r Request
		if _, err := r.Parse([]byte(c.in)); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		// However the bytes come in, they come to the same end, and none of the
		// beginnings is a request.
		for n := range c.in {
			_, err := r.Parse([]byte(c.in[:n]))
			if err == nil {
				t.Errorf("%s: a request already after %d bytes", c.name, n)
				break
			}
			if !errors.Is(err, ErrIncomplete) {
				break
			}
		}
	}
}

func TestRequestAccepts(t *testing.T) {
	for _, c := range []struct {
		in                  string
		method, path, query string
		host                string
		minor               int
		length              int64
		close, cont         bool
		rest                string
	}{
		{in: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", method: "GET", path: "/", host: "a", minor: 1},
		{in: "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET", method: "GET", path: "/", host: "a", minor: 1, rest: "GET"},
		{in: "get /a%2F?b?c=d& HTTP/1.1\r\nhOST:\t a.B-c_d:8080 \t\r\n\r\n", method: "get", path: "/a%2F", query: "b?c=d&", host: "a.B-c_d:8080", minor: 1},
		{in: "GET / HTTP/1.0\r\n\r\n", method: "GET", path: "/", close: true},
		{in: "GET / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n", method: "GET", path: "/", close: true},
		{in: "POST / HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 007\r\n\r\n1234567", method: "POST", path: "/", host: "[::1]:80", minor: 1, length: 7, rest: "1234567"},
		{in: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n", method: "POST", path: "/", host: "a", minor: 1, length: 1<<63 - 1},
		{in: "POST / HTTP/1.1\r\nTransfer-Encoding: cHuNkEd\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n0", method: "POST", path: "/", host: "a", minor: 1, length: -1, cont: true, rest: "0"},
		{in: "GET / HTTP/1.1\r\nHost: a\r\nConnection: a, Close\r\n\r\n", method: "GET", path: "/", host: "a", minor: 1, close: true},
		{in: "GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \xe9\t\x80\r\n\r\n", method: "GET", path: "/", host: "a", minor: 1},
		{in: "GET /\xc3\xa9|\" HTTP/1.1\r\nHost: a\r\n\r\n", method: "GET", path: "/\xc3\xa9|\"", host: "a", minor: 1},
		{in: "GET http://A:80/x?y HTTP/1.1\r\nHost: a:80\r\n\r\n", method: "GET", path: "/x", query: "y", host: "a:80", minor: 1},
		{in: "GET HTTPS://a?y HTTP/1.1\r\nHost: a\r\n\r\n", method: "GET", query: "y", host: "a", minor: 1},
		{in: "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", method: "OPTIONS", path: "*", host: "a", minor: 1},
		{in: "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", method: "CONNECT", path: "a:443", host: "a:443", minor: 1},
	} {
		r := Request{Close: true, Continue: true, Length: 9, Host: "left over", Query: "left over"}
		n, err := r.Parse([]byte(c.in))
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if r.Method != c.method || r.Path != c.path || r.Query != c.query || r.Host != c.host || r.Minor != c.minor || r.Length != c.length ||
			r.Close != c.close || r.Continue != c.cont || c.in[n:] != c.rest {
			t.Errorf("%q: got %+v, rest %q", c.in, r, c.in[n:])
		}
	}
}

func TestRequestFields(t *testing.T) {
	in := "GET / HTTP/1.1\r\nHost: a\r\nX-One:  1 , 2 \t\r\nx-one:3\r\nCONNECTION: x\r\nProxy: p\r\nTE: t\r\nKeep-Alive: k\r\nHTTP2-Settings: h\r\n\r\n"
	var r Request
	if _, err := r.Parse([]byte(in)); err != nil {
		t.Fatal(err)
	}
	want := []Field{{"Host", "a", Host}, {"X-One", "1 , 2", Other}, {"x-one", "3", Other}, {"CONNECTION", "x", Connection}, {"Proxy", "p", HopByHop},
		{"TE", "t", TE}, {"Keep-Alive", "k", HopByHop}, {"HTTP2-Settings", "h", HopByHop}}
	if len(r.Fields) != len(want) {
		t.Fatalf("got %v", r.Fields)
	}
	for i, f := range r.Fields {
		if f != want[i] {
			t.Errorf("field %d: got %v, want %v", i, f, want[i])
		}
	}
}

// FuzzRequest holds the parser against net/http: what both accept, both take for the
// same request, with the same body and the same rest of the connection.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\nGET",
		"GET http://a/x HTTP/1.0\r\nHost: a\r\nConnection: close\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", head("X: a", " b"), head("X: a\x0b"),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var r Request
		n, err := r.Parse(bytes.Clone(in))
		if err != nil {
			if n != 0 {
				t.Fatalf("%q: consumed %d and %v", in, n, err)
			}
			return
		}
		for i := range n {
			if _, err := new(Request).Parse(in[:i]); !errors.Is(err, ErrIncomplete) {
				t.Fatalf("%q: %v after %d of %d bytes", in, err, i, n)
			}
		}
		body, rest, err := readBody(&r, bytes.Clone(in[n:]))
		if err != nil {
			return // incomplete, or refused as it should be
		}
		source := bufio.NewReader(bytes.NewReader(in))
		theirs, err := http.ReadRequest(source)
		if err != nil {
			return
		}
		theirBody, err := io.ReadAll(theirs.Body)
		if err != nil {
			return
		}
		theirRest, _ := io.ReadAll(source)
		if theirs.Method != r.Method || theirs.ProtoMinor != r.Minor || !strings.EqualFold(theirs.Host, r.Host) {
			t.Fatalf("%q: got %s %q of 1.%d, net/http %s %q of 1.%d", in, r.Method, r.Host, r.Minor, theirs.Method, theirs.Host, theirs.ProtoMinor)
		}
		if !bytes.Equal(body, theirBody) || !bytes.Equal(rest, theirRest) {
			t.Fatalf("%q: body %q and rest %q, net/http %q and %q", in, body, rest, theirBody, theirRest)
		}
		for _, field := range r.Fields {
			if field.Kind == Host || field.Kind.IsHopByHop() {
				continue
			}
			found := false
			for _, v := range theirs.Header.Values(field.Name) {
				found = found || v == field.Value
			}
			if !found {
				t.Fatalf("%q: field %s %q, net/http %q", in, field.Name, field.Value, theirs.Header.Values(field.Name))
			}
		}
	})
}

// readBody reads the body of r from the bytes behind its head.
func readBody(r *Request, in []byte) (body, rest []byte, err error) {
	if r.Length >= 0 {
		if int64(len(in)) < r.Length {
			return nil, nil, ErrIncomplete
		}
		return in[:r.Length], in[r.Length:], nil
	}
	var c Chunks
	n, body, err := c.Compact(in)
	rest = bytes.Clone(in[n:])
	if err == nil && !c.Done() {
		err = ErrIncomplete
	}
	return bytes.Clone(body), rest, err
}

var browser = []byte("GET /prod/pets/42?verbose=1 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n" +
	"Cookie: session=0123456789abcdef0123456789abcdef\r\nConnection: keep-alive\r\n\r\n")

func BenchmarkRequest(b *testing.B) {
	for name, in := range map[string][]byte{"browser": browser, "short": []byte("GET /x HTTP/1.1\r\nHost: a\r\n\r\n")} {
		b.Run(name, func(b *testing.B) {
			var r Request
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Parse(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestRequestDoesNotAllocate(t *testing.T) {
	var r Request
	if n := testing.AllocsPerRun(100, func() { _, _ = r.Parse(browser) }); n != 0 {
		t.Errorf("a request costs %v allocations, want none", n)
	}
}
