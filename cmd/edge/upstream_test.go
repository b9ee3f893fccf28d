//go:build linux

package edge_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// rawUpstream is the oracle: it logs what reaches it, byte by byte, and answers by
// the script of the case that is played.
type rawUpstream struct {
	net.Listener
	mu   sync.Mutex
	log  *upstreamLog
	play script
}

// upstreamLog is what reached the upstream during one case.
type upstreamLog struct {
	requests []message
	raw      []byte   // all of it
	pending  []byte   // what is no whole request yet
	faults   []string // ambiguities that a proxy must not send
}

func startUpstream(t *testing.T) *rawUpstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &rawUpstream{Listener: l, log: &upstreamLog{}}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // the test is over
			}
			stop := func() { _ = c.Close() }
			ctx := t.Context() // ends before cleanups run
			conns.Go(func() {
				defer stop()
				done := make(chan struct{})
				defer close(done)
				go func() {
					select {
					case <-ctx.Done():
						stop()
					case <-done:
					}
				}()
				u.serve(c)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); conns.Wait() })
	return u
}

// begin starts a new log, and a new script.
func (u *rawUpstream) begin(play script) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.log, u.play = &upstreamLog{}, play
}

// seen returns the log so far. It is a copy.
func (u *rawUpstream) seen() upstreamLog {
	u.mu.Lock()
	defer u.mu.Unlock()
	return *u.log
}

