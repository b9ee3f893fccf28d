package release_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/fifegateway/fife/controlplane/release"
)

// dump writes a stage out whole, to see whether anything in it has changed.
func dump(t rapid.TB, s *release.Stage) string {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// baseStage serves deployment 1 with variables a=1 and b=1.
func baseStage() *release.Stage {
	return release.NewStage(change(1), "demo", "prod", release.StageValues{
		Deployment: 1, Variables: vars("a", "1", "b", "1"),
	})
}

// canaryStage tries deployment 2 at 10 % with b=2 and c=2 beside it.
func canaryStage(t *testing.T) *release.Stage {
	t.Helper()
	return made(t)(baseStage().StartCanary(change(2), release.Canary{
		Deployment: 2, PartsPerMillion: 100_000, Overrides: vars("b", "2", "c", "2"), Salt: 77,
	}, false))
}

func made(t *testing.T) func(*release.Stage, error) *release.Stage {
	return func(s *release.Stage, err error) *release.Stage {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

type move func(*release.Stage) (*release.Stage, error)

// TestMoves walks every move from every kind of state: it is refused for a
// reason, or it makes exactly one revision and leaves the old stage as it was.
func TestMoves(t *testing.T) {
	c := change(9)
	deploy := func(target release.Target) move {
		return func(s *release.Stage) (*release.Stage, error) { return s.Deploy(c, 5, target) }
	}
	start := func(replace bool) move {
		return func(s *release.Stage) (*release.Stage, error) {
			return s.StartCanary(c, release.Canary{Deployment: 3, PartsPerMillion: 1, Salt: 1}, replace)
		}
	}
	promote := func(keep bool) move {
		return func(s *release.Stage) (*release.Stage, error) { return s.PromoteCanary(c, keep, false) }
	}
	rollback := func(to uint64) move {
		return func(s *release.Stage) (*release.Stage, error) { return s.Rollback(c, to) }
	}
	tests := map[string]struct {
		do       move
		new      release.Reason // from a stage as it was created; empty is legal
		withBack release.Reason // from one whose base has changed
		canary   release.Reason // from a new one with a canary
	}{
		"Update": {do: func(s *release.Stage) (*release.Stage, error) {
			return s.Update(c, release.StageValues{Deployment: 4}, release.StageFields())
		}},
		"Deploy":          {do: deploy(release.TargetAuto)},
		"Deploy base":     {do: deploy(release.TargetBase)},
		"Deploy canary":   {deploy(release.TargetCanary), release.NoCanary, release.NoCanary, ""},
		"StartCanary":     {start(false), "", "", release.CanaryExists},
		"StartCanary new": {do: start(true)},
		"UpdateCanary": {func(s *release.Stage) (*release.Stage, error) {
			return s.UpdateCanary(c, release.Canary{PartsPerMillion: 5}, []string{release.FieldPercent})
		}, release.NoCanary, release.NoCanary, ""},
		"AbortCanary": {func(s *release.Stage) (*release.Stage, error) {
			return s.AbortCanary(c)
		}, release.NoCanary, release.NoCanary, ""},
		"PromoteCanary":      {promote(false), release.NoCanary, release.NoCanary, ""},
		"PromoteCanary keep": {promote(true), release.NoCanary, release.NoCanary, ""},
		"Rollback":           {rollback(0), release.NoHistory, "", release.NoHistory},
		"Rollback to 1":      {do: rollback(1)},
		"Rollback to 99":     {rollback(99), release.NoHistory, release.NoHistory, release.NoHistory},
	}
	withBack := made(t)(baseStage().Deploy(change(2), 2, release.TargetAuto))
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			checkMove(t, "new", baseStage(), tt.do, tt.new)
			checkMove(t, "with an earlier base", withBack, tt.do, tt.withBack)
			checkMove(t, "with a canary", canaryStage(t), tt.do, tt.canary)
		})
	}
}

