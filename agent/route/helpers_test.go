package route

import (
	"strings"
	"testing"
)

// mock is an integration that says which route it belongs to.
func mock(body string) IntegrationSpec { return MockSpec{Body: body} }

// deployment compiles routes written as "GET /path", each answered by a mock
// whose body is the route itself.
func deployment(t testing.TB, number uint64, routes ...string) *Deployment {
	t.Helper()
	spec := DeploymentSpec{API: "demo", Number: number}
	for _, r := range routes {
		method, path, _ := strings.Cut(r, " ")
		spec.Routes = append(spec.Routes, RouteSpec{Method: method, Path: path, Integration: mock(r)})
	}
	d, err := CompileDeployment(spec)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func compile(t testing.TB, spec Spec) *Table {
	t.Helper()
	table, err := Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// variant is the base of a stage that serves routes.
func variant(t testing.TB, routes ...string) *Variant {
	return &Variant{Name: "base", Deployment: deployment(t, 1, routes...)}
}

// canaryStage is a stage of API demo with base 1 and canary 2 at a share.
func canaryStage(t testing.TB, ppm uint32, salt uint64) *Stage {
	t.Helper()
	table := compile(t, Spec{
		APIs:        []APISpec{{ID: "demo"}},
		Deployments: []*Deployment{deployment(t, 1, "GET /"), deployment(t, 2, "GET /")},
		Stages: []StageSpec{{
			API: "demo", ID: "prod", Deployment: 1,
			Canary: &CanarySpec{Deployment: 2, PartsPerMillion: ppm, Salt: salt},
		}},
	})
	s, _, ok := table.Lookup("", "/prod", "")
	if !ok {
		t.Fatal("stage prod is not in the table")
	}
	return s
}

// render writes a match as the tests compare it: the route, then its
// parameters.
func render(r *Route, p *Params) string {
	if r == nil {
		return "none"
	}
	out := r.Method + " " + r.Path
	for i := range p.Len() {
		name, value := p.At(i)
		out += " " + name + "=" + value
	}
	return out
}
