package discovery

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fifegateway/fife/controlplane/store"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// reportPatience is how long a report waits for the agents to come to a version.
const reportPatience = time.Second

// Report returns what this node knows of its agents, once it has applied a version
// itself: those with a stream, and those whose lease has not run out. It waits for
// them to apply the version or to refuse it, up to a second. From a node that has the version the
// leases in a report can only become fewer, but for those of agents that have the
// version too.
func (s *Server) Report(ctx context.Context, version store.Version) (*fifev1.ReportAgentsResponse, error) {
	for state := s.config.Store.State(); state.Version().Compare(version) < 0; state = s.config.Store.State() {
		select {
		case <-state.Changed():
		case <-ctx.Done():
			return nil, fmt.Errorf("at version %v of %v: %w", state.Version(), version, context.Cause(ctx))
		}
	}
	patience := time.After(reportPatience)
	for {
		news := s.fleet.watch()
		agents, settled := s.report(version)
		resp := &fifev1.ReportAgentsResponse{Agents: agents, UnsureFor: encodeDuration(s.leases.unsure())}
		if settled {
			return resp, nil
		}
		select {
		case <-news:
		case <-patience:
			return resp, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// report returns what is known now, and whether it is worth telling at once: all
// agents have a version, or one has refused it.
func (s *Server) report(version store.Version) (reports []*fifev1.AgentReport, settled bool) {
	now := time.Now()
	all, refused := true, false
	add := func(r *fifev1.AgentReport, applied store.Version, until time.Time) {
		if applied != (store.Version{}) {
			r.Applied = &fifev1.Version{Epoch: applied.Epoch, Index: applied.Index}
		}
		if left := until.Add(slack).Sub(now); left > 0 {
			r.Lease = durationpb.New(left)
		}
		all = all && applied.Compare(version) >= 0
		refused = refused || (r.GetRefused().GetEpoch() == version.Epoch && r.GetRefused().GetIndex() >= version.Index)
		reports = append(reports, r)
	}
	// Whoever leaves is noted among the gone before it leaves the fleet.
	for _, session := range s.fleet.all() {
		add(session.report(now))
	}
	for id, g := range s.leases.missing() {
		if now.Before(g.until.Add(slack)) {
			add(&fifev1.AgentReport{AgentId: id}, g.applied, g.until)
		}
	}
	return reports, all || refused
}

// report returns what the leader is told of an agent, what it routes by and until
// when it has a lease.
func (s *session) report(now time.Time) (*fifev1.AgentReport, store.Version, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &fifev1.AgentReport{AgentId: s.agent, Connected: true, ClockError: s.clockError}
	if !s.appliedTime.IsZero() {
		r.AppliedAgo = durationpb.New(now.Sub(s.appliedTime))
	}
	if s.nack != nil {
		r.Refusal, r.Refused = s.nack.GetReason(), s.nack.GetVersion()
	}
	return r, s.applied, s.leased
}