func checkMove(t *testing.T, state string, s *release.Stage, do move, refused release.Reason) {
	t.Helper()
	before := dump(t, s)
	next, err := do(s)
	if after := dump(t, s); after != before {
		t.Fatalf("%s: the old stage changed from\n%s to\n%s", state, before, after)
	}
	if refused != "" {
		if r := wantRefusal(t, err, refused); r.Metadata["resource"] != "apis/demo/stages/prod" {
			t.Errorf("%s: metadata %v", state, r.Metadata)
		}
		return
	}
	if err != nil {
		t.Fatalf("%s: %v", state, err)
	}
	if next.Revision != s.Revision+1 || len(next.History) != len(s.History)+1 ||
		!next.UpdateTime.Equal(change(9).Time) || !next.CreateTime.Equal(s.CreateTime) {
		t.Errorf("%s: became %s", state, dump(t, next))
	}
	last := next.History[len(next.History)-1]
	if want := (&release.Revision{Number: next.Revision, Change: change(9), Config: next.Config}); !reflect.DeepEqual(last, want) {
		t.Errorf("%s: the new revision is %+v, want %+v", state, last, want)
	}
	if !reflect.DeepEqual(next.History[:len(s.History)], s.History) {
		t.Errorf("%s: the history was rewritten", state)
	}
}

