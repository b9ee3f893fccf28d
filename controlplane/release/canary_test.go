package release_test

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/fifegateway/fife/controlplane/release"
)

func TestPartsPerMillion(t *testing.T) {
	tests := []struct {
		percent float64
		want    uint32
		ok      bool
	}{
		{0, 0, true},
		{math.Copysign(0, -1), 0, true},
		{0.0001, 1, true},
		{0.29, 2900, true}, // 0.29 * 10,000 is less than 2,900 in floating point
		{33.3333, 333_333, true},
		{50, 500_000, true},
		{99.9999, 999_999, true},
		{100, 1_000_000, true},
		{100.0001, 0, false},
		{math.Nextafter(100, 101), 0, false},
		{-0.0001, 0, false},
		{-math.SmallestNonzeroFloat64, 0, false},
		{1e300, 0, false},
		{math.NaN(), 0, false},
		{math.Inf(1), 0, false},
		{math.Inf(-1), 0, false},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.percent), func(t *testing.T) {
			var v release.Violations
			got := release.PartsPerMillion(&v, "canary.percent", tt.percent)
			if got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
			if tt.ok {
				wantFault(t, v, fault{})
			} else {
				wantFault(t, v, fault{"canary.percent", "must lie between 0 and 100"})
			}
		})
	}
}

// TestPercentRoundTrip: every share that can be kept is shown as a percent that
// gives the same share again.
func TestPercentRoundTrip(t *testing.T) {
	for ppm := range uint32(1_000_001) {
		var v release.Violations
		if got := release.PartsPerMillion(&v, "", release.Percent(ppm)); got != ppm || len(v) > 0 {
			t.Fatalf("%d became %v %% and then %d, %v", ppm, release.Percent(ppm), got, v)
		}
	}
}

func TestStartCanary(t *testing.T) {
	overrides := vars("b", "2")
	tests := map[string]struct {
		canary release.Canary
		want   uint64
	}{
		"named deployment":        {release.Canary{Deployment: 2, PartsPerMillion: 5, Overrides: overrides, Salt: 3}, 2},
		"the stage's own":         {release.Canary{PartsPerMillion: 5, Overrides: overrides, Salt: 3}, 1},
		"its start time is given": {release.Canary{Deployment: 2, PartsPerMillion: 5, Overrides: overrides, Salt: 3, StartTime: change(99).Time}, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := made(t)(baseStage().StartCanary(change(2), tt.canary, false))
			want := &release.Canary{
				Deployment: tt.want, PartsPerMillion: 5, Overrides: overrides, Salt: 3, StartTime: change(2).Time,
			}
			if !reflect.DeepEqual(s.Config.Canary, want) {
				t.Errorf("got %+v, want %+v", s.Config.Canary, want)
			}
			if s.Config.Deployment != 1 || !reflect.DeepEqual(s.Config.Variables, vars("a", "1", "b", "1")) {
				t.Errorf("the base became %+v", s.Config)
			}
		})
	}
}

// TestReplaceCanary: nothing of the old canary is left, its salt least of all.
func TestReplaceCanary(t *testing.T) {
	s := made(t)(canaryStage(t).StartCanary(change(3), release.Canary{Deployment: 3, Salt: 78}, true))
	want := &release.Canary{Deployment: 3, Salt: 78, StartTime: change(3).Time}
	if !reflect.DeepEqual(s.Config.Canary, want) {
		t.Errorf("got %+v, want %+v", s.Config.Canary, want)
	}
}

// TestUpdateCanary: each field is taken if it is named, and only then; salt and
// start time stay, so that a higher percent only adds keys.
func TestUpdateCanary(t *testing.T) {
	old := canaryStage(t)
	values := release.Canary{
		Deployment: 9, PartsPerMillion: 900_000, Overrides: vars("z", "9"), Salt: 99, StartTime: change(99).Time,
	}
	expect := map[string]func(*release.Canary){
		release.FieldDeployment:        func(c *release.Canary) { c.Deployment = 9 },
		release.FieldPercent:           func(c *release.Canary) { c.PartsPerMillion = 900_000 },
		release.FieldSecretOverrides:   func(*release.Canary) {}, // there are none
		release.FieldVariableOverrides: func(c *release.Canary) { c.Overrides = values.Overrides },
	}
	check := func(fields ...string) {
		t.Helper()
		want := *old.Config.Canary
		for _, f := range fields {
			expect[f](&want)
		}
		got := made(t)(old.UpdateCanary(change(3), values, fields))
		if !reflect.DeepEqual(got.Config.Canary, &want) {
			t.Errorf("fields %v: got %+v, want %+v", fields, got.Config.Canary, want)
		}
	}
	check()
	for _, f := range release.CanaryFields() {
		check(f)
	}
	check(release.CanaryFields()...)
}

