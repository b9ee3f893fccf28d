package proxy

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/fifegateway/fife/agent/route"
)

// TestAccessLog: a line says what has become of a request, whatever a client has put
// into it.
func TestAccessLog(t *testing.T) {
	table := compileRoutes(t, stage(nil), nil, []route.RouteSpec{
		{Method: "GET", Path: "/mock", Integration: route.MockSpec{Body: "mock"}},
		{Method: "ANY", Path: "/bad/{proxy+}", Integration: route.HTTPSpec{URI: "http://169.254.0.1/"}},
	})
	for _, c := range []struct {
		name, path string
		share      float64
		want       map[string]any // nil: no line
	}{
		{"answer", "/prod/mock?secret", 1, map[string]any{
			"client": "192.0.2.1", "method": "GET", "host": "example.com", "path": "/prod/mock", "protocol": "HTTP/1.1",
			"status": 200.0, "version": "1.42", "api": "demo", "stage": "prod", "variant": "base", "deployment": 1.0,
			"route": "GET /mock", "received": 0.0, "sent": 4.0,
		}},
		{"not chosen", "/prod/mock", 0, nil},
		{"failed", "/prod/bad/x", 0, map[string]any{"status": 500.0, "route": "ANY /bad/{proxy+}"}},
		{"no route", "/prod/none", 1, map[string]any{"status": 403.0, "stage": "prod", "route": nil, "upstream": nil}},
		{"no stage", "/none", 1, map[string]any{"status": 403.0, "stage": nil, "api": nil, "version": "1.42"}},
		{"bytes that need care", "/prod/%zz\xff\"x", 1, map[string]any{"status": 400.0, "path": "/prod/%zz\ufffd\"x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log strings.Builder
			p := newProxy(t, table, func(config *Config) { config.AccessLog, config.AccessLogShare = &log, c.share })
			r := request(t, "GET", "http://example.com/", nil)
			r.RemoteAddr = "192.0.2.1:1234"
			r.RequestURI, r.URL.RawQuery, _ = strings.Cut(c.path, "?")
			w := do(p, r)
			p.Close() // what was recorded is written
			if c.want == nil {
				if log.Len() != 0 {
					t.Errorf("got %q", log.String())
				}
				return
			}
			var line map[string]any
			if err := json.Unmarshal([]byte(log.String()), &line); err != nil || strings.Count(log.String(), "\n") != 1 {
				t.Fatalf("got %q: %v", log.String(), err)
			}
			for key, want := range c.want {
				if line[key] != want {
					t.Errorf("%s is %v, want %v", key, line[key], want)
				}
			}
			if id := w.Header().Get(fieldRequestID); line["request_id"] != id {
				t.Errorf("request_id is %v, want %v", line["request_id"], id)
			}
			if strings.Contains(log.String(), "secret") {
				t.Errorf("the query is in the line: %s", log.String())
			}
		})
	}
}
