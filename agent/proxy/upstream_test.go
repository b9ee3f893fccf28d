package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// scripted is a connection from which bytes come in pieces, until it ends.
type scripted struct {
	net.Conn
	in   []byte
	size int
}

func (c *scripted) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.in[:min(len(c.in), c.size)])
	c.in = c.in[n:]
	return n, nil
}

func (c *scripted) SetReadDeadline(time.Time) error { return nil }

// answered is how an upstream's answer was read.
type answered struct {
	status int
	body   string
	sum    string // the trailer X-Sum
	whole  bool   // the connection can serve another request
}

func readAnswer(in []byte, size int, method string) (answered, error) {
	u := &upstream{timedConn: timedConn{Conn: &scripted{in: in, size: size}}}
	defer u.releaseBuffer()
	if err := u.receiveHead(method, time.Time{}); err != nil {
		return answered{}, err
	}
	a := answered{status: u.res.Status}
	for {
		piece, err := u.next()
		a.body += string(piece)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return a, err
		}
	}
	for _, f := range u.trailer(nil) {
		if http.CanonicalHeaderKey(f.Name) == "X-Sum" {
			a.sum += f.Value + ";"
		}
	}
	a.whole = u.done && !u.res.Close && u.r == u.w && len(u.Conn.(*scripted).in) == 0
	return a, nil
}

// FuzzUpstream: how an upstream's answer is read does not depend on how it arrives, and
// what net/http accepts too it takes for the same.
func FuzzUpstream(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nuntil the end", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nbytes", "HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 205 Reset Content\r\n\r\n", "HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	} {
		f.Add([]byte(s), 1, true)
		f.Add([]byte(s), 7, false)
	}
	f.Fuzz(func(t *testing.T, in []byte, size int, get bool) {
		method := http.MethodHead
		if get {
			method = http.MethodGet
		}
		got, err := readAnswer(in, len(in)+1, method)
		again, err2 := readAnswer(in, max(1, size%64), method)
		// What comes behind an answer may be seen, or come later: then it is whole so far.
		if got.whole != again.whole && err == nil {
			t.Fatalf("%q: whole %v, in pieces %v", in, got.whole, again.whole)
		}
		if (err == nil) != (err2 == nil) || got.status != again.status || got.sum != again.sum || err == nil && got.body != again.body {
			t.Fatalf("%q: got %+v, %v; in pieces %+v, %v", in, got, err, again, err2)
		}
		if err != nil || got.status == http.StatusSwitchingProtocols {
			return
		}
		source := bufio.NewReader(bytes.NewReader(in))
		for range maxInterim + 1 {
			theirs, err := http.ReadResponse(source, &http.Request{Method: method})
			if err != nil {
				return
			}
			body, err := io.ReadAll(theirs.Body)
			_ = theirs.Body.Close()
			if theirs.StatusCode < 200 {
				continue
			}
			if err != nil {
				return
			}
			rest, _ := io.ReadAll(source)
			if theirs.StatusCode != got.status || string(body) != got.body || got.whole && len(rest) > 0 {
				t.Fatalf("%q: got %+v, net/http %d %q and %d bytes behind it", in, got, theirs.StatusCode, body, len(rest))
			}
			return
		}
	})
}
