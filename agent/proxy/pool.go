package proxy

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fifegateway/fife/agent/netloop"
)

const (
	maxIdle   = 256              // idle connections to one origin
	maxUnused = 60 * time.Second // of a connection without a request
	// maxAge makes busy connections follow a name that leads elsewhere by now.
	maxAge = 5 * time.Minute
	// checkAfter is how long a connection may have been idle before it is looked at
	// whether the upstream has closed it.
	checkAfter = time.Second
)

// pools hold the connections to all origins. Safe for concurrent use; finding a pool
// takes no lock.
type pools struct {
	guard *guard
	tls   *tls.Config
	clock *clock
	loop  *netloop.Loop // whose coroutines use them; nil: goroutines do

	mu       sync.Mutex // of whoever replaces the map
	byOrigin atomic.Pointer[map[string]*pool]
}

func newPools(g *guard, clock *clock) *pools {
	ps := &pools{guard: g, clock: clock, tls: &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}}
	ps.byOrigin.Store(&map[string]*pool{})
	return ps
}

// get returns the pool of a target's origin.
func (ps *pools) get(t *target) *pool {
	if p := (*ps.byOrigin.Load())[t.origin]; p != nil {
		return p
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	old := *ps.byOrigin.Load()
	if p := old[t.origin]; p != nil {
		return p
	}
	host, port := t.authority, "80"
	if t.secure {
		port = "443"
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 && host[len(host)-1] != ']' {
		host, port = host[:i], host[i+1:]
	}
	host = strings.Clone(strings.Trim(host, "[]"))
	p := &pool{clock: ps.clock, loop: ps.loop, used: ps.clock.now(), dialer: dialer{guard: ps.guard, host: host, port: strings.Clone(port)}}
	if t.secure {
		p.tls = ps.tls.Clone()
		p.tls.ServerName = host
	}
	next := maps.Clone(old)
	next[strings.Clone(t.origin)] = p
	ps.byOrigin.Store(&next)
	return p
}

// sweep closes connections that were not used for a while, and forgets origins
// without any.
func (ps *pools) sweep(now time.Time) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	next := maps.Clone(*ps.byOrigin.Load())
	for origin, p := range next {
		if p.closeUnused(now.Add(-maxUnused)) && p.forgettable(now) {
			delete(next, origin)
		}
	}
	ps.byOrigin.Store(&next)
}

// close closes all idle connections.
func (ps *pools) close() {
	for _, p := range *ps.byOrigin.Load() {
		p.closeUnused(time.Now().Add(time.Hour))
	}
}

// pool holds the connections to one origin. Safe for concurrent use.
type pool struct {
	dialer dialer
	tls    *tls.Config // nil for http
	clock  *clock
	loop   *netloop.Loop // as of pools

	mu   sync.Mutex
	idle []*upstream // the one used last is at the end, and is used next
	used time.Time
}

// take returns an idle connection, or nil. One that may have been closed meanwhile is
// looked at first; careful has all of them looked at.
func (p *pool) take(careful bool) *upstream {
	now := p.clock.now()
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		u := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if (careful || now.Sub(u.since) >= checkAfter) && !isQuiet(u.Conn) {
			u.close()
			continue
		}
		u.reused = true
		return u
	}
}

// put takes a connection back that can serve another request.
func (p *pool) put(u *upstream) {
	now := p.clock.now()
	u.since = now
	p.mu.Lock()
	p.used = now
	full := len(p.idle) >= maxIdle || now.Sub(u.born) > maxAge
	if !full {
		p.idle = append(p.idle, u)
	}
	p.mu.Unlock()
	if full {
		u.close()
	}
}

// dial opens another connection.
func (p *pool) dial(by time.Time) (*upstream, error) {
	ctx, cancel := context.WithDeadline(context.Background(), by)
	defer cancel()
	var conn net.Conn
	var err error
	if p.loop == nil {
		conn, err = p.dialer.dial(ctx)
	} else {
		p.loop.Await(func() { conn, err = p.dialer.dial(ctx) })
	}
	if err != nil {
		return nil, err
	}
	if p.loop != nil {
		if conn, err = p.adopt(conn); err != nil {
			return nil, err
		}
	}
	if p.tls != nil {
		secure := tls.Client(conn, p.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		conn = secure
	}
	now := p.clock.now()
	return &upstream{timedConn: timedConn{Conn: conn}, pool: p, born: now, since: now,
		address: conn.RemoteAddr().String()}, nil
}

// adopt puts a connection on the loop.
func (p *pool) adopt(conn net.Conn) (net.Conn, error) {
	c, err := p.loop.Adopt(conn)
	if err != nil {
		return nil, err
	}
	if err := p.loop.Add(c); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// blame remembers that a connection broke, so that the next goes elsewhere if it can.
func (p *pool) blame(conn net.Conn) {
	if a, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		p.dialer.report(a.Addr(), false)
	}
}

// closeUnused closes connections that are idle since before a time, and reports
// whether none is left.
func (p *pool) closeUnused(before time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0 // those that wait longest are at the beginning
	for n < len(p.idle) && p.idle[n].since.Before(before) {
		p.idle[n].close()
		n++
	}
	p.idle = append(p.idle[:0], p.idle[n:]...)
	clear(p.idle[len(p.idle):cap(p.idle)])
	return len(p.idle) == 0
}

// forgettable reports whether the pool was not used for long.
func (p *pool) forgettable(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Sub(p.used) > maxAge
}
