package rollout

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// view is what the leader knows of all agents with regard to one version.
type view struct {
	agents map[string]*agentView // on the record, or reported; by id
	silent []string              // nodes that may have granted leases which nobody knows
}

// agentView is what is known of one agent.
type agentView struct {
	id        string
	labels    map[string]string
	connected bool
	applied   bool // whether it has the version
	leased    bool // whether it may hold a lease
	at        time.Time
	refusal   string // why it has refused the version or a newer one; empty if it has not
	clock     time.Duration
}

// lags reports whether an agent keeps the others waiting: it has not the version,
// and a lease or, for as long as patience lasts, a stream.
func (a *agentView) lags(patient bool) bool {
	return !a.applied && (a.leased || (patient && a.connected))
}

// reportTimeout bounds how long one node may take over a report: a second for its
// agents, and one for itself.
const reportTimeout = 2 * time.Second

// look asks all nodes for a report on a version.
func (s *Service) look(ctx context.Context, version store.Version) (view, error) {
	members, err := s.config.Store.Members()
	if err != nil {
		return view{}, err
	}
	state := s.config.Store.State()
	v := view{agents: map[string]*agentView{}}
	for a := range state.Agents() {
		v.agents[a.ID] = &agentView{id: a.ID, labels: a.Labels}
	}
	var mu sync.Mutex
	silent := slices.Collect(state.Departed())
	var asked sync.WaitGroup
	for _, m := range members {
		asked.Go(func() {
			report, err := s.reportOf(ctx, m, version)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				s.config.Logger.Warn("node did not report its agents", "node", m.ID, "error", err)
				silent = append(silent, m.ID)
				return
			}
			for _, r := range report.GetAgents() {
				v.add(r, version, time.Now())
			}
			if report.GetUnsureFor() != nil {
				v.silent = append(v.silent, m.ID)
			}
		})
	}
	asked.Wait()
	now := time.Now()
	for _, node := range silent {
		if now.Before(s.grants.quiet(node)) {
			v.silent = append(v.silent, node)
		}
	}
	slices.Sort(v.silent)
	return v, ctx.Err()
}

func (s *Service) reportOf(ctx context.Context, m store.Member, version store.Version) (*fifev1.ReportAgentsResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	if m.ID == s.config.Store.NodeID() {
		return s.config.Agents.Report(ctx, version)
	}
	conn, err := s.config.Conn(m.GRPCAddress)
	if err != nil {
		return nil, err
	}
	return fifev1.NewNodeServiceClient(conn).ReportAgents(ctx, &fifev1.ReportAgentsRequest{
		Version: &fifev1.Version{Epoch: version.Epoch, Index: version.Index},
	})
}

// add takes in what one node knows of an agent. What an agent has it keeps, so one
// node's word that it has the version outweighs that of another which it has left.
func (v view) add(r *fifev1.AgentReport, version store.Version, now time.Time) {
	a := v.agents[r.GetAgentId()]
	if a == nil {
		a = &agentView{id: r.GetAgentId()}
		v.agents[a.id] = a
	}
	a.connected = a.connected || r.GetConnected()
	a.leased = a.leased || r.GetLease() != nil
	if has := fromVersion(r.GetApplied()); has.Compare(version) >= 0 {
		a.applied = true
		if at := now.Add(-r.GetAppliedAgo().AsDuration()); r.GetAppliedAgo() != nil && at.After(a.at) {
			a.at = at
		}
	}
	if r.GetRefusal() != "" && fromVersion(r.GetRefused()).Compare(version) >= 0 {
		a.refusal = r.GetRefusal()
	}
	a.clock = max(a.clock, r.GetClockError().AsDuration())
}

func fromVersion(v *fifev1.Version) store.Version {
	return store.Version{Epoch: v.GetEpoch(), Index: v.GetIndex()}
}

// sorted returns the agents in id order.
func (v view) sorted() []*agentView {
	return slices.SortedFunc(maps.Values(v.agents), func(a, b *agentView) int { return strings.Compare(a.id, b.id) })
}

// maxNamed is how many agents one list of a report names.
const maxNamed = 100

// report sums up what was found.
func (v view) report(fenced bool) release.PromotionReport {
	r := release.PromotionReport{Agents: uint32(len(v.agents))}
	name := func(list *[]string, id string) {
		if len(*list) < maxNamed {
			*list = append(*list, id)
		}
	}
	for _, a := range v.sorted() {
		switch {
		case a.applied:
			r.Prepared++
			r.ClockError = max(r.ClockError, a.clock)
		case a.refusal != "":
			name(&r.Refused, a.id)
		case fenced && a.connected:
			name(&r.Fenced, a.id)
		default:
			name(&r.Stale, a.id)
		}
	}
	return r
}

// window returns for how long both configurations were in use at most: from the commit,
// as nobody changes over before it, until the last agent did. changed tells when each
// had, at the latest. One that has not, and was not left behind by the commit already,
// may use the former configuration until now. In a timed promotion all change over at
// one time, to within what they know of the leader's clock, but for those that learn of
// it later.
func (v view) window(s *release.Stage, changed map[string]time.Time, now time.Time) time.Duration {
	p := s.Promotion
	first := p.FlipTime
	if first.IsZero() {
		first = commitTime(s)
	}
	last := first
	behind := slices.Concat(p.Report.Stale, p.Report.Fenced, p.Report.Refused)
	for _, a := range v.agents {
		at := changed[a.id]
		if !a.applied {
			if slices.Contains(behind, a.id) {
				continue
			}
			at = now
		}
		if at.After(last) {
			last = at
		}
	}
	if p.FlipTime.IsZero() {
		return last.Sub(first)
	}
	clock := max(p.Report.ClockError, v.report(false).ClockError)
	return max(2*clock, last.Sub(first)+clock)
}

// commitTime returns when a stage's promotion was committed, by the clock of the node
// that led then, or a time before.
func commitTime(s *release.Stage) time.Time {
	for _, r := range slices.Backward(s.History) {
		if r.Change.Method == stepMethods[store.StepCommit] {
			return r.Change.Time
		}
	}
	return s.Promotion.CreateTime
}

// note keeps when agents had changed over at the latest, given what is found at a
// time. What a node tells of an agent is when it applied the newest version that it
// has, which may be a later one, and nothing of an agent that it knows only since.
func (v view) note(changed map[string]time.Time, now time.Time) {
	for _, a := range v.agents {
		if _, ok := changed[a.id]; ok || !a.applied {
			continue
		}
		changed[a.id] = now
		if !a.at.IsZero() {
			changed[a.id] = a.at
		}
	}
}
