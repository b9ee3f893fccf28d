package proxy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fifegateway/fife/agent/route"
)

func TestNewChecksItsConfig(t *testing.T) {
	table := func() *route.Table { return new(route.Table) }
	for name, c := range map[string]Config{
		"no table":          {},
		"negative limit":    {Table: table, MaxBody: -1},
		"invalid prefix":    {Table: table, TrustedProxies: []netip.Prefix{{}}},
		"endpoint":          {Table: table, LambdaEndpoint: "localhost:3001"},
		"endpoint user":     {Table: table, LambdaEndpoint: "http://a:b@localhost"},
		"emulator url":      {Table: table, LambdaEndpoints: map[string]string{"f": "ftp://localhost"}},
		"emulator function": {Table: table, LambdaEndpoints: map[string]string{"arn:aws:s3:::x": "http://localhost"}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: New accepts it", name)
		}
	}
	if _, err := New(Config{Table: table}); err != nil {
		t.Errorf("New: %v", err)
	}
}

// mocks are two deployments that answer "base" and "canary".
func mocks(t testing.TB, vary func(*route.StageSpec)) *route.Table {
	return compile(t, stage(vary), route.MockSpec{Body: "base"}, route.MockSpec{Body: "canary"})
}

func canary(ppm uint32) func(*route.StageSpec) {
	return func(s *route.StageSpec) {
		s.Canary = &route.CanarySpec{Deployment: 2, PartsPerMillion: ppm, Salt: 7}
	}
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestOwnAnswers(t *testing.T) {
	table := compileRoutes(t, stage(nil), nil, []route.RouteSpec{
		{Method: "GET", Path: "/mock", Integration: route.MockSpec{}},
		{Method: "POST", Path: "/mock", Integration: route.MockSpec{}},
		{Method: "GET", Path: "/unset", Integration: route.HTTPSpec{URI: "http://${stageVariables.host}/"}},
		{Method: "GET", Path: "/unset-function", Integration: route.LambdaSpec{Function: "${stageVariables.fn}"}},
	})
	p := newProxy(t, table, func(c *Config) { c.MaxBody = 10 })
	const missing = `{"message":"Missing Authentication Token"}`
	for _, c := range []struct {
		method, target, body string
		status               int
		want, errorType      string
	}{
		{"GET", "/prod/other", "", 403, missing, "MissingAuthenticationTokenException"},
		{"DELETE", "/prod/mock", "", 403, missing, "MissingAuthenticationTokenException"},
		{"HEAD", "/prod/mock", "", 403, "", "MissingAuthenticationTokenException"},
		{"GET", "/staging/mock", "", 403, missing, "MissingAuthenticationTokenException"},
		{"GET", "/", "", 403, missing, "MissingAuthenticationTokenException"},
		{"GET", "/prod%2fmock", "", 403, missing, "MissingAuthenticationTokenException"},
		{"GET", "//prod/mock", "", 403, missing, "MissingAuthenticationTokenException"},
		{"GET", "/prod/mock/../../staging/mock", "", 403, missing, "MissingAuthenticationTokenException"},
		{"GET", "/prod/%00", "", 400, `{"message":"Bad Request"}`, "BadRequestException"},
		{"GET", "/prod/..%5cmock", "", 400, `{"message":"Bad Request"}`, "BadRequestException"},
		{"GET", "/prod/..%2fmock", "", 400, `{"message":"Bad Request"}`, "BadRequestException"},
		{"TRACE", "/prod/mock", "", 405, `{"message":"Method Not Allowed"}`, ""},
		{"POST", "/prod/mock", "01234567890", 413, `{"message":"HTTP content length exceeded 10 bytes."}`, "RequestTooLargeException"},
		{"GET", "/prod/unset", "", 500, `{"message":"Internal server error"}`, "InternalServerErrorException"},
		{"GET", "/prod/unset-function", "", 500, `{"message":"Internal server error"}`, "InternalServerErrorException"},
	} {
		w := do(p, httptest.NewRequest(c.method, c.target, strings.NewReader(c.body)))
		h := w.Header()
		if w.Code != c.status || w.Body.String() != c.want || h.Get("x-amzn-ErrorType") != c.errorType {
			t.Errorf("%s %s: got %d %s %q, want %d %s %q", c.method, c.target, w.Code, w.Body, h.Get("x-amzn-ErrorType"), c.status, c.want, c.errorType)
		}
		if id := h.Get("x-amzn-RequestId"); !uuid.MatchString(id) || h.Get("X-Request-Id") != "" {
			t.Errorf("%s %s: request ids %q and %q, want only the first", c.method, c.target, id, h.Get("X-Request-Id"))
		}
		if ct := h.Get("Content-Type"); ct != "application/json" {
			t.Errorf("%s %s: content type %q", c.method, c.target, ct)
		}
	}

	connect := httptest.NewRequest(http.MethodConnect, "example.com:443", nil)
	if w := do(p, connect); w.Code != 405 || w.Header().Get("Allow") == "" {
		t.Errorf("CONNECT: got %d, allow %q", w.Code, w.Header().Get("Allow"))
	}
	options := httptest.NewRequest(http.MethodOptions, "/", nil)
	options.RequestURI = "*"
	if w := do(p, options); w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("OPTIONS *: got %d %q", w.Code, w.Body)
	}
	if w := get(p, "http://demo.localhost/prod/mock?a=b"); w.Code != 200 {
		t.Errorf("absolute-form: got %d", w.Code)
	}
	if w := get(p, "http://demo.localhost?/prod/mock"); w.Code != 403 {
		t.Errorf("absolute-form without path: got %d", w.Code)
	}
}

