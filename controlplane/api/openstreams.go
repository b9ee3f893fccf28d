package api

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fifegateway/fife/controlplane/identity"
)

// maxStreamAge is how long a stream may live on the word of what its caller has shown
// when it began. A tenth more or less keeps those that began together apart.
const maxStreamAge = 50 * time.Minute

// openStream is a stream that is ended when its caller is no longer admitted, or may no
// longer do what it asks for.
type openStream struct {
	ctx       context.Context
	transport interface{ WriteStatus(*status.Status) error }
	holder    identity.Peer // whose certificate the connection has shown
	certified bool          // whether it has shown one
	token     string        // id of the bearer token that the caller has shown; empty for none

	mu      sync.Mutex
	allowed func() error // says whether the caller may still do what it asked for; nil if it has not asked
}

type openStreamKey struct{}

// watchGrant has a stream ended once allowed returns an error. It does nothing to calls
// that are no streams.
func watchGrant(ctx context.Context, allowed func() error) {
	s, _ := ctx.Value(openStreamKey{}).(*openStream)
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allowed = allowed
}

// bound registers a stream of a caller who was verified, and ends it when the caller
// has to prove anew who it is: its client opens another. The returned function must be
// called at its end.
func (c *Callers) bound(ctx context.Context) (s *openStream, end func()) {
	s = &openStream{ctx: ctx}
	s.holder, s.certified = holderOf(ctx)
	s.token, _ = ctx.Value(tokenKey{}).(string)
	var ok bool
	if s.transport, ok = grpc.ServerTransportStreamFromContext(ctx).(interface {
		WriteStatus(*status.Status) error
	}); !ok {
		return s, func() {}
	}
	age := maxStreamAge - maxStreamAge/10 + rand.N(maxStreamAge/5)
	if expires := c.expiry(s); !expires.IsZero() {
		age = min(age, time.Until(expires))
	}
	timer := time.AfterFunc(age, func() {
		s.end(status.New(codes.Unavailable, "the stream is as old as it may be; open another"))
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams[s] = struct{}{}
	return s, func() {
		timer.Stop()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.streams, s)
	}
}

// expiry returns when what a stream's caller has shown ends; the zero time if it does
// not, or is not known.
func (c *Callers) expiry(s *openStream) time.Time {
	if s.certified {
		return s.holder.NotAfter
	}
	if s.token != "" {
		if policy, err := c.bearers.Policy(s.ctx); err == nil {
			token, _ := policy.UserToken(s.token)
			return token.ExpireTime
		}
	}
	person, _ := s.ctx.Value(signedInKey{}).(signedIn)
	return person.expires
}

// end gives the stream its final status, whereupon its handler's calls return.
func (s *openStream) end(why *status.Status) {
	_ = s.transport.WriteStatus(why) // it fails if the stream is over
}

// recheck returns why a stream is to end, or nil.
func (c *Callers) recheck(s *openStream) error {
	if s.certified {
		if err := c.admits(s.holder); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrUnauthenticated, s.holder, err)
		}
	}
	if s.token != "" && !s.certified { // what another node has passed on, that node watches
		if err := c.bearers.stillGood(s.ctx, s.token); err != nil {
			return err
		}
	}
	s.mu.Lock()
	allowed := s.allowed
	s.mu.Unlock()
	if allowed == nil {
		return nil
	}
	return allowed()
}

// Recheck ends the streams whose callers are no longer admitted, or may no longer do
// what they have asked for. It is to be called after each change of who is and who may.
func (c *Callers) Recheck() {
	c.mu.Lock()
	open := slices.Collect(maps.Keys(c.streams))
	c.mu.Unlock()
	for _, s := range open {
		if err := c.recheck(s); err != nil {
			s.end(status.Convert(toStatus(err)))
		}
	}
}

// Streaming returns whose certificates the open streams began with.
func (c *Callers) Streaming() (out []identity.Peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.streams {
		if s.certified {
			out = append(out, s.holder)
		}
	}
	return out
}
