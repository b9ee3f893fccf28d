package discovery

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
)

// The times of leases. They are the same on all nodes: a leader reckons by them
// with what other nodes may have granted.
const (
	LeaseTTL   = 10 * time.Second // of an agent's lease, from when the agent asked
	GrantTTL   = 3 * time.Second  // of a node's grant, from when the node asked
	grantEvery = time.Second
)

// Leader is what a node asks of the leader.
type Leader interface {
	// RenewGrant asks for a grant for a node that has applied a version, and returns
	// how long it lasts from when it was asked for, and the leader's clock.
	RenewGrant(ctx context.Context, applied store.Version) (ttl time.Duration, now time.Time, err error)
	// RegisterAgents puts agents on the record.
	RegisterAgents(ctx context.Context, agents []release.Agent) error
}

// leases is what this node may grant, and what it has granted to agents whose
// streams have ended since. It is safe for concurrent use.
type leases struct {
	leader Leader
	began  time.Time

	mu     sync.Mutex
	grant  time.Time // until when this node may grant leases; zero for never
	why    string    // why it may not
	clock  leaderClock
	gone   map[string]gone          // by agent id
	unseen map[string]release.Agent // not on the record yet
	news   chan struct{}            // holds one element if unseen has grown
}

// gone is what is known of an agent with a lease whose stream has ended.
type gone struct {
	until   time.Time
	applied store.Version
}

// leaderClock is what a node knows of the leader's clock.
type leaderClock struct {
	at     time.Time     // when it was asked; zero for never
	offset time.Duration // of the leader's clock from this node's
	err    time.Duration // how far offset may be wrong
}

func newLeases(leader Leader) *leases {
	return &leases{
		leader: leader, began: time.Now(), why: "this node has not asked the leader yet",
		gone: map[string]gone{}, unseen: map[string]release.Agent{}, news: make(chan struct{}, 1),
	}
}

// run keeps the grant and puts agents on the record, until ctx ends.
func (l *leases) run(ctx context.Context, s *store.Store) {
	tick := time.NewTicker(grantEvery)
	defer tick.Stop()
	for {
		l.renewGrant(ctx, s.State().Applied())
		select {
		case <-tick.C:
		case <-l.news:
			l.register(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (l *leases) renewGrant(ctx context.Context, applied store.Version) {
	ctx, cancel := context.WithTimeout(ctx, grantEvery)
	defer cancel()
	asked := time.Now()
	ttl, leaderTime, err := l.leader.RenewGrant(ctx, applied)
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.gone, func(_ string, g gone) bool { return now.After(g.until.Add(slack)) })
	if err != nil {
		l.why = "this node holds no grant of the leader: " + err.Error()
		return
	}
	trip := now.Sub(asked)
	l.grant, l.why = asked.Add(ttl), "this node's grant of the leader has run out"
	l.clock = leaderClock{at: now, offset: leaderTime.Sub(asked.Add(trip / 2)), err: trip / 2}
}

// maxRegistration is the most agents that are put on the record at a time.
const maxRegistration = 1000

// register puts those on the record that are waiting for it. What fails is tried
// again when their agents ask again.
func (l *leases) register(ctx context.Context) {
	l.mu.Lock()
	agents := slices.Collect(maps.Values(l.unseen))
	clear(l.unseen)
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, grantEvery)
	defer cancel()
	for part := range slices.Chunk(agents, maxRegistration) {
		if err := l.leader.RegisterAgents(ctx, part); err != nil {
			return
		}
	}
}

// lease is what an agent's Renew comes to.
type lease struct {
	until  time.Time // zero if none is granted
	denied string    // why
	clock  leaderClock
}

// decide returns what the Renew of an agent comes to that has applied a version and
// has a lease of this node until a time. It reads the state under the caller's lock,
// so that whoever waits for a state and then takes that lock sees every lease that
// an older one allowed.
func (l *leases) decide(agent release.Agent, applied store.Version, until time.Time, state func() *store.State) lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	s := state()
	floor := s.EntryFloor()
	if now.Before(until) {
		floor = s.RenewalFloor()
	}
	known, ok := s.Agent(agent.ID)
	if !ok || !maps.Equal(known.Labels, agent.Labels) {
		l.unseen[agent.ID] = agent
		select {
		case l.news <- struct{}{}:
		default:
		}
	}
	switch {
	case !now.Before(l.grant):
		return lease{denied: l.why, clock: l.clock}
	case !ok:
		return lease{denied: "the agent is not on the record yet", clock: l.clock}
	case applied.Compare(floor) < 0:
		return lease{denied: "the agent is at version " + applied.String() + "; leases need " + floor.String(), clock: l.clock}
	}
	return lease{until: now.Add(LeaseTTL), clock: l.clock}
}

// leave notes an agent whose stream has ended, if it has a lease.
func (l *leases) leave(agent string, until time.Time, applied store.Version) {
	if time.Now().Before(until.Add(slack)) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.gone[agent] = gone{until, applied}
	}
}

// back returns until when an agent has a lease of this node from an earlier stream.
func (l *leases) back(agent string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone[agent].until
}

// unsure returns for how much longer leases may last that this node granted before it
// was started, to agents that it does not know.
func (l *leases) unsure() time.Duration {
	return max(0, time.Until(l.began.Add(LeaseTTL+slack)))
}

// missing returns the agents with a lease whose streams have ended.
func (l *leases) missing() map[string]gone {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.gone)
}
