package proxy

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// A client that resets its requests as soon as it has sent them has the agent, and an
// upstream, work for next to nothing (CVE-2023-44487). net/http bounds how many of them
// wait at a time, but not how many come, so a connection most of whose requests end like
// this is closed.
const (
	hasty      = time.Second // who has waited for longer may have had enough; it includes what a busy agent takes
	resetsOver = 1000        // requests over which resets are counted
)

// resets counts what has become of the requests of a connection of HTTP/2. Safe for
// concurrent use.
type resets struct {
	conn net.Conn

	mu              sync.Mutex
	requests, hasty int
}

type resetsKey struct{}

// countResets gives a connection its counter; it is an http.Server's ConnContext.
func countResets(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, resetsKey{}, &resets{conn: c})
}

// ended counts a request that began at a time and has ended.
func (s *resets) ended(r *http.Request, began time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.requests++; s.requests > resetsOver {
		s.requests, s.hasty = 1, 0
	}
	if r.Context().Err() == nil || time.Since(began) > hasty {
		return
	}
	if s.hasty++; s.hasty > resetsOver/2 {
		_ = s.conn.Close()
	}
}
