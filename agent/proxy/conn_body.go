package proxy

import (
	"errors"
	"io"
	"time"

	"github.com/fifegateway/fife/agent/http1"
)

const (
	// maxDrain is how much of a body that nobody wanted is read so that the
	// connection can go on.
	maxDrain   = 64 << 10
	drainStall = 5 * time.Second
	// prompt is how long the beginning of a body may take to go to the integration
	// together with its head. So a body that is malformed from the beginning is refused
	// before anybody hears of it, and one in a packet of its own needs no second
	// goroutine. Who waits for an answer before it sends a body is held up no longer.
	prompt = 100 * time.Millisecond
)

// body is where a request's body stands on its connection.
type body struct {
	chunked bool
	left    int64 // of a body with a length
	allowed int64 // of a chunked one, until it is too large
	asked   bool  // the client waits for a 100 no more
	taken   bool  // somebody wants it
	done    bool  // all of it was read
	chunks  http1.Chunks
}

func (b *body) begin(r *http1.Request, allowed int64) {
	b.chunked, b.left, b.allowed = r.Length < 0, max(0, r.Length), allowed
	b.asked, b.taken, b.done = !r.Continue, false, r.Length == 0
	if b.chunked {
		b.chunks.Reset()
	}
}

// take takes what of the body is at the beginning of buf, and returns it together
// with how many bytes of buf it was made of.
func (c *conn) take(buf []byte) (n int, data []byte, err error) {
	b := &c.body
	if !b.chunked {
		n = int(min(int64(len(buf)), b.left))
		b.left -= int64(n)
		b.done = b.left == 0
		c.x.received += int64(n)
		return n, buf[:n], nil
	}
	n, data, err = b.chunks.Compact(buf)
	b.done = b.chunks.Done()
	b.allowed -= int64(len(data))
	c.x.received += int64(len(data))
	var violation *http1.Error
	switch {
	case errors.As(err, &violation):
		err = malformed(violation).because(err)
	case b.allowed < 0:
		err = c.server.proxy.tooLarge.because(nil)
	}
	if err != nil {
		c.closing.Store(true) // whatever follows is not looked at
		return n, nil, err
	}
	return n, data, nil
}

func (c *conn) arrived() (data []byte, whole bool, err error) {
	asks := !c.body.asked
	c.body.taken, c.body.asked = true, true
	data, err = c.takeRead()
	if err == nil && len(data) == 0 && !c.body.done {
		data, err = c.awaitBody(asks)
	}
	return data, err == nil && c.body.done, err
}

// takeRead takes what of the body is in the connection's buffer.
func (c *conn) takeRead() ([]byte, error) {
	if c.body.done {
		return nil, nil
	}
	n, data, err := c.take(c.buf[c.r:c.w])
	c.r += n
	return data, err
}

// awaitBody waits a moment for the beginning of the body, and asks for it first if the
// client waits for that. The buffer cannot grow, for the request's head is in it.
func (c *conn) awaitBody(asks bool) ([]byte, error) {
	if asks && c.r == c.w && c.send([]byte("HTTP/1.1 100 Continue\r\n\r\n")) != nil {
		return nil, errClientGone
	}
	by := time.Now().Add(prompt)
	for c.w < len(c.buf) {
		n, err := c.readBy(c.buf[c.w:], by)
		if n == 0 {
			if isTimeout(err) {
				return nil, nil
			}
			return nil, c.bodyFailure(err)
		}
		c.w += n
		if data, err := c.takeRead(); err != nil || len(data) > 0 || c.body.done {
			return data, err
		}
	}
	return nil, nil
}

func (c *conn) readBody(p []byte) (int, error) {
	b := &c.body
	for {
		if b.done {
			return 0, io.EOF
		}
		into := p
		if !b.chunked {
			into = p[:min(int64(len(p)), b.left)]
		}
		n, err := c.readBy(into, time.Now().Add(stall))
		if n == 0 {
			return 0, c.bodyFailure(err)
		}
		used, data, err := c.take(into[:n])
		if used < n {
			c.next = append(c.next, into[used:n]...)
		}
		if err != nil || len(data) > 0 {
			return len(data), err
		}
	}
}

// bodyFailure finds who is to blame for a body that ended too early.
func (c *conn) bodyFailure(err error) error {
	c.closing.Store(true)
	switch {
	case errors.Is(err, errAborted):
		return errClientGone // or nobody wants the body any more
	case isTimeout(err):
		return requestTimeout.because(nil)
	}
	return errClientGone
}

func (c *conn) stopBody() {
	c.closing.Store(true)
	c.abortRead()
}

// drainable reports whether the rest of a body that nobody took can be read for the
// sake of the next request.
func (c *conn) drainable() bool {
	b := &c.body
	switch {
	case b.done:
		return true
	case !b.asked: // whether it comes at all is open
		return false
	case b.chunked:
		return true // it may turn out to be too long
	}
	return b.left-int64(c.w-c.r) <= maxDrain
}

// drain reads the rest of the body, and reports whether it came to its end.
func (c *conn) drain() bool {
	if !c.drainable() {
		return false
	}
	n, _, err := c.take(c.buf[c.r:c.w])
	c.r += n
	if c.body.done || err != nil {
		return err == nil
	}
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	by := time.Now().Add(drainStall)
	for total := 0; !c.body.done && total <= maxDrain; {
		into := buf[:]
		if !c.body.chunked {
			into = buf[:min(int64(len(buf)), c.body.left)]
		}
		n, err := c.readBy(into, by)
		if n == 0 && err != nil {
			return false
		}
		total += n
		used, _, err := c.take(into[:n])
		if err != nil {
			return false
		}
		c.next = append(c.next, into[used:n]...)
	}
	return c.body.done
}
