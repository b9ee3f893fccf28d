package route

import (
	"strings"
	"testing"
)

// TestNoAllocations holds the data path to its promise, on its slow branches
// too: folded hosts, escaped segments, backtracking.
func TestNoAllocations(t *testing.T) {
	long := strings.Repeat("long-segment-", 60)
	table := compile(t, Spec{
		APIs: []APISpec{{ID: "demo", Hosts: []string{"api.a-rather-long-name-of-a-host.example.com"}}, {ID: "other"}},
		Deployments: []*Deployment{deployment(t, 1,
			"GET /a/{b}/c/{d}", "POST /a/x/c/y", "GET /files/{path+}", "GET /"+long)},
		Stages: []StageSpec{{API: "demo", ID: "production-stage-with-a-long-name", Deployment: 1,
			Canary: &CanarySpec{Deployment: 1, PartsPerMillion: 500_000, Salt: 42}}},
	})
	const stage = "/production-stage-with-a-long-name"
	s, _, _ := table.Lookup("demo.localhost", stage, "")
	var p Params
	match := func(path string) func() {
		return func() {
			if s.Base().Match("GET", path, &p) == nil {
				t.Fatalf("%s did not match", path)
			}
		}
	}
	lookup := func(host, path string) func() {
		return func() {
			if _, _, ok := table.Lookup(host, path, "demo"); !ok {
				t.Fatalf("%s%s has no stage", host, path)
			}
		}
	}
	tests := map[string]func(){
		"Lookup":                lookup("api.a-rather-long-name-of-a-host.example.com", stage+"/x"),
		"Lookup, host folded":   lookup("API.a-rather-long-name-of-a-host.EXAMPLE.com:8443", stage),
		"Lookup, API label":     lookup("demo.execute-api.a-rather-long-name-of-a-host.example.com", stage),
		"Lookup, default API":   lookup("192.0.2.1:8080", stage+"/"),
		"Lookup, escaped stage": lookup("demo.localhost", strings.ReplaceAll(stage, "o", "%6f")),
		"Lookup, no such stage": func() { table.Lookup("demo.localhost", "/none/x", "") },
		"Pick":                  func() { s.Pick(1 << 63) },
		"Hash":                  func() { s.Hash("user-1") },
		"Hash, long key":        func() { s.Hash(long) },
		"Match, backtracking":   match("/a/x/c/y"),
		"Match, greedy":         match("/files/1/2/3"),
		"Match, escaped":        match("/%61/x/%63/y"),
		"Match, long escaped":   match("/" + strings.ReplaceAll(long, "-", "%2d")),
		"Match, none":           func() { s.Base().Match("DELETE", "/a/x/c/y", &p) },
		"Params":                func() { p.Get("path"); p.Len() },
	}
	for name, f := range tests {
		if got := testing.AllocsPerRun(100, f); got != 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}

func TestConstantTemplateDoesNotAllocate(t *testing.T) {
	constant, err := parseTemplate("http://upstream.example/x")
	if err != nil {
		t.Fatal(err)
	}
	if got := testing.AllocsPerRun(100, func() { _, _ = constant.Expand(nil, nil) }); got != 0 {
		t.Errorf("constant: %v allocations", got)
	}
	holes, err := parseTemplate("http://${stageVariables.a}/${stageVariables.b}")
	if err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{"a": "upstream.example", "b": "x"}
	if got := testing.AllocsPerRun(100, func() { _, _ = holes.Expand(vars, nil) }); got != 1 {
		t.Errorf("with holes: %v allocations, want 1", got)
	}
}
