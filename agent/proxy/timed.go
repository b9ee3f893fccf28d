package proxy

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/fifegateway/fife/agent/netloop"
)

const (
	// stall is how long either side may take to let one write make progress, or to
	// send the next piece of a request's body.
	stall = 30 * time.Second
	// pieceSize is how much of a body is written at once at most: what stall is for.
	pieceSize = 32 << 10
)

// clock tells the time as it was at the sweeper's last tick, for what needs it often and
// not exactly. That is long ago if the process was stopped since, so no deadline may be
// counted from it. The zero value tells the beginning of 1970.
type clock struct{ nanos atomic.Int64 }

func (c *clock) set(t time.Time) { c.nanos.Store(t.UnixNano()) }
func (c *clock) now() time.Time  { return time.Unix(0, c.nanos.Load()) }

// timedConn is a connection whose reads and writes have deadlines that mostly cost
// nothing: the connection's own deadline is left where it is as long as it is not
// too late, and when it passes too early it is moved. So a busy connection touches
// its timer once in a while and not with every request.
//
// One goroutine may read and one may write; abortRead is for any.
type timedConn struct {
	net.Conn
	reads   time.Time // deadline of reads; zero for none
	writes  time.Time // deadline of writes
	aborted atomic.Bool
}

// errAborted is what a read returns that was told to stop.
var errAborted = errors.New("read was aborted")

// readBy reads, and fails with os.ErrDeadlineExceeded once the time by has passed
// without a byte; the zero time never passes.
func (c *timedConn) readBy(p []byte, by time.Time) (int, error) {
	if !by.IsZero() && (c.reads.IsZero() || by.Before(c.reads)) {
		c.armRead(by)
	}
	for {
		if c.aborted.Load() {
			return 0, errAborted
		}
		n, err := c.Conn.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if !by.IsZero() && !time.Now().Before(by) {
			return 0, err
		}
		c.armRead(by) // it was the deadline of something that is over
	}
}

func (c *timedConn) armRead(by time.Time) {
	c.reads = by
	_ = c.SetReadDeadline(by) // a dead connection says so when it is read
}

// abortRead makes all reads fail from now on, also one that waits.
func (c *timedConn) abortRead() {
	// The reader looks at aborted after each time it has moved the deadline; so
	// either it sees this, or its deadline is overwritten.
	c.aborted.Store(true)
	_ = c.SetReadDeadline(time.Unix(1, 0))
}

// send writes all of p. If the peer takes nothing for longer than stall, it fails.
func (c *timedConn) send(p []byte) error {
	c.armWrite()
	_, err := c.Conn.Write(p)
	return err
}

// sendAll writes all the pieces, with one system call where that works.
func (c *timedConn) sendAll(pieces *net.Buffers) error {
	c.armWrite()
	if conn, ok := c.Conn.(*netloop.Conn); ok {
		_, err := conn.WriteBuffers(pieces)
		return err
	}
	_, err := pieces.WriteTo(c.Conn)
	return err
}

// armWrite moves the deadline of writes if it is too near. It moves it so far that
// this is rare.
func (c *timedConn) armWrite() {
	now := time.Now()
	if c.writes.Before(now.Add(stall)) {
		c.writes = now.Add(2 * stall)
		_ = c.SetWriteDeadline(c.writes) // as for reads
	}
}
