//go:build linux

package netloop

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Conn is a TCP connection on a loop: a net.Conn whose Read, Write, WriteBuffers,
// CloseWrite and Leave are for one coroutine of the loop at a time. All other methods
// are for any goroutine.
type Conn struct {
	loop          *Loop
	fd            int
	turn          int32
	local, remote net.Addr

	// Only the loop and its coroutines touch these.
	unread  bool       // there may be something to read
	waiting *coroutine // for the connection to be ready

	hup    atomic.Bool // the peer has ended its side, or all of it
	spoke  atomic.Bool // something arrived that was not read yet
	closed atomic.Bool
	left   atomic.Pointer[net.TCPConn] // what it is now that it has left the loop

	reads, writes deadline
	mu            sync.Mutex // of leaving, closing and the deadlines
}

// deadline is that of reads or of writes.
type deadline struct {
	passed atomic.Bool
	by     time.Time   // guarded by Conn.mu
	timer  *time.Timer // guarded by Conn.mu; nil if there never was one
	set    uint64      // how often it was set; guarded by Conn.mu
}

// ready takes note of what the system says, and goes on with whoever waits for it.
func (c *Conn) ready(events uint32) {
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.hup.Store(true)
		c.unread = true
	}
	if events&unix.EPOLLIN != 0 {
		c.unread = true
	}
	if c.unread {
		c.spoke.Store(true)
	}
	c.wake()
}

// wake goes on with the coroutine that waits for the connection, if there is one.
func (c *Conn) wake() {
	if co := c.waiting; co != nil {
		c.waiting = nil
		c.loop.resume(co)
	}
}

// wait steps aside until something has changed.
func (c *Conn) wait() {
	c.waiting = c.loop.current
	c.loop.pause()
}

// Read reads what is there, and waits if there is nothing.
func (c *Conn) Read(p []byte) (int, error) {
	if conn := c.left.Load(); conn != nil {
		return conn.Read(p)
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		switch {
		case c.closed.Load():
			return 0, net.ErrClosed
		case c.reads.passed.Load():
			return 0, os.ErrDeadlineExceeded
		case !c.unread:
			c.wait()
			continue
		}
		n, errno := receive(c.fd, p)
		switch errno {
		case 0:
			if n == 0 {
				return 0, io.EOF
			}
			// Less than there was room for was all there was. An end is told only once.
			if n < len(p) && !c.hup.Load() {
				c.unread = false
				c.spoke.Store(false)
			}
			return n, nil
		case unix.EAGAIN:
			c.unread = false
			c.spoke.Store(false)
		case unix.EINTR:
		default:
			return 0, fmt.Errorf("read: %w", errno)
		}
	}
}

// Write writes all of p, and waits as often as the peer takes no more.
func (c *Conn) Write(p []byte) (int, error) {
	if conn := c.left.Load(); conn != nil {
		return conn.Write(p)
	}
	done := 0
	for {
		n, err := c.writeSome(p[done:], nil)
		done += n
		if err != nil || done == len(p) {
			return done, err
		}
	}
}

