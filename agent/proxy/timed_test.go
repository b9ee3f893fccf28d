package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fifegateway/fife/agent/route"
)

// held serves a connection in memory, in a bubble whose clock the caller moves on. The
// Proxy is stopped at the end.
func held(t *testing.T, table *route.Table) (*memoryConn, *bufio.Reader) {
	t.Helper()
	dial, _ := holding(t, table)
	c := dial()
	return c, bufio.NewReader(c)
}

// holding serves in a bubble what dial connects. The Proxy drains with drain, which
// does not wait for that, or else at the end.
func holding(t *testing.T, table *route.Table) (dial func() *memoryConn, drain func()) {
	t.Helper()
	l := &memory{handover{conns: make(chan net.Conn), closed: make(chan struct{}), addr: new(net.TCPAddr)}}
	p := newProxy(t, table, nil)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx, l, nil) }()
	var opened []*memoryConn
	t.Cleanup(func() {
		for _, c := range opened {
			_ = c.Close()
		}
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return func() *memoryConn {
		here, there := net.Pipe()
		c := &memoryConn{Conn: here, ended: make(chan struct{})}
		l.conns <- &memoryEnd{Conn: there, remote: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, ended: c.ended}
		opened = append(opened, c)
		return c
	}, stop
}

// TestDeadlines: a client that is slow at any step is not waited for much longer than
// it may take, and is told so where it can be told.
func TestDeadlines(t *testing.T) {
	const host = " HTTP/1.1\r\nHost: a\r\n"
	const post = "POST /prod/x" + host + "Content-Length: 3\r\n\r\n"
	for _, c := range []struct {
		name   string
		sent   []string // with a second between them
		status []int    // of the answers before the connection ends
		after  time.Duration
	}{
		{"silent", nil, nil, headTimeout},
		{"half a head", []string{"GET /prod/x HT"}, nil, headTimeout},
		{"a head that trickles", []string{"G", "E", "T", " ", "/", "x", " ", "H", "T", "T", "P", "/"}, nil, headTimeout},
		{"idle", []string{"GET /prod/mock" + host + "\r\n"}, []int{200}, idleTimeout},
		{"half a second head", []string{"GET /prod/mock" + host + "\r\n", "GET"}, []int{200}, time.Second + headTimeout},
		{"body that does not come", []string{post}, []int{408}, prompt + stall},
		{"half a body", []string{post, "ab"}, []int{408}, time.Second + stall},
		{"body that nobody wants", []string{"POST /prod/mock" + host + "Content-Length: 3\r\n\r\n"}, []int{200}, drainStall},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := compileRoutes(t, stage(nil), nil, []route.RouteSpec{
					{Method: "ANY", Path: "/mock", Integration: route.MockSpec{Body: "mock"}},
					{Method: "ANY", Path: "/{proxy+}", Integration: route.LambdaSpec{Function: "fn"}},
				})
				conn, in := held(t, table)
				begin := time.Now()
				var sender sync.WaitGroup
				sender.Go(func() {
					for i, piece := range c.sent {
						if i > 0 {
							time.Sleep(time.Second)
						}
						if _, err := io.WriteString(conn, piece); err != nil {
							return // it was given up
						}
					}
				})
				defer sender.Wait()
				for _, want := range c.status {
					res, err := http.ReadResponse(in, nil)
					if err != nil {
						t.Fatalf("want an answer with status %d: %v", want, err)
					}
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
					if res.StatusCode != want {
						t.Errorf("status %d, want %d", res.StatusCode, want)
					}
				}
				if b, err := in.ReadByte(); !errors.Is(err, io.EOF) {
					t.Errorf("got %q, %v, want the end", b, err)
				}
				took := time.Since(begin)
				if took < c.after || took > c.after+3*time.Second {
					t.Errorf("the connection ended after %v, want %v", took, c.after)
				}
			})
		})
	}
}

// TestSlowReader: a client that does not take its answer is not waited for.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, _ := held(t, compile(t, stage(nil), route.MockSpec{Body: "mock"}))
		_, _ = io.WriteString(conn, "GET /prod/x HTTP/1.1\r\nHost: a\r\n\r\n")
		begin := time.Now()
		<-conn.ended
		if took := time.Since(begin); took < stall || took > 3*stall {
			t.Errorf("the connection ended after %v, want %v or up to twice that", took, stall)
		}
	})
}

// TestPromptBody: a body that is malformed from the beginning keeps its head from the
// integration, also when it comes in a packet of its own.
func TestPromptBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, in := held(t, compile(t, stage(nil), route.HTTPSpec{URI: "http://169.254.0.1/"}))
		for _, piece := range []string{"POST /prod/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "0", "x", "3\r\n"} {
			_, _ = io.WriteString(conn, piece) // the rest of it may be refused already
			synctest.Wait()
			if piece == "x" {
				break
			}
		}
		go func() { _, _ = io.WriteString(conn, "\r\n") }()
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusBadRequest { // 500 if the integration was dialled
			t.Errorf("status %d, want 400", res.StatusCode)
		}
	})
}

// TestDrain: a server that ends answers whoever has asked or may be asking for the first
// time, and waits for nobody else.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, drain := holding(t, compile(t, stage(nil), route.MockSpec{Body: "mock"}))
		const get = "GET /prod/x HTTP/1.1\r\nHost: a\r\n\r\n"
		answer := func(c *memoryConn) (status int, last bool) {
			t.Helper()
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			return res.StatusCode, res.Close
		}
		kept, half, silent, late := dial(), dial(), dial(), dial()
		_, _ = io.WriteString(kept, get)
		if _, last := answer(kept); last {
			t.Error("an answer before the end closes its connection")
		}
		_, _ = io.WriteString(half, get[:10])
		synctest.Wait()
		begin := time.Now()
		drain()
		<-kept.ended
		if took := time.Since(begin); took > 2*tick {
			t.Errorf("an idle connection ended after %v", took)
		}
		_, _ = io.WriteString(half, get[10:])
		_, _ = io.WriteString(late, get)
		for _, c := range []*memoryConn{half, late} {
			if status, last := answer(c); status != http.StatusOK || !last {
				t.Errorf("status %d, the last: %v, want a last 200", status, last)
			}
		}
		<-silent.ended
		if took := time.Since(begin); took < onItsWay || took > onItsWay+2*tick {
			t.Errorf("a connection that was silent ended after %v, want %v", took, onItsWay)
		}
	})
}
