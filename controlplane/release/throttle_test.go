package release_test

import (
	"math"
	"testing"

	"github.com/fifegateway/fife/controlplane/release"
)

func TestNewThrottle(t *testing.T) {
	tests := map[string]struct {
		rate               float64
		burst, concurrency int32
		want               release.Throttle
		fault              fault
	}{
		"nothing":            {},
		"all":                {rate: 100, burst: 200, concurrency: 50, want: release.Throttle{Millirate: 100_000, Burst: 200, Concurrency: 50}},
		"concurrency alone":  {concurrency: 1, want: release.Throttle{Concurrency: 1}},
		"rate alone":         {rate: 2.5, want: release.Throttle{Millirate: 2500}},
		"lowest":             {rate: 0.001, burst: 1, concurrency: 1, want: release.Throttle{Millirate: 1, Burst: 1, Concurrency: 1}},
		"highest":            {rate: 1e6, burst: 1e6, concurrency: 1e6, want: release.Throttle{Millirate: 1e9, Burst: 1e6, Concurrency: 1e6}},
		"no binary fraction": {rate: 0.29, want: release.Throttle{Millirate: 290}},
		"rounded":            {rate: 33.3333, want: release.Throttle{Millirate: 33_333}},

		"rounds to none":    {rate: 0.0004, fault: fault{"t.rate_limit", "0.0004 must be 0"}},
		"rate too high":     {rate: 1_000_000.1, fault: fault{"t.rate_limit", "1000000"}},
		"rate below 0":      {rate: -1, fault: fault{"t.rate_limit", "-1"}},
		"rate not a number": {rate: math.NaN(), fault: fault{"t.rate_limit", "NaN"}},
		"rate infinite":     {rate: math.Inf(1), fault: fault{"t.rate_limit", "Inf"}},
		"burst below 0":     {rate: 1, burst: -1, want: release.Throttle{Millirate: 1000}, fault: fault{"t.burst_limit", "-1"}},
		"burst too high":    {rate: 1, burst: 1e6 + 1, want: release.Throttle{Millirate: 1000}, fault: fault{"t.burst_limit", "1000001"}},
		"burst alone":       {burst: 5, fault: fault{"t.burst_limit", "rate_limit"}},
		"too many at once":  {concurrency: 1e6 + 1, fault: fault{"t.concurrency_limit", "1000001"}},
		"at once below 0":   {concurrency: -1, fault: fault{"t.concurrency_limit", "-1"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var v release.Violations
			got := release.NewThrottle(&v, "t", tt.rate, tt.burst, tt.concurrency)
			wantFault(t, v, tt.fault)
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if rate := float64(tt.want.Millirate) / 1000; got.Rate() != rate {
				t.Errorf("its rate is %v, want %v", got.Rate(), rate)
			}
		})
	}
}

func TestThrottleBucketAndText(t *testing.T) {
	for _, tt := range []struct {
		throttle release.Throttle
		bucket   uint32
		text     string
	}{
		{release.Throttle{}, 0, "none"},
		{release.Throttle{Concurrency: 3}, 0, "3 at once"},
		{release.Throttle{Millirate: 2500}, 3, "2.5/s in bursts of 3"},
		{release.Throttle{Millirate: 1}, 1, "0.001/s in bursts of 1"},
		{release.Throttle{Millirate: 1e9}, 1e6, "1000000/s in bursts of 1000000"},
		{release.Throttle{Millirate: 100_000, Burst: 200, Concurrency: 50}, 200, "100/s in bursts of 200, 50 at once"},
	} {
		if got := tt.throttle.Bucket(); got != tt.bucket {
			t.Errorf("%+v: a bucket of %d, want %d", tt.throttle, got, tt.bucket)
		}
		if got := tt.throttle.String(); got != tt.text {
			t.Errorf("%+v: got %q, want %q", tt.throttle, got, tt.text)
		}
	}
}

// TestThrottleIsASetting: the history notes a throttle that changes, and neither a
// promotion nor a rollback touches it.
func TestThrottleIsASetting(t *testing.T) {
	limits := release.Throttle{Millirate: 100_000, Burst: 200, Concurrency: 50}
	field := []string{release.FieldThrottle}
	s := made(t)(canaryStage(t).Update(change(3), release.StageValues{Throttle: limits}, field))
	note := func() string { return s.History[len(s.History)-1].Change.Note }
	if want := "throttle none -> 100/s in bursts of 200, 50 at once"; note() != want {
		t.Errorf("the history notes %q, want %q", note(), want)
	}
	s = made(t)(s.Update(change(4), release.StageValues{Throttle: limits, Description: "d"}, []string{release.FieldThrottle, release.FieldDescription}))
	if note() != "" {
		t.Errorf("the throttle is as it was, and the history notes %q", note())
	}
	for what, move := range map[string]move{
		"promote":       func(s *release.Stage) (*release.Stage, error) { return s.PromoteCanary(change(5), false, false) },
		"abort":         func(s *release.Stage) (*release.Stage, error) { return s.AbortCanary(change(5)) },
		"rollback":      func(s *release.Stage) (*release.Stage, error) { return s.Deploy(change(5), 7, release.TargetBase) },
		"rollback to 1": func(s *release.Stage) (*release.Stage, error) { return s.Rollback(change(5), 1) },
	} {
		moved := made(t)(move(s))
		if what == "rollback" {
			moved = made(t)(moved.Rollback(change(6), 0))
		}
		if moved.Throttle != limits {
			t.Errorf("%s has left %v", what, moved.Throttle)
		}
	}
	s = made(t)(s.Update(change(7), release.StageValues{}, field))
	if want := "throttle 100/s in bursts of 200, 50 at once -> none"; note() != want || s.Throttle != (release.Throttle{}) {
		t.Errorf("got %v, noted as %q, want %q", s.Throttle, note(), want)
	}
}
