package proxy

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fifegateway/fife/agent/http1"
	"github.com/fifegateway/fife/agent/route"
)

// promoting is a stage whose promotion 40 leads from deployment 1 to 2, after 30.
func promoting(s *route.StageSpec) {
	s.ExposeHeaders, s.ConsistentClients = false, true
	s.Next, s.Promotion, s.Promoted = &route.ConfigSpec{Deployment: 2}, 40, 30
}

func TestConsistentClients(t *testing.T) {
	for name, tt := range map[string]struct {
		vary          func(*route.StageSpec)
		sent          string
		body, version string
	}{
		"nothing sent":          {promoting, "", "base", "1.42-30"},
		"own promotion":         {promoting, "1.41-30", "base", "1.42-30"},
		"open promotion":        {promoting, "1.44-40", "next", "1.42-40"},
		"other promotion":       {promoting, "1.44-41", "base", "1.42-30"},
		"other epoch":           {promoting, "2.44-40", "base", "1.42-30"},
		"version alone":         {promoting, "1.40", "base", "1.42-30"},
		"number alone":          {promoting, "40", "base", "1.42-30"},
		"garbage":               {promoting, "1.x-40", "base", "1.42-30"},
		"no number":             {promoting, "1.42-", "base", "1.42-30"},
		"zero":                  {func(s *route.StageSpec) { promoting(s); s.Promotion = 0 }, "1.42-0", "base", "1.42-30"},
		"not consistent":        {func(s *route.StageSpec) { promoting(s); s.ConsistentClients = false }, "1.42-40", "base", ""},
		"not consistent, shown": {func(s *route.StageSpec) { promoting(s); s.ConsistentClients, s.ExposeHeaders = false, true }, "1.42-40", "base", "1.42-30"},
		"never promoted":        {func(s *route.StageSpec) { promoting(s); s.Promoted = 0 }, "", "base", ""},
		"never promoted, shown": {func(s *route.StageSpec) { promoting(s); s.Promoted, s.ExposeHeaders = 0, true }, "", "base", "1.42"},
	} {
		t.Run(name, func(t *testing.T) {
			table := compile(t, stage(tt.vary), route.MockSpec{Body: "base"}, route.MockSpec{Body: "next"})
			var headers []string
			if tt.sent != "" {
				headers = append(headers, "X-Fife-Version: "+tt.sent)
			}
			w := get(newProxy(t, table, nil), "/prod/x", headers...)
			if w.Code != 200 || w.Body.String() != tt.body || w.Header().Get("X-Fife-Version") != tt.version {
				t.Errorf("%d %q, version %q; want %q, version %q", w.Code, w.Body, w.Header().Get("X-Fife-Version"), tt.body, tt.version)
			}
			if got := w.Header().Get("X-Fife-Variant"); (got != "") != (tt.vary != nil && w.Header().Get("X-Fife-Deployment") != "") {
				t.Errorf("variant %q", got)
			}
		})
	}
}

func TestFailClosed(t *testing.T) {
	now := time.Now()
	closed := func(s *route.StageSpec) { s.FailClosed = true }
	for name, tt := range map[string]struct {
		vary  func(*route.StageSpec)
		lease func() time.Time
		want  int
	}{
		"lease":            {closed, func() time.Time { return now.Add(time.Hour) }, 200},
		"run out":          {closed, func() time.Time { return now }, 503},
		"never":            {closed, nil, 503},
		"serve stale":      {nil, nil, 200},
		"of the next, too": {func(s *route.StageSpec) { promoting(s); closed(s) }, nil, 503},
	} {
		t.Run(name, func(t *testing.T) {
			registry := prometheus.NewRegistry()
			table := compile(t, stage(tt.vary), route.MockSpec{}, route.MockSpec{})
			p := newProxy(t, table, func(c *Config) { c.Lease, c.Registerer = tt.lease, registry })
			w := get(p, "/prod/x", "X-Fife-Version: 1.42-40")
			if w.Code != tt.want {
				t.Fatalf("status %d, want %d", w.Code, tt.want)
			}
			refused := 0.0
			if tt.want == 503 {
				refused = 1
				if w.Body.String() != `{"message":"Service Unavailable"}` || w.Header().Get("Retry-After") != "3" ||
					w.Header().Get("X-Amzn-Errortype") != "ServiceUnavailableException" || w.Header().Get(fieldRequestID) == "" {
					t.Errorf("%q %v", w.Body, w.Header())
				}
			}
			got := gather(t, registry)
			if got["fife_agent_unleased_requests_total"] != refused ||
				got[`fife_agent_requests_total api="demo" code="5xx" stage="prod" variant="base"`] != refused {
				t.Errorf("metrics %v", got)
			}
		})
	}
}

// TestVersionIsNotPassedOn: what a client sends to the agent is not the upstream's.
func TestVersionIsNotPassedOn(t *testing.T) {
	x := &head{fields: []http1.Field{{Name: "x-fife-version", Value: "1.42-40"}, {Name: "X_Fife_Version", Value: "1.42-40"}, {Name: "X-Other", Value: "y"}}}
	if got := x.appendForwarded(nil); len(got) != 1 || got[0].Name != "X-Other" {
		t.Errorf("passes on %v", got)
	}
}
