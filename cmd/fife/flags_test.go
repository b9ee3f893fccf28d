package main

import (
	"math"
	"testing"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func TestPercent(t *testing.T) {
	for text, want := range map[string]float64{
		"0": 0, "50": 50, "12.5": 12.5, "50%": 50, "12.5 %": 12.5, "100": 100, "100.0%": 100, "0.0001": 0.0001, "1e1": 10,
	} {
		var p percentFlag
		if err := p.Set(text); err != nil || float64(p) != want {
			t.Errorf("%q is %v, %v; want %v", text, p, err, want)
		}
	}
	for _, text := range []string{"", "%", "-1", "-0.0001", "100.0001", "101", "NaN", "nan%", "Inf", "-Inf", "half", "50%%", "1,5", "1e999"} {
		var p percentFlag
		if err := p.Set(text); err == nil {
			t.Errorf("%q is taken as %v", text, p)
		}
	}
}

func FuzzPercent(f *testing.F) {
	for _, seed := range []string{"50", "12.5%", "NaN", "-0", "0x1p3", "100.00000000000001"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var p percentFlag
		if err := p.Set(text); err != nil {
			return
		}
		if v := float64(p); math.IsNaN(v) || v < 0 || v > 100 {
			t.Fatalf("%q is taken as %v", text, v)
		}
		var again percentFlag
		if err := again.Set(p.String()); err != nil || again != p {
			t.Fatalf("%q reads back as %v, %v", p.String(), again, err)
		}
	})
}

func TestSticky(t *testing.T) {
	for text, want := range map[string]string{
		"header:X-User": "header:X-User", "cookie:a:b": "cookie:a:b", "query:user": "query:user", "client-ip": "client-ip", "none": "",
	} {
		s := stickyFlag{key: &fifev1.StickyKey{}}
		if err := s.Set(text); err != nil || s.String() != want {
			t.Errorf("%q is %q, %v", text, s.String(), err)
		}
	}
	for _, text := range []string{"", "header", "header:", "cookie:", "query:", "client-ip:x", "ip"} {
		if err := (&stickyFlag{}).Set(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestArguments(t *testing.T) {
	for _, c := range []struct {
		kind, arg string
		ok        bool
	}{
		{"API", "demo", true}, {"[API]", "demo", true}, {"API", "", false}, {"API", "a/b", false}, {"API", "a b", false}, {"API", "-", true},
		{"API/STAGE", "demo/canary", true}, {"API/STAGE", "demo", false}, {"API/STAGE", "/canary", false}, {"API/STAGE", "demo/", false},
		{"API/STAGE", "a/b/c", false}, {"API/STAGE", "apis/demo/stages/canary", false}, {"API/STAGE", "a/b ", false},
		{"API/N", "demo/3", true}, {"API/N", "demo/0", false}, {"API/N", "demo/-1", false}, {"API/N", "demo/x", false}, {"API/N", "demo", false},
		{"API/N", "3", false}, {"API/N", "/3", false}, {"API/N", "demo/99999999999999999999", false},
		{"PATH", "/", true}, {"PATH", "/a/{id}", true}, {"PATH", "a", false}, {"PATH", "", false},
		{"METHOD", "anything", true},
	} {
		if err := checkArgument(c.kind, c.arg); (err == nil) != c.ok {
			t.Errorf("%s %q: %v", c.kind, c.arg, err)
		}
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		stageName("demo/canary"):           "apis/demo/stages/canary",
		deploymentName("demo/3"):           "apis/demo/deployments/3",
		deploymentOf("demo/canary", 3):     "apis/demo/deployments/3",
		deploymentOf("demo/canary", 0):     "",
		short("apis/demo/stages/canary"):   "demo/canary",
		short("agents/edge-1"):             "edge-1",
		short("example.com"):               "example.com",
		number("apis/demo/deployments/12"): "12",
		versionText(nil):                   "",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