func TestNewStage(t *testing.T) {
	values := release.StageValues{
		Description: "d", Deployment: 4, Variables: vars("a", "1"),
		Split: release.Split{Source: release.KeyClientIP}, ExposeHeaders: true,
	}
	got := release.NewStage(change(1), "demo", "prod", values)
	config := release.Config{Deployment: 4, Variables: vars("a", "1")}
	want := &release.Stage{
		API: "demo", ID: "prod", Description: "d", Config: config,
		Split: release.Split{Source: release.KeyClientIP}, ExposeHeaders: true,
		CreateTime: change(1).Time, UpdateTime: change(1).Time, Revision: 1,
		History: []*release.Revision{{Number: 1, Change: change(1), Config: config}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %s, want %s", dump(t, got), dump(t, want))
	}
}

// TestStageUpdate: each field is taken if it is named, and only then; the canary
// stays.
func TestStageUpdate(t *testing.T) {
	values := release.StageValues{
		Description: "new", Deployment: 9, Variables: vars("z", "9"),
		Split: release.Split{Source: release.KeyQuery, Name: "q"}, ExposeHeaders: true,
		FailClosed: true, Consistent: true, Waves: []release.Wave{{PartsPerMillion: 100_000}},
		Throttle: release.Throttle{Concurrency: 1},
	}
	expect := map[string]func(*release.Stage){
		release.FieldDescription:     func(s *release.Stage) { s.Description = "new" },
		release.FieldDeployment:      func(s *release.Stage) { s.Config.Deployment = 9 },
		release.FieldVariables:       func(s *release.Stage) { s.Config.Variables = values.Variables },
		release.FieldSplit:           func(s *release.Stage) { s.Split = values.Split },
		release.FieldExposeHeaders:   func(s *release.Stage) { s.ExposeHeaders = true },
		release.FieldStalePolicy:     func(s *release.Stage) { s.FailClosed = true },
		release.FieldConsistent:      func(s *release.Stage) { s.Consistent = true },
		release.FieldSecretVariables: func(*release.Stage) {}, // there are none
		release.FieldWaves:           func(s *release.Stage) { s.Waves = values.Waves },
		release.FieldThrottle:        func(s *release.Stage) { s.Throttle = values.Throttle },
	}
	old := canaryStage(t)
	check := func(fields ...string) {
		t.Helper()
		got := made(t)(old.Update(change(3), values, fields))
		want := *old
		for _, f := range fields {
			expect[f](&want)
		}
		want.Revision, want.UpdateTime, want.History = got.Revision, got.UpdateTime, got.History
		if !reflect.DeepEqual(got, &want) {
			t.Errorf("fields %v: got %s, want %s", fields, dump(t, got), dump(t, &want))
		}
	}
	check()
	for _, f := range release.StageFields() {
		check(f)
	}
	check(release.StageFields()...)
}

// TestKeepOverrideKey: a key that callers cannot see outlives their edits, if they
// say so, and only where overrides are allowed at all.
func TestKeepOverrideKey(t *testing.T) {
	keyed := release.Split{AllowOverride: true, OverrideKey: "0123456789abcdef"}
	s := made(t)(baseStage().Update(change(2), release.StageValues{Split: keyed}, []string{release.FieldSplit}))
	edit := release.StageValues{Split: release.Split{Source: release.KeyClientIP, AllowOverride: true}}
	for _, keep := range []bool{false, true} {
		edit.KeepOverrideKey = keep
		want := edit.Split
		if keep {
			want.OverrideKey = keyed.OverrideKey
		}
		if got := made(t)(s.Update(change(3), edit, []string{release.FieldSplit})).Split; got != want {
			t.Errorf("keep %v: got %+v, want %+v", keep, got, want)
		}
		if got := made(t)(s.Update(change(3), edit, []string{release.FieldDescription})).Split; got != keyed {
			t.Errorf("keep %v, split not named: got %+v", keep, got)
		}
	}
}

func TestDeployTargets(t *testing.T) {
	tests := []struct {
		target       release.Target
		canary       bool
		base, onTest uint64
	}{
		{release.TargetAuto, false, 5, 0},
		{release.TargetBase, false, 5, 0},
		{release.TargetAuto, true, 1, 5},
		{release.TargetBase, true, 5, 2},
		{release.TargetCanary, true, 1, 5},
	}
	for _, tt := range tests {
		s := baseStage()
		if tt.canary {
			s = canaryStage(t)
		}
		got := made(t)(s.Deploy(change(3), 5, tt.target))
		var onTest uint64
		if c := got.Config.Canary; c != nil {
			onTest = c.Deployment
			if c.PartsPerMillion != 100_000 || c.Salt != 77 || !c.StartTime.Equal(change(2).Time) || len(c.Overrides) != 2 {
				t.Errorf("target %d: the canary became %+v", tt.target, c)
			}
		}
		if got.Config.Deployment != tt.base || onTest != tt.onTest {
			t.Errorf("target %d, canary %v: base %d and canary %d, want %d and %d",
				tt.target, tt.canary, got.Config.Deployment, onTest, tt.base, tt.onTest)
		}
	}
}

func second(_ *release.Stage, err error) error { return err }

func TestUses(t *testing.T) {
	s := canaryStage(t)                                                         // base 1, canary 2
	s = made(t)(s.StartCanary(change(3), release.Canary{Deployment: 3}, true))  // canary 2 is in the history only
	s = made(t)(s.AbortCanary(change(4)))                                       // and so is 3
	s = made(t)(s.Deploy(change(5), 4, release.TargetAuto))                     // and so is 1
	s = made(t)(s.StartCanary(change(6), release.Canary{Deployment: 5}, false)) // base 4, canary 5
	for d := uint64(0); d <= 6; d++ {
		if got, want := s.Uses(d), d >= 1 && d <= 5; got != want {
			t.Errorf("Uses(%d) = %v", d, got)
		}
	}
}

func TestLive(t *testing.T) {
	check := func(s *release.Stage, want ...uint64) {
		t.Helper()
		if got := s.Live(); !slices.Equal(got, want) {
			t.Errorf("revision %d: live %v, want %v", s.Revision, got, want)
		}
	}
	s := baseStage()
	check(s, 1)
	s = made(t)(s.StartCanary(change(2), release.Canary{}, false)) // of the stage's own deployment
	check(s, 1)
	s = made(t)(s.Deploy(change(3), 2, release.TargetAuto))
	check(s, 1, 2)
	s = made(t)(s.PromoteCanary(change(4), false, false))
	check(s, 2, 1) // 1 is what a rollback restores
	s = made(t)(s.StartCanary(change(5), release.Canary{Deployment: 3}, false))
	check(s, 2, 3, 1)
	s = made(t)(s.PromoteCanary(change(6), false, false))
	check(s, 3, 2)
	s = made(t)(s.Update(change(7), release.StageValues{Variables: vars("x", "y")}, []string{release.FieldVariables}))
	check(s, 3) // the base before the last change of it is of the same deployment
}
