package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fifegateway/fife/agent/http1"
)

const (
	maxStreams = 100
	maxWindow  = 1 << 20 // of a connection: what it may send before we have read it
)

// http2Server hands connections to net/http's HTTP/2 server, which speaks the
// protocol and guards against floods of its frames. The requests come to the same
// Proxy.handle as all others.
type http2Server struct {
	server *http.Server
	conns  handover
}

func newHTTP2Server(s *server) *http2Server {
	h := &http2Server{conns: handover{conns: make(chan net.Conn), closed: make(chan struct{}), addr: s.listener.Addr()}}
	h.server = &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.proxy.serveStream(w, r, s.tls != nil) }),
		Protocols:         new(http.Protocols),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReadFrameSize: maxWindow / 4, MaxReceiveBufferPerConnection: maxWindow, MaxReceiveBufferPerStream: maxWindow / 4, WriteByteTimeout: stall, SendPingTimeout: idleTimeout},
		ReadHeaderTimeout: headTimeout,
		IdleTimeout:       idleTimeout,
		ConnContext:       countResets,
		MaxHeaderBytes:    http1.MaxHead,
		ErrorLog:          slog.NewLogLogger(s.proxy.logger.Handler(), slog.LevelDebug), // clients' faults
	}
	h.server.Protocols.SetHTTP2(true)
	h.server.Protocols.SetUnencryptedHTTP2(true)
	return h
}

// run serves until close.
func (h *http2Server) run() { _ = h.server.Serve(&h.conns) } // it has no other way to end

// take hands a connection over, unless the server is closed.
func (h *http2Server) take(c net.Conn) bool {
	select {
	case h.conns.conns <- c:
		return true
	case <-h.conns.closed:
		return false
	}
}

// drain lets the streams under way finish, and no others begin. It returns once all
// connections have ended.
func (h *http2Server) drain() { _ = h.server.Shutdown(context.Background()) }

// stop ends all connections.
func (h *http2Server) stop() { _ = h.server.Close() }

func (h *http2Server) close() { _ = h.conns.Close() }

// handover is a listener of connections that somebody else has accepted.
type handover struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
	addr   net.Addr
}

// Accept waits for the next connection.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close makes Accept fail.
func (h *handover) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr returns the address of the listener that accepts the connections.
func (h *handover) Addr() net.Addr { return h.addr }

// serveStream serves one request of HTTP/2. It panics with http.ErrAbortHandler when
// a response broke off half-way, as that is how net/http is told to reset the stream.
func (p *Proxy) serveStream(w http.ResponseWriter, r *http.Request, secure bool) {
	c := &stream{proxy: p, w: w, r: r, allowed: p.maxBody}
	x := &exchange{head: head{
		method: r.Method, host: r.Host, path: requestPath(r), query: r.URL.RawQuery,
		fields: fieldsOf(r.Header), length: r.ContentLength, proto: r.Proto, scheme: "http",
	}}
	if secure {
		x.scheme = "https"
	}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		x.port = portOf(local)
	}
	if peer := addrOf(stringAddr(r.RemoteAddr)); peer.IsValid() {
		x.peer, x.client, x.peerText, x.trusted = peer, peer, peer.String(), p.isTrusted(peer)
	}
	p.begin(x)
	broken := p.handle(c, x)
	scratches.Put(x.scratch)
	if counter, ok := r.Context().Value(resetsKey{}).(*resets); ok {
		counter.ended(r, x.start)
	}
	if broken && c.begun {
		panic(http.ErrAbortHandler)
	}
}

// fieldsOf lists what net/http keeps in a map.
func fieldsOf(h http.Header) []http1.Field {
	out := make([]http1.Field, 0, len(h))
	for name, values := range h {
		for _, value := range values {
			out = append(out, http1.Field{Name: name, Value: value, Kind: http1.KindOf(name)})
		}
	}
	return out
}

type stringAddr string

// Network is of no interest.
func (stringAddr) Network() string { return "tcp" }

// String returns the address.
func (a stringAddr) String() string { return string(a) }

