package discovery

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

const (
	leaseTTL   = 10 * time.Second // what a lease is taken to last before there is one
	minRenewal = 100 * time.Millisecond
	unanswered = 8 // Renews whose answers still count
)

// session is one stream. Its reader answers frames and a goroutine of its own asks
// for leases; both send, one at a time.
type session struct {
	client  *Client
	stream  grpc.BidiStreamingClient[discoveryv1.StreamRequest, discoveryv1.StreamResponse]
	sending sync.Mutex
	kick    chan struct{} // holds a wish to renew now

	mu       sync.Mutex
	sequence uint64 // of the newest Renew
	answered uint64 // the newest that has an answer
	sent     [unanswered]time.Time
	every    time.Duration
}

func newSession(c *Client, stream grpc.BidiStreamingClient[discoveryv1.StreamRequest, discoveryv1.StreamResponse]) *session {
	return &session{client: c, stream: stream, kick: make(chan struct{}, 1), every: leaseTTL / 3}
}

func (s *session) send(r *discoveryv1.StreamRequest) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	return s.stream.Send(r)
}

// renew asks for leases until ctx ends or the stream does; why it did, the reader
// learns.
func (s *session) renew(ctx context.Context) {
	for s.send(s.nextRenew()) == nil {
		s.mu.Lock()
		every := s.every
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
		case <-time.After(every):
		}
	}
}

// renewNow asks at once, and not only when it is time.
func (s *session) renewNow() {
	select {
	case s.kick <- struct{}{}:
	default: // it is wished for already
	}
}

// nextRenew is taken to be sent when it is made, which is before it is: so a lease
// never outlasts what the node takes it for.
func (s *session) nextRenew() *discoveryv1.StreamRequest {
	s.mu.Lock()
	s.sequence++
	renew := &discoveryv1.Renew{Sequence: s.sequence}
	now := time.Now()
	s.sent[s.sequence%unanswered] = now
	s.mu.Unlock()
	if off, ok := s.client.clockError(now); ok {
		renew.ClockError = durationpb.New(off)
	}
	return &discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Renew{Renew: renew}}
}

// take hands an answer on, unless it answers nothing that was asked lately, or is
// older than one that has come.
func (s *session) take(l *discoveryv1.Lease) {
	received := time.Now()
	s.mu.Lock()
	n := l.GetSequence()
	if n <= s.answered || n > s.sequence || s.sequence-n >= unanswered {
		s.mu.Unlock()
		return
	}
	s.answered = n
	sent := s.sent[n%unanswered]
	if ttl := l.GetTtl().AsDuration(); ttl > 0 {
		s.every = max(ttl/3, minRenewal)
	}
	s.mu.Unlock()
	s.client.takeLease(l, sent, received)
}

// Lease returns until when the agent has a lease, with a monotonic reading; a time
// that has passed if it has none. It is one atomic load. An agent has none when it
// starts.
func (c *Client) Lease() time.Time { return c.began.Add(time.Duration(c.lease.Load())) }

// takeLease takes an answer to a Renew. Whatever it says, an earlier lease runs on.
func (c *Client) takeLease(l *discoveryv1.Lease, sent, received time.Time) {
	ttl := l.GetTtl().AsDuration()
	c.spread.Store(int64(l.GetReconnectWithin().AsDuration()))
	if ttl > 0 {
		c.lease.Store(max(c.lease.Load(), int64(sent.Add(ttl).Sub(c.began))))
	} else {
		c.metrics.denied.Inc()
	}
	c.mu.Lock()
	if t := l.GetLeaderTime(); t != nil && t.IsValid() {
		off := max(l.GetLeaderTimeError().AsDuration(), 0)
		c.clock = c.clock.better(estimateOf(sent, received, t.AsTime(), off), received)
	}
	known := c.clock.known()
	before := c.status.LeaseDenied
	c.status.LeaseDenied = ""
	if ttl <= 0 {
		c.status.LeaseDenied = l.GetReason()
	}
	denied := c.status.LeaseDenied
	c.mu.Unlock()
	if denied != before {
		c.log.Info("the answer to the wish for a lease has changed", "granted", ttl > 0, "reason", denied)
	}
	if ttl > 0 && !known {
		// Who has a lease must not be late, and cannot know when to be in time.
		c.flip(time.Time{})
	}
	select {
	case c.clockMoved <- struct{}{}:
	default: // it has yet to be looked at
	}
}

// dropLease forgets what another cluster has said.
func (c *Client) dropLease() {
	c.lease.Store(0)
	c.mu.Lock()
	c.clock = estimate{}
	c.mu.Unlock()
}

// clockError returns how far the agent may be wrong about the leader's clock.
func (c *Client) clockError(now time.Time) (off time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clock.wrong(now), c.clock.known()
}

// leaderNow returns the leader's clock; zero if it is not known.
func (c *Client) leaderNow() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clock.now(time.Now())
}

// stageClock returns the leader's clock or, as long as that is not known, the wall
// clock: only what was loaded from disk waits without an estimate.
func (c *Client) stageClock() time.Time {
	if now := c.leaderNow(); !now.IsZero() {
		return now
	}
	return time.Now()
}

// flips leaves former configurations when their time has come, until ctx ends.
func (c *Client) flips(ctx context.Context) {
	for {
		current := c.current.Load()
		var due <-chan time.Time
		if at, ok := current.flipTime(); ok {
			now := c.stageClock()
			if !now.Before(at) {
				if c.flip(now) {
					continue
				}
			} else {
				due = time.After(at.Sub(now))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-current.superseded:
		case <-c.clockMoved:
		case <-due:
		}
	}
}

// flip leaves the former configurations that are due and reports whether it could.
// Routing changes before the disk does: a restart reckons anew.
func (c *Client) flip(now time.Time) bool {
	c.stepping.Lock()
	defer c.stepping.Unlock()
	p := c.current.Load()
	h := p.soFar()
	next, err := h.flip(now)
	if err != nil { // its configurations have been compiled before
		c.log.Error("could not leave a former configuration", "version", h.version, "error", err)
		return false
	}
	if next == p.held {
		return true
	}
	c.publish(next)
	c.log.Info("left the former configuration", "version", next.version, "leader_time", now)
	if err := c.disk.save(next, nil, c.held); err != nil {
		c.log.Warn("could not save that a former configuration was left", "error", err)
	}
	return true
}
