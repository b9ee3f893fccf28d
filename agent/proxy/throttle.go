package proxy

import (
	"maps"
	"sync/atomic"
	"time"

	"github.com/fifegateway/fife/agent/route"
)

// limit is a limit of a stage that a request is above.
type limit uint8

const (
	unlimited limit = iota
	limitRate
	limitConcurrency
	limits // how many there are
)

// String returns the limit as metrics and the access log name it.
func (l limit) String() string { return [limits]string{"", "rate", "concurrency"}[l] }

// maxIdleGates is how many gates there may be before those without a memory are
// forgotten: stages come and go over the life of an agent.
const maxIdleGates = 1000

// gates hold what is counted for the stages that have limits, by their names: counts
// outlive the tables that the limits come from. Finding a gate takes no lock: the map
// is replaced whenever one is added, which is rare.
type gates struct {
	epoch time.Time // what gates count nanoseconds from
	byKey atomic.Pointer[map[gateKey]*gate]
}

type gateKey struct{ api, stage string }

func newGates() *gates {
	g := &gates{epoch: time.Now()}
	g.byKey.Store(&map[gateKey]*gate{})
	return g
}

// since returns a time as gates count it, which follows the monotonic clock.
func (g *gates) since(now time.Time) int64 { return int64(now.Sub(g.epoch)) }

// of returns the gate of a stage at a time.
func (g *gates) of(s *route.Stage, now int64) *gate {
	key := gateKey{s.API, s.Name}
	for {
		old := g.byKey.Load()
		if found := (*old)[key]; found != nil {
			return found
		}
		next := maps.Clone(*old)
		if len(next) >= maxIdleGates {
			maps.DeleteFunc(next, func(_ gateKey, v *gate) bool { return v.isIdle(now) })
		}
		added := new(gate)
		next[key] = added
		if g.byKey.CompareAndSwap(old, &next) {
			return added
		}
	}
}

// gate counts the requests of one stage. It takes its limits with every request, from
// the table that the request is routed by, so that it goes on counting while tables
// change. The zero gate has let nobody in yet.
type gate struct {
	// due is when the bucket of tokens will be full again, the theoretical arrival
	// time of the generic cell rate algorithm (ITU-T I.371): one number in place of a
	// level and the time that it is of.
	due    atomic.Int64
	inside atomic.Int64 // requests that have entered and not left
}

// isIdle reports whether the gate remembers no more than a new one.
func (g *gate) isIdle(now int64) bool { return g.inside.Load() == 0 && g.due.Load() <= now }

// enter counts a request in, which must leave if the stage limits concurrency, or says
// which limit it is above and how long it is, in nanoseconds, until that may be
// different. What is not let in takes no token.
func (g *gate) enter(t *route.Throttle, now int64) (above limit, wait int64) {
	if t.Concurrency > 0 && !g.occupy(t.Concurrency) {
		return limitConcurrency, 0
	}
	if t.Interval > 0 {
		if wait := g.take(int64(t.Interval), int64(t.Depth), now); wait > 0 {
			if t.Concurrency > 0 {
				g.leave()
			}
			return limitRate, wait
		}
	}
	return unlimited, 0
}

// occupy takes one of so many places. It never takes one for a moment and gives it
// back, by which others would be turned away.
func (g *gate) occupy(places int64) bool {
	for {
		n := g.inside.Load()
		if n >= places {
			return false
		}
		if g.inside.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// leave gives a place back.
func (g *gate) leave() { g.inside.Add(-1) }

// take takes a token out of a bucket that gets one every interval, and is empty depth
// before it is full. It returns how long it is until there is one, 0 if one was taken.
func (g *gate) take(interval, depth, now int64) (wait int64) {
	for {
		due := g.due.Load()
		// A bucket that was drained under a limit of the past can be no more than empty.
		full := min(max(due, now), now+depth)
		wait := full + interval - now - depth
		next := full
		if wait <= 0 {
			next += interval
		}
		if next == due {
			return wait // it stays as empty as it is
		}
		if g.due.CompareAndSwap(due, next) {
			return max(wait, 0)
		}
	}
}

// errTooMany is made once, as a flood is not to be paid for in garbage.
var errTooMany = tooManyRequests.because(nil)

// admit counts a request against the limits of its stage. The error is a *failure.
func (p *Proxy) admit(x *exchange) error {
	t := &x.stage.Throttle
	if t.Interval == 0 && t.Concurrency == 0 {
		return nil
	}
	now := p.gates.since(x.start)
	g := p.gates.of(x.stage, now)
	above, wait := g.enter(t, now)
	if above != unlimited {
		x.above, x.retryAfter = above, time.Duration(wait)
		return errTooMany
	}
	if t.Concurrency > 0 {
		x.inside = g
	}
	return nil
}

// leave ends what admit has begun.
func (x *exchange) leave() {
	if x.inside != nil {
		x.inside.leave()
		x.inside = nil
	}
}
