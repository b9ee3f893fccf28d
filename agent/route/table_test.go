package route

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestLookup(t *testing.T) {
	d := func(api string) *Deployment {
		d := deployment(t, 1, "GET /")
		d.API = api
		return d
	}
	two := compile(t, Spec{
		Version:     Version{1, 42},
		APIs:        []APISpec{{ID: "demo", Hosts: []string{"api.example.com", "Mixed.Example.com"}}, {ID: "shop"}},
		Deployments: []*Deployment{d("demo"), d("shop")},
		Stages: []StageSpec{
			{API: "demo", ID: "prod", Deployment: 1},
			{API: "shop", ID: "prod", Deployment: 1},
			{API: "shop", ID: "Test_2", Deployment: 1},
		},
	})
	one := compile(t, Spec{
		APIs:        []APISpec{{ID: "demo"}},
		Deployments: []*Deployment{d("demo")},
		Stages:      []StageSpec{{API: "demo", ID: "prod", Deployment: 1}},
	})
	empty := new(Table)
	long := strings.Repeat("x", 300)
	tests := []struct {
		table                  *Table
		host, path, defaultAPI string
		want                   string // API/STAGE REST, or none
	}{
		{two, "api.example.com", "/prod/a/b", "", "demo/prod /a/b"},
		{two, "api.example.com", "/prod", "", "demo/prod /"},
		{two, "api.example.com", "/prod/", "", "demo/prod /"},
		{two, "api.example.com", "/prod//", "", "demo/prod //"},
		{two, "api.example.com", "/prod/a/", "", "demo/prod /a/"},
		{two, "api.example.com", "/", "", "none"},
		{two, "api.example.com", "", "", "none"},
		{two, "api.example.com", "*", "", "none"},
		{two, "api.example.com", "//prod/a", "", "none"},
		{two, "api.example.com", "/none/a", "", "none"},
		{two, "api.example.com", "/PROD/a", "", "none"},
		{two, "api.example.com", "/%70rod/%61", "", "demo/prod /%61"},
		{two, "api.example.com", "/prod%2Fa", "", "none"},
		{two, "api.example.com", "/prod%", "", "none"},
		{two, "api.example.com", "/%" + long, "", "none"},
		// The host is compared without case, port and last dot.
		{two, "API.Example.COM:8443", "/prod", "", "demo/prod /"},
		{two, "mixed.example.com.", "/prod", "", "demo/prod /"},
		{two, "Mixed.Example.com", "/prod", "", "demo/prod /"},
		// The first label names the API only under these two.
		{two, "shop.localhost", "/Test_2/x", "", "shop/Test_2 /x"},
		{two, "SHOP.localhost:8080", "/Test_2/x", "", "shop/Test_2 /x"},
		{two, "shop.execute-api.eu-west-1.amazonaws.com", "/prod", "", "shop/prod /"},
		{two, "shop.execute-api.internal:80", "/prod", "", "shop/prod /"},
		{two, "shop.example.com", "/prod", "", "none"},
		{two, "shop.localhost.example.com", "/prod", "", "none"},
		{two, "shop.execute-apis.example.com", "/prod", "", "none"},
		{two, "shop", "/prod", "", "none"},
		// A path may name the API, whatever the host.
		{two, "api.example.com", "/_aws/execute-api/shop/prod/a/b", "", "shop/prod /a/b"},
		{two, "192.0.2.1", "/_aws/execute-api/shop/prod", "", "shop/prod /"},
		{two, "api.example.com", "/_aws/execute-api/none/prod", "shop", "none"},
		{two, "api.example.com", "/_aws/execute-api/shop", "shop", "none"},
		{two, "api.example.com", "/_aws/execute-api/", "shop", "none"},
		{two, "api.example.com", "/_aws/execute-api//prod", "shop", "none"},
		{one, "192.0.2.1", "/_aws/execute-apis/demo/prod", "", "none"},
		// Others fall to the default.
		{two, "192.0.2.1:8080", "/prod", "shop", "shop/prod /"},
		{two, "[2001:db8::1]:8080", "/prod", "shop", "shop/prod /"},
		{two, "[2001:db8::1]", "/prod", "shop", "shop/prod /"},
		{two, "none.localhost", "/prod", "shop", "shop/prod /"},
		{two, "", "/prod", "shop", "shop/prod /"},
		{two, long, "/prod", "shop", "shop/prod /"},
		{two, "192.0.2.1", "/prod", "none", "none"},
		{two, "192.0.2.1", "/prod", "", "none"},
		{two, "api.example.com", "/Test_2", "shop", "none"},
		{one, "192.0.2.1", "/prod", "", "demo/prod /"},
		{one, "other.localhost", "/prod", "", "demo/prod /"},
		{one, "192.0.2.1", "/prod", "none", "none"},
		{empty, "192.0.2.1", "/prod", "", "none"},
		{empty, "demo.localhost", "/prod", "demo", "none"},
	}
	for _, tt := range tests {
		got := "none"
		if s, rest, ok := tt.table.Lookup(tt.host, tt.path, tt.defaultAPI); ok {
			got = s.API + "/" + s.Name + " " + rest
		}
		if got != tt.want {
			t.Errorf("Lookup(%.50q, %.50q, %q) = %s, want %s", tt.host, tt.path, tt.defaultAPI, got, tt.want)
		}
	}
	if two.Version() != (Version{1, 42}) || !empty.Version().IsZero() {
		t.Errorf("versions %v and %v", two.Version(), empty.Version())
	}
}

