package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// gathered returns a connection that gathers, its peer, and whether it has said that it
// was closed.
func gathered(t *testing.T) (c *countedConn, peer net.Conn, ended func() bool) {
	t.Helper()
	near, far := net.Pipe()
	said := make(chan struct{})
	c = &countedConn{Conn: near, ended: func() { close(said) }}
	c.gather()
	t.Cleanup(func() { _ = far.Close() })
	return c, far, func() bool {
		select {
		case <-said:
			return true
		default:
			return false
		}
	}
}

// TestGather has what was written arrive in its order, also what was written just before
// the end, and in fewer pieces than it was written in.
func TestGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer, ended := gathered(t)
		var want []byte
		for i := range 100 {
			piece := bytes.Repeat([]byte{byte(i)}, i)
			want = append(want, piece...)
			if n, err := c.Write(piece); n != i || err != nil {
				t.Fatalf("write: %d, %v", n, err)
			}
		}
		_ = c.Close()
		synctest.Wait()
		if ended() {
			t.Error("it was closed before everything was sent")
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write behind the end: %v", err)
		}
		reads, got := 0, []byte(nil)
		for {
			buf := make([]byte, len(want))
			n, err := peer.Read(buf)
			if errors.Is(err, io.EOF) {
				break
			}
			reads++
			got = append(got, buf[:n]...)
		}
		if !bytes.Equal(got, want) || reads > 10 {
			t.Errorf("got %d bytes in %d pieces, want %d in a few", len(got), reads, len(want))
		}
		synctest.Wait()
		if !ended() {
			t.Error("nobody was told of the end")
		}
	})
}

// TestGatherStalls has a peer that reads nothing hold up who writes, but not for ever.
func TestGatherStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, ended := gathered(t)
		began := time.Now()
		written := 0
		var err error
		for err == nil && written < 100*pieceSize {
			_ = c.SetWriteDeadline(time.Now().Add(time.Hour)) // as net/http does, to no effect
			var n int
			n, err = c.Write(make([]byte, 1000))
			written += n
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != stall {
			t.Errorf("got %v after %v, want the end of patience after %v", err, time.Since(began), stall)
		}
		if written > 3*pieceSize {
			t.Errorf("%d bytes were gathered for a peer that reads nothing", written)
		}
		_ = c.Close()
		synctest.Wait()
		if !ended() {
			t.Error("nobody was told of the end")
		}
	})
}
