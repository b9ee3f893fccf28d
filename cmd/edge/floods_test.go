//go:build linux

package edge_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
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

// dialing returns what connects to an agent, over TLS or not. Who it is does not matter.
func dialing(secure bool) func(address string) (net.Conn, error) {
	return func(address string) (net.Conn, error) {
		if secure {
			return tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		}
		return net.Dial("tcp", address)
	}
}

// overBoth runs a test of an agent's HTTP/2 over TLS and without.
func overBoth(t *testing.T, test func(t *testing.T, a *agent, dial func(string) (net.Conn, error))) {
	upstream := startUpstream(t)
	upstream.begin(script{hang: true})
	plane := startControlPlane(t, corpusTable(upstream.Addr().String())...)
	certFile, keyFile := certificate(t)
	t.Run("h2c", func(t *testing.T) { test(t, startAgent(t, "h2c", plane, nil), dialing(false)) })
	t.Run("TLS", func(t *testing.T) {
		test(t, startAgent(t, "tls", plane, nil, "--tls-cert", certFile, "--tls-key", keyFile), dialing(true))
	})
}

func dialHTTP2(t *testing.T, address string, dial func(string) (net.Conn, error)) *http2Client {
	t.Helper()
	conn, err := dial(address)
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
	overBoth(t, flood)
}

