package proxy

import (
	"net"
	"runtime"
	"sync"
	"time"
)

// countedConn is a connection that says when it is closed. What was read of it
// already is read again. Once it gathers, what is written to it is sent a moment
// later: many streams that are answered at about the same time, each with frames of its
// own, then cost one system call together.
type countedConn struct {
	net.Conn
	read  []byte
	ended func()

	gathers bool // set before it is written to
	mu      sync.Mutex
	changed sync.Cond // of the fields below
	pending []byte    // to be sent
	sending bool      // a goroutine sends
	closed  bool      // no more is written, and the connection closes once all is sent
	failed  error     // of what was sent last; nothing more is
}

// gather begins to gather.
func (c *countedConn) gather() {
	c.gathers = true
	c.changed.L = &c.mu
}

// Read reads what was read before first.
func (c *countedConn) Read(p []byte) (int, error) {
	if len(c.read) > 0 {
		n := copy(p, c.read)
		c.read = c.read[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// Write sends p, or sees to it that it is sent. Of what is gathered, a failure is told
// to the next who writes.
func (c *countedConn) Write(p []byte) (int, error) {
	if !c.gathers {
		return c.Conn.Write(p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.pending) >= pieceSize && c.failed == nil && !c.closed {
		c.changed.Wait()
	}
	switch {
	case c.failed != nil:
		return 0, c.failed
	case c.closed:
		return 0, net.ErrClosed
	}
	c.pending = append(c.pending, p...)
	if !c.sending {
		c.sending = true
		go c.send()
	}
	return len(p), nil
}

// send sends what was gathered until there is no more.
func (c *countedConn) send() {
	var spare []byte
	for {
		runtime.Gosched() // whoever has something to add gets his turn
		c.mu.Lock()
		next := c.pending
		if len(next) == 0 || c.failed != nil {
			c.sending = false
			closed := c.closed
			c.mu.Unlock()
			if closed {
				c.end()
			}
			return
		}
		c.pending = spare[:0]
		c.changed.Broadcast()
		c.mu.Unlock()
		_ = c.Conn.SetWriteDeadline(time.Now().Add(stall)) // a dead connection says so when it is written
		if _, err := c.Conn.Write(next); err != nil {
			c.mu.Lock()
			c.failed = err
			c.changed.Broadcast()
			c.mu.Unlock()
		}
		spare = next
	}
}

// SetWriteDeadline has no effect on what is gathered, which is sent under a deadline of
// its own.
func (c *countedConn) SetWriteDeadline(t time.Time) error {
	if c.gathers {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *countedConn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// Close closes the connection once everything is sent, and says so then.
func (c *countedConn) Close() error {
	if !c.gathers {
		c.end()
		return nil
	}
	c.mu.Lock()
	c.closed = true
	c.changed.Broadcast()
	sending := c.sending
	c.mu.Unlock()
	if !sending {
		c.end()
	}
	return nil
}

func (c *countedConn) end() {
	_ = c.Conn.Close()
	c.ended()
}