func TestStage(t *testing.T) {
	base, canary := deployment(t, 1, "GET /"), deployment(t, 2, "GET /")
	vars, overrides := map[string]string{"a": "1", "b": "1"}, map[string]string{"b": "2", "c": "2"}
	spec := Spec{
		APIs:        []APISpec{{ID: "demo"}},
		Deployments: []*Deployment{base, canary},
		Stages: []StageSpec{{
			API: "demo", ID: "prod", Deployment: 1, Variables: vars,
			Canary: &CanarySpec{Deployment: 2, PartsPerMillion: 10, Overrides: overrides, Salt: 9},
			Sticky: KeyHeader, StickyName: "x-user", AllowOverride: true, OverrideKey: "0123456789abcdef", ExposeHeaders: true,
		}},
	}
	table := compile(t, spec)
	vars["a"], overrides["b"] = "changed", "changed"
	s, _, _ := table.Lookup("", "/prod", "")
	if s.Sticky != KeyHeader || s.StickyName != "X-User" || !s.AllowOverride || s.OverrideKey != "0123456789abcdef" || !s.ExposeHeaders {
		t.Errorf("stage %+v", s)
	}
	if v := s.Base(); v.Name != "base" || v.Deployment != base || !maps.Equal(v.Variables, map[string]string{"a": "1", "b": "1"}) {
		t.Errorf("base %+v", v)
	}
	if v := s.Canary(); v.Name != "canary" || v.Deployment != canary || !maps.Equal(v.Variables, map[string]string{"a": "1", "b": "2", "c": "2"}) {
		t.Errorf("canary %+v", v)
	}
}

// TestCanaryWithoutDeployment: what cannot be reached gets nothing.
func TestCanaryWithoutDeployment(t *testing.T) {
	table := compile(t, Spec{
		APIs:        []APISpec{{ID: "demo"}},
		Deployments: []*Deployment{deployment(t, 1, "GET /")},
		Stages: []StageSpec{{API: "demo", ID: "prod", Deployment: 1,
			Canary: &CanarySpec{Deployment: 2, PartsPerMillion: million}}},
	})
	s, _, _ := table.Lookup("", "/prod", "")
	if s.Canary() != nil || s.Pick(0) != s.Base() {
		t.Error("a canary without deployment is not served by the base")
	}
}

