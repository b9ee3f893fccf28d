//go:build linux

package edge_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// response is what a client got.
type response struct {
	status int
	fields []field
	body   string
	broken bool // it ended before it was complete
}

// outcome is all that came of a conversation.
type outcome struct {
	responses []response
	raw       []byte // behind a 101
	end       string // open, close, or tunnel
	seen      upstreamLog
	took      time.Duration // until the first response was there, or none
	problem   string        // why the conversation could not be held
}

// The ways in which a client's bytes arrive.
const (
	atOnce = "at once"
	byByte = "byte by byte"
)

// converse plays a case's client against a proxy, for a limited time.
func converse(address string, c *testCase, manner string, limit time.Duration) (o outcome) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		o.problem = err.Error()
		return o
	}
	defer conn.Close() //nolint:errcheck // all was said
	_ = conn.SetDeadline(time.Now().Add(limit))
	r := bufio.NewReader(conn)
	writes, written := make(chan step, len(c.steps)), make(chan struct{})
	go func() {
		defer close(written)
		for s := range writes {
			sendStep(conn, s, manner)
		}
	}()
	begun := time.Now()
	wants := c.wants
	next := func() bool {
		if len(wants) == 0 {
			return false
		}
		if wants[0].raw != nil {
			o.raw = make([]byte, len(wants[0].raw))
			_, err = io.ReadFull(r, o.raw)
		} else {
			var res response
			res, err = readResponse(r, wants[0].bodiless)
			if err == nil {
				o.responses = append(o.responses, res)
			}
		}
		if o.took == 0 {
			o.took = time.Since(begun)
		}
		wants = wants[1:]
		return err == nil
	}
	for _, s := range c.steps {
		if !s.await {
			writes <- s
		} else if !next() {
			break
		}
	}
	close(writes)
	for err == nil && next() {
	}
	if err != nil && !isEnd(err) {
		o.problem = fmt.Sprintf("response %d: %v", len(o.responses)+1, err)
		return o
	}
	switch {
	case c.end == "tunnel":
		o.end = "tunnel"
	case c.end == "close" || err != nil:
		o.end = drain(r, &o)
	default:
		<-written // it may be answered before it was all sent
		_ = conn.SetDeadline(time.Now().Add(limit))
		o.end = probe(conn, r, &o)
	}
	return o
}

func sendStep(conn net.Conn, s step, manner string) {
	switch {
	case s.shut:
		_ = conn.(*net.TCPConn).CloseWrite()
	case manner == byByte && len(s.send) < 2<<10:
		for i := range s.send {
			if _, err := conn.Write(s.send[i : i+1]); err != nil {
				return // it was answered already
			}
		}
	default:
		_, _ = conn.Write(s.send) // as above
	}
}

// drain reads responses that nobody wants until the connection ends.
func drain(r *bufio.Reader, o *outcome) string {
	for {
		res, err := readResponse(r, false)
		if err != nil {
			if isEnd(err) {
				return "close"
			}
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return "open"
			}
			o.problem = err.Error()
			return ""
		}
		o.responses = append(o.responses, res)
		if len(o.responses) > 20 {
			o.problem = "no end of responses"
			return ""
		}
	}
}

// probe sends one more request and looks whether it is answered.
func probe(conn net.Conn, r *bufio.Reader, o *outcome) string {
	if _, err := io.WriteString(conn, probeRequest); err != nil {
		return "close"
	}
	res, err := readResponse(r, false)
	switch {
	case err != nil && isEnd(err):
		return "close"
	case err != nil:
		o.problem = fmt.Sprintf("probe: %v", err)
		return ""
	case res.status != 200 || res.body != "probe":
		o.responses = append(o.responses, res)
		o.problem = fmt.Sprintf("the probe was answered %d %q", res.status, res.body)
		return ""
	}
	return "open"
}

const probeRequest = "GET /s/probe HTTP/1.1\r\nHost: probe.test\r\n\r\n"

// probeFresh sends a request on a connection of its own. Its answer shows that the
// conversation before has spoiled no connection to the upstream.
func probeFresh(address string, limit time.Duration) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // all was said
	_ = conn.SetDeadline(time.Now().Add(limit))
	var o outcome
	if end := probe(conn, bufio.NewReader(conn), &o); end != "open" {
		return fmt.Errorf("another client's request: connection %s %s", end, o.problem)
	}
	return nil
}

