package release_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/fifegateway/fife/controlplane/release"
)

// stageMachine makes one stage move at random. Every stage it has ever been is
// kept beside what it looked like, to see that none changes.
type stageMachine struct {
	stage *release.Stage
	past  []*release.Stage
	looks []string
	n     int
}

func (m *stageMachine) init(t *rapid.T) {
	m.stage = release.NewStage(change(1), "demo", "prod", release.StageValues{
		Deployment: 1, Variables: drawVars(t, "variables"),
	})
	m.n = 1
	m.remember(t)
}

func (m *stageMachine) remember(t *rapid.T) {
	m.past = append(m.past, m.stage)
	m.looks = append(m.looks, dump(t, m.stage))
}

// drawVars draws many variables of few names, so that the limit is met.
func drawVars(t *rapid.T, label string) map[string]string {
	prefix := rapid.SampledFrom([]string{"a", "b"}).Draw(t, label+" prefix")
	return manyVars(prefix, rapid.IntRange(0, 100).Draw(t, label+" count"))
}

func drawCanary(t *rapid.T) release.Canary {
	return release.Canary{
		Deployment:      rapid.Uint64Range(0, 5).Draw(t, "deployment"),
		PartsPerMillion: rapid.Uint32Range(0, release.Buckets).Draw(t, "share"),
		Overrides:       drawVars(t, "overrides"),
		Salt:            rapid.Uint64().Draw(t, "salt"),
	}
}

func drawFields(t *rapid.T, all []string) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(all), 0, len(all), rapid.ID[string]).Draw(t, "fields")
}

// step makes one move and holds it to the rules that hold for every move.
// The reason is empty if the move was made.
func (m *stageMachine) step(
	t *rapid.T, do func(release.Change) (*release.Stage, error),
) (next *release.Stage, refused release.Reason) {
	m.n++
	next, err := do(change(m.n))
	if err != nil {
		var r *release.Refusal
		if !errors.As(err, &r) || next != nil {
			t.Fatalf("got %v and %v", next, err)
		}
		return nil, r.Reason
	}
	if next.Revision != m.stage.Revision+1 || next.API != m.stage.API || next.ID != m.stage.ID {
		t.Fatalf("%s became %s", dump(t, m.stage), dump(t, next))
	}
	last := next.History[len(next.History)-1]
	if last.Number != next.Revision || last.Change != change(m.n) || !reflect.DeepEqual(last.Config, next.Config) {
		t.Fatalf("the new revision is %+v", last)
	}
	m.stage = next
	m.remember(t)
	return next, ""
}

func (m *stageMachine) check(t *rapid.T) {
	s := m.stage
	if len(s.History) == 0 || len(s.History) > release.HistoryLimit || len(s.History) != int(min(s.Revision, release.HistoryLimit)) {
		t.Fatalf("revision %d has a history of %d", s.Revision, len(s.History))
	}
	for i, r := range s.History {
		if r.Number != s.Revision-uint64(len(s.History)-1-i) {
			t.Fatalf("entry %d of the history is revision %d", i, r.Number)
		}
	}
	if c := s.Config.Canary; c != nil {
		merged := release.MergeVariables(s.Config.Variables, c.Overrides)
		if len(merged) > release.MaxVariables {
			t.Fatalf("the canary's requests see %d variables", len(merged))
		}
		promoted, err := s.PromoteCanary(change(m.n+1), false, false)
		if err != nil {
			t.Fatalf("an open canary cannot be promoted: %v", err)
		}
		if len(promoted.Config.Variables) != len(merged) || promoted.Config.Deployment != c.Deployment || promoted.Config.Canary != nil {
			t.Fatalf("%s was promoted to %s", dump(t, s), dump(t, promoted))
		}
		if _, err := s.AbortCanary(change(m.n + 1)); err != nil {
			t.Fatalf("an open canary cannot be aborted: %v", err)
		}
	}
	for _, d := range s.Live() {
		if !s.Uses(d) {
			t.Fatalf("deployment %d is live but may be deleted", d)
		}
	}
	i := rapid.IntRange(0, len(m.past)-1).Draw(t, "past")
	if now := dump(t, m.past[i]); now != m.looks[i] {
		t.Fatalf("revision %d changed from\n%s to\n%s", m.past[i].Revision, m.looks[i], now)
	}
}

