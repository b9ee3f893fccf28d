package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fifegateway/fife/agent/route"
)

// echo is an upstream that answers with what it saw, and counts.
type echo struct {
	http.Handler
	requests atomic.Int64
}

func newEcho() *echo {
	e := new(echo)
	e.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.requests.Add(1)
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, body)
	})
	return e
}

// talk writes bytes to an agent and returns the bodies of n responses, each behind
// its status.
func talk(t *testing.T, address, sent string, n int) []string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	go func() { _, _ = io.WriteString(c, sent) }()
	return hear(c, n)
}

// hear returns the bodies of n responses, each behind its status.
func hear(c net.Conn, n int) []string {
	in := bufio.NewReader(c)
	var got []string
	for range n {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return append(got, err.Error())
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			return append(got, err.Error())
		}
		closing := ""
		if res.Close {
			closing = " close"
		}
		got = append(got, fmt.Sprintf("%d%s %s", res.StatusCode, closing, body))
	}
	return got
}

// TestConnection sends bytes that net/http's client would not.
func TestConnection(t *testing.T) {
	up := newEcho()
	table := compileRoutes(t, stage(nil), nil, []route.RouteSpec{
		{Method: "ANY", Path: "/mock", Integration: route.MockSpec{Body: "mock"}},
		{Method: "ANY", Path: "/{proxy+}", Integration: route.HTTPSpec{URI: serve(t, up).URL + "/{proxy}"}},
	})
	front := edge(t, newProxy(t, table, func(c *Config) { c.MaxBody = 1000 }))
	const host = " HTTP/1.1\r\nHost: a\r\n"
	bad := `400 close {"message":"Bad Request"}`
	for _, c := range []struct {
		name, sent string
		want       []string
		reached    int64
	}{
		{"pipelined", "GET /prod/1" + host + "\r\nGET /prod/mock" + host + "\r\nPOST /prod/3" + host + "Content-Length: 3\r\n\r\nabcGET /prod/4" + host + "Connection: close\r\n\r\nGET /prod/5" + host + "\r\n",
			[]string{"200 GET /1 ", "200 mock", "200 POST /3 abc", "200 close GET /4 ", "unexpected EOF"}, 3},
		{"behind chunks", "POST /prod/1" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\nGET /prod/2" + host + "\r\n",
			[]string{"200 POST /1 abc", "200 GET /2 "}, 2},
		{"body nobody wants", "POST /prod/mock" + host + "Content-Length: 3\r\n\r\nabcPOST /prod/mock" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /prod/2" + host + "\r\n",
			[]string{"200 mock", "200 mock", "200 GET /2 "}, 1},
		{"large body nobody wants", "POST /none" + host + "Content-Length: 100000000\r\n\r\nabc", []string{`403 close {"message":"Missing Authentication Token"}`, "unexpected EOF"}, 0},
		{"expected", "POST /prod/1" + host + "Expect: 100-continue\r\nContent-Length: 0\r\n\r\nGET /prod/2" + host + "\r\n", []string{"200 POST /1 ", "200 GET /2 "}, 2},
		{"HTTP/1.0", "GET /prod/1 HTTP/1.0\r\n\r\nGET /prod/2" + host + "\r\n", []string{"200 close GET /1 ", "unexpected EOF"}, 1},
		{"both framings", "POST /prod/1" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []string{bad, "unexpected EOF"}, 0},
		{"bare LF", "GET /prod/1 HTTP/1.1\nHost: a\n\n", []string{bad, "unexpected EOF"}, 0},
		{"bad chunk", "POST /prod/1" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n", []string{bad, "unexpected EOF"}, 0},
		{"chunks too large", "POST /prod/1" + host + "Transfer-Encoding: chunked\r\n\r\n400\r\n" + strings.Repeat("x", 1024) + "\r\n0\r\n\r\n",
			[]string{`413 close {"message":"HTTP content length exceeded 1000 bytes."}`, "unexpected EOF"}, 0},
		{"too large, not sent", "POST /prod/1" + host + "Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n", []string{`413 close {"message":"HTTP content length exceeded 1000 bytes."}`, "unexpected EOF"}, 0},
		{"no such version", "GET /prod/1 HTTP/3.0\r\nHost: a\r\n\r\n", []string{`505 close {"message":"HTTP Version Not Supported"}`}, 0},
		{"no such expectation", "GET /prod/1" + host + "Expect: x\r\n\r\n", []string{`417 close {"message":"Expectation Failed"}`}, 0},
		{"TRACE", "TRACE /prod/1" + host + "\r\nGET /prod/2" + host + "\r\n", []string{`405 {"message":"Method Not Allowed"}`, "200 GET /2 "}, 1},
		{"head too large", "GET /prod/1" + host + "X: " + strings.Repeat("x", 40<<10) + "\r\n\r\n", []string{`431 close {"message":"Request Header Fields Too Large"}`}, 0},
		{"large head", "GET /prod/1" + host + "X: " + strings.Repeat("x", 20<<10) + "\r\n\r\nGET /prod/2" + host + "\r\n", []string{"200 GET /1 ", "200 GET /2 "}, 2},
		{"target too long", "GET /" + strings.Repeat("x", 9<<10) + host + "\r\n", []string{`414 close {"message":"Request URI Too Long"}`}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := up.requests.Load()
			got := talk(t, front.Listener.Addr().String(), c.sent, len(c.want))
			if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			if n := up.requests.Load() - before; n != c.reached {
				t.Errorf("%d requests reached the upstream, want %d", n, c.reached)
			}
		})
	}
}

