package discovery

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// Fleet knows the agents that hold a stream to this node. It is safe for
// concurrent use. An answer of an agent costs the same whatever the size of the
// fleet and the number of those who watch it.
type Fleet struct {
	node    string
	watched atomic.Bool // whether anybody has seen news, the channel of now

	mu       sync.Mutex
	sessions map[string]*session // by agent id
	sorted   []*session          // the same in id order; nil if out of date
	news     chan struct{}
}

func newFleet(node string) *Fleet {
	return &Fleet{node: node, sessions: map[string]*session{}, news: make(chan struct{})}
}

// Len returns the number of agents.
func (f *Fleet) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.sessions)
}

// Agents returns the connected agents in id order, and a channel that is closed
// when that answer is out of date. The agents must not be changed.
func (f *Fleet) Agents() ([]*fifev1.Agent, <-chan struct{}) {
	news := f.watch()
	sessions := f.all()
	agents := make([]*fifev1.Agent, len(sessions))
	for i, s := range sessions {
		agents[i] = s.agentRecord()
	}
	return agents, news
}

// watch returns a channel that is closed at the next change of the fleet.
func (f *Fleet) watch() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watched.Store(true)
	return f.news
}

// all returns the streams in order of their agents' ids. The slice must not be
// changed.
func (f *Fleet) all() []*session {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sorted == nil {
		f.sorted = slices.SortedFunc(maps.Values(f.sessions), func(a, b *session) int { return strings.Compare(a.agent, b.agent) })
	}
	return f.sorted
}

// changed wakes those who have seen the fleet, after a change in a session.
func (f *Fleet) changed() {
	if !f.watched.Load() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wake()
}

// wake does so with f.mu held. Whoever wants to be woken again has to look again
// first, so that a thousand changes in a row wake everybody once.
func (f *Fleet) wake() {
	if f.watched.Swap(false) {
		close(f.news)
		f.news = make(chan struct{})
	}
}

// connect records a new stream, and returns the older one of the same agent whose
// place it takes, if there is one.
func (f *Fleet) connect(s *session) (older *session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if older = f.sessions[s.agent]; older != nil {
		s.inherit(older) // before anybody finds s instead of it
	}
	f.sessions[s.agent] = s
	f.sorted = nil
	f.wake()
	return older
}

// disconnect forgets a stream, unless a newer one has taken its place.
func (f *Fleet) disconnect(s *session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sessions[s.agent] == s {
		delete(f.sessions, s.agent)
		f.sorted = nil
		f.wake()
	}
}