func flood(t *testing.T, a *agent, dial func(string) (net.Conn, error)) {
	headers := func(stream uint32, flags byte, block []byte) []byte { return frame(frameHeaders, flags, stream, block) }
	get, large := http2Request("/s/x")[9:], http2Request("/s/large")[9:]
	window := func(n uint32) []byte { // SETTINGS_INITIAL_WINDOW_SIZE
		return frame(frameSettings, 0, 0, binary.BigEndian.AppendUint32([]byte{0, 4}, n))
	}
	for _, test := range []struct {
		name   string
		frames uint32
		closed bool // the connection has to be closed
		flood  func(n uint32) []byte
	}{
		{"rapid reset", 20_000, false, func(n uint32) []byte { // CVE-2023-44487; that it is closed is for TestHTTP2Resets
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
		{"answers for windows of 0", 10_000, false, func(n uint32) []byte { // CVE-2019-9517
			request := headers(2*n+1, flagEndStream|flagEndHeaders, large)
			if n == 0 {
				return append(window(0), request...)
			}
			return request
		}},
		{"answers a byte at a time", 100_000, false, func(n uint32) []byte { // CVE-2019-9511
			const streams = 50
			switch {
			case n == 0:
				return append(window(1), headers(1, flagEndStream|flagEndHeaders, large)...)
			case n < streams:
				return headers(2*n+1, flagEndStream|flagEndHeaders, large)
			}
			return frame(frameWindowUpdate, 0, 2*(n%streams)+1, []byte{0, 0, 0, 1})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := vitals(t, a)
			c := dialHTTP2(t, a.http, dial)
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
			if err := probeHTTP2(t, a, dial); err != nil {
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
	overBoth(t, fillStreams)
}

func fillStreams(t *testing.T, a *agent, dial func(string) (net.Conn, error)) {
	c := dialHTTP2(t, a.http, dial)
	settings, err := c.await(frameSettings)
	if err != nil {
		t.Fatal(err)
	}
	if most := setting(settings, 3); most != 100 { // SETTINGS_MAX_CONCURRENT_STREAMS

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

// TestHTTP2Heads: a head over the limits is refused on its stream, and the connection
// goes on.
func TestHTTP2Heads(t *testing.T) {
	overBoth(t, func(t *testing.T, a *agent, dial func(string) (net.Conn, error)) {
		lines := func(count, length int) []byte {
			block := bytes.Clone(http2Request("/s/mock")[9:])
			for n := range count {
				block = append(block, 0, 4, 'x', '-', byte('a'+n/26), byte('a'+n%26), byte(length))
				block = append(block, bytes.Repeat([]byte{'v'}, length)...)
			}
			return block
		}
		for _, test := range []struct {
			name  string
			block []byte
		}{{"many lines", lines(101, 1)}, {"large", lines(280, 100)}} {
			c := dialHTTP2(t, a.http, dial)
			settings, err := c.await(frameSettings)
			if err != nil {
				t.Fatal(err)
			}
			if most := setting(settings, 6); most < 32<<10 || most > 40<<10 { // SETTINGS_MAX_HEADER_LIST_SIZE
				t.Errorf("the agent takes heads of %d bytes, want 32 KiB and a little", most)
			}
			for i, head := range []struct {
				block  []byte
				status string // as it stands in the head; 0x88 stands for 200 (RFC 7541, A)
			}{{test.block, "431"}, {lines(90, 100), "\x88"}} {
				id := uint32(2*i + 1)
				var out []byte
				kind, flags := byte(frameHeaders), byte(flagEndStream)
				for rest := head.block; len(rest) > 0; kind, flags = frameContinuation, 0 {
					piece := rest[:min(len(rest), 16<<10)]
					if rest = rest[len(piece):]; len(rest) == 0 {
						flags |= flagEndHeaders
					}
					out = append(out, frame(kind, flags, id, piece)...)
				}
				if _, err := c.Write(out); err != nil {
					t.Fatalf("%s: %v", test.name, err)
				}
				f, err := c.await(frameHeaders)
				if err != nil {
					t.Fatalf("%s: %v", test.name, err)
				}
				if f.stream != id || !bytes.Contains(f.payload[:min(len(f.payload), 6)], []byte(head.status)) {
					t.Errorf("%s: stream %d was answered with the fields %x, want %q", test.name, f.stream, f.payload, head.status)
				}
			}
		}
	})
}

// TestHTTP2Resets: a client that resets its requests at once loses its connection, also
// if it waits until none of them is left over before it sends more. One that does so now
// and then does not.
func TestHTTP2Resets(t *testing.T) {
	overBoth(t, func(t *testing.T, a *agent, dial func(string) (net.Conn, error)) {
		c := dialHTTP2(t, a.http, dial)
		hang, mock := http2Request("/s/x"), http2Request("/s/mock")
		stream := uint32(1)
		begin := func(request []byte) []byte {
			out := bytes.Clone(request)
			binary.BigEndian.PutUint32(out[5:], stream)
			stream += 2
			return out
		}
		reset := func(n int) error {
			var out []byte
			for range n {
				id := stream
				out = append(append(out, begin(hang)...), frame(frameReset, 0, id, []byte{0, 0, 0, 8})...)
			}
			if _, err := c.Write(append(out, frame(framePing, 0, 0, make([]byte, 8))...)); err != nil {
				return err
			}
			_, err := c.await(framePing)
			return err
		}
		for range 60 { // a tenth of its requests, over more than are counted at a time
			if err := reset(2); err != nil {
				t.Fatalf("stream %d: %v", stream, err)
			}
			for range 18 {
				if _, err := c.Write(begin(mock)); err != nil {
					t.Fatal(err)
				}
				if f, err := c.await(frameHeaders); err != nil || f.payload[0] != 0x88 {
					t.Fatalf("stream %d is answered with the fields %x, %v", stream, f.payload, err)
				}
			}
		}
		for range 200 {
			if reset(20) != nil {
				return
			}
		}
		t.Error("the connection stays open")
	})
}

// probeHTTP2 sends a request on a connection of its own and wants a 200.
func probeHTTP2(t *testing.T, a *agent, dial func(string) (net.Conn, error)) error {
	c := dialHTTP2(t, a.http, dial)
	if _, err := c.Write(http2Request("/s/mock")); err != nil {
		return fmt.Errorf("another client's request: %w", err)
	}
	f, err := c.await(frameHeaders)
	if err != nil {
		return fmt.Errorf("another client's request: %w", err)
	}
	if f.payload[0] != 0x88 { // :status 200
		return fmt.Errorf("another client's request is answered with the fields %x", f.payload)
	}
	return c.Close()
}

// setting returns the value of one setting of a frame, or 0.
func setting(f http2Frame, id uint16) uint32 {
	for p := f.payload; len(p) >= 6; p = p[6:] {
		if binary.BigEndian.Uint16(p) == id {
			return binary.BigEndian.Uint32(p[2:])
		}
	}
	return 0
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
