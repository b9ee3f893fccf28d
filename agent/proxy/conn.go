package proxy

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fifegateway/fife/agent/http1"
	"github.com/fifegateway/fife/agent/netloop"
)

const (
	headTimeout = 10 * time.Second // for a request's head, from its first byte
	idleTimeout = 2 * time.Minute  // for a connection without a request
	firstBuffer = 4 << 10          // of a connection; grows with the heads that come
)

// conn is a client's connection that speaks HTTP/1, and one request after the other
// the client of each. One goroutine serves it from its first byte to its last; what
// comes behind a request waits for its turn.
type conn struct {
	timedConn
	server *server
	worker *worker // whose loop the connection is on; nil if it has a goroutine

	scheme, port string
	peer         netip.Addr
	peerText     string
	trusted      bool

	buf  []byte // what was read: a head stays at its beginning while it is served
	r, w int    // what of buf is read and not yet used
	next []byte // what was read behind a body, in front of the next head
	req  http1.Request
	body body
	x    exchange

	served   int
	opened   time.Time
	known    atomic.Bool // it has sent a request
	closing  atomic.Bool // no request follows the one that is served
	chunked  bool        // the response's body
	bodiless bool
	begun    bool // a head was sent
	hijacked bool
	idle     atomic.Bool // between requests

	mu    sync.Mutex
	at    aborter // what the request waits for
	left  bool    // the client has gone meanwhile
	since atomic.Int64

	nextLook int64 // when to see next whether the client has gone; of server.lookOut
}

// serve serves requests until the connection ends. It returns false if the connection
// has turned out to speak HTTP/2: it is then as it was at the beginning, if what is
// in c.buf is read before it.
func (c *conn) serve() (ours bool) {
	for !c.closing.Load() {
		err := c.readHead()
		var violation *http1.Error
		if errors.As(err, &violation) {
			if violation.Status == 505 && c.served == 0 && bytes.HasPrefix(c.buf[:c.w], []byte("PRI * HTTP/2.0\r\n")) {
				return false
			}
			c.refuse(violation)
			break
		}
		if err != nil {
			break // it ended, or took too long: there is nobody to tell
		}
		if c.served++; c.served == 1 {
			c.known.Store(true)
		}
		c.body.begin(&c.req, c.server.proxy.maxBody)
		c.closing.Store(c.req.Close)
		c.begun = false
		x := c.newExchange()
		broken := c.server.proxy.handle(c, x)
		scratches.Put(x.scratch)
		if c.hijacked {
			return true
		}
		if broken || !c.finishBody() {
			c.closing.Store(true)
			if broken && c.begun {
				break // no orderly end: the client must not take half a response for a whole
			}
		}
	}
	c.linger()
	return true
}

// newExchange takes the head of a request, and the table that it will keep.
func (c *conn) newExchange() *exchange {
	x := &c.x
	*x = exchange{head: head{
		method: c.req.Method, host: c.req.Host, path: c.req.Path, query: c.req.Query,
		fields: c.req.Fields, lists: c.req.Connection, length: c.req.Length,
		proto: "HTTP/1.1", scheme: c.scheme, port: c.port,
		peer: c.peer, client: c.peer, trusted: c.trusted, peerText: c.peerText,
	}}
	if c.req.Minor == 0 {
		x.proto = "HTTP/1.0"
	}
	c.server.proxy.begin(x)
	return x
}

// readHead waits for a request and parses its head.
func (c *conn) readHead() error {
	c.reclaim()
	c.idle.Store(true)
	defer c.idle.Store(false)
	by := c.idleUntil()
	begun := false // by is for the head that is being read
	fresh := c.w > 0
	for {
		if fresh || c.w == len(c.buf) {
			n, err := c.req.Parse(c.buf[:c.w])
			if !errors.Is(err, http1.ErrIncomplete) {
				c.r = n
				return err
			}
			if c.w == len(c.buf) {
				c.buf = append(c.buf, make([]byte, len(c.buf))...)
			}
		}
		if c.w > 0 && !begun {
			begun = true
			by = time.Now().Add(headTimeout)
		}
		n, err := c.readBy(c.buf[c.w:], by)
		if n == 0 && err != nil {
			return err
		}
		if c.w == 0 {
			c.idle.Store(false)
			fresh = true
		} else {
			// A head is whole only behind a line feed: what trickles in is not parsed
			// from the beginning for every byte.
			fresh = bytes.IndexByte(c.buf[c.w:c.w+n], '\n') >= 0
		}
		c.w += n
	}
}

