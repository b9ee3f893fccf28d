//go:build linux

package edge_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// This file is the load generator. It runs as a process of its own, on a core of its
// own, as one loop over epoll with no goroutines, so that it costs less than what it
// measures.

// loadSpec says what load to make.
type loadSpec struct {
	Address string
	Path    string
	Length  int  // of the body that has to come
	HTTP2   bool // with prior knowledge
	Conns   int
	Streams int           // at a time on a connection; 1 for HTTP/1.1
	Rate    int           // requests per second; 0 means as many as can be
	Warm    time.Duration // before what counts
	Phase   time.Duration
}

// loadResult is what came of it. Latencies are in seconds; at a fixed rate they count
// from when a request was due, not from when it could be sent.
type loadResult struct {
	Requests       int
	All            int // with those before what counts
	Seconds        float64
	P50, P99, P999 float64
}

// loader is the state of the loop.
type loader struct {
	spec     loadSpec
	epoll    int
	byFD     map[int32]*loadConn
	free     []*loadConn // with room for a request, longest unused first; a connection is in it once per stream
	due      int64       // when the next request is due, in ns since start
	start    time.Time
	counting bool
	begin    int64
	latency  []int64
	all      int
}

type loadConn struct {
	fd      int
	buf     []byte
	r, w    int
	since   []int64 // of requests under way, oldest first (HTTP/1.1) or by stream
	stream  uint32  // the next (HTTP/2)
	request []byte
	open    map[uint32]*stream
	got     int64 // bytes since the last window update
}

// runLoad is the process's main function: a spec comes in the environment, and the
// result goes to standard output.
func runLoad(text string) error {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	var l loader
	if err := json.Unmarshal([]byte(text), &l.spec); err != nil {
		return err
	}
	result, err := l.run()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// stream is a request under way on HTTP/2.
type stream struct {
	at  int64
	got int // bytes of the body
}

func (l *loader) now() int64 { return int64(time.Since(l.start)) }

func (l *loader) run() (loadResult, error) {
	var err error
	if l.epoll, err = syscall.EpollCreate1(0); err != nil {
		return loadResult{}, err
	}
	l.start = time.Now()
	l.byFD = map[int32]*loadConn{}
	for range l.spec.Conns {
		c, err := l.dial()
		if err != nil {
			return loadResult{}, fmt.Errorf("connect to %s: %w", l.spec.Address, err)
		}
		for range l.spec.Streams {
			l.free = append(l.free, c)
		}
	}
	l.latency = make([]int64, 0, 1<<20)
	var interval int64
	if l.spec.Rate > 0 {
		interval = int64(time.Second) / int64(l.spec.Rate)
	}
	l.due = l.now()
	end := int64(l.spec.Warm + l.spec.Phase)
	events := make([]syscall.EpollEvent, 256)
	for {
		now := l.now()
		if !l.counting && now >= int64(l.spec.Warm) {
			l.counting, l.begin = true, now
		}
		if now >= end && (len(l.latency) > 0 || now > end+int64(patience)) {
			break
		}
		for len(l.free) > 0 && (interval == 0 || l.due <= now) {
			at := now
			if interval > 0 {
				at = l.due
				l.due += interval
			}
			c := l.free[0]
			l.free = l.free[:copy(l.free, l.free[1:])]
			if err := l.send(c, at); err != nil {
				return loadResult{}, err
			}
		}
		wait := max(end-now, int64(time.Millisecond))
		if interval > 0 && len(l.free) > 0 {
			wait = min(wait, max(0, l.due-l.now()))
		}
		n, err := epollWait(l.epoll, events, wait)
		if err != nil {
			return loadResult{}, err
		}
		for _, e := range events[:n] {
			if err := l.receive(l.byFD[e.Fd]); err != nil {
				return loadResult{}, err
			}
		}
	}
	slices.Sort(l.latency)
	if len(l.latency) == 0 {
		return loadResult{}, errors.New("not one response came")
	}
	at := func(q float64) float64 { return float64(quantile(l.latency, q)) / 1e9 }
	return loadResult{
		Requests: len(l.latency), All: l.all, Seconds: float64(l.now()-l.begin) / 1e9,
		P50: at(0.5), P99: at(0.99), P999: at(0.999),
	}, nil
}

func (l *loader) dial() (*loadConn, error) {
	fd, err := dialRaw(l.spec.Address)
	if err != nil {
		return nil, err
	}
	c := &loadConn{fd: fd, buf: make([]byte, 64<<10), stream: 1}
	if l.spec.HTTP2 {
		c.open = map[uint32]*stream{}
		c.request = http2Request(l.spec.Path)
		if _, err := syscall.Write(fd, http2Preface()); err != nil {
			return nil, err
		}
	} else {
		c.request = []byte("GET " + l.spec.Path + " HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: load/1\r\nAccept: */*\r\n\r\n")
	}
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
	l.byFD[int32(fd)] = c
	return c, syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, fd, &event)
}

