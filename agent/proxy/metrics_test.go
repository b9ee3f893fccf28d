package proxy

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fifegateway/fife/agent/route"
)

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	up := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }))
	table := compileRoutes(t, stage(nil), nil, []route.RouteSpec{
		{Method: "GET", Path: "/mock", Integration: route.MockSpec{}},
		{Method: "GET", Path: "/http", Integration: route.HTTPSpec{URI: up.URL}},
		{Method: "GET", Path: "/unset", Integration: route.HTTPSpec{URI: "http://${stageVariables.host}/"}},
	})
	p := newProxy(t, table, func(c *Config) { c.Registerer = registry })
	for _, path := range []string{"/prod/mock", "/prod/mock", "/prod/http", "/prod/unset", "/made-up-1", "/made-up-2"} {
		get(p, path)
	}
	for series, want := range map[string]float64{
		`fife_agent_requests_total api="" code="4xx" stage="" variant=""`:             2,
		`fife_agent_requests_total api="" code="2xx" stage="" variant=""`:             0,
		`fife_agent_requests_total api="demo" code="2xx" stage="prod" variant="base"`: 2,
		`fife_agent_requests_total api="demo" code="4xx" stage="prod" variant="base"`: 1,
		`fife_agent_requests_total api="demo" code="5xx" stage="prod" variant="base"`: 1,
		`fife_agent_unset_variables_total api="demo" stage="prod" variant="base"`:     1,
		`fife_agent_request_duration_seconds api="demo" stage="prod" variant="base"`:  4,
		`fife_agent_request_duration_seconds api="" stage="" variant=""`:              2,
	} {
		if got, ok := gather(t, registry)[series]; !ok || got != want {
			t.Errorf("%s: got %v, want %v", series, got, want)
		}
	}
	if n := len(gather(t, registry)); n != 2*(5+1+1)+2+3 {
		t.Errorf("%d series for a stage, for no stage and for the agent", n)
	}
	if _, err := New(Config{Table: p.table, Registerer: registry}); err == nil {
		t.Error("metrics registered twice")
	}
}

func TestMetricsAreBounded(t *testing.T) {
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := range maxSeries {
				m.get(seriesKey{"demo", fmt.Sprintf("stage-%d-%d", worker, i), "base"}).requests[2].Inc()
			}
		})
	}
	group.Wait()
	if n := len(*m.series.Load()); n != maxSeries+1 {
		t.Errorf("%d series, want %d and one for the others", n, maxSeries)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.requests)
	if got := gather(t, registry)[`fife_agent_requests_total api="other" code="2xx" stage="other" variant="other"`]; got != 3*maxSeries {
		t.Errorf("others: %v requests, want %d", got, 3*maxSeries)
	}
}

// gather returns the values of counters, and the counts of histograms, by name
// and labels.
func gather(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := family.GetName()
			for _, label := range metric.GetLabel() {
				name += fmt.Sprintf(" %s=%q", label.GetName(), label.GetValue())
			}
			values[name] = metric.GetCounter().GetValue() + float64(metric.GetHistogram().GetSampleCount())
		}
	}
	return values
}
