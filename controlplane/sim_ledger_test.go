package controlplane_test

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
)

// ledger is what the clients of a simulation have been told, and checks that all
// of it is true of what they and the nodes see later. It is safe for concurrent
// use.
type ledger struct {
	t *testing.T

	mu        sync.Mutex
	floor     floor
	acked     []acked                      // since the last check of all
	atIndex   map[uint64]string            // request that an entry of the log was acknowledged to
	refused   map[string]string            // requests that must never be applied, and why
	histories map[string][]string          // request behind each revision of a stage, from revision 1 on
	made      map[string]string            // request that made a deployment
	places    map[string]map[string]uint64 // per object that keeps its last request only: revision by request
	applied   map[string]string            // place in a history by request

	acks, unknowns, refusals, reads int
}

// floor is what everybody who asks now must at least be told.
type floor struct {
	applied   store.Version
	revisions map[string]uint64 // by object
}

// acked is an object as an acknowledgement showed it.
type acked struct {
	request, object string
	revision        uint64
}

func newLedger(t *testing.T) *ledger {
	return &ledger{
		t: t, floor: floor{revisions: map[string]uint64{}}, atIndex: map[uint64]string{}, refused: map[string]string{},
		histories: map[string][]string{}, made: map[string]string{}, places: map[string]map[string]uint64{},
		applied: map[string]string{},
	}
}

// now returns the floor for a read that begins now.
func (l *ledger) now() floor {
	l.mu.Lock()
	defer l.mu.Unlock()
	return floor{l.floor.applied, maps.Clone(l.floor.revisions)}
}

// acknowledge notes the outcome that a request was answered with.
func (l *ledger) acknowledge(request string, o store.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.Refusal != nil {
		l.refusals++
		l.refused[request] = string(o.Refusal.Reason)
		return
	}
	l.acks++
	switch {
	case o.Deployment != nil: // and the stage that it went to
		l.note(request, o.Version.Epoch, o.Deployment.Name(), o.Deployment.Revision, o.Deployment.Revision)
		if o.Stage != nil {
			l.note(request, o.Version.Epoch, o.Stage.Name(), o.Stage.Revision, o.Stage.Index)
		}
	case o.Stage != nil:
		l.note(request, o.Version.Epoch, o.Stage.Name(), o.Stage.Revision, o.Stage.Index)
	case o.Route != nil:
		l.note(request, o.Version.Epoch, "route "+o.Route.Path, o.Route.Revision, o.Route.Revision)
	case o.API != nil:
		l.note(request, o.Version.Epoch, o.API.Name(), o.API.Revision, o.API.Revision)
	default:
		l.t.Errorf("request %s was acknowledged with nothing", request)
	}
}

func (l *ledger) note(request string, epoch uint64, object string, revision, index uint64) {
	if other, ok := l.atIndex[index]; ok && other != request {
		l.t.Errorf("entry %d was acknowledged to %s and to %s", index, other, request)
	}
	l.atIndex[index] = request
	l.acked = append(l.acked, acked{request, object, revision})
	l.floor.revisions[object] = max(l.floor.revisions[object], revision)
	if v := (store.Version{Epoch: epoch, Index: index}); v.Compare(l.floor.applied) > 0 {
		l.floor.applied = v
	}
}

// never notes that a request was declined each time it was made.
func (l *ledger) never(request string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused[request] = err.Error()
}

// unknown notes that a client has not been told what came of an attempt.
func (l *ledger) unknown() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unknowns++
}

// read checks what a linearizable read has seen that began when `least` was the
// floor, and raises the floor to it.
func (l *ledger) read(who string, s *store.State, least floor) {
	seen := floor{s.Applied(), revisions(s)}
	seen.check(l.t, who, least)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	l.floor.raise(seen)
}

func (f *floor) raise(seen floor) {
	if seen.applied.Compare(f.applied) > 0 {
		f.applied = seen.applied
	}
	for object, revision := range seen.revisions {
		f.revisions[object] = max(f.revisions[object], revision)
	}
}

// check reports what is older than it may be.
func (f *floor) check(t *testing.T, who string, least floor) {
	if f.applied.Compare(least.applied) < 0 {
		t.Errorf("%s saw the state of %v after somebody had seen %v", who, f.applied, least.applied)
	}
	for object, revision := range least.revisions {
		if f.revisions[object] < revision {
			t.Errorf("%s saw %s at revision %d after somebody had seen %d", who, object, f.revisions[object], revision)
		}
	}
}

