package proxy

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/fifegateway/fife/agent/route"
)

// TestSecretsAreNotLogged: whatever goes wrong with an integration whose address or event
// holds a secret, upstreams get it, and clients and logs do not.
func TestSecretsAreNotLogged(t *testing.T) {
	var asked []string
	var secret string
	upstream := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, r.RequestURI+string(body))
		if strings.HasPrefix(r.URL.Path, "/2015-03-31/") {
			w.Header().Set("X-Amz-Function-Error", "Unhandled")
			_, _ = w.Write(append(bytes.Repeat([]byte("x"), 196), secret...)) // cut within the secret
		}
	}))
	gone := serve(t, http.NotFoundHandler())
	gone.Close()
	stage := func(secret string) func(s *route.StageSpec) {
		return func(s *route.StageSpec) {
			s.Variables, s.Secrets = map[string]string{"s": secret, "p": "plain"}, []string{"s"}
		}
	}
	hostOf := func(url string) string { return strings.TrimPrefix(url, "http://") }
	for name, c := range map[string]struct {
		secret      string
		integration route.IntegrationSpec
		status      int
		says, asks  string
	}{
		"path":              {"Hush.Hush-1", route.HTTPSpec{URI: upstream.URL + "/${stageVariables.s}"}, 200, `/${stageVariables.s}"`, "/Hush.Hush-1"},
		"path, gone":        {"Hush.Hush-1", route.HTTPSpec{URI: gone.URL + "/${stageVariables.s}"}, 500, "connection refused", ""},
		"host and port":     {hostOf(gone.URL), route.HTTPSpec{URI: "http://${stageVariables.s}/"}, 500, "connection refused; the rest is not shown", ""},
		"host, unknown":     {"Hush.Hush-1.invalid", route.HTTPSpec{URI: "http://${stageVariables.s}/"}, 500, "does not resolve", ""},
		"no host":           {"Hush/Hush", route.HTTPSpec{URI: "http://h:${stageVariables.s}"}, 500, "the rest is not shown", ""},
		"bad query":         {"Hush#Hush", route.HTTPSpec{URI: "http://h/?${stageVariables.s}"}, 500, "the rest is not shown", ""},
		"no function":       {"Hush/Hush", route.LambdaSpec{Function: "${stageVariables.s}"}, 500, "the rest is not shown", ""},
		"function":          {"HushHush", route.LambdaSpec{Function: "${stageVariables.s}", Qualifier: "${stageVariables.p}"}, 502, "${stageVariables.s}:${stageVariables.p}", "HushHush"},
		"event":             {"Hush.Hush-1", route.LambdaSpec{Function: "hello"}, 502, "function failed", "Hush.Hush-1"},
		"unset beside it":   {"Hush.Hush-1", route.HTTPSpec{URI: "http://h/${stageVariables.s}${stageVariables.none}"}, 500, `\"none\" is not set`, ""},
		"what is not there": {"Hush.Hush-1", route.HTTPSpec{URI: "http://127.0.0.1:1/?${stageVariables.p}"}, 500, "127.0.0.1:1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			asked, secret = nil, c.secret
			var logs bytes.Buffer
			table := compile(t, stageWith(stage(c.secret)), c.integration)
			p := newProxy(t, table, func(config *Config) {
				config.AccessLog, config.AccessLogShare, config.LambdaEndpoint = &logs, 1, upstream.URL
				config.Logger = slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
			})
			w := get(p, "/prod/x")
			p.Close()
			if w.Code != c.status {
				t.Errorf("answered %d %s", w.Code, w.Body)
			}
			answer := w.Body.String()
			for k, v := range w.Header() {
				answer += k + strings.Join(v, "")
			}
			for place, text := range map[string]string{"the answer": answer, "the log": logs.String()} {
				if strings.Contains(text, c.secret) || strings.Contains(strings.ToLower(text), "hush") {
					t.Errorf("%s holds the secret: %s", place, text)
				}
			}
			if !strings.Contains(logs.String(), c.says) {
				t.Errorf("the log does not say %q: %s", c.says, logs.String())
			}
			if !strings.Contains(strings.Join(asked, "\n"), c.asks) {
				t.Errorf("the upstream was asked for %q, want %q", asked, c.asks)
			}
		})
	}
}

func stageWith(vary func(*route.StageSpec)) route.StageSpec { return stage(vary) }