func TestExposedHeaders(t *testing.T) {
	spoofed := map[string]string{"X-Fife-Variant": "canary", "X-Fife-Deployment": "99", "X-Fife-Version": "9.9", "Content-Type": "text/plain", "X-Kept": "yes"}
	integration := route.MockSpec{Status: 418, Body: "tea", Headers: spoofed}
	for _, c := range []struct {
		stage, config bool
		path, want    string
	}{
		{true, false, "/prod/x", "base 1 1.42"},
		{false, true, "/prod/x", "base 1 1.42"},
		{false, false, "/prod/x", "  "},
		{true, false, "/prod", "base 1 1.42"}, // no route, but a stage
		{false, true, "/nowhere", "  1.42"},
		{true, false, "/nowhere", "  "},
	} {
		table := compile(t, stage(func(s *route.StageSpec) { s.ExposeHeaders = c.stage }), integration)
		h := get(newProxy(t, table, func(cfg *Config) { cfg.ExposeHeaders = c.config }), c.path).Header()
		if got := h.Get("X-Fife-Variant") + " " + h.Get("X-Fife-Deployment") + " " + h.Get("X-Fife-Version"); got != c.want {
			t.Errorf("%+v: got %q", c, got)
		}
	}
	w := get(newProxy(t, compile(t, stage(nil), integration), nil), "/prod/x")
	if w.Code != 418 || w.Body.String() != "tea" || w.Header().Get("Content-Type") != "text/plain" || w.Header().Get("X-Kept") != "yes" {
		t.Errorf("mock: got %d %q %v", w.Code, w.Body, w.Header())
	}
}

func TestDefaultAPI(t *testing.T) {
	spec := route.Spec{APIs: []route.APISpec{{ID: "a"}, {ID: "b"}}}
	for _, api := range []string{"a", "b"} {
		d, err := route.CompileDeployment(route.DeploymentSpec{API: api, Number: 1, Routes: []route.RouteSpec{
			{Method: "GET", Path: "/", Integration: route.MockSpec{Body: api}}}})
		if err != nil {
			t.Fatal(err)
		}
		spec.Deployments = append(spec.Deployments, d)
		spec.Stages = append(spec.Stages, route.StageSpec{API: api, ID: "prod", Deployment: 1})
	}
	table, err := route.Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	p := newProxy(t, table, func(c *Config) { c.DefaultAPI = "b" })
	for host, want := range map[string]string{"a.localhost:8080": "a", "unknown": "b"} {
		if w := get(p, "http://"+host+"/prod/"); w.Body.String() != want {
			t.Errorf("host %s: got %q, want %q", host, w.Body, want)
		}
	}
}

