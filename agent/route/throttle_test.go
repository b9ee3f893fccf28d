package route

import (
	"testing"
	"time"
)

func TestCompileThrottle(t *testing.T) {
	for _, tt := range []struct {
		spec ThrottleSpec
		want Throttle
	}{
		{ThrottleSpec{}, Throttle{}},
		{ThrottleSpec{Concurrency: 7}, Throttle{Concurrency: 7}},
		{ThrottleSpec{Millirate: 100_000, Burst: 200}, Throttle{Interval: 10 * time.Millisecond, Depth: 2 * time.Second}},
		{ThrottleSpec{Millirate: 3000, Burst: 1}, Throttle{Interval: 333_333_333, Depth: 333_333_333}},
		{ThrottleSpec{Millirate: 1, Burst: 1e6}, Throttle{Interval: 1000 * time.Second, Depth: 1e9 * time.Second}},
		{ThrottleSpec{Millirate: 1e9, Burst: 1e6, Concurrency: 1e6}, Throttle{Interval: time.Microsecond, Depth: time.Second, Concurrency: 1e6}},
	} {
		table := compile(t, Spec{
			APIs: []APISpec{{ID: "demo"}}, Deployments: []*Deployment{deployment(t, 1, "GET /")},
			Stages: []StageSpec{{API: "demo", ID: "prod", Deployment: 1, Throttle: tt.spec, Next: &ConfigSpec{Deployment: 1}, Promotion: 7}},
		})
		s, _, _ := table.Lookup("demo.localhost", "/prod", "")
		if s.Throttle != tt.want || s.At(7).Throttle != tt.want {
			t.Errorf("%+v: got %+v, next %+v, want %+v", tt.spec, s.Throttle, s.At(7).Throttle, tt.want)
		}
	}
}
