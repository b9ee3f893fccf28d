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

func TestResponse(t *testing.T) {
	for _, c := range []struct {
		in      string
		err     *Error
		status  int
		reason  string
		minor   int
		length  int64
		chunked bool
		close   bool
	}{
		{in: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", status: 200, reason: "OK", minor: 1, length: 3},
		{in: "HTTP/1.1 200\r\n\r\n", status: 200, minor: 1, length: -1},
		{in: "HTTP/1.1 404 \r\nTransfer-Encoding: Chunked\r\n\r\n", status: 404, minor: 1, length: -1, chunked: true},
		{in: "HTTP/1.0 299 Not  so\tbad \xe9\r\n\r\n", status: 299, reason: "Not  so\tbad \xe9", length: -1, close: true},
		{in: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", status: 103, reason: "Early Hints", minor: 1, length: -1},
		{in: "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", status: 200, reason: "OK", minor: 1, length: -1, close: true},

		{in: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", err: errBoth},
		{in: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", err: errLengthTwice},
		{in: "HTTP/1.1 200 OK\r\nContent-Length: 3,3\r\n\r\n", err: errLength},
		{in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", err: errEncoding},
		{in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", err: errEncodingTwice},
		{in: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", err: errEncodingOld},
		{in: "HTTP/1.1 200 OK\nContent-Length: 3\r\n\r\n", err: errLineEnd},
		{in: "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", err: errFieldFolded},
		{in: "HTTP/1.1 200 OK\r\nX : a\r\n\r\n", err: errFieldName},
		{in: "HTTP/1.1 200 O\x00K\r\n\r\n", err: errStatus},
		{in: "HTTP/1.1 2000 OK\r\n\r\n", err: errStatus},
		{in: "HTTP/1.1 20 OK\r\n\r\n", err: errStatus},
		{in: "HTTP/1.1 020 OK\r\n\r\n", err: errStatus},
		{in: "HTTP/1.2 200 OK\r\n\r\n", err: errStatus},
		{in: "HTTP/1.1  200 OK\r\n\r\n", err: errStatus},
		{in: "HTTP/2 200 OK\r\n\r\n", err: errStatus},
		{in: "220 smtp.example.com\r\n", err: errStatus},
		{in: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", MaxHead) + "\r\n\r\n", err: errHeadLarge},
		{in: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: x\r\n", maxResponseLines+1) + "\r\n", err: errHeadLines},
	} {
		r := Response{Chunked: true, Close: true, Length: 9, Reason: "left over"}
		_, err := r.Parse([]byte(c.in))
		if c.err != nil {
			if !errors.Is(err, c.err) {
				t.Errorf("%.60q: got %v, want %v", c.in, err, c.err)
			}
			continue
		}
		if err != nil || r.Status != c.status || r.Reason != c.reason || r.Minor != c.minor || r.Length != c.length || r.Chunked != c.chunked || r.Close != c.close {
			t.Errorf("%q: got %+v, %v", c.in, r, err)
		}
	}
}

func TestBodiless(t *testing.T) {
	for _, c := range []struct {
		method string
		status int
		want   bool
	}{{"GET", 200, false}, {"HEAD", 200, true}, {"GET", 204, true}, {"GET", 304, true}, {"GET", 101, true}, {"GET", 205, false}} {
		if got := (&Response{Status: c.status}).Bodiless(c.method); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

// FuzzResponse holds the parser against net/http, as FuzzRequest does.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP",
		"HTTP/1.0 404 Not Found\r\n\r\nuntil the end", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
	} {
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, get bool) {
		method := "HEAD"
		if get {
			method = "GET"
		}
		var r Response
		n, err := r.Parse(bytes.Clone(in))
		if err != nil {
			return
		}
		if r.Status < 100 || r.Status > 999 || r.Chunked && r.Length >= 0 {
			t.Fatalf("%q: %+v", in, r)
		}
		var body []byte
		switch behind := bytes.Clone(in[n:]); {
		case r.Bodiless(method):
		case r.Chunked:
			var c Chunks
			if _, body, err = c.Compact(behind); err != nil || !c.Done() {
				return
			}
		case r.Length < 0:
			body = behind
		case int64(len(behind)) < r.Length:
			return
		default:
			body = behind[:r.Length]
		}
		theirs, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(in)), &http.Request{Method: method}) //nolint:bodyclose // there is nothing behind it
		if err != nil {
			return
		}
		theirBody, err := io.ReadAll(theirs.Body)
		if err != nil {
			return
		}
		if theirs.StatusCode != r.Status || theirs.ProtoMinor != r.Minor || !bytes.Equal(body, theirBody) {
			t.Fatalf("%q: got %d and %q, net/http %d and %q", in, r.Status, body, theirs.StatusCode, theirBody)
		}
	})
}

func BenchmarkResponse(b *testing.B) {
	in := []byte("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 00:00:00 GMT\r\nContent-Type: application/json\r\nContent-Length: 100\r\nConnection: keep-alive\r\n\r\n")
	var r Response
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Parse(in); err != nil {
			b.Fatal(err)
		}
	}
}
