package rollout

import (
	"testing"
	"time"

	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func at(ms int) time.Time { return time.Unix(1000, 0).Add(time.Duration(ms) * time.Millisecond) }

// TestWindow: what counts as the time in which both configurations were in use. The
// commit is at 5 ms, what is asked is asked at 100 ms.
func TestWindow(t *testing.T) {
	applied := func(ms int) *agentView { return &agentView{applied: true, at: at(ms), clock: 3 * time.Millisecond} }
	behind := release.PromotionReport{Stale: []string{"gone"}}
	for name, tt := range map[string]struct {
		agents map[string]*agentView
		p      release.Promotion
		want   time.Duration
	}{
		"nobody":              {nil, release.Promotion{}, 0},
		"one":                 {map[string]*agentView{"a": applied(10)}, release.Promotion{}, 5 * time.Millisecond},
		"two":                 {map[string]*agentView{"a": applied(10), "b": applied(25)}, release.Promotion{}, 20 * time.Millisecond},
		"one is cut off":      {map[string]*agentView{"a": applied(10), "b": {}}, release.Promotion{}, 95 * time.Millisecond},
		"one has come since":  {map[string]*agentView{"a": {applied: true}}, release.Promotion{}, 95 * time.Millisecond},
		"one was left behind": {map[string]*agentView{"a": applied(10), "gone": {}}, release.Promotion{Report: behind}, 5 * time.Millisecond},
		"one caught up":       {map[string]*agentView{"a": applied(10), "gone": applied(30)}, release.Promotion{Report: behind}, 25 * time.Millisecond},
		"timed":               {map[string]*agentView{"a": applied(10), "b": applied(25)}, release.Promotion{FlipTime: at(50)}, 6 * time.Millisecond},
		"timed, one is late":  {map[string]*agentView{"a": applied(10), "b": applied(70)}, release.Promotion{FlipTime: at(50)}, 23 * time.Millisecond},
		"timed, one is cut off": {
			map[string]*agentView{"a": applied(10), "b": {}}, release.Promotion{FlipTime: at(50)}, 53 * time.Millisecond,
		},
	} {
		v := view{agents: tt.agents}
		for id, a := range v.agents {
			a.id = id
		}
		changed := map[string]time.Time{}
		v.note(changed, at(100))
		s := &release.Stage{Promotion: &tt.p, History: []*release.Revision{
			{Change: release.Change{Time: at(5), Method: "CommitPromotion"}}, {Change: release.Change{Time: at(90), Method: "UpdateStage"}},
		}}
		if got := v.window(s, changed, at(100)); got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

// TestChangedOnce: an agent has come to a version when it was first seen there, whatever
// it applies later. Else the window would shrink or grow with what happens elsewhere,
// and the dwell of a wave would begin again with every change.
func TestChangedOnce(t *testing.T) {
	changed := map[string]time.Time{}
	dwelling := &release.Stage{
		Waves: []release.Wave{{PartsPerMillion: 1_000_000}, {PartsPerMillion: 1_000_000}},
		Promotion: &release.Promotion{State: release.Rolling, Waves: []release.ReachedWave{
			{PartsPerMillion: 1_000_000, Dwell: 100 * time.Millisecond},
		}},
	}
	var step uint32
	for _, ms := range []int{10, 50, 90, 115} { // it applies something at each of them
		v := view{agents: map[string]*agentView{"a": {id: "a", connected: true, applied: true, at: at(ms)}}}
		v.note(changed, at(ms))
		step = decide(dwelling, v, changed, at(ms), at(0)).GetStep()
	}
	if !changed["a"].Equal(at(10)) || step != store.StepNextWave {
		t.Errorf("it has changed at %v, want %v; the step is %d, want the next wave's", changed["a"], at(10), step)
	}
}

// TestRefusalBeforeResume: a refusal halts a promotion in waves, and does not halt it
// again when it has been told to go on and the agent has not answered yet.
func TestRefusalBeforeResume(t *testing.T) {
	s := &release.Stage{
		Index: 42, Waves: []release.Wave{{PartsPerMillion: 1_000_000}},
		Promotion: &release.Promotion{Number: 40, State: release.Rolling, Waves: []release.ReachedWave{{PartsPerMillion: 1_000_000, Index: 42}}},
	}
	for _, tt := range []struct{ changed, refused uint64 }{{42, 42}, {42, 43}, {45, 42}, {45, 44}, {45, 45}} {
		s.Index = tt.changed
		v := view{agents: map[string]*agentView{}}
		v.add(&fifev1.AgentReport{
			AgentId: "a", Connected: true, Refusal: "its disk is full", Refused: &fifev1.Version{Epoch: 1, Index: tt.refused},
		}, store.Version{Epoch: 1, Index: goal(s)}, at(0))
		step := decide(s, v, nil, at(0), at(0))
		if halts := step.GetStep() == store.StepHalt; halts != (tt.refused >= tt.changed) {
			t.Errorf("changed at %d, refused %d: the step is %v", tt.changed, tt.refused, step)
		}
	}
}
