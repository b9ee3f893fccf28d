package rollout

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/discovery"
	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// goal returns the index that the agents are to come to for the next step of a stage's
// promotion. In waves that is the stage's last change: what they had refused when the
// promotion halted counts no more once it has been told to go on.
func goal(s *release.Stage) uint64 {
	switch p := s.Promotion; p.State {
	case release.Committed:
		return p.Committed
	case release.Rolling:
		return s.Index
	default:
		return p.Number
	}
}

// flipMargin is how far ahead agents are told the time of a timed promotion, so that
// the commit reaches them before it.
const flipMargin = time.Second

// decide returns the next step of a promotion, given what is known of the agents
// with regard to its goal; nil if it has to wait. now is the leader's clock, begun
// when its present state began, and changed when agents came to the goal.
func decide(s *release.Stage, v view, changed map[string]time.Time, now, begun time.Time) *storev1.MovePromotion {
	p := s.Promotion
	patient := now.Sub(begun) < discovery.LeaseTTL
	switch p.State {
	case release.Preparing:
		return decidePreparing(p, v, now)
	case release.Rolling:
		return decideRolling(s, v, changed, now, begun)
	case release.Committed:
		if lag(v, patient) || now.Before(p.FlipTime.Add(p.Report.ClockError)) {
			return nil
		}
		found := v.report(false)
		report := p.Report
		report.Stale, report.Refused, report.Window = found.Stale, found.Refused, v.window(s, changed, now)
		return &storev1.MovePromotion{Step: store.StepComplete, Report: store.EncodeReport(report)}
	}
	return nil
}

func decidePreparing(p *release.Promotion, v view, now time.Time) *storev1.MovePromotion {
	for _, a := range v.sorted() {
		if a.refusal != "" && !a.applied && p.Fenced == 0 {
			return &storev1.MovePromotion{Step: store.StepAbort, Reason: fmt.Sprintf("agent %s refused it: %s", a.id, a.refusal)}
		}
	}
	late := now.After(p.Deadline)
	switch {
	case !lag(v, !late):
		step := &storev1.MovePromotion{Step: store.StepCommit, Report: store.EncodeReport(v.report(p.Fenced != 0))}
		if p.Mode == release.SyncTimed {
			step.FlipTime = timestamppb.New(now.Add(flipMargin))
		}
		return step
	case late && p.OnTimeout == release.TimeoutAbort:
		return &storev1.MovePromotion{Step: store.StepAbort, Reason: "not all agents were prepared in time: " + v.laggards()}
	case late && p.OnTimeout == release.TimeoutFence && p.Fenced == 0:
		return &storev1.MovePromotion{Step: store.StepFence}
	}
	return nil
}

func decideRolling(s *release.Stage, v view, changed map[string]time.Time, now, begun time.Time) *storev1.MovePromotion {
	p := s.Promotion
	for _, a := range v.sorted() {
		if a.refusal != "" && !a.applied {
			return &storev1.MovePromotion{Step: store.StepHalt, Reason: fmt.Sprintf("agent %s refused it: %s", a.id, a.refusal)}
		}
	}
	if len(p.Waves) == 0 {
		return &storev1.MovePromotion{Step: store.StepNextWave}
	}
	reached := p.Waves[len(p.Waves)-1]
	// The dwell begins once all of the wave have it.
	since := begun
	for _, a := range v.agents {
		if !selected(p.Waves, a) || (!a.connected && !a.leased) {
			continue
		}
		if !a.applied {
			return nil
		}
		if at := changed[a.id]; at.After(since) {
			since = at
		}
	}
	switch {
	case len(v.silent) > 0 || now.Sub(since) < reached.Dwell:
		return nil
	case len(p.Waves) < len(s.Waves):
		return &storev1.MovePromotion{Step: store.StepNextWave}
	}
	return &storev1.MovePromotion{Step: store.StepCommit, Report: store.EncodeReport(v.report(false))}
}

// selected reports whether any of the waves reached selects an agent.
func selected(waves []release.ReachedWave, a *agentView) bool {
	for _, w := range waves {
		if w.Selects(release.Agent{ID: a.id, Labels: a.labels}) {
			return true
		}
	}
	return false
}

// lag reports whether somebody has to be waited for.
func lag(v view, patient bool) bool {
	for _, a := range v.agents {
		if a.lags(patient) {
			return true
		}
	}
	return len(v.silent) > 0
}

// laggards names some of those that are waited for.
func (v view) laggards() string {
	const most = 5
	text, n := "", 0
	for _, a := range v.sorted() {
		if !a.lags(true) {
			continue
		}
		if n++; n <= most {
			text += " " + a.id
		}
	}
	if n > most {
		text += fmt.Sprintf(" and %d more", n-most)
	}
	for _, node := range v.silent {
		text += " and those of node " + node
	}
	return text[min(1, len(text)):]
}
