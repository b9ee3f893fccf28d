package discovery

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/proto"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// A stage whose promotion is timed is held with its former configuration until the
// flip time, and without it from then on: in memory, and in what is next written to
// disk. So what has been left is never gone back to. The digest is over names and
// revisions, so it does not mind.

const million = 1_000_000

// in reports whether any of the selectors selects the agent.
func (a *agent) in(wave []*discoveryv1.AgentSelector) bool {
	for _, s := range wave {
		for _, id := range s.GetAgents() {
			if id == a.id {
				return true
			}
		}
		if len(s.GetLabels()) > 0 && a.hasLabels(s.GetLabels()) {
			return true
		}
		if xxhash.Sum64String(a.id)%million < uint64(s.GetPartsPerMillion()) {
			return true
		}
	}
	return false
}

func (a *agent) hasLabels(want map[string]string) bool {
	for k, v := range want {
		if got, ok := a.labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// checkPromotion takes what no compiler of routes can see.
func checkPromotion(s *discoveryv1.Stage) error {
	switch {
	case s.GetFormer() != nil && s.GetNext() != nil:
		return errors.New("has a former and a next configuration: a promotion is open or decided, not both")
	case s.GetFormer() != nil && s.GetFlipTime().CheckValid() != nil:
		return fmt.Errorf("has a former configuration and no valid time to leave it: %v", s.GetFlipTime())
	}
	for _, w := range s.GetWave() {
		if w.GetPartsPerMillion() > million {
			return fmt.Errorf("wave: share of %d parts per million: at most %d are allowed", w.GetPartsPerMillion(), million)
		}
	}
	return nil
}

// isDue reports whether a stage has a former configuration that is to be left by now.
// Without a clock it is: to be early in a window is better than to be late for ever.
func isDue(s *discoveryv1.Stage, now time.Time) bool {
	return s.GetFormer() != nil && (now.IsZero() || !now.Before(s.GetFlipTime().AsTime()))
}

// hasLeft reports whether a stage, as it was held, has left the former configuration
// that it now comes with.
func hasLeft(before, s *discoveryv1.Stage) bool {
	return before != nil && s.GetFormer() != nil && before.GetFormer() == nil && before.GetPromoted() == s.GetPromoted()
}

// leave returns the resource of a stage without its former configuration.
func (r resource) leave() resource {
	pb := proto.CloneOf(r.pb)
	s := pb.GetStage()
	s.Former, s.FlipTime = nil, nil
	return resource{pb: pb, stage: s}
}

// flipTime returns when the next former configuration is to be left.
func (h *held) flipTime() (at time.Time, ok bool) {
	for _, r := range h.resources {
		if r.stage.GetFormer() == nil {
			continue
		}
		if t := r.stage.GetFlipTime().AsTime(); !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	return at, ok
}

// flip returns what is held once all former configurations that are due have been
// left; h itself if none is.
func (h *held) flip(now time.Time) (*held, error) {
	next := *h
	next.resources = maps.Clone(h.resources)
	due := false
	for name, r := range h.resources {
		if isDue(r.stage, now) {
			next.resources[name], due = r.leave(), true
		}
	}
	if !due {
		return h, nil
	}
	var err error
	if next.table, err = next.compile(); err != nil {
		return h, err
	}
	return &next, nil
}

// coming is what is held once the former configurations have been left that are due at
// a time, by the leader's clock.
type coming struct {
	due  time.Time
	held *held
}

// coming returns what h will come to, in order.
func (h *held) coming() (all []coming) {
	for {
		due, ok := h.flipTime()
		if !ok {
			return all
		}
		next, err := h.flip(due)
		if err != nil {
			return all // whoever leaves it then says so
		}
		all = append(all, coming{due, next})
		h = next
	}
}

// at returns what to route by at a time of the leader's clock. What has been left once
// is not gone back to, even if the estimate of that clock is.
func (p *published) at(now time.Time) *held {
	for {
		before := p.left.Load()
		n := before
		for int(n) < len(p.coming) && !now.Before(p.coming[n].due) {
			n++
		}
		if p.left.CompareAndSwap(before, n) {
			return p.soFar()
		}
	}
}

// soFar returns what at returned last.
func (p *published) soFar() *held {
	if n := p.left.Load(); n > 0 {
		return p.coming[n-1].held
	}
	return p.held
}
