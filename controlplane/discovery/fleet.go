package discovery

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/store"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// Fleet knows the agents that hold a stream to this node. It is safe for
// concurrent use.
type Fleet struct {
	node string

	mu      sync.Mutex
	agents  map[string]*session
	changed chan struct{}
}

// session is one agent's stream. Its record is replaced, never changed, so that
// readers may keep it.
type session struct {
	record *fifev1.Agent
	ended  chan struct{} // closed when a newer stream of the same agent takes over
}

func newFleet(node string) *Fleet {
	return &Fleet{node: node, agents: map[string]*session{}, changed: make(chan struct{})}
}

// Agents returns the connected agents in id order, and a channel that is closed
// when that answer is out of date. The agents must not be changed.
func (f *Fleet) Agents() ([]*fifev1.Agent, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	agents := make([]*fifev1.Agent, 0, len(f.agents))
	for _, s := range f.agents {
		agents = append(agents, s.record)
	}
	slices.SortFunc(agents, func(a, b *fifev1.Agent) int { return strings.Compare(a.GetName(), b.GetName()) })
	return agents, f.changed
}

// notify wakes those who wait for a change; f.mu must be held.
func (f *Fleet) notify() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// connect records a new stream. An older one of the same agent is told to end.
func (f *Fleet) connect(hello *discoveryv1.Hello, address string) *session {
	s := &session{
		ended: make(chan struct{}),
		record: &fifev1.Agent{
			Name:        "agents/" + hello.GetAgentId(),
			Labels:      maps.Clone(hello.GetLabels()),
			Address:     address,
			Node:        f.node,
			ConnectTime: timestamppb.New(time.Now()),
			Build:       hello.GetBuild(),
			Apis:        slices.Clone(hello.GetApis()),
		},
	}
	if v := hello.GetHave(); v != nil {
		s.record.Applied = &fifev1.Version{Epoch: v.GetEpoch(), Index: v.GetIndex()}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if older := f.agents[hello.GetAgentId()]; older != nil {
		close(older.ended)
	}
	f.agents[hello.GetAgentId()] = s
	f.notify()
	return s
}

// disconnect forgets a stream, unless a newer one has taken its place.
func (f *Fleet) disconnect(id string, s *session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.agents[id] == s {
		delete(f.agents, id)
		f.notify()
	}
}

// acked records that an agent routes by a version.
func (f *Fleet) acked(s *session, v store.Version) {
	f.update(s, func(a *fifev1.Agent) {
		a.Applied = &fifev1.Version{Epoch: v.Epoch, Index: v.Index}
		a.AppliedTime = timestamppb.New(time.Now())
		a.LastNack = nil
	})
}

// nacked records that an agent has refused a version.
func (f *Fleet) nacked(s *session, v store.Version, reason string) {
	f.update(s, func(a *fifev1.Agent) {
		a.LastNack = &fifev1.Nack{
			Version: &fifev1.Version{Epoch: v.Epoch, Index: v.Index},
			Reason:  reason,
			Time:    timestamppb.New(time.Now()),
		}
	})
}

func (f *Fleet) update(s *session, change func(*fifev1.Agent)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := s.record
	s.record = &fifev1.Agent{
		Name: old.GetName(), Labels: old.GetLabels(), Address: old.GetAddress(), Node: old.GetNode(),
		ConnectTime: old.GetConnectTime(), Applied: old.GetApplied(), AppliedTime: old.GetAppliedTime(),
		LastNack: old.GetLastNack(), Build: old.GetBuild(), Apis: old.GetApis(),
	}
	change(s.record)
	f.notify()
}
