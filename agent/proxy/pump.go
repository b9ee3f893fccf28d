package proxy

import (
	"errors"
	"io"
	"time"

	"github.com/fifegateway/fife/agent/http1"
)

// settle is how long a client may take to finish a request that was answered before
// its end. Mostly the end is on its way.
const settle = 100 * time.Millisecond

// pump passes on what of a request's body comes while the response is awaited, and
// passed back, already. It is a goroutine of the request that started it, which ends
// it with finish.
type pump struct {
	client  client
	to      *upstream
	chunked bool

	done chan struct{} // closed at the end; the fields below are set then
	sent bool          // all of the body
	err  error         // the client's fault: a *failure or errClientGone
}

func startPump(c client, u *upstream, chunked bool) *pump {
	b := &pump{client: c, to: u, chunked: chunked, done: make(chan struct{})}
	go b.run()
	return b
}

func (b *pump) run() {
	defer close(b.done)
	// A chunk is its size in a line of its own, the data, and a line end.
	const room, tail = 8, 2
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for {
		n, err := b.client.readBody(buf[room : bufferSize-tail])
		if n > 0 {
			piece := buf[room : room+n]
			if b.chunked {
				var line [room]byte
				size := http1.AppendChunkSize(line[:0], n)
				begin := room - len(size)
				copy(buf[begin:], size)
				piece = append(buf[begin:room+n], "\r\n"...)
			}
			if b.to.send(piece) != nil {
				return // whoever reads the response finds out why
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			// The upstream must not take what it got for the whole.
			b.err = err
			b.to.abort()
			return
		}
	}
	b.sent = !b.chunked || b.to.send([]byte(http1.LastChunk)) == nil
}

// finish ends the pump and reports whether all of the body was sent. It does so at
// once when the response broke off; else the client has a moment to send the rest. A
// nil pump has sent everything.
func (b *pump) finish(c client, broken bool) bool {
	if b == nil {
		return true
	}
	if !broken {
		timer := time.NewTimer(settle)
		defer timer.Stop()
		select {
		case <-b.done:
			return b.sent
		case <-timer.C:
		}
	}
	select {
	case <-b.done:
		return b.sent
	default:
	}
	c.stopBody()
	b.to.abort()
	<-b.done
	return false
}