func dialRaw(address string) (int, error) {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return 0, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return 0, err
	}
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	return fd, syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()})
}

// epollWait waits for at most ns nanoseconds. It does not tell Go's scheduler, which
// has nothing else to run.
func epollWait(epoll int, events []syscall.EpollEvent, ns int64) (int, error) {
	const epollPwait2 = 441
	timeout := syscall.NsecToTimespec(ns)
	n, _, errno := syscall.RawSyscall6(epollPwait2, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])),
		uintptr(len(events)), uintptr(unsafe.Pointer(&timeout)), 0, 0)
	if errno != 0 && errno != syscall.EINTR {
		return 0, fmt.Errorf("epoll: %w", errno)
	}
	if errno != 0 {
		return 0, nil
	}
	return int(n), nil
}

func rawIO(call uintptr, fd int, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func (l *loader) send(c *loadConn, at int64) error {
	if c.open != nil {
		binary.BigEndian.PutUint32(c.request[5:], c.stream)
		c.open[c.stream] = &stream{at: at}
		c.stream += 2
	} else {
		c.since = append(c.since[:0], at)
	}
	n, err := rawIO(syscall.SYS_WRITE, c.fd, c.request)
	if err != nil || n < len(c.request) {
		return fmt.Errorf("send a request: %d bytes of %d: %w", n, len(c.request), err)
	}
	return nil
}

func (l *loader) receive(c *loadConn) error {
	if c.w == len(c.buf) {
		if c.r == 0 {
			c.buf = append(c.buf, make([]byte, len(c.buf))...)
		}
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	n, err := rawIO(syscall.SYS_READ, c.fd, c.buf[c.w:])
	if err != nil || n == 0 {
		return fmt.Errorf("the connection ended: %w", errors.Join(err, io.EOF))
	}
	c.w += n
	if c.open != nil {
		err = l.frames(c, n)
	} else {
		err = l.responses(c)
	}
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
	return err
}

func (l *loader) done(c *loadConn, at int64) {
	now := l.now()
	l.all++
	if l.counting && at >= l.begin {
		l.latency = append(l.latency, now-at)
	}
	l.free = append(l.free, c)
}

// responses takes HTTP/1.1 responses, which must be 200 and have a length.
func (l *loader) responses(c *loadConn) error {
	for c.r < c.w {
		b := c.buf[c.r:c.w]
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			return nil
		}
		if !bytes.HasPrefix(b, []byte("HTTP/1.1 200")) {
			return fmt.Errorf("the answer is %.100q", b)
		}
		i := bytes.Index(b[:end], []byte("ontent-"))
		for i >= 0 && b[i+7]|0x20 != 'l' {
			j := bytes.Index(b[i+7:end], []byte("ontent-"))
			if j < 0 {
				return fmt.Errorf("no length in %q", b[:end])
			}
			i += 7 + j
		}
		if i < 0 {
			return fmt.Errorf("no length in %q", b[:end])
		}
		value := b[i+len("ontent-length:") : end+1]
		value = bytes.TrimSpace(value[:bytes.IndexByte(value, '\r')])
		length, err := strconv.Atoi(string(value))
		if err != nil {
			return err
		}
		if length != l.spec.Length {
			return fmt.Errorf("the body has %d bytes, want %d", length, l.spec.Length)
		}
		if len(b) < end+4+length {
			return nil
		}
		c.r += end + 4 + length
		l.done(c, c.since[0])
	}
	return nil
}

// The frames of HTTP/2 that matter here (RFC 9113, 6).
const (
	frameData         = 0
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	framePing         = 6
	frameGoAway       = 7
	frameWindowUpdate = 8
	frameContinuation = 9
	flagEndStream     = 1
	flagAck           = 1
	flagEndHeaders    = 4
	maxWindow         = 1<<31 - 1
)

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	b := make([]byte, 9, 9+len(payload))
	b[0], b[1], b[2], b[3], b[4] = byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)), kind, flags
	binary.BigEndian.PutUint32(b[5:], stream)
	return append(b, payload...)
}

// http2Preface opens a connection with windows that never fill, and tells the server
// to keep no table of fields.
func http2Preface() []byte {
	settings := binary.BigEndian.AppendUint16(nil, 4) // SETTINGS_INITIAL_WINDOW_SIZE
	settings = binary.BigEndian.AppendUint32(settings, maxWindow)
	b := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(frameSettings, 0, 0, settings)...)
	return append(b, windowUpdate(maxWindow-65535)...)
}