// revisions returns the revision of every object. Nothing is ever deleted.
func revisions(s *store.State) map[string]uint64 {
	m := map[string]uint64{}
	for a := range s.APIs("") {
		m[a.Name()] = a.Revision
		for r := range s.Routes(a.ID, "", "") {
			m["route "+r.Path] = r.Revision
		}
		for d := range s.Deployments(a.ID, 0) {
			m[d.Name()] = d.Revision
		}
	}
	for stage := range s.AllStages("", "") {
		m[stage.Name()] = stage.Revision
	}
	return m
}

// follow checks, until ctx ends, that a node's states only grow. They may be old,
// as are those that the node starts with.
func (l *ledger) follow(ctx context.Context, node string, s *store.Store) {
	var last store.Version
	for {
		state := s.State()
		if state.Applied().Compare(last) < 0 || state.Version().Compare(state.Applied()) > 0 {
			l.t.Errorf("%s went from %v to %v, with version %v", node, last, state.Applied(), state.Version())
		}
		last = state.Applied()
		select {
		case <-state.Changed():
		case <-ctx.Done():
			return
		}
	}
}

// checkAll checks a state that was synced after `least` against all that has been
// acknowledged before.
func (l *ledger) checkAll(s *store.State, least []acked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mergeHistories(s)
	now := revisions(s)
	for _, a := range least {
		at := now[a.object]
		history, kept := l.histories[a.object]
		switch {
		case at < a.revision:
			l.t.Errorf("lost: %s at revision %d was acknowledged to %s, it is at %d", a.object, a.revision, a.request, at)
		case kept && a.revision <= uint64(len(history)) && history[a.revision-1] != a.request:
			l.t.Errorf("lost: revision %d of %s was acknowledged to %s and is %s's", a.revision, a.object, a.request, history[a.revision-1])
		}
		if by, ok := l.made[a.object]; ok && by != a.request {
			l.t.Errorf("lost: %s was acknowledged to %s and is %s's", a.object, a.request, by)
		}
		if r, ok := l.places[a.object][a.request]; ok && r != a.revision {
			l.t.Errorf("twice: %s was acknowledged as revision %d of %s and is in %d", a.request, a.revision, a.object, r)
		}
	}
	for request, why := range l.refused {
		if place, ok := l.applied[request]; ok {
			l.t.Errorf("request %s was answered %q and is in %s", request, why, place)
		}
	}
}

// take returns what has been acknowledged since the last call.
func (l *ledger) take() []acked {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.acked
	l.acked = nil
	return all
}

// mergeHistories adds what a state tells of the past to what is known of it, and
// checks that the two agree and that no request is in it twice. Every request
// leaves its id in what it writes.
func (l *ledger) mergeHistories(s *store.State) {
	for stage := range s.AllStages("", "") {
		name := stage.Name()
		for _, r := range stage.History {
			known := l.histories[name]
			switch i := int(r.Number) - 1; {
			case i < len(known) && known[i] != r.Change.Actor:
				l.t.Errorf("revision %d of %s was %s's and is %s's", r.Number, name, known[i], r.Change.Actor)
			case i == len(known):
				l.histories[name] = append(known, r.Change.Actor)
				l.once(r.Change.Actor, fmt.Sprintf("revision %d of %s", r.Number, name), "stage")
			case i > len(known):
				l.t.Errorf("the history of %s has lost revisions %d to %d before anybody looked", name, len(known)+1, i)
			}
		}
	}
	for a := range s.APIs("") {
		l.last(a.Name(), a.Description, a.Revision)
		for r := range s.Routes(a.ID, "", "") {
			if mock, ok := r.Integration.(release.Mock); ok {
				l.last("route "+r.Path, mock.Body, r.Revision)
			}
		}
		for d := range s.Deployments(a.ID, 0) {
			if by, ok := l.made[d.Name()]; ok && by != d.Description {
				l.t.Errorf("%s was made by %s and is now %s's", d.Name(), by, d.Description)
			} else if !ok {
				l.made[d.Name()] = d.Description
				l.once(d.Description, d.Name(), "deployment")
			}
		}
	}
}

// once notes where a request has left its id. One that deploys to a stage leaves
// it in two kinds of places.
func (l *ledger) once(request, place, kind string) {
	if other, ok := l.applied[kind+request]; ok {
		l.t.Errorf("twice: request %s has been applied as %s and as %s", request, other, place)
	}
	l.applied[kind+request], l.applied[request] = place, place
}

// last notes the last request of an object that keeps no history.
func (l *ledger) last(object, request string, revision uint64) {
	if l.places[object] == nil {
		l.places[object] = map[string]uint64{}
	}
	if r, ok := l.places[object][request]; ok && r != revision {
		l.t.Errorf("twice: request %s has been applied as revision %d of %s and as %d", request, r, object, revision)
	}
	l.places[object][request] = revision
	l.applied[request] = fmt.Sprintf("revision %d of %s", revision, object)
}