// TestExecuteAPI: answers at the URLs of Amazon API Gateway, and at no others, carry its
// other id too, and nobody else's.
func TestExecuteAPI(t *testing.T) {
	table := compile(t, stage(nil), route.MockSpec{Headers: map[string]string{"X-Amz-Apigw-Id": "upstream's"}})
	p := newProxy(t, table, nil)
	for target, want := range map[string]bool{
		"http://demo.execute-api.eu-west-1.amazonaws.com/prod/x":     true,
		"http://demo.execute-api.eu-west-1.amazonaws.com/prod/x/y/z": true,
		"http://192.0.2.1/_aws/execute-api/demo/prod/x":              true,
		"http://192.0.2.1/_aws/execute-api/none/prod/x":              true,
		"http://192.0.2.1/prod/x":                                    false,
	} {
		h := get(p, target).Header()
		ids := h.Values("X-Amz-Apigw-Id")
		if (len(ids) == 1 && ids[0] == h.Get("x-amzn-RequestId")) != want || len(ids) > 1 || (!want && len(ids) > 0) {
			t.Errorf("%s: ids %q", target, ids)
		}
	}
	if w := get(p, "/_aws/execute-api/demo/prod/x"); w.Code != 200 {
		t.Errorf("by path: got %d %s", w.Code, w.Body)
	}
}

// TestSplit looks at the random split through the whole handler.
func TestSplit(t *testing.T) {
	const n = 20_000
	for _, ppm := range []uint32{0, 500_000, 1_000_000} {
		source := rand.New(rand.NewPCG(1, 2))
		p := newProxy(t, mocks(t, canary(ppm)), func(c *Config) { c.Rand = source.Uint64 })
		hits := 0
		for range n {
			w := get(p, "/prod/x")
			switch got := w.Header().Get("X-Fife-Variant"); {
			case got != w.Body.String():
				t.Fatalf("variant %q answered %q", got, w.Body)
			case got == "canary":
				hits++
			}
		}
		share := float64(ppm) / 1e6
		if deviation := math.Sqrt(n * share * (1 - share)); math.Abs(float64(hits)-n*share) > 4*deviation {
			t.Errorf("%d ppm: %d of %d requests on the canary", ppm, hits, n)
		}
	}
}

func TestStickyKeys(t *testing.T) {
	for _, c := range []struct {
		name   string
		source route.KeySource
		key    string // StickyName
		set    func(r *http.Request, key string)
	}{
		{"header", route.KeyHeader, "x-user", func(r *http.Request, key string) { r.Header["X-User"] = []string{key, "other"} }},
		{"cookie", route.KeyCookie, "user", func(r *http.Request, key string) {
			r.Header.Set("Cookie", "a=b; xuser=1; user="+key+"; user=other")
		}},
		{"query", route.KeyQuery, "user", func(r *http.Request, key string) {
			r.URL.RawQuery = "a=b&us%65r=%" + fmt.Sprintf("%x", key[0]) + key[1:] + "&user=other"
		}},
		{"client ip", route.KeyClientIP, "", func(r *http.Request, key string) { r.RemoteAddr = "[::ffff:" + key + "]:1234" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := mocks(t, func(s *route.StageSpec) {
				canary(300_000)(s)
				s.Sticky, s.StickyName = c.source, c.key
			})
			// A number that would never go to the canary: whoever gets there was sent by key.
			p := newProxy(t, table, func(c *Config) { c.Rand = func() uint64 { return math.MaxUint64 } })
			s, _, _ := table.Lookup("", "/prod", "")
			hits := 0
			for i := range 400 {
				key := fmt.Sprintf("10.0.%d.%d", i/200, i%200)
				r := httptest.NewRequest(http.MethodGet, "/prod/x", nil)
				c.set(r, key)
				want := s.Pick(s.Hash(key)).Name
				if got := do(p, r).Body.String(); got != want {
					t.Fatalf("key %s: got %s, want %s", key, got, want)
				}
				if want == "canary" {
					hits++
				}
			}
			if hits == 0 {
				t.Error("no key went to the canary")
			}
			if c.source == route.KeyClientIP {
				return
			}
			chance := newProxy(t, table, func(c *Config) { c.Rand = func() uint64 { return 0 } })
			if got := get(chance, "/prod/x").Body.String(); got != "canary" {
				t.Errorf("without a key: got %s, want the random choice", got)
			}
		})
	}
}

