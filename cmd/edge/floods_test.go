//go:build linux

package edge_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// http2Client speaks raw frames.
type http2Client struct {
	net.Conn
	r *bufio.Reader
}

// http2Frame is one frame that came.
type http2Frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

func dialHTTP2(t *testing.T, address string) *http2Client {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(http2Preface()); err != nil {
		t.Fatal(err)
	}
	return &http2Client{conn, bufio.NewReader(conn)}
}

func (c *http2Client) read() (f http2Frame, err error) {
	var head [9]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return f, err
	}
	f = http2Frame{kind: head[3], flags: head[4], stream: binary.BigEndian.Uint32(head[5:])}
	f.payload = make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
	_, err = io.ReadFull(c.r, f.payload)
	return f, err
}

// await reads frames until one is of a kind.
func (c *http2Client) await(kind byte) (http2Frame, error) {
	for {
		f, err := c.read()
		if err != nil || f.kind == kind {
			return f, err
		}
	}
}

// TestHTTP2Floods: clients that flood a connection with frames lose it, or at least
// gain nothing: memory stays bounded, and other clients are served.
func TestHTTP2Floods(t *testing.T) {
	upstream := startUpstream(t)
	address := upstream.Addr().String()
	plane := startControlPlane(t, corpusTable(address)...)
	a := startAgent(t, "floods", plane, nil)
	upstream.begin(script{hang: true})
	headers := func(stream uint32, flags byte, block []byte) []byte { return frame(frameHeaders, flags, stream, block) }
	get := http2Request("/s/x")[9:]
	for _, test := range []struct {
		name   string
		frames uint32
		closed bool // the connection has to be closed
		flood  func(n uint32) []byte
	}{
		{"rapid reset", 20_000, false, func(n uint32) []byte { // CVE-2023-44487; handlers that end at once leave nothing to close for
			return append(headers(2*n+1, flagEndStream|flagEndHeaders, get), frame(frameReset, 0, 2*n+1, []byte{0, 0, 0, 8})...)
		}},
		{"CONTINUATION without end", 20_000, true, func(n uint32) []byte { // CVE-2023-45288
			if n == 0 {
				return headers(1, flagEndStream, get)
			}
			return frame(frameContinuation, 0, 1, bytes.Repeat([]byte{0x00, 0x01, 'a', 0x01, 'b'}, 200))
		}},
		{"empty CONTINUATION without end", 20_000, false, func(n uint32) []byte {
			if n == 0 {
				return headers(1, flagEndStream, get)
			}
			return frame(frameContinuation, 0, 1, nil)
		}},
		{"SETTINGS whose ACK nobody reads", 100_000, false, func(uint32) []byte { return frame(frameSettings, 0, 0, nil) }},      // CVE-2019-9515
		{"PING whose ACK nobody reads", 1_000_000, true, func(uint32) []byte { return frame(framePing, 0, 0, make([]byte, 8)) }}, // CVE-2019-9512
		{"HPACK bomb", 90, false, func(n uint32) []byte { // a long field, put into the table once and then named by a byte
			value := bytes.Repeat([]byte{'v'}, 3900)
			block := append(bytes.Clone(get), 0x40, 0x01, 'x', 0x7f, 0xbd, 0x1d)
			block = append(append(block, value...), bytes.Repeat([]byte{0xbe}, 10_000)...)
			return headers(2*n+1, flagEndStream|flagEndHeaders, block)
		}},
		{"empty DATA without end", 100_000, false, func(n uint32) []byte { // CVE-2019-9518
			if n == 0 {
				return headers(1, flagEndHeaders, append([]byte{0x83}, get[1:]...)) // :method POST
			}
			return frame(frameData, 0, 1, nil)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := vitals(t, a)
			c := dialHTTP2(t, a.http)
			_ = c.SetDeadline(time.Now().Add(patience))
			var err error
			var batch []byte
			for n := uint32(0); n < test.frames && err == nil; n++ {
				if batch = append(batch, test.flood(n)...); len(batch) > 64<<10 || n == 0 {
					_, err = c.Write(batch)
					batch = batch[:0]
				}
			}
			during := vitals(t, a)
			if grown := during.rss - before.rss; grown > 64<<20 {
				t.Errorf("the agent has grown by %d MiB", grown>>20)
			}
			if err := probeFresh(a.http, patience); err != nil {
				t.Error(err)
			}
			if !test.closed {
				return
			}
			// It is read from only now, so a flood may have been stopped before by its
			// own answers.
			_ = c.SetDeadline(time.Now().Add(patience))
			for err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				if _, err = c.read(); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("the connection stays open")
					return
				}
			}
		})
	}
}

// TestHTTP2Streams: a connection has at most 100 streams at a time.
func TestHTTP2Streams(t *testing.T) {
	upstream := startUpstream(t)
	plane := startControlPlane(t, corpusTable(upstream.Addr().String())...)
	a := startAgent(t, "streams", plane, nil)
	upstream.begin(script{hang: true})
	c := dialHTTP2(t, a.http)
	settings, err := c.await(frameSettings)
	if err != nil {
		t.Fatal(err)
	}
	most := uint32(0)
	for p := settings.payload; len(p) >= 6; p = p[6:] {
		if binary.BigEndian.Uint16(p) == 3 { // SETTINGS_MAX_CONCURRENT_STREAMS
			most = binary.BigEndian.Uint32(p[2:])
		}
	}
	if most != 100 {
		t.Errorf("the agent allows %d streams, want 100", most)
	}
	batch := frame(frameSettings, flagAck, 0, nil)
	for n := uint32(0); n <= 100; n++ {
		request := http2Request("/s/x")
		binary.BigEndian.PutUint32(request[5:], 2*n+1)
		batch = append(batch, request...)
	}
	if _, err := c.Write(batch); err != nil {
		t.Fatal(err)
	}
	f, err := c.await(frameReset)
	if err != nil {
		t.Fatal(fmt.Errorf("await the refusal of a stream too many: %w", err))
	}
	const protocolError, refusedStream = 1, 7 // RFC 9113, 5.1.2, allows both
	if code := binary.BigEndian.Uint32(f.payload); f.stream != 201 || code != protocolError && code != refusedStream {
		t.Errorf("stream %d was reset with %d, want 201 to be refused", f.stream, code)
	}
}

// TestHTTP2Load: many streams at a time, over several connections, are answered
// rightly and leave the agent as it was.
func TestHTTP2Load(t *testing.T) {
	base := startBenchUpstream(t, nil)
	plane := startControlPlane(t, apiResource(), deploymentResource(1, httpRoute("ANY", "/{proxy+}", "http://"+base+"/b/{proxy}")),
		stageResource("b", &discoveryv1.Stage{Deployment: 1}))
	a := startAgent(t, "streams", plane, nil)
	c := &contestant{name: agentName, process: a.process, http2: a.http}
	measure(t, c, loadSpec{Path: "/b/x", Length: 100, HTTP2: true, Conns: 8, Streams: 8, Phase: time.Second}, nil)
	vitals(t, a)
}
