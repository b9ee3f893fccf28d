//go:build linux

package bench_test

import (
	"bufio"
	"bytes"
	wirebytes "encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
)

// This file holds the least of a gRPC client that keeps one stream open: ten
// thousand of gRPC's own would keep the client's core busy for longer than the
// server's, and so measure themselves.

// dialect is what the agents of a contestant say.
type dialect struct {
	method string // the path of the gRPC method; empty for bare TCP, with gRPC's message framing
	hello  func(agent int) []byte
	answer func(message []byte) (reply []byte, err error) // an empty reply is not sent
	last   atomic.Pointer[exchange]
}

// exchange is an answer that is good for all who get the same message.
type exchange struct{ message, reply []byte }

// reply answers a message. The same one to many agents is read once.
func (d *dialect) reply(message []byte) ([]byte, error) {
	if last := d.last.Load(); last != nil && bytes.Equal(last.message, message) {
		return last.reply, nil
	}
	reply, err := d.answer(message)
	if err != nil {
		return nil, err
	}
	if len(reply) > 0 {
		reply = d.frame(reply)
	}
	d.last.Store(&exchange{bytes.Clone(message), reply})
	return reply, nil
}

// HTTP/2 as far as a stream needs it, see RFC 9113.
const (
	frameData, frameHeaders, frameReset, frameSettings, framePing, frameGoAway = 0, 1, 3, 4, 6, 7

	flagEndStream, flagAck, flagEndHeaders = 0x1, 0x1, 0x4

	http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	http2Window  = 1 << 30 // more than is ever sent, so that it is never widened
)

func appendFrame(b []byte, kind, flags byte, stream uint32, payload []byte) []byte {
	n := len(payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	b = wirebytes.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

// frame returns a message as it goes over the wire.
func (d *dialect) frame(message []byte) []byte {
	b := wirebytes.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	b = append(b, message...)
	if d.method == "" {
		return b
	}
	return appendFrame(nil, frameData, 0, 1, b)
}

// opening returns what an agent sends first.
func (d *dialect) opening(agent int, authority string) []byte {
	hello := d.frame(d.hello(agent))
	if d.method == "" {
		return hello
	}
	const initialWindowSize = 4
	settings := wirebytes.BigEndian.AppendUint32([]byte{0, initialWindowSize}, http2Window)
	b := appendFrame([]byte(http2Preface), frameSettings, 0, 0, settings)
	const windowUpdate = 8
	b = appendFrame(b, windowUpdate, 0, 0, wirebytes.BigEndian.AppendUint32(nil, http2Window))
	var headers []byte
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", d.method}, {":authority", authority},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		headers = append(headers, 0) // a literal without indexing, see RFC 7541, 6.2.2
		for _, text := range h {
			headers = append(append(headers, byte(len(text))), text...)
		}
	}
	return append(appendFrame(b, frameHeaders, flagEndHeaders, 1, headers), hello...)
}

// wire is the agent's end of a connection.
type wire struct {
	conn    net.Conn
	in      *bufio.Reader
	dialect *dialect
	payload []byte
	partial []byte // of a message
}

func newWire(conn net.Conn, d *dialect) *wire {
	return &wire{conn: conn, in: bufio.NewReaderSize(conn, 2<<10), dialect: d}
}

// next returns the next message, which holds until the next call.
func (w *wire) next() ([]byte, error) {
	w.partial = w.partial[:0]
	for {
		data, err := w.data()
		if err != nil {
			return nil, err
		}
		if len(w.partial) == 0 && messageEnds(data) {
			return data[5:], nil
		}
		w.partial = append(w.partial, data...)
		if messageEnds(w.partial) {
			return w.partial[5:], nil
		}
	}
}

// messageEnds reports whether data is one message. None is followed by another
// before it is answered.
func messageEnds(data []byte) bool {
	return len(data) >= 5 && len(data) == 5+int(wirebytes.BigEndian.Uint32(data[1:]))
}

// data returns the next piece of the stream.
func (w *wire) data() ([]byte, error) {
	if w.dialect.method == "" {
		head, err := w.in.Peek(5)
		if err != nil {
			return nil, err
		}
		return w.read(5 + int(wirebytes.BigEndian.Uint32(head[1:])))
	}
	for {
		head, err := w.in.Peek(9)
		if err != nil {
			return nil, err
		}
		n, kind, flags := int(head[0])<<16|int(head[1])<<8|int(head[2]), head[3], head[4]
		if _, err := w.in.Discard(9); err != nil {
			return nil, err
		}
		payload, err := w.read(n)
		if err != nil {
			return nil, err
		}
		switch {
		case kind == frameData && n > 0:
			return payload, nil
		case kind == frameSettings && flags&flagAck == 0:
			_, err = w.conn.Write(appendFrame(nil, frameSettings, flagAck, 0, nil))
		case kind == framePing && flags&flagAck == 0:
			_, err = w.conn.Write(appendFrame(nil, framePing, flagAck, 0, payload))
		case kind == frameGoAway || kind == frameReset:
			return nil, fmt.Errorf("the server ends it: %q", payload)
		case kind == frameHeaders && flags&flagEndStream != 0:
			return nil, fmt.Errorf("the server ends the stream: %q", payload)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (w *wire) read(n int) ([]byte, error) {
	const most = 1 << 20
	if n > most {
		return nil, errors.New("got more than an agent expects")
	}
	if cap(w.payload) < n {
		w.payload = make([]byte, n)
	}
	_, err := io.ReadFull(w.in, w.payload[:n])
	return w.payload[:n], err
}
