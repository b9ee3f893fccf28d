package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// tick is how often the sweeper keeps the time, and about how often each connection
	// is looked at, lookStep of them at once.
	tick     = 100 * time.Millisecond
	lookStep = 256
	// onItsWay is how long the first request of a connection may take to arrive while
	// the server drains. A client expects that a kept connection may end, and tries
	// again; not that a new one does.
	onItsWay = time.Second
)

// server serves the connections of one listener.
type server struct {
	proxy    *Proxy
	listener net.Listener
	tls      *tls.Config // nil for none
	http2    *http2Server
	workers  []*worker // of connections in the clear; none where there are no event loops
	turn     int       // whose the next connection is; of accept

	draining atomic.Bool // every response is the last of its connection
	stopped  atomic.Bool // connections are closed, whatever they do

	mu       sync.Mutex
	conns    map[net.Conn]*conn // those of HTTP/1 with their conn; nil while it is not known
	bySource map[netip.Addr]int // connections, by sourceOf their peers
	served   sync.WaitGroup
}

// Serve serves the connections of a listener, and with a TLS configuration takes TLS
// on them; it adds to that the protocols to choose from. When ctx ends it accepts no
// more, lets the requests under way finish for as long as Config.Drain says, and
// returns nil. It closes the listener. Several listeners may be served at once.
func (p *Proxy) Serve(ctx context.Context, l net.Listener, secure *tls.Config) error {
	s := &server{proxy: p, listener: l, conns: make(map[net.Conn]*conn), bySource: make(map[netip.Addr]int)}
	if secure != nil {
		s.tls = secure.Clone()
		s.tls.NextProtos = []string{"h2", "http/1.1"}
	}
	s.http2 = newHTTP2Server(s)
	p.clock.set(time.Now())

	if _, ok := l.(*net.TCPListener); ok && secure == nil {
		s.workers = newWorkers(p)
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var group sync.WaitGroup
	for _, w := range s.workers {
		group.Go(func() { w.run(background, p.logger) })
	}
	group.Go(func() { s.sweep(background) })
	group.Go(func() { s.lookOut(background) })
	group.Go(func() { s.http2.run() })
	closed := context.AfterFunc(ctx, func() { _ = l.Close() })
	err := s.accept(ctx)
	if closed() {
		_ = l.Close() // it failed by itself
	}
	s.drain()
	for _, w := range s.workers {
		w.pools.close()
	}
	stop()
	s.http2.close()
	group.Wait()
	if ctx.Err() == nil {
		return fmt.Errorf("accept connections: %w", err)
	}
	return nil
}

// accept starts a goroutine for every connection until the listener is closed. A lack
// of resources passes, so it waits for that.
func (s *server) accept(ctx context.Context) error {
	pause := time.Duration(0)
	for {
		raw, err := s.listener.Accept()
		if err == nil {
			pause = 0
			s.start(raw)
			continue
		}
		var temporary interface{ Temporary() bool }
		if ctx.Err() != nil || !errors.As(err, &temporary) || !temporary.Temporary() {
			return err
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.proxy.logger.Warn("connections cannot be accepted", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// start serves a connection in a goroutine, or a coroutine, of its own, unless its peer
// has too many.
func (s *server) start(raw net.Conn) {
	peer := addrOf(raw.RemoteAddr())
	source := sourceOf(peer)
	var w *worker
	if len(s.workers) > 0 {
		s.turn++
		w = s.workers[s.turn%len(s.workers)]
	}
	s.mu.Lock()
	if limit := s.proxy.perAddress; limit > 0 && s.bySource[source] >= limit {
		s.mu.Unlock()
		s.proxy.metrics.refused.Inc()
		_ = raw.Close()
		return
	}
	raw, w = w.adopt(raw)
	s.bySource[source]++
	s.conns[raw] = nil
	s.served.Add(1)
	s.mu.Unlock()
	s.proxy.metrics.open.Inc()
	w.start(raw, func() {
		if !s.serve(raw, peer, w) {
			return // it is the HTTP/2 server's now, which closes it
		}
		_ = raw.Close()
		s.ended(raw, peer)
	})
}

// ended takes a connection off the books.
func (s *server) ended(raw net.Conn, peer netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.conns[raw]; !ok {
		return
	}
	delete(s.conns, raw)
	source := sourceOf(peer)
	if s.bySource[source]--; s.bySource[source] <= 0 {
		delete(s.bySource, source)
	}
	s.proxy.metrics.open.Dec()
	s.served.Done()
}

// serve finds out what a connection speaks and serves it. It returns false once the
// connection is handed over to the HTTP/2 server.
func (s *server) serve(raw net.Conn, peer netip.Addr, w *worker) (ended bool) {
	counted := &countedConn{Conn: raw, ended: func() { s.ended(raw, peer) }}
	transport, scheme := raw, "http"
	if s.tls != nil {
		secure := tls.Server(counted, s.tls)
		_ = raw.SetDeadline(time.Now().Add(headTimeout))
		if err := secure.Handshake(); err != nil {
			return true
		}
		_ = raw.SetDeadline(time.Time{})
		if secure.ConnectionState().NegotiatedProtocol == "h2" {
			counted.gather()
			return !s.http2.take(secure)
		}
		transport, scheme = secure, "https"
	}
	c := &conn{
		timedConn: timedConn{Conn: transport}, server: s, worker: w,
		scheme: scheme, port: portOf(raw.LocalAddr()),
		peer: peer, trusted: s.proxy.isTrusted(peer), opened: time.Now(), buf: make([]byte, firstBuffer),
	}
	if peer.IsValid() {
		c.peerText = peer.String()
	}
	s.mu.Lock()
	s.conns[raw] = c
	s.mu.Unlock()
	if c.serve() {
		return true
	}
	c.block()
	s.mu.Lock()
	s.conns[raw] = nil
	s.mu.Unlock()
	_ = raw.SetDeadline(time.Time{})
	counted.read = c.buf[:c.w]
	counted.gather()
	return !s.http2.take(counted)
}

// sweep keeps the time, and does what has to be done now and then, until ctx ends.
func (s *server) sweep(ctx context.Context) {
	p := s.proxy
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			now := time.Now() // the tick's own may be old
			p.clock.set(now)
			if now.Sub(last) >= time.Second {
				last = now
				p.pools.sweep(now)
				for _, w := range s.workers {
					w.pools.sweep(now)
				}
				p.access.flush()
			}
		}
	}
}

// lookOut looks at every connection, again and again until ctx ends: whether its client
// is gone while a request waits, and, while the server drains, whether it is idle. A pass
// over thousands of connections takes milliseconds, which are too many for those who wait
// for a processor or for a connection to be accepted: it is made in steps.
func (s *server) lookOut(ctx context.Context) {
	timer := time.NewTimer(tick)
	defer timer.Stop()
	rest := func() {
		steps := time.Duration(len(s.conns)/lookStep + 1)
		s.mu.Unlock()
		timer.Reset(tick / steps)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		s.mu.Lock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for ctx.Err() == nil {
		rest()
		seen := 0
		for _, c := range s.conns { // which come and go between the steps
			if seen++; seen%lookStep == 0 {
				rest()
			}
			if c == nil {
				continue
			}
			c.look(s.proxy.clock.nanos.Load())
			if s.draining.Load() && c.idle.Load() && c.endable() && isQuiet(c.Conn) {
				c.abortRead()
			}
		}
	}
}

// drain waits until all connections have ended, and ends those that take too long.
func (s *server) drain() {
	s.draining.Store(true)
	ended := make(chan struct{})
	go func() {
		s.http2.drain()
		s.served.Wait()
		close(ended)
	}()
	timer := time.NewTimer(s.proxy.drain)
	defer timer.Stop()
	select {
	case <-ended:
		return
	case <-timer.C:
	}
	s.stopped.Store(true)
	s.http2.stop()
	s.mu.Lock()
	for raw, c := range s.conns {
		_ = raw.Close()
		if c != nil {
			c.abort()
		}
	}
	s.mu.Unlock()
	<-ended
}

// sourceOf returns whose connections count together with those of a peer: those of one
// IPv4 address, or of one IPv6 network of 64 bits, of which a host may have every address
// (RFC 4291, 2.5.1; RFC 8981).
func sourceOf(peer netip.Addr) netip.Addr {
	if !peer.Is6() {
		return peer
	}
	p, _ := peer.Prefix(64) // it fails for more bits than there are
	return p.Addr()
}

// addrOf returns an address without a port and a zone, an IPv4 one as such even if the
// socket is one of IPv6.
func addrOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

func portOf(a net.Addr) string {
	_, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return ""
	}
	return port
}