func TestAbortCanary(t *testing.T) {
	s := made(t)(canaryStage(t).AbortCanary(change(3)))
	if !reflect.DeepEqual(s.Config, baseStage().Config) {
		t.Errorf("got %+v", s.Config)
	}
}

// TestPromoteCanary: overrides win and may add names; with keep the canary stays
// at 0 % with its deployment and salt, as Amazon API Gateway leaves it.
func TestPromoteCanary(t *testing.T) {
	merged := vars("a", "1", "b", "2", "c", "2")
	s := made(t)(canaryStage(t).PromoteCanary(change(3), false, false))
	if want := (release.Config{Deployment: 2, Variables: merged}); !reflect.DeepEqual(s.Config, want) {
		t.Errorf("got %+v, want %+v", s.Config, want)
	}
	s = made(t)(canaryStage(t).PromoteCanary(change(3), true, false))
	want := release.Config{Deployment: 2, Variables: merged, Canary: &release.Canary{
		Deployment: 2, Salt: 77, StartTime: change(2).Time,
	}}
	if !reflect.DeepEqual(s.Config, want) {
		t.Errorf("keep: got %+v with %+v, want %+v", s.Config, s.Config.Canary, want)
	}
}

func TestRollback(t *testing.T) {
	s := made(t)(canaryStage(t).PromoteCanary(change(3), false, false)) // revision 3: deployment 2, overrides merged
	check := func(s *release.Stage, deployment uint64, variables map[string]string) {
		t.Helper()
		if s.Config.Deployment != deployment || !reflect.DeepEqual(s.Config.Variables, variables) {
			t.Fatalf("revision %d serves %d with %v", s.Revision, s.Config.Deployment, s.Config.Variables)
		}
	}
	old, promoted := vars("a", "1", "b", "1"), vars("a", "1", "b", "2", "c", "2")
	check(s, 2, promoted)
	back := made(t)(s.Rollback(change(4), 0))
	check(back, 1, old)
	check(made(t)(back.Rollback(change(5), 0)), 2, promoted) // a second one undoes the first
	check(made(t)(back.Rollback(change(5), 3)), 2, promoted)
	check(made(t)(back.Rollback(change(5), 4)), 1, old) // to what it serves now

	// A change of the canary is none of the base: the default looks behind it.
	s = made(t)(s.StartCanary(change(4), release.Canary{Deployment: 3, PartsPerMillion: 7, Salt: 9}, false))
	s = made(t)(s.UpdateCanary(change(5), release.Canary{PartsPerMillion: 8}, []string{release.FieldPercent}))
	s = made(t)(s.Rollback(change(6), 0))
	check(s, 1, old)
	if c := s.Config.Canary; c == nil || c.Deployment != 3 || c.PartsPerMillion != 8 || c.Salt != 9 {
		t.Errorf("the canary became %+v", c)
	}
	// An old revision's canary does not come back with its base.
	s = made(t)(s.AbortCanary(change(7)))
	s = made(t)(s.Rollback(change(8), 2))
	check(s, 1, old)
	if s.Config.Canary != nil {
		t.Errorf("revision 2's canary came back: %+v", s.Config.Canary)
	}
}

// TestMergedVariableLimit: what could not be promoted cannot be started, changed
// or rolled back to either.
func TestMergedVariableLimit(t *testing.T) {
	full := release.NewStage(change(1), "demo", "prod", release.StageValues{Deployment: 1, Variables: manyVars("a", 100)})
	few := made(t)(full.Update(change(2), release.StageValues{Variables: manyVars("a", 60)}, []string{release.FieldVariables}))
	tried := made(t)(few.StartCanary(change(3), release.Canary{Overrides: manyVars("b", 40)}, false))
	if n := len(made(t)(tried.PromoteCanary(change(4), false, false)).Config.Variables); n != 100 {
		t.Errorf("promoted %d variables, want 100", n)
	}
	overrides := []string{release.FieldVariableOverrides}
	for name, err := range map[string]error{
		"StartCanary":  second(few.StartCanary(change(4), release.Canary{Overrides: manyVars("b", 41)}, false)),
		"UpdateCanary": second(tried.UpdateCanary(change(4), release.Canary{Overrides: manyVars("b", 41)}, overrides)),
		"Update":       second(tried.Update(change(4), release.StageValues{Variables: manyVars("a", 61)}, []string{release.FieldVariables})),
		"Rollback":     second(tried.Rollback(change(4), 0)),
		"Rollback to":  second(tried.Rollback(change(4), 1)),
	} {
		r := wantRefusal(t, err, release.LimitReached)
		if !strings.Contains(r.Message, "variables with its canary's overrides, at most 100") || r.Metadata["limit"] != "100" {
			t.Errorf("%s: %v, %v", name, r, r.Metadata)
		}
	}
	// Overrides of the same names do not count twice.
	made(t)(full.StartCanary(change(4), release.Canary{Overrides: manyVars("a", 100)}, false))
}