// endable reports whether the client may find the connection ended before it has sent
// a request.
func (c *conn) endable() bool {
	return c.known.Load() || time.Since(c.opened) > onItsWay
}

// idleUntil returns until when the connection may be idle: longer once it has served.
func (c *conn) idleUntil() time.Time {
	if c.served == 0 {
		return c.opened.Add(headTimeout)
	}
	return c.x.start.Add(c.x.took + idleTimeout)
}

// reclaim moves what was read behind the last request to the beginning of the buffer.
func (c *conn) reclaim() {
	n := copy(c.buf, c.buf[c.r:c.w])
	c.r, c.w = 0, n
	if len(c.next) > 0 {
		c.buf = append(c.buf[:n], c.next...)
		c.w = len(c.buf)
		c.buf = c.buf[:max(cap(c.buf), firstBuffer)]
		c.next = nil
	}
	if c.w == 0 && len(c.buf) > firstBuffer {
		c.buf = make([]byte, firstBuffer)
	}
}

// refuse answers what is no request.
func (c *conn) refuse(violation *http1.Error) {
	c.closing.Store(true)
	c.req.Minor = 1
	x := &c.x
	*x = exchange{head: head{proto: "HTTP/1.1", scheme: c.scheme, peer: c.peer, client: c.peer, peerText: c.peerText}}
	c.server.proxy.begin(x)
	c.server.proxy.end(c, x, malformed(violation).because(violation))
	scratches.Put(x.scratch)
}

// finishBody reads the rest of a request's body, and reports whether another request
// can follow.
func (c *conn) finishBody() bool {
	return !c.closing.Load() && (c.body.done || c.drain())
}

// linger ends the connection so that the client gets to read the last response: with
// bytes unread, the system would reset the connection and take it back.
func (c *conn) linger() {
	if !c.begun || c.aborted.Load() && c.server.stopped.Load() {
		return
	}
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	_ = c.SetReadDeadline(time.Now().Add(lingerTimeout))
	for n := 0; n < maxLinger; {
		m, err := c.Conn.Read(buf[:])
		n += m
		if err != nil {
			return
		}
	}
}

const (
	lingerTimeout = time.Second
	maxLinger     = 1 << 20
)

func (c *conn) watch(a aborter) {
	c.mu.Lock()
	c.at = a
	c.mu.Unlock()
	c.since.Store(c.server.proxy.clock.nanos.Load() | 1)
}

func (c *conn) unwatch() {
	c.since.Store(0)
	c.mu.Lock()
	c.at = nil
	c.mu.Unlock()
}

func (c *conn) gone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left
}

// look sees to it that nobody waits for an integration on behalf of a client that is
// gone. A request that has waited for long is seen to less often, as looking is a call
// of the system: at least once a second.
func (c *conn) look(now int64) {
	since := c.since.Load()
	waits := now - since
	if since == 0 || waits < int64(tick) || now < c.nextLook && waits > maxLook {
		return
	}
	c.nextLook = now + min(waits/8, maxLook)
	if hasHungUp(c.Conn) {
		c.abort()
	}
}

const maxLook = int64(time.Second)

// abort ends what the request waits for: its client is gone, or has to go.
func (c *conn) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at != nil {
		c.left = true
		c.at.abort()
		c.at = nil
	}
}

func (c *conn) hijack() (net.Conn, []byte) {
	c.hijacked = true
	conn := c.Conn
	if l, ok := conn.(*netloop.Conn); ok {
		conn = l.Left()
	}
	return conn, c.buf[c.r:c.w]
}

// block leaves the event loop, if the connection is on one.
func (c *conn) block() {
	if c.worker == nil {
		return
	}
	c.worker = nil
	// If it fails, the connection is closed, as whoever reads it finds out.
	_ = c.Conn.(*netloop.Conn).Leave()
}

func (c *conn) pools() *pools {
	if c.worker != nil {
		return c.worker.pools
	}
	return c.server.proxy.pools
}

// isTimeout reports whether a read took too long.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