// TestStageProperties: whatever moves are made in whatever order, revisions count
// up, no stage changes once made, and an open canary can be promoted.
func TestStageProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &stageMachine{}
		m.init(t)
		t.Repeat(map[string]func(*rapid.T){
			"": m.check,
			"Update": func(t *rapid.T) {
				values := release.StageValues{Deployment: rapid.Uint64Range(1, 5).Draw(t, "deployment"), Variables: drawVars(t, "variables")}
				fields := drawFields(t, release.StageFields())
				m.step(t, func(c release.Change) (*release.Stage, error) { return m.stage.Update(c, values, fields) })
			},
			"Deploy": func(t *rapid.T) {
				target := rapid.SampledFrom([]release.Target{release.TargetAuto, release.TargetBase, release.TargetCanary}).Draw(t, "target")
				d := rapid.Uint64Range(1, 5).Draw(t, "deployment")
				m.step(t, func(c release.Change) (*release.Stage, error) { return m.stage.Deploy(c, d, target) })
			},
			"StartCanary": func(t *rapid.T) {
				canary, replace := drawCanary(t), rapid.Bool().Draw(t, "replace")
				next, _ := m.step(t, func(c release.Change) (*release.Stage, error) { return m.stage.StartCanary(c, canary, replace) })
				if next != nil && next.Config.Canary.Salt != canary.Salt {
					t.Fatalf("the new canary has salt %d", next.Config.Canary.Salt)
				}
			},
			"UpdateCanary": func(t *rapid.T) {
				before, canary := m.stage.Config.Canary, drawCanary(t)
				fields := drawFields(t, release.CanaryFields())
				next, _ := m.step(t, func(c release.Change) (*release.Stage, error) { return m.stage.UpdateCanary(c, canary, fields) })
				if next != nil && next.Config.Canary.Salt != before.Salt {
					t.Fatal("an open canary's salt changed")
				}
			},
			"AbortCanary": func(t *rapid.T) { m.step(t, m.stage.AbortCanary) },
			"PromoteCanary": func(t *rapid.T) {
				keep := rapid.Bool().Draw(t, "keep")
				m.step(t, func(c release.Change) (*release.Stage, error) { return m.stage.PromoteCanary(c, keep, false) })
			},
			"Rollback": func(t *rapid.T) {
				before := m.stage
				next, refused := m.step(t, func(c release.Change) (*release.Stage, error) { return m.stage.Rollback(c, 0) })
				base, ok := before.RollbackTarget()
				switch {
				case refused == release.NoHistory && ok:
					t.Fatal("there was a base to roll back to")
				case next != nil && fmt.Sprint(next.Config.Deployment, next.Config.Variables) != fmt.Sprint(base.Deployment, base.Variables):
					t.Fatalf("rolled back to %+v, want %+v", next.Config, base)
				case next != nil && !reflect.DeepEqual(next.Config.Canary, before.Config.Canary):
					t.Fatal("the rollback touched the canary")
				}
			},
			"Rollback to": func(t *rapid.T) {
				before := m.stage
				to := rapid.Uint64Range(1, m.stage.Revision+2).Draw(t, "to")
				next, refused := m.step(t, func(c release.Change) (*release.Stage, error) { return m.stage.Rollback(c, to) })
				kept := to >= before.History[0].Number && to <= before.Revision
				if kept == (refused == release.NoHistory) {
					t.Fatalf("revision %d, kept %v: %v, %v", to, kept, next, refused)
				}
			},
		})
	})
}
