//go:build linux

package netloop

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// run runs a loop for as long as the test takes.
func run(t testing.TB) *Loop {
	t.Helper()
	loops, err := New(1)
	if err != nil {
		t.Fatal(err)
	}
	l := loops[0]
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l
}

// pair returns both ends of a TCP connection.
func pair(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // it has done its work
	dialed, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dialed.Close() })
	return accepted.(*net.TCPConn), dialed.(*net.TCPConn)
}

// serve serves one end of a connection by a coroutine, which closes it, and returns the
// other end, and a channel that is closed at the coroutine's end.
func serve(t testing.TB, l *Loop, f func(*Conn)) (far *net.TCPConn, c *Conn, ended chan struct{}) {
	t.Helper()
	near, far := pair(t)
	c, err := l.Adopt(near)
	if err != nil {
		t.Fatal(err)
	}
	ended = make(chan struct{})
	l.Go(func() {
		defer close(ended)
		if err := l.Add(c); err != nil {
			t.Error(err)
		}
		f(c)
		_ = c.Close()
	})
	return far, c, ended
}

func echo(c *Conn) {
	var buf [1000]byte
	for {
		n, err := c.Read(buf[:])
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// TestEcho has many connections at once say and hear pieces of all sizes, one after the
// other and all at once.
func TestEcho(t *testing.T) {
	l := run(t)
	var all sync.WaitGroup
	for range 50 {
		far, _, ended := serve(t, l, echo)
		all.Go(func() {
			for _, size := range []int{1, 999, 1000, 1001, 2000, 100_000} {
				said := bytes.Repeat([]byte{byte(size)}, size)
				go func() { _, _ = far.Write(said) }()
				heard := make([]byte, size)
				if _, err := io.ReadFull(far, heard); err != nil || !bytes.Equal(said, heard) {
					t.Errorf("%d bytes came back otherwise: %v", size, err)
				}
			}
			_ = far.CloseWrite()
			if n, err := io.Copy(io.Discard, far); n > 0 || err != nil {
				t.Errorf("got %d bytes behind the end, and %v", n, err)
			}
			<-ended
		})
	}
	all.Wait()
}

// TestPipelined sees to it that what arrives while nobody reads is found by the next
// read, although the system tells it once.
func TestPipelined(t *testing.T) {
	l := run(t)
	heard, looked := make(chan string), make(chan struct{})
	far, c, _ := serve(t, l, func(c *Conn) {
		var buf [10]byte
		for range 2 {
			n, _ := c.Read(buf[:])
			l.Await(func() {
				heard <- string(buf[:n])
				<-looked
			})
		}
	})
	_, _ = far.Write([]byte("one"))
	if got := <-heard; got != "one" {
		t.Fatalf("got %q", got)
	}
	_, _ = far.Write([]byte("two"))
	for c.Quiet() {
		time.Sleep(time.Millisecond) // the system's time, which nobody tells
	}
	close(looked)
	if got := <-heard; got != "two" {
		t.Fatalf("got %q", got)
	}
}

// TestSlowReader has a peer that reads nothing for a while hold up nobody else, and get
// everything in the end.
func TestSlowReader(t *testing.T) {
	l := run(t)
	const size = 16 << 20
	pieces := net.Buffers{[]byte("head"), bytes.Repeat([]byte("x"), size), nil, []byte("end")}
	written := make(chan int64, 1)
	far, _, ended := serve(t, l, func(c *Conn) {
		n, err := c.WriteBuffers(&pieces)
		if err != nil || len(pieces) > 0 {
			t.Errorf("write: %v, %d pieces left", err, len(pieces))
		}
		written <- n
	})
	other, _, _ := serve(t, l, echo)
	_, _ = other.Write([]byte("x"))
	if _, err := io.ReadFull(other, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
		t.Fatal("all was written to a peer that reads nothing")
	default:
	}
	got, err := io.ReadAll(far)
	if want := "head" + strings.Repeat("x", size) + "end"; err != nil || string(got) != want {
		t.Errorf("got %d bytes, %v; want %d", len(got), err, len(want))
	}
	if n := <-written; n != int64(len(got)) {
		t.Errorf("%d bytes are said to be written, %d arrived", n, len(got))
	}
}

func TestDeadlines(t *testing.T) {
	l := run(t)
	result := make(chan error, 8)
	far, _, ended := serve(t, l, func(c *Conn) {
		var buf [1]byte
		read := func(by time.Time) {
			_ = c.SetReadDeadline(by)
			_, err := c.Read(buf[:])
			result <- err
		}
		read(time.Now().Add(10 * time.Millisecond))
		_, err := c.Read(buf[:]) // it stays passed
		result <- err
		read(time.Unix(1, 0))
		read(time.Now().Add(time.Hour))
		read(time.Time{})
		_ = c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		_, err = c.Write(make([]byte, 64<<20))
		result <- err
	})
	for range 3 {
		if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	}
	for range 2 {
		_, _ = far.Write([]byte("x"))
		if err := <-result; err != nil {
			t.Errorf("got %v", err)
		}
	}
	if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: got %v", err)
	}
	<-ended
}

// TestAbort has a read that waits end from another goroutine: by a deadline, and by the
// end of the connection.
func TestAbort(t *testing.T) {
	for _, c := range []struct {
		name  string
		abort func(*Conn) error
		want  error
	}{
		{"deadline", func(c *Conn) error { return c.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		{"close", (*Conn).Close, net.ErrClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := run(t)
			got := make(chan error, 1)
			_, conn, ended := serve(t, l, func(c *Conn) {
				_, err := c.Read(make([]byte, 1))
				got <- err
			})
			if err := c.abort(conn); err != nil {
				t.Fatal(err)
			}
			if err := <-got; !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			<-ended
			if err := conn.Close(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("closed twice: %v", err)
			}
		})
	}
}

// TestAwait sees to it that the loop goes on while a coroutine waits for something else.
func TestAwait(t *testing.T) {
	l := run(t)
	waits, goOn := make(chan struct{}), make(chan struct{})
	_, _, ended := serve(t, l, func(*Conn) {
		l.Await(func() {
			close(waits)
			<-goOn
		})
	})
	<-waits
	far, _, _ := serve(t, l, echo)
	_, _ = far.Write([]byte("x"))
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	<-ended
}

// TestLeave has a coroutine leave in the middle of a conversation, keep its deadlines,
// and then block without holding up the loop.
func TestLeave(t *testing.T) {
	l := run(t)
	left, goOn, passed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	far, conn, ended := serve(t, l, func(c *Conn) {
		var buf [1]byte
		_, _ = c.Read(buf[:])
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if err := c.Leave(); err != nil {
			t.Error(err)
		}
		close(left)
		<-goOn
		if _, err := c.Read(buf[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the deadline did not leave with it: %v", err)
		}
		_ = c.SetDeadline(time.Time{})
		close(passed)
		echo(c)
	})
	_, _ = far.Write([]byte("a"))
	<-left
	if conn.Left() == nil {
		t.Fatal("it has not left")
	}
	other, _, _ := serve(t, l, echo)
	_, _ = other.Write([]byte("x"))
	if _, err := io.ReadFull(other, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	<-passed
	pieces := net.Buffers{[]byte("b"), []byte("c")}
	_, _ = pieces.WriteTo(far)
	heard := make([]byte, 2)
	if _, err := io.ReadFull(far, heard); err != nil || string(heard) != "bc" {
		t.Errorf("got %q, %v", heard, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	<-ended
}

// TestLeaveClosed has a coroutine leave though its connection was closed meanwhile: what
// it does next must not be done on the loop.
func TestLeaveClosed(t *testing.T) {
	l := run(t)
	goOn := make(chan struct{})
	_, _, ended := serve(t, l, func(c *Conn) {
		_ = c.Close()
		if err := c.Leave(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
		<-goOn
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
	far, _, _ := serve(t, l, echo)
	_, _ = far.Write([]byte("x"))
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	<-ended
}

// TestHungUp sees to it that the end of a peer is noticed without a read, and what it
// has said before is still read.
func TestHungUp(t *testing.T) {
	l := run(t)
	goOn := make(chan struct{})
	got := make(chan string, 1)
	far, conn, ended := serve(t, l, func(c *Conn) {
		l.Await(func() { <-goOn })
		all, err := io.ReadAll(c)
		if err != nil {
			t.Error(err)
		}
		got <- string(all)
	})
	if conn.HungUp() || !conn.Quiet() {
		t.Error("it hung up at once")
	}
	_, _ = far.Write([]byte("last words"))
	_ = far.CloseWrite()
	for !conn.HungUp() {
		time.Sleep(time.Millisecond) // the system's time, which nobody tells
	}
	close(goOn)
	if s := <-got; s != "last words" {
		t.Errorf("got %q", s)
	}
	<-ended
}

// TestDescriptors opens and ends many connections in all ways there are, so that numbers
// of descriptors are used again at once, and wants none left over.
func TestDescriptors(t *testing.T) {
	l := run(t)
	before := descriptors(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 100 {
				far, conn, ended := serve(t, l, func(c *Conn) {
					if i%4 == 0 && c.Leave() != nil {
						t.Error("it could not leave")
					}
					echo(c)
				})
				_, _ = far.Write([]byte{byte(i)})
				var heard [1]byte
				if _, err := io.ReadFull(far, heard[:]); err != nil || heard[0] != byte(i) {
					t.Errorf("got %v, %v; want %d", heard, err, i)
				}
				switch i % 3 {
				case 0:
					_ = conn.Close()
				case 1:
					_ = far.SetLinger(0)
				}
				_ = far.Close()
				<-ended
			}
		})
	}
	all.Wait()
	for descriptors(t) > before {
		time.Sleep(time.Millisecond) // closing is posted
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// TestEnd has connections of a loop that has ended be closed nevertheless.
func TestEnd(t *testing.T) {
	loops, err := New(1)
	if err != nil {
		t.Fatal(err)
	}
	l := loops[0]
	ctx, cancel := context.WithCancel(context.Background())
	near, far := pair(t)
	conn, err := l.Adopt(near)
	if err != nil {
		t.Fatal(err)
	}
	l.Go(func() {
		if err := l.Add(conn); err != nil {
			t.Error(err)
		}
		cancel()
	})
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

// TestAdoptOther has what is no TCP connection refused, and closed.
func TestAdoptOther(t *testing.T) {
	l := run(t)
	near, far := net.Pipe()
	if _, err := l.Adopt(near); err == nil {
		t.Fatal("a pipe was adopted")
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

// BenchmarkEcho has a byte go there and back, and beside it between ordinary goroutines.
func BenchmarkEcho(b *testing.B) {
	talk := func(b *testing.B, far net.Conn) {
		var buf [1]byte
		b.ReportAllocs()
		for b.Loop() {
			_, _ = far.Write(buf[:])
			if _, err := far.Read(buf[:]); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("loop", func(b *testing.B) {
		far, _, _ := serve(b, run(b), echo)
		talk(b, far)
	})
	b.Run("goroutine", func(b *testing.B) {
		near, far := pair(b)
		go func() { _, _ = io.Copy(struct{ io.Writer }{near}, struct{ io.Reader }{near}) }()
		talk(b, far)
	})
}