func windowUpdate(n uint32) []byte {
	return frame(frameWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, n))
}

// http2Request is a GET whose fields are not indexed (RFC 7541, 6.2.2), so that every
// request has the same bytes.
func http2Request(path string) []byte {
	text := func(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }
	block := []byte{0x82, 0x86} // :method GET, :scheme http
	block = text(append(block, 0x04), path)
	block = text(append(block, 0x01), "bench.test")
	block = text(append(block, 0x0f, 58-15), "load/1") // user-agent
	block = text(append(block, 0x0f, 19-15), "*/*")    // accept
	return frame(frameHeaders, flagEndStream|flagEndHeaders, 1, block)
}

func (l *loader) frames(c *loadConn, n int) error {
	if c.got += int64(n); c.got > 1<<30 {
		if _, err := syscall.Write(c.fd, windowUpdate(uint32(c.got))); err != nil {
			return err
		}
		c.got = 0
	}
	for c.w-c.r >= 9 {
		b := c.buf[c.r:c.w]
		length := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		if len(b) < 9+length {
			return nil
		}
		kind, flags, id, payload := b[3], b[4], binary.BigEndian.Uint32(b[5:]), b[9:9+length]
		c.r += 9 + length
		switch kind {
		case frameSettings:
			if flags&flagAck == 0 {
				if _, err := syscall.Write(c.fd, frame(frameSettings, flagAck, 0, nil)); err != nil {
					return err
				}
			}
		case framePing:
			if flags&flagAck == 0 {
				if _, err := syscall.Write(c.fd, frame(framePing, flagAck, 0, payload)); err != nil {
					return err
				}
			}
		case frameHeaders:
			if at := bytes.IndexByte(payload[:min(len(payload), 8)], 0x88); at < 0 { // :status 200
				return fmt.Errorf("the answer's fields are %.60x", payload)
			}
		case frameReset, frameGoAway:
			return fmt.Errorf("frame of type %d: %x", kind, payload)
		}
		if kind != frameData && kind != frameHeaders {
			continue
		}
		s, ok := c.open[id]
		if !ok {
			return fmt.Errorf("a frame of stream %d, which is not open", id)
		}
		if kind == frameData {
			s.got += length // the servers measured do not pad
		}
		if flags&flagEndStream != 0 {
			if s.got != l.spec.Length {
				return fmt.Errorf("the body has %d bytes, want %d", s.got, l.spec.Length)
			}
			delete(c.open, id)
			l.done(c, s.at)
		}
	}
	return nil
}

// runBenchUpstream is an upstream that costs as little: 100 bytes, or 16 KiB where a
// path ends in 16k. It prints its address and serves until it is killed.
func runBenchUpstream() error {
	runtime.LockOSThread()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	listener := int(file.Fd())
	if err := syscall.SetNonblock(listener, true); err != nil {
		return err
	}
	fmt.Println(l.Addr())
	epoll, err := syscall.EpollCreate1(0)
	if err != nil {
		return err
	}
	add := func(fd int) error {
		return syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)})
	}
	if err := add(listener); err != nil {
		return err
	}
	small, large := benchAnswer(100), benchAnswer(16<<10)
	buf, events := make([]byte, 64<<10), make([]syscall.EpollEvent, 256)
	for {
		n, err := epollWait(epoll, events, int64(time.Hour))
		if err != nil {
			return err
		}
		for _, e := range events[:n] {
			fd := int(e.Fd)
			if fd == listener {
				if c, _, err := syscall.Accept(listener); err == nil {
					_ = syscall.SetsockoptInt(c, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
					if err := add(c); err != nil {
						return err
					}
				}
				continue
			}
			n, err := rawIO(syscall.SYS_READ, fd, buf)
			if err != nil || n == 0 {
				_ = syscall.Close(fd)
				continue
			}
			line, _, _ := bytes.Cut(buf[:n], []byte("\r\n"))
			answer := small
			if bytes.Contains(line, []byte("16k")) {
				answer = large
			}
			for rest := answer; len(rest) > 0; {
				if n, err = rawIO(syscall.SYS_WRITE, fd, rest); err != nil {
					break
				}
				rest = rest[n:]
			}
		}
	}
}

func benchAnswer(n int) []byte {
	return append([]byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", n)),
		bytes.Repeat([]byte{'x'}, n)...)
}

// quantile returns the value below which a share of the sorted values lie.
func quantile[T any](sorted []T, q float64) T {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