// WriteBuffers writes all the pieces, and empties them.
func (c *Conn) WriteBuffers(pieces *net.Buffers) (int64, error) {
	if conn := c.left.Load(); conn != nil {
		return pieces.WriteTo(conn)
	}
	total := int64(0)
	for len(*pieces) > 0 {
		n, err := c.writeSome(nil, *pieces)
		total += int64(n)
		for n > 0 && n >= len((*pieces)[0]) {
			n -= len((*pieces)[0])
			*pieces = (*pieces)[1:]
		}
		if n > 0 {
			(*pieces)[0] = (*pieces)[0][n:]
		}
		for len(*pieces) > 0 && len((*pieces)[0]) == 0 {
			*pieces = (*pieces)[1:]
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// writeSome writes something of p, or of pieces.
func (c *Conn) writeSome(p []byte, pieces net.Buffers) (int, error) {
	for {
		switch {
		case c.closed.Load():
			return 0, net.ErrClosed
		case c.writes.passed.Load():
			return 0, os.ErrDeadlineExceeded
		}
		var n int
		var errno syscall.Errno
		if pieces == nil {
			n, errno = send(c.fd, p)
		} else {
			n, errno = sendPieces(c.fd, pieces)
		}
		switch errno {
		case 0:
			return n, nil
		case unix.EAGAIN:
			c.wait()
		case unix.EINTR:
		default:
			return 0, fmt.Errorf("write: %w", errno)
		}
	}
}

// CloseWrite ends the own side.
func (c *Conn) CloseWrite() error {
	if conn := c.left.Load(); conn != nil {
		return conn.CloseWrite()
	}
	if c.closed.Load() {
		return net.ErrClosed
	}
	return unix.Shutdown(c.fd, unix.SHUT_WR)
}

// Close closes the connection. Whoever waits for it fails with net.ErrClosed.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	c.stop()
	if conn := c.left.Load(); conn != nil {
		return conn.Close()
	}
	finish := func() {
		if c.turn > 0 {
			c.loop.conns[c.fd] = nil
		}
		_ = unix.Close(c.fd)
		c.wake()
	}
	if !c.loop.post(finish) {
		return unix.Close(c.fd)
	}
	return nil
}

// Leave takes the connection off the loop, and with it the coroutine that calls it:
// both go on as an ordinary connection and an ordinary goroutine, for which waiting
// costs nobody else anything. If it fails, the connection is closed, and the coroutine
// has left nevertheless. It may be called once.
func (c *Conn) Leave() error {
	err := c.leave()
	c.loop.current.yield(true)
	if err != nil {
		return fmt.Errorf("leave the loop: %w", err)
	}
	return nil
}

func (c *Conn) leave() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return net.ErrClosed
	}
	c.stop()
	if err := unix.EpollCtl(c.loop.epoll, unix.EPOLL_CTL_DEL, c.fd, nil); err != nil {
		return err // only if the descriptor is none
	}
	c.loop.conns[c.fd] = nil
	file := os.NewFile(uintptr(c.fd), "")
	conn, err := net.FileConn(file)
	_ = file.Close()
	if err != nil {
		c.closed.Store(true)
		return err
	}
	_ = conn.SetReadDeadline(c.reads.by)
	_ = conn.SetWriteDeadline(c.writes.by)
	c.left.Store(conn.(*net.TCPConn))
	return nil
}

// stop stops the timers.
func (c *Conn) stop() {
	for _, d := range []*deadline{&c.reads, &c.writes} {
		if d.timer != nil {
			d.timer.Stop()
		}
	}
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline sets when reads fail with os.ErrDeadlineExceeded, from then on; the
// zero time is never.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.left.Load(); conn != nil {
		return conn.SetReadDeadline(t)
	}
	c.set(&c.reads, t)
	return nil
}

// SetWriteDeadline is SetReadDeadline for writes.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.left.Load(); conn != nil {
		return conn.SetWriteDeadline(t)
	}
	c.set(&c.writes, t)
	return nil
}

func (c *Conn) set(d *deadline, t time.Time) {
	d.by = t
	d.set++
	if d.timer != nil {
		d.timer.Stop()
	}
	d.passed.Store(false)
	if t.IsZero() || c.closed.Load() {
		return
	}
	set := d.set
	pass := func() {
		c.mu.Lock()
		late := d.set != set || c.left.Load() != nil || c.closed.Load()
		if !late {
			d.passed.Store(true)
		}
		c.mu.Unlock()
		if !late {
			_ = c.loop.post(c.wake)
		}
	}
	if in := time.Until(t); in > 0 {
		d.timer = time.AfterFunc(in, pass)
		return
	}
	d.passed.Store(true)
	_ = c.loop.post(c.wake)
}

// HungUp reports whether the peer has ended the connection, or its side of it, though
// there may still be something to read.
func (c *Conn) HungUp() bool { return c.hup.Load() }

// Quiet reports whether there is nothing to read, and the connection is open.
func (c *Conn) Quiet() bool { return !c.spoke.Load() && !c.hup.Load() }

// Left returns the ordinary connection that this has become by leaving its loop, or nil.
func (c *Conn) Left() *net.TCPConn { return c.left.Load() }

// LocalAddr returns the own address.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// The descriptors never block, so their calls return at once, and the scheduler need
// not be told of them. The calls are those for sockets: those for all files cost more.

func receive(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
	return int(n), errno
}

func send(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}

func sendPieces(fd int, pieces net.Buffers) (int, syscall.Errno) {
	var vectors [8]unix.Iovec
	n := 0
	for _, p := range pieces {
		if len(p) > 0 && n < len(vectors) {
			vectors[n].Base = unsafe.SliceData(p)
			vectors[n].SetLen(len(p))
			n++
		}
	}
	message := unix.Msghdr{Iov: &vectors[0]}
	message.SetIovlen(n)
	m, _, errno := syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&message)), unix.MSG_NOSIGNAL)
	return int(m), errno
}

var _ net.Conn = (*Conn)(nil)