func TestOverrideThroughTheHandler(t *testing.T) {
	const key = "0123456789abcdef"
	open := newProxy(t, mocks(t, func(s *route.StageSpec) { canary(0)(s); s.AllowOverride = true }), nil)
	signedOnly := newProxy(t, mocks(t, func(s *route.StageSpec) { canary(0)(s); s.AllowOverride, s.OverrideKey = true, key }), nil)
	closed := newProxy(t, mocks(t, func(s *route.StageSpec) { canary(0)(s); s.OverrideKey = key }), nil)
	full := newProxy(t, mocks(t, func(s *route.StageSpec) { canary(1_000_000)(s); s.AllowOverride = true }), nil)
	none := newProxy(t, mocks(t, func(s *route.StageSpec) { s.AllowOverride = true }), nil)
	good := SignOverride(key, "demo", "prod", "canary", time.Now().Add(time.Minute))
	for i, c := range []struct {
		p      *Proxy
		header string
		want   string
	}{
		{open, "canary", "canary"},
		{open, "base", "base"},
		{full, "base", "base"},
		{full, "Base", "canary"},
		{full, "", "canary"},
		{none, "canary", "base"},
		{closed, "canary", "base"},
		{closed, good, "base"},
		{signedOnly, "canary", "base"},
		{signedOnly, good, "canary"},
	} {
		if got := get(c.p, "/prod/x", "X-Fife-Variant: "+c.header).Body.String(); got != c.want {
			t.Errorf("%d: %q: got %s, want %s", i, c.header, got, c.want)
		}
	}
}

// TestRequestKeepsItsTable swaps the table while a request is at its upstream.
func TestRequestKeepsItsTable(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	old := proxied(t, func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		_, _ = w.Write([]byte("old"))
	})
	var current tables
	current.Store(old)
	p, err := New(Config{Table: current.Load})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()

	done := make(chan *httptest.ResponseRecorder)
	go func() { done <- get(p, "/prod/x") }()
	await(t, "the request at its upstream", arrived)
	current.Store(new(route.Table))
	if w := get(p, "/prod/x"); w.Code != 403 {
		t.Errorf("a new request got %d by the new table, want 403", w.Code)
	}
	close(release)
	w := await(t, "the response", done)
	if w.Code != 200 || w.Body.String() != "old" || w.Header().Get("X-Fife-Version") != "1.42" {
		t.Errorf("got %d %q, version %q", w.Code, w.Body, w.Header().Get("X-Fife-Version"))
	}
}

// TestMockParts: a mock says of the request what it was put together to say, and nothing
// for what is not set.
func TestMockParts(t *testing.T) {
	parts := route.MockSpec{Parts: []route.MockPart{
		{Variable: "version"}, {Text: "|"}, {Variable: "unset"}, {Text: "|"}, {Context: "isCanaryRequest"}, {Text: "|"}, {Context: "stage"},
		{Text: "|"}, {Context: "apiId"}, {Text: "|"}, {Context: "deploymentId"}, {Text: "|"}, {Context: "httpMethod"}, {Text: "|"},
		{Context: "path"}, {Text: "|"}, {Context: "resourcePath"}, {Text: "|"}, {Context: "requestId"},
	}}
	base := func(s *route.StageSpec) { s.Variables = map[string]string{"version": "1"} }
	on := func(ppm uint32) func(*route.StageSpec) {
		return func(s *route.StageSpec) {
			base(s)
			s.Canary = &route.CanarySpec{Deployment: 2, PartsPerMillion: ppm, Overrides: map[string]string{"version": "2"}}
		}
	}
	for name, tt := range map[string]struct {
		vary func(*route.StageSpec)
		want string
	}{
		"no canary":  {base, "1|||prod|demo|000001|GET|/prod/x|/{proxy+}|"},
		"the base":   {on(0), "1||false|prod|demo|000001|GET|/prod/x|/{proxy+}|"},
		"the canary": {on(1_000_000), "2||true|prod|demo|000002|GET|/prod/x|/{proxy+}|"},
	} {
		w := get(newProxy(t, compile(t, stage(tt.vary), parts, parts), nil), "/prod/x")
		if want := tt.want + w.Header().Get("X-Amzn-RequestId"); w.Code != 200 || w.Body.String() != want {
			t.Errorf("%s: %d %q, want %q", name, w.Code, w.Body, want)
		}
	}
}
