//go:build linux

package edge_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// slowRole begins what tells a copy of the test that it is to be slow clients: where of,
// and how many.
const slowRole = "slow "

// slowClients are slow clients in a process of their own. It yields to all others: clients
// elsewhere would take no processor from the proxy.
type slowClients struct{ *process }

func startSlow(t *testing.T, address string, n int) slowClients {
	t.Helper()
	return slowClients{start(t, "slow clients", "nice", "-n", "19", "env", fmt.Sprintf("%s=%s%s %d", roleVariable, slowRole, address, n), os.Args[0])}
}

// count returns how many connections are open, and how many the other side has ended.
func (s slowClients) count() (open, closed int64) {
	lines := bytes.Split(bytes.TrimSpace(s.logTail()), []byte("\n"))
	_, _ = fmt.Sscan(string(lines[len(lines)-1]), &open, &closed) // there is no line yet
	return open, closed
}

// apart is how long after each other slow clients come: together they would be ended
// together, and come back together, again and again.
const apart = time.Millisecond

// runSlow is the process's main function. It tells what it has come to, line by line.
func runSlow(role string) error {
	var address string
	var n int
	if _, err := fmt.Sscan(strings.TrimPrefix(role, slowRole), &address, &n); err != nil {
		return err
	}
	var open, closed atomic.Int64
	for i := range n {
		go func() {
			<-time.After(time.Duration(i) * apart)
			beSlow(context.Background(), address, i, &open, &closed)
		}()
	}
	for {
		if _, err := fmt.Println(open.Load(), closed.Load()); err != nil {
			return err
		}
		<-time.After(100 * time.Millisecond)
	}
}

// beSlow is a client that never gets anywhere: it sends a head, or a body, byte by
// byte, or does not read what it asked for. When the agent has had enough of it, it
// begins anew.
func beSlow(ctx context.Context, address string, kind int, open, closed *atomic.Int64) {
	for ctx.Err() == nil {
		// Addresses of their own, so that there are ports enough.
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(1+kind/250%250), byte(1+kind%250))}}
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		open.Add(1)
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		slowly(ctx, conn, kind%3)
		stop()
		_ = conn.Close()
		open.Add(-1)
		if ctx.Err() == nil {
			closed.Add(1)
		}
	}
}

func slowly(ctx context.Context, conn net.Conn, kind int) {
	switch kind {
	case 0:
		_, _ = io.WriteString(conn, "GET /b/x HTTP/1.1\r\nHost: slow.test\r\nX-Slow: ")
	case 1:
		_, _ = io.WriteString(conn, "POST /b/x HTTP/1.1\r\nHost: slow.test\r\nContent-Length: 100000\r\n\r\n")
	default:
		// As much as fits into the buffers of both sides, and then one answer more.
		_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		_, _ = io.WriteString(conn, strings.Repeat("GET /b/16k HTTP/1.1\r\nHost: slow.test\r\n\r\n", 20))
	}
	gone := make(chan struct{})
	if kind != 2 {
		go func() {
			defer close(gone)
			_, _ = io.Copy(io.Discard, conn)
		}()
	}
	for {
		select {
		case <-time.After(5*time.Second + rand.N(time.Second)):
		case <-gone:
			return
		case <-ctx.Done():
			return
		}
		if kind == 2 {
			buf := make([]byte, 1)
			if _, err := conn.Read(buf); err != nil {
				return
			}
		} else if _, err := io.WriteString(conn, "a"); err != nil {
			return
		}
	}
}