// TestContinue: the client is asked for the body by the agent.
func TestContinue(t *testing.T) {
	front := edge(t, newProxy(t, compile(t, stage(nil), route.HTTPSpec{URI: serve(t, newEcho()).URL}), nil))
	c, err := net.Dial("tcp", front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(c, "POST /prod/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
	in := bufio.NewReader(c)
	if line, err := in.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	if line, err := in.ReadString('\n'); line != "\r\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	_, _ = io.WriteString(c, "abc")
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if string(body) != "POST / abc" {
		t.Errorf("got %q", body)
	}
}

// stale is an upstream that closes every connection behind its first answer without
// saying so, which a client finds out with the second request.
func stale(t *testing.T, requests *atomic.Int64) string {
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
				in := bufio.NewReader(c)
				if _, err := http.ReadRequest(in); err != nil {
					return
				}
				requests.Add(1)
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				_, _ = in.ReadByte() // the next request arrives, and finds nobody
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

func TestStaleConnections(t *testing.T) {
	for method, want := range map[string]string{"GET": "200", "PUT": "200", "POST": "500"} {
		var requests atomic.Int64
		front := edge(t, newProxy(t, compile(t, stage(nil), route.HTTPSpec{URI: stale(t, &requests)}), nil))
		one := method + " /prod/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
		got := talk(t, front.Listener.Addr().String(), one+one, 2)
		if len(got) != 2 || got[0] != "200 ok" || got[1][:3] != want {
			t.Errorf("%s: got %q, want a %s for the second", method, got, want)
		}
	}
}

// TestClosedConnections: a pooled connection that cannot be written to any more has not
// heard of the request, whatever its method and its body.
func TestClosedConnections(t *testing.T) {
	up := newEcho()
	p := newProxy(t, compile(t, stage(nil), route.HTTPSpec{URI: serve(t, up).URL}), nil)
	front := edge(t, p)
	for _, sent := range []string{
		"GET /prod/x HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /prod/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
		"POST /prod/x HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n" + strings.Repeat("x", 70000),
	} {
		get(p, "/prod/x")
		before := up.requests.Load()
		for _, pool := range *p.pools.byOrigin.Load() {
			pool.mu.Lock()
			if len(pool.idle) == 0 {
				t.Error("there is no connection to close")
			}
			for _, u := range pool.idle {
				_ = u.Conn.Close()
			}
			pool.mu.Unlock()
		}
		got := talk(t, front.Listener.Addr().String(), sent, 1)
		if !strings.HasPrefix(got[0], "200 ") || up.requests.Load() != before+1 {
			t.Errorf("%.20q: got %.60q, and %d requests reached the upstream", sent, got, up.requests.Load()-before)
		}
	}
	for _, pool := range *p.pools.byOrigin.Load() {
		if len(pool.dialer.failed) > 0 {
			t.Errorf("the upstream is blamed: %v", pool.dialer.failed)
		}
	}
}

// TestStoppedProcess: a clock that stands still, as it does in a process that was
// stopped and has only just gone on, costs no connection.
func TestStoppedProcess(t *testing.T) {
	p := newProxy(t, compile(t, stage(nil), route.HTTPSpec{URI: serve(t, newEcho()).URL}), nil)
	front := edge(t, p)
	for range 20 {
		p.clock.set(time.Now().Add(-time.Hour)) // the sweeper sets it right soon
		got := talk(t, front.Listener.Addr().String(), "GET /prod/x HTTP/1.1\r\nHost: a\r\n\r\n", 1)
		if !strings.HasPrefix(got[0], "200 ") {
			t.Fatalf("got %q", got)
		}
	}
}

// TestTooLargeMeanwhile: a body that turns out to be too large, or malformed, while it
// is passed on already ends the connection, also if it is there to its end.
func TestTooLargeMeanwhile(t *testing.T) {
	began := make(chan struct{}, 1)
	up := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	table := compile(t, stage(nil), route.HTTPSpec{URI: up.URL})
	front := edge(t, newProxy(t, table, func(c *Config) { c.MaxBody = 1000 }))
	for _, test := range []struct{ name, rest, want string }{
		{"too large", "400\r\n" + strings.Repeat("x", 1024) + "\r\n0\r\n\r\n", `413 close {"message":"HTTP content length exceeded 1000 bytes."}`},
		{"malformed", "x\r\n", `400 close {"message":"Bad Request"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 20 {
				c, err := net.Dial("tcp", front.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				_, _ = io.WriteString(c, "POST /prod/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
				await(t, "the request to reach the upstream", began)
				_, _ = io.WriteString(c, test.rest+"GET /prod/x HTTP/1.1\r\nHost: a\r\n\r\n")
				got := hear(c, 2)
				_ = c.Close()
				if want := []string{test.want, "unexpected EOF"}; !slices.Equal(got, want) {
					t.Fatalf("got  %q\nwant %q", got, want)
				}
			}
		})
	}
}

// aborts counts how often what a request waits for was aborted.
type aborts int

func (a *aborts) abort() { *a++ }

// TestLook: a client is looked at once its request has waited for a tick, and less often
// when it has waited for long; the next request begins anew.
func TestLook(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("sockets cannot be asked")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // it was only listened on
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close() //nolint:errcheck // its peer is gone
	c := &conn{timedConn: timedConn{Conn: raw}}
	var aborted aborts
	at := func(since time.Duration) int64 { return int64(time.Hour + since) }
	begin := func(since time.Duration) {
		c.at = &aborted
		c.since.Store(at(since))
	}
	look := func(now time.Duration, want aborts) {
		t.Helper()
		c.look(at(now))
		if aborted != want {
			t.Errorf("after %v: aborted %d times, want %d", now, aborted, want)
		}
	}
	begin(0)
	look(8*time.Second, 0)
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	for !hasHungUp(raw) {
		runtime.Gosched()
	}
	look(8*time.Second+999*time.Millisecond, 0)
	look(9*time.Second, 1)

	begin(9*time.Second + 100*time.Millisecond)
	look(9*time.Second+199*time.Millisecond, 1)
	look(9*time.Second+200*time.Millisecond, 2)
	c.since.Store(0)
	c.at = &aborted
	look(20*time.Second, 2)
}