func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// readResponse reads one response, interim ones included. io.EOF means that none
// began.
func readResponse(r *bufio.Reader, bodiless bool) (response, error) {
	var res response
	line, err := r.ReadString('\n')
	if err != nil {
		if line != "" && errors.Is(err, io.EOF) {
			err = fmt.Errorf("status line %q ends", line)
		}
		return res, err
	}
	version, rest, _ := strings.Cut(strings.TrimSuffix(line, "\r\n"), " ")
	code, _, _ := strings.Cut(rest, " ")
	if res.status, err = strconv.Atoi(code); err != nil || !strings.HasPrefix(version, "HTTP/1.") || len(code) != 3 {
		return res, fmt.Errorf("status line %q", line)
	}
	length, chunked := -1, false
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return res, fmt.Errorf("head ends at %q: %v", line, err) //nolint:errorlint // no orderly end
		}
		if line = strings.TrimSuffix(line, "\r\n"); line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.ContainsAny(line, "\r\n\x00") {
			return res, fmt.Errorf("field line %q", line)
		}
		f := field{name, strings.TrimSpace(value)}
		res.fields = append(res.fields, f)
		switch strings.ToLower(name) {
		case "content-length":
			if length >= 0 {
				return res, errors.New("two Content-Length")
			}
			if length, err = strconv.Atoi(f.value); err != nil {
				return res, err
			}
		case "transfer-encoding":
			chunked = true
		}
	}
	if bodiless || res.status < 200 || res.status == 204 || res.status == 304 {
		return res, nil
	}
	if chunked && length >= 0 {
		return res, errors.New("both Content-Length and Transfer-Encoding")
	}
	var body []byte
	switch {
	case chunked:
		body, res.broken = readChunkedBody(r)
	case length >= 0:
		body = make([]byte, length)
		n, err := io.ReadFull(r, body)
		body, res.broken = body[:n], err != nil
	default:
		if body, err = io.ReadAll(r); err != nil {
			res.broken = true
		}
	}
	res.body = string(body)
	return res, nil
}

func readChunkedBody(r *bufio.Reader) (body []byte, broken bool) {
	var raw []byte
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return body, true
		}
		raw = append(raw, line...)
		data, _, err := readChunks(raw)
		if err == nil {
			return data, false
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			return body, true
		}
	}
}

// judge returns what is wrong with an outcome.
func (c *testCase) judge(o outcome, defaults []field) []string {
	var wrong []string
	fault := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if o.problem != "" {
		fault("%s", o.problem)
	}
	var wants []want
	for _, w := range c.wants {
		if w.raw == nil {
			wants = append(wants, w)
		} else if string(o.raw) != string(w.raw) {
			fault("raw bytes %q, want %q", o.raw, w.raw)
		}
	}
	for i, res := range o.responses {
		if i >= len(wants) {
			fault("unwanted response %d %.60q", res.status, res.body)
			continue
		}
		wants[i].judge(res, fault)
	}
	if missing := len(wants) - len(o.responses); missing > 1 || missing == 1 && !wants[len(wants)-1].maybe {
		fault("%d responses, want %d", len(o.responses), len(wants))
	}
	if o.end != c.end && c.end != "any" {
		fault("connection %s, want %s", o.end, c.end)
	}
	c.judgeSeen(o.seen, defaults, fault)
	return wrong
}

func (w *want) judge(res response, fault func(string, ...any)) {
	if w.broken && res.status >= 500 {
		return
	}
	if res.status != w.status {
		fault("status %d %.80q, want %d", res.status, res.body, w.status)
		return
	}
	if w.body != nil && res.body != *w.body {
		fault("body %.80q, want %.80q", res.body, *w.body)
	}
	if res.broken != w.broken {
		fault("the response is broken off: %v, want %v", res.broken, w.broken)
	}
	for _, f := range w.with {
		if values := valuesOf(res.fields, f.name); len(values) != 1 || f.value != "*" && values[0] != f.value {
			fault("response's %s is %q, want %q", f.name, values, f.value)
		}
	}
	for _, name := range w.without {
		if values := valuesOf(res.fields, name); len(values) > 0 {
			fault("response has %s: %q", name, values)
		}
	}
}

func (c *testCase) judgeSeen(log upstreamLog, defaults []field, fault func(string, ...any)) {
	for _, f := range log.faults {
		fault("upstream got what it could misread: %s", f)
	}
	if c.nothing && len(log.raw) > 0 {
		fault("upstream got %.200q, want nothing", log.raw)
		return
	}
	if len(log.pending) > 0 && !c.incomplete {
		fault("upstream got half a request: %.200q", log.pending)
	}
	if len(log.requests) != len(c.seen) {
		fault("upstream got %d requests, want %d: %.300q", len(log.requests), len(c.seen), log.raw)
		return
	}
	for i, got := range log.requests {
		w := c.seen[i]
		if got.method != w.method || got.target != w.target {
			fault("upstream got %s %s, want %s %s", got.method, got.target, w.method, w.target)
		}
		if got.body != w.body {
			fault("upstream got the body %.80q, want %.80q", got.body, w.body)
		}
		gotFields, wantFields := comparable(got.fields, nil), comparable(w.fields, defaults)
		if !slices.Equal(gotFields, wantFields) {
			fault("upstream got the fields %q, want %q", gotFields, wantFields)
		}
	}
}

// comparable returns fields in a form that does not depend on order or case. Those
// that only frame are left out, and defaults count unless fields name them. The
// value "-" says that a default is not there.
func comparable(fields, defaults []field) []string {
	var out []string
	for _, f := range defaults {
		if len(valuesOf(fields, f.name)) == 0 && f.value != "" {
			out = append(out, strings.ToLower(f.name)+": "+f.value)
		}
	}
	for _, f := range fields {
		name := strings.ToLower(f.name)
		if name == "content-length" || name == "transfer-encoding" || f.value == "-" {
			continue
		}
		out = append(out, name+": "+f.value)
	}
	slices.Sort(out)
	return out
}

func valuesOf(fields []field, name string) []string {
	var all []string
	for _, f := range fields {
		if strings.EqualFold(f.name, name) {
			all = append(all, f.value)
		}
	}
	return all
}