func TestCompileRefuses(t *testing.T) {
	many := func(n int) map[string]string {
		m := make(map[string]string, n)
		for i := range n {
			m[fmt.Sprint("v", i)] = "1"
		}
		return m
	}
	valid := func() Spec {
		return Spec{
			APIs:        []APISpec{{ID: "demo", Hosts: []string{"a.example"}}, {ID: "shop"}},
			Deployments: []*Deployment{deployment(t, 1, "GET /")},
			Stages: []StageSpec{{API: "demo", ID: "prod", Deployment: 1, Variables: many(100),
				Canary: &CanarySpec{Deployment: 1, PartsPerMillion: million, Overrides: many(100)},
				Sticky: KeyQuery, StickyName: "user id"}},
		}
	}
	if _, err := Compile(valid()); err != nil {
		t.Fatal(err)
	}
	stage := func(change func(*StageSpec)) func(*Spec) { return func(s *Spec) { change(&s.Stages[0]) } }
	variable := func(name, value string) func(*Spec) {
		return stage(func(s *StageSpec) { s.Variables = map[string]string{name: value} })
	}
	sticky := func(source KeySource, name string) func(*Spec) {
		return stage(func(s *StageSpec) { s.Sticky, s.StickyName = source, name })
	}
	hosts := func(hosts ...string) func(*Spec) { return func(s *Spec) { s.APIs[1].Hosts = hosts } }
	tests := []struct {
		name   string
		change func(*Spec)
		want   string
	}{
		{"api id", func(s *Spec) { s.APIs[1].ID = "-shop" }, `api id "-shop"`},
		{"api id, long", func(s *Spec) { s.APIs[1].ID = strings.Repeat("a", 64) }, "1 to 63"},
		{"api twice", func(s *Spec) { s.APIs[1].ID = "demo" }, `api "demo": given twice`},
		{"host of another", hosts("A.example"), `host "a.example"`},
		{"host twice", hosts("b.example", "b.example"), `host "b.example"`},
		{"host with port", hosts("b.example:80"), `host "b.example:80"`},
		{"host, none", hosts(""), `host ""`},
		{"host, long", hosts(strings.Repeat("a", 254)), "without port"},
		{"hosts", hosts(make([]string, 21)...), "21 hosts"},
		{"deployment twice", func(s *Spec) { s.Deployments = append(s.Deployments, s.Deployments[0]) }, `api "demo", deployment 1: given twice`},
		{"stage twice", func(s *Spec) { s.Stages = append(s.Stages, s.Stages[0]) }, `stage "prod": given twice`},
		{"stage of no api", stage(func(s *StageSpec) { s.API = "none" }), `api "none", stage "prod": there is no such API`},
		{"stage id", stage(func(s *StageSpec) { s.ID = "a.b" }), `stage id "a.b"`},
		{"stage id, none", stage(func(s *StageSpec) { s.ID = "" }), `stage id ""`},
		{"stage id, long", stage(func(s *StageSpec) { s.ID = strings.Repeat("a", 65) }), "1 to 64"},
		{"base is missing", stage(func(s *StageSpec) { s.Deployment = 9 }), "deployment 9"},
		{"deployment of another api", func(s *Spec) { s.Deployments[0].API = "shop" }, "deployment 1"},
		{"share", stage(func(s *StageSpec) { s.Canary.PartsPerMillion = million + 1 }), "1000001 parts"},
		{"override", stage(func(s *StageSpec) { s.Canary.Overrides = map[string]string{"a": "b c"} }), `canary: variable "a": want a value`},
		{"variables", stage(func(s *StageSpec) { s.Variables = many(101) }), "101 variables"},
		{"variable name", variable("a-b", "1"), `variable "a-b"`},
		{"variable name, none", variable("", "1"), `variable ""`},
		{"variable name, long", variable(strings.Repeat("a", 65), "1"), "1 to 64"},
		{"variable value, none", variable("a", ""), "want a value"},
		{"variable value, long", variable("a", strings.Repeat("a", 513)), "1 to 512"},
		{"variable value, newline", variable("a", "b\n"), "want a value"},
		{"variable value, at", variable("a", "u@h"), "want a value"},
		{"sticky header", sticky(KeyHeader, ""), "header or cookie"},
		{"sticky header, character", sticky(KeyHeader, "a b"), `"a b"`},
		{"sticky cookie", sticky(KeyCookie, "a;b"), `"a;b"`},
		{"sticky query", sticky(KeyQuery, ""), "query parameter"},
		{"sticky name, long", sticky(KeyQuery, strings.Repeat("a", 129)), "query parameter"},
		{"sticky source", sticky(KeyClientIP+1, ""), "unknown source"},
		{"throttle, rate", stage(func(s *StageSpec) { s.Throttle = ThrottleSpec{Millirate: 1e9 + 1, Burst: 1} }), "1000000001"},
		{"throttle, burst", stage(func(s *StageSpec) { s.Throttle = ThrottleSpec{Millirate: 1, Burst: 1e6 + 1} }), "1000001"},
		{"throttle, no burst", stage(func(s *StageSpec) { s.Throttle = ThrottleSpec{Millirate: 1} }), "need each other"},
		{"throttle, no rate", stage(func(s *StageSpec) { s.Throttle = ThrottleSpec{Burst: 1} }), "need each other"},
		{"throttle, concurrency", stage(func(s *StageSpec) { s.Throttle = ThrottleSpec{Concurrency: 1e6 + 1} }), "1000001"},
		{"override key, short", stage(func(s *StageSpec) { s.OverrideKey = strings.Repeat("a", 15) }), "16 to 256"},
		{"override key, long", stage(func(s *StageSpec) { s.OverrideKey = strings.Repeat("a", 257) }), "16 to 256"},
		{"override key, control", stage(func(s *StageSpec) { s.OverrideKey = strings.Repeat("\t", 16) }), "16 to 256"},
	}
	for _, tt := range tests {
		spec := valid()
		tt.change(&spec)
		if _, err := Compile(spec); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %s", tt.name, err, tt.want)
		}
	}
}

// TestSecretStaysSecret: errors travel to operators and logs.
func TestSecretStaysSecret(t *testing.T) {
	_, err := Compile(Spec{
		APIs:   []APISpec{{ID: "demo"}},
		Stages: []StageSpec{{API: "demo", ID: "prod", Deployment: 1, OverrideKey: "hunter2"}},
	})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %v", err)
	}
}

func TestVariableValues(t *testing.T) {
	const all = "ABCXYZabcxyz0189-._~:/?#&=,"
	if err := checkVariables(map[string]string{"Name_1": all}); err != nil {
		t.Error(err)
	}
	for c := range 256 {
		want := slices.Contains([]byte("-._~:/?#&=,"), byte(c)) || isWord(byte(c))
		if got := checkVariables(map[string]string{"a": string([]byte{byte(c)})}) == nil; got != want {
			t.Errorf("character %q: accepted %v", byte(c), got)
		}
	}
}