// stream is the client of one request of HTTP/2.
type stream struct {
	proxy   *Proxy
	w       http.ResponseWriter
	r       *http.Request
	allowed int64 // of the body, until it is too large

	received atomic.Int64
	sent     *int64
	begun    bool
	flush    bool
	bodiless bool

	mu   sync.Mutex
	at   aborter // what the request waits for
	stop func() bool
	left bool // the client has gone meanwhile
}

// check refuses what the parser of HTTP/1 refuses, as far as HTTP/2 can say it.
func (c *stream) check() error {
	switch {
	case len(c.r.Header) > http1.MaxLines:
		return malformed(&http1.Error{Status: http.StatusRequestHeaderFieldsTooLarge}).because(nil)
	case len(c.r.RequestURI) > http1.MaxTarget:
		return malformed(&http1.Error{Status: http.StatusRequestURITooLong}).because(nil)
	case !http1.IsHost(c.r.Host):
		return badRequest.because(errors.New("authority is not host[:port]"))
	}
	for name, values := range c.r.Header {
		if name == "Expect" && (len(values) != 1 || !http1.EqualFold(values[0], "100-continue")) {
			return malformed(&http1.Error{Status: http.StatusExpectationFailed}).because(nil)
		}
	}
	return nil
}

func (c *stream) arrived() ([]byte, bool, error) {
	return nil, c.r.ContentLength == 0 || c.r.Body == http.NoBody, nil
}

func (c *stream) readBody(p []byte) (int, error) {
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(stall))
	n, err := c.r.Body.Read(p)
	c.received.Add(int64(n))
	if c.allowed -= int64(n); c.allowed < 0 {
		return 0, c.proxy.tooLarge.because(nil)
	}
	switch {
	case n > 0:
		return n, nil // an error comes again
	case err == nil, errors.Is(err, io.EOF):
		return n, err
	case c.r.Context().Err() != nil:
		return n, errClientGone
	case isTimeout(err):
		return n, requestTimeout.because(nil)
	}
	return n, badRequest.because(err)
}

func (c *stream) stopBody() { _ = c.r.Body.Close() }

func (c *stream) begin(x *exchange, res *response, first []byte) error {
	c.begun, c.flush, c.bodiless = true, res.flush, res.bodiless
	x.received = c.received.Load()
	c.sent = &x.sent
	h := c.w.Header()
	// What is set here outlives the request, in the tables by which HTTP/2 compresses
	// later heads: so it must not stand in memory that another request gets next.
	for i := range res.fields {
		if f := &res.fields[i]; res.passesBack(f) {
			name := textproto.CanonicalMIMEHeaderKey(strings.Clone(f.Name))
			h[name] = append(h[name], strings.Clone(f.Value))
		}
	}
	x.stamp(func(name, value string) { h.Set(name, strings.Clone(value)) })
	if res.length >= 0 && res.status != http.StatusNoContent {
		h["Content-Length"] = []string{strconv.FormatInt(res.length, 10)}
	}
	c.w.WriteHeader(res.status)
	if len(first) > 0 {
		return c.write(first)
	}
	return c.push()
}

func (c *stream) write(piece []byte) error {
	if c.bodiless {
		return nil
	}
	*c.sent += int64(len(piece))
	if _, err := c.w.Write(piece); err != nil {
		return err
	}
	return c.push()
}

// push sends what was written, if somebody waits for it.
func (c *stream) push() error {
	if !c.flush {
		return nil
	}
	return http.NewResponseController(c.w).Flush()
}

func (c *stream) end(trailer []http1.Field) error {
	for _, f := range trailer {
		c.w.Header().Add(http.TrailerPrefix+f.Name, strings.Clone(f.Value))
	}
	return nil
}

func (c *stream) block() {}

func (c *stream) pools() *pools { return c.proxy.pools }

func (c *stream) watch(a aborter) {
	c.mu.Lock()
	c.at = a
	c.mu.Unlock()
	c.stop = context.AfterFunc(c.r.Context(), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.at != nil {
			c.left = true
			c.at.abort()
		}
	})
}

func (c *stream) unwatch() {
	if c.stop() {
		return
	}
	// It has begun to look, and may get to it only when the connection that is watched
	// serves another request.
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = nil
}

func (c *stream) gone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left
}

func (c *stream) hijack() (net.Conn, []byte) { return nil, nil }
