//go:build linux

package edge_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// TestRestart: a second agent takes over the socket, and the first is ended, while
// there is load: not one request fails.
func TestRestart(t *testing.T) {
	h := holding()
	first, plane := soakAgent(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close() //nolint:errcheck // the test is over
	first.http = l.Addr().String()
	if err := l.Close(); err != nil { // from now on the socket lives by its other descriptor
		t.Fatal(err)
	}
	a := takeOver(t, first, plane, socket, 0)
	if a == nil {
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	var requests, retried atomic.Int64
	for i := range 16 {
		g.Go(func() error {
			return keepAsking(ctx, a.http, i%2 == 0, 16*time.Second/time.Duration(h.rate), &requests, &retried)
		})
	}
	at := a
	for turn := range max(1, int(h.length/(20*time.Second))) {
		asked := requests.Load()
		next := takeOver(t, at, plane, socket, turn+1)
		if next == nil {
			break
		}
		if err := at.terminate(); err != nil {
			t.Error(err)
		}
		at = next
		if err := await(t.Context(), "requests behind a restart", func() error {
			if requests.Load() < asked+int64(h.rate/4) && ctx.Err() == nil {
				return errors.New("too few yet")
			}
			return nil
		}, at.process); err != nil {
			t.Error(err)
		}
	}
	cancel()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if *soaked > 0 {
		fmt.Fprintf(t.Output(), "%d requests during restarts, %d of them asked again on a new connection, since theirs had ended while idle\n",
			requests.Load(), retried.Load())
	}
}

// takeOver starts an agent on the socket of another that runs.
func takeOver(t *testing.T, old *agent, plane *controlPlane, socket *os.File, turn int) *agent {
	t.Helper()
	id := fmt.Sprintf("edge-%d", turn)
	next := &agent{http: old.http, admin: freePort(t), dir: filepath.Join(t.TempDir(), "state")}
	// It begins with the table of the first, as it would after an ordinary restart.
	if err := os.CopyFS(next.dir, os.DirFS(old.dir)); err != nil {
		t.Fatal(err)
	}
	next.process = startWith(t, id, socket, *agentBinary, "--id", id, "--control-plane", plane.address,
		"--state-dir", next.dir, "--admin-listen", next.admin, "--access-log", "", "--plaintext")
	err := await(t.Context(), "take over "+old.http, func() error {
		resp, err := http.Get("http://" + next.admin + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close() //nolint:errcheck // it was only read
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	}, next.process)
	if err != nil {
		t.Error(err)
		return nil
	}
	next.awaitTable(t.Context(), t, id, plane)
	return next
}

// keepAsking sends requests at a pace, on one connection for as long as that lasts,
// or each on a new one.
// A connection may end between two requests; a request whose connection ended before
// a byte of an answer came is asked again once, on a new one (RFC 9110, 9.2.2).
func keepAsking(ctx context.Context, address string, once bool, pace time.Duration, requests, retried *atomic.Int64) error {
	var conn net.Conn
	var r *bufio.Reader
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	for ctx.Err() == nil {
		for {
			fresh := conn == nil
			if fresh {
				var err error
				if conn, err = net.Dial("tcp", address); err != nil {
					return err
				}
				r = bufio.NewReader(conn)
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			_, err := io.WriteString(conn, "GET /b/x HTTP/1.1\r\nHost: restart.test\r\n\r\n")
			var res response
			if err == nil {
				res, err = readResponse(r, false)
			}
			if err == nil && res.status == 200 && len(res.body) == 100 && !res.broken {
				requests.Add(1)
				if v := valuesOf(res.fields, "Connection"); once || len(v) > 0 && v[0] == "close" {
					_ = conn.Close()
					conn = nil
				}
				break
			}
			_ = conn.Close()
			conn = nil
			if fresh || !isEnd(err) {
				return fmt.Errorf("after %d requests: status %d, broken off: %v, %v", requests.Load(), res.status, res.broken, err) //nolint:errorlint // it may be nil
			}
			retried.Add(1)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pace):
		}
	}
	return nil
}
