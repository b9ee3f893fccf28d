package proxy

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/fifegateway/fife/agent/http1"
)

// maxInterim is how many 1xx responses may come before the real one.
const maxInterim = 8

// upstream is a connection to an integration, for one request at a time.
type upstream struct {
	timedConn
	pool        *pool
	address     string
	born, since time.Time // opened, and last put into the pool
	reused      bool      // it has served a request before

	buf  *[bufferSize]byte // of responses; the pool's connections have none
	r, w int               // what of buf is read and not yet used

	res    http1.Response
	heard  bool  // something of a response was received
	left   int64 // of a body with a length; -1: until the connection ends
	chunks http1.Chunks
	done   bool // the response was received to its end
}

const bufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// abort makes whoever waits for the upstream stop, from any goroutine. The
// connection is lost.
func (u *upstream) abort() { _ = u.Conn.Close() }

// close gives the connection up.
func (u *upstream) close() {
	_ = u.Conn.Close()
	u.releaseBuffer()
}

// release puts the connection back, if it is fit for another request, and else
// closes it.
func (u *upstream) release() {
	if !u.done || u.res.Close || u.r != u.w {
		u.close()
		return
	}
	u.releaseBuffer()
	u.pool.put(u)
}

func (u *upstream) releaseBuffer() {
	if u.buf != nil {
		buffers.Put(u.buf)
		u.buf = nil
	}
}

// receiveHead waits for the head of the response, until a time. Interim responses
// are skipped, but for a 101.
func (u *upstream) receiveHead(method string, by time.Time) error {
	u.r, u.w, u.heard, u.done = 0, 0, false, false
	if u.buf == nil {
		u.buf = buffers.Get().(*[bufferSize]byte)
	}
	for range maxInterim {
		if err := u.parseHead(by); err != nil {
			return err
		}
		if u.res.Status >= 200 || u.res.Status == 101 {
			return u.frame(method)
		}
	}
	return errors.New("upstream sends no end of interim responses")
}

func (u *upstream) parseHead(by time.Time) error {
	for {
		if u.w > u.r {
			n, err := u.res.Parse(u.buf[u.r:u.w])
			if err == nil {
				u.r += n
				return nil
			}
			if !errors.Is(err, http1.ErrIncomplete) {
				return fmt.Errorf("upstream's response: %w", err)
			}
			if u.w == len(u.buf) { // interim responses are in the way
				if u.r == 0 {
					return errors.New("upstream's response: head is too large")
				}
				u.w = copy(u.buf[:], u.buf[u.r:u.w])
				u.r = 0
			}
		}
		n, err := u.readBy(u.buf[u.w:], by)
		u.w += n
		u.heard = u.heard || n > 0
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("await upstream's response: %w", err)
		}
	}
}

// frame finds how the response's body ends.
func (u *upstream) frame(method string) error {
	switch {
	case u.res.Status == 101:
	case u.res.Status > 599:
		return fmt.Errorf("upstream answered with status %d", u.res.Status)
	case u.res.Bodiless(method), u.res.Length == 0 && !u.res.Chunked:
		u.left, u.done = 0, true
	case u.res.Chunked:
		u.chunks.Reset()
	default:
		u.left = u.res.Length
		u.res.Close = u.res.Close || u.left < 0
	}
	return nil
}

// next returns the next piece of the response's body, which is valid until the next
// call, and io.EOF at its end. It waits for no more than it returns.
func (u *upstream) next() ([]byte, error) {
	for !u.done {
		piece, err := u.buffered()
		if len(piece) > 0 || err != nil {
			return piece, err
		}
		if u.done {
			break
		}
		n, err := u.readBy(u.buf[:], time.Time{})
		u.r, u.w = 0, n
		if n > 0 {
			continue
		}
		if errors.Is(err, io.EOF) {
			if u.left < 0 && !u.res.Chunked {
				u.done = true
				break
			}
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, fmt.Errorf("read upstream's body: %w", err)
		}
	}
	return nil, io.EOF
}

// buffered returns what of the body was read already; nothing is no error.
func (u *upstream) buffered() ([]byte, error) {
	if u.done || u.r == u.w {
		return nil, nil
	}
	piece := u.buf[u.r:u.w]
	if u.res.Chunked {
		n, data, err := u.chunks.Compact(piece)
		u.r += n
		u.done = u.chunks.Done()
		if err != nil {
			return nil, fmt.Errorf("upstream's body: %w", err)
		}
		return data, nil
	}
	if u.left >= 0 {
		piece = piece[:min(int64(len(piece)), u.left)]
		u.left -= int64(len(piece))
		u.done = u.left == 0
	}
	u.r += len(piece)
	return piece, nil
}

// trailer returns the fields behind the body that may be passed on.
func (u *upstream) trailer(dst []http1.Field) []http1.Field {
	if !u.res.Chunked {
		return dst
	}
	for _, f := range u.chunks.Trailer() {
		if http1.TrailerAllowed(&f) && !isFife(f.Name) {
			dst = append(dst, f)
		}
	}
	return dst
}
