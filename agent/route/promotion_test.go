package route

import (
	"strings"
	"testing"
)

func promoting() Spec {
	return Spec{
		APIs: []APISpec{{ID: "demo"}},
		Stages: []StageSpec{{
			API: "demo", ID: "prod", Deployment: 1, Promoted: 30, Sticky: KeyHeader, StickyName: "x-user", FailClosed: true,
			Next:      &ConfigSpec{Deployment: 2, Variables: map[string]string{"a": "b"}, Canary: &CanarySpec{Deployment: 3, PartsPerMillion: million, Salt: 9}},
			Promotion: 40,
		}},
	}
}

// TestNext: the configuration held ready is the same stage with another base, canary,
// split and number, and only its own number leads there.
func TestNext(t *testing.T) {
	spec := promoting()
	spec.Deployments = []*Deployment{deployment(t, 1, "GET /"), deployment(t, 2, "GET /"), deployment(t, 3, "GET /")}
	s, _, _ := compile(t, spec).Lookup("", "/prod", "")
	if s.Promotion != 30 || s.Base().Deployment.Number != 1 || s.Canary() != nil {
		t.Errorf("own: %+v", s)
	}
	for _, n := range []uint64{0, 30, 41} {
		if s.At(n) != s {
			t.Errorf("number %d leads away", n)
		}
	}
	next := s.At(40)
	if next.Promotion != 40 || next.Name != "prod" || next.StickyName != "X-User" || !next.FailClosed ||
		next.Base().Deployment.Number != 2 || next.Base().Variables["a"] != "b" || next.Pick(1<<63).Deployment.Number != 3 ||
		next.Hash("x") == s.Hash("x") || next.At(40) != next {
		t.Errorf("next: %+v", next)
	}
	if got := testing.AllocsPerRun(100, func() { s.At(40).Pick(1) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
	spec.Stages[0].Promotion = 0
	if s, _, _ := compile(t, spec).Lookup("", "/prod", ""); s.At(0) != s {
		t.Error("a request without a number gets what is only held ready")
	}
}

func TestBadNext(t *testing.T) {
	for want, change := range map[string]func(*ConfigSpec){
		"deployment 7 of its base is missing": func(c *ConfigSpec) { c.Deployment = 7 },
		`variable "a-b"`:                      func(c *ConfigSpec) { c.Variables = map[string]string{"a-b": "c"} },
		"1000001 parts per million":           func(c *ConfigSpec) { c.Canary.PartsPerMillion = million + 1 },
		"canary: variable":                    func(c *ConfigSpec) { c.Canary.Overrides = map[string]string{"a": ""} },
	} {
		spec := promoting()
		spec.Deployments = []*Deployment{deployment(t, 1, "GET /"), deployment(t, 2, "GET /")}
		change(spec.Stages[0].Next)
		if _, err := Compile(spec); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "next configuration") {
			t.Errorf("got %v, want it to say %q of the next configuration", err, want)
		}
	}
}