// serve reads one request after the other.
func (u *rawUpstream) serve(c net.Conn) {
	var buf []byte
	var log *upstreamLog // of the case in which the request began
	chunk := make([]byte, 64<<10)
	answered := false
	for {
		for len(buf) > 0 && !isLongWay(buf) {
			m, n, faults := readRequest(buf)
			head := bytes.Contains(buf, []byte("\r\n\r\n"))
			if n == 0 && head && !answered {
				u.mu.Lock()
				early := u.play.early
				u.mu.Unlock()
				if early {
					answered = true
					if !u.answer(c, &message{method: "POST"}) {
						return
					}
				}
			}
			if n == 0 && len(faults) == 0 {
				break
			}
			probe := m != nil && strings.HasSuffix(m.target, "/probe")
			u.mu.Lock()
			if m != nil && !probe {
				log.requests = append(log.requests, *m)
			}
			log.faults = append(log.faults, faults...)
			log.pending = nil
			log = u.log
			u.mu.Unlock()
			if n == 0 {
				return
			}
			buf = buf[n:]
			switch {
			case probe:
				if _, err := io.WriteString(c, probeAnswer); err != nil {
					return
				}
			case answered:
				answered = false
			case !u.answer(c, m):
				return
			case u.isSwitch(m):
				u.tunnel(c, buf)
				return
			}
		}
		n, err := c.Read(chunk)
		if n > 0 {
			u.mu.Lock()
			if len(buf) == 0 {
				log = u.log
			}
			buf = append(buf, chunk[:n]...)
			if !bytes.Contains(buf[:min(len(buf), 64)], []byte("/probe HTTP/1.1\r\n")) {
				const shown = 1 << 10
				log.raw = append(log.raw, chunk[:min(n, shown)]...)
				log.pending = bytes.Clone(buf[:min(len(buf), shown)])
			}
			u.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// isLongWay reports whether a large chunked body is surely not at its end, so that it
// is not read from its beginning for every piece that comes.
func isLongWay(buf []byte) bool {
	head, _, _ := bytes.Cut(buf[:min(len(buf), 4<<10)], []byte("\r\n\r\n"))
	return len(buf) > 64<<10 && bytes.Contains(bytes.ToLower(head), []byte("\r\ntransfer-encoding:")) &&
		!bytes.HasSuffix(buf, []byte("\r\n\r\n"))
}

const (
	probeAnswer  = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nprobe"
	plainAnswer  = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	acceptHolder = "ACCEPT"
)

// answer plays the script, and reports whether the connection goes on.
func (u *rawUpstream) answer(c net.Conn, m *message) bool {
	u.mu.Lock()
	play := u.play
	u.mu.Unlock()
	out := play.bytes
	switch {
	case out != nil:
		out = bytes.ReplaceAll(out, []byte(acceptHolder), []byte(acceptOf(m)))
	case play.hang || play.close || play.reset:
	case m.method == "HEAD":
		out = []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
	default:
		out = []byte(plainAnswer)
	}
	for again := true; again; again = play.endless {
		if _, err := c.Write(out); err != nil {
			return false
		}
	}
	if play.reset {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // the close then resets
		}
	}
	return !play.close && !play.reset
}

func acceptOf(m *message) string {
	for _, f := range m.fields {
		if strings.EqualFold(f.name, "Sec-WebSocket-Key") {
			sum := sha1.Sum([]byte(f.value + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
			return base64.StdEncoding.EncodeToString(sum[:])
		}
	}
	return ""
}

func (u *rawUpstream) isSwitch(m *message) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return m != nil && bytes.HasPrefix(u.play.bytes, []byte("HTTP/1.1 101"))
}

// tunnel echoes.
func (u *rawUpstream) tunnel(c net.Conn, first []byte) {
	buf := make([]byte, 32<<10)
	n := copy(buf, first)
	for {
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
		var err error
		if n, err = c.Read(buf); err != nil {
			return
		}
	}
}

// readRequest reads a request as strictly as can be, and returns it with its
// length, or 0 if it is not all there. faults say what others could read in
// another way.
func readRequest(buf []byte) (m *message, n int, faults []string) {
	end := bytes.Index(buf, []byte("\r\n\r\n"))
	if end < 0 {
		return nil, 0, nil
	}
	head := string(buf[:end])
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	for i := range len(head) {
		switch c := head[i]; {
		case c == '\n' && (i == 0 || head[i-1] != '\r'), c == '\r' && (i+1 == len(head) || head[i+1] != '\n'),
			c < ' ' && c != '\t' && c != '\r' && c != '\n', c == 0x7f:
			fault("control character %#x in the head", c)
		}
	}
	lines := strings.Split(head, "\r\n")
	parts := strings.Split(lines[0], " ")
	if len(parts) != 3 || !strings.HasPrefix(parts[2], "HTTP/1.") {
		fault("request line %q", lines[0])
		return nil, 0, faults
	}
	if parts[2] != "HTTP/1.1" {
		fault("version %s", parts[2])
	}
	m = &message{method: parts[0], target: parts[1]}
	hosts, lengths, encodings, length := 0, 0, 0, 0
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t\"(),/:;<=>?@[\\]{}") {
			fault("field line %q", line)
		}
		f := field{name, strings.Trim(value, " \t")}
		m.fields = append(m.fields, f)
		switch strings.ToLower(strings.ReplaceAll(name, "_", "-")) {
		case "host":
			hosts++
		case "content-length":
			lengths++
			var err error
			if length, err = strconv.Atoi(f.value); err != nil || strconv.Itoa(length) != f.value {
				fault("Content-Length %q", f.value)
			}
		case "transfer-encoding":
			encodings++
			if f.value != "chunked" {
				fault("Transfer-Encoding %q", f.value)
			}
		case "keep-alive", "proxy-connection", "proxy", "http2-settings", "proxy-authorization":
			fault("%s reached the upstream", name)
		}
	}
	if hosts != 1 {
		fault("%d Host fields", hosts)
	}
	if lengths > 1 || encodings > 1 || lengths+encodings > 1 {
		fault("%d Content-Length and %d Transfer-Encoding", lengths, encodings)
	}
	body := buf[end+4:]
	if encodings == 0 {
		if len(body) < length {
			return nil, 0, faults
		}
		m.body = string(body[:length])
		return m, end + 4 + length, faults
	}
	data, used, err := readChunks(body)
	if err != nil {
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			fault("%v", err)
		}
		return nil, 0, faults
	}
	m.body = string(data)
	return m, end + 4 + used, faults
}

// readChunks reads a chunked body. It is io.ErrUnexpectedEOF if it is not all there.
// A trailer section is appended to the data as it came.
func readChunks(b []byte) (data []byte, used int, err error) {
	for {
		line, _, ok := bytes.Cut(b[used:], []byte("\r\n"))
		if !ok {
			return nil, 0, io.ErrUnexpectedEOF
		}
		size, err := strconv.ParseUint(string(line), 16, 31)
		if err != nil {
			return nil, 0, fmt.Errorf("chunk size %q", line)
		}
		used += len(line) + 2
		if size == 0 {
			break
		}
		if len(b) < used+int(size)+2 {
			return nil, 0, io.ErrUnexpectedEOF
		}
		data = append(data, b[used:used+int(size)]...)
		used += int(size)
		if string(b[used:used+2]) != "\r\n" {
			return nil, 0, fmt.Errorf("chunk of %d ends in %q", size, b[used:used+2])
		}
		used += 2
	}
	for {
		line, _, ok := bytes.Cut(b[used:], []byte("\r\n"))
		if !ok {
			return nil, 0, io.ErrUnexpectedEOF
		}
		used += len(line) + 2
		if len(line) == 0 {
			return data, used, nil
		}
		data = append(data, "|"+string(line)...)
	}
}
