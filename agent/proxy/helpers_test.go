package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fifegateway/fife/agent/route"
)

// stage is a stage "prod" of API "demo" that tests vary.
func stage(vary func(*route.StageSpec)) route.StageSpec {
	s := route.StageSpec{API: "demo", ID: "prod", Deployment: 1, ExposeHeaders: true}
	if vary != nil {
		vary(&s)
	}
	return s
}

// compile makes a table in which deployment n, counted from 1, has one route,
// ANY /{proxy+}, to the n-th integration.
func compile(t testing.TB, s route.StageSpec, integrations ...route.IntegrationSpec) *route.Table {
	t.Helper()
	routes := make([][]route.RouteSpec, len(integrations))
	for i, integration := range integrations {
		routes[i] = []route.RouteSpec{{Method: "ANY", Path: "/{proxy+}", Integration: integration}}
	}
	return compileRoutes(t, s, nil, routes...)
}

// compileRoutes makes a table of one stage and a deployment for each of routes.
func compileRoutes(t testing.TB, s route.StageSpec, binary []string, routes ...[]route.RouteSpec) *route.Table {
	t.Helper()
	spec := route.Spec{
		Version: route.Version{Epoch: 1, Index: 42},
		APIs:    []route.APISpec{{ID: s.API, Hosts: []string{"api.example.com"}}},
		Stages:  []route.StageSpec{s},
	}
	for i, r := range routes {
		d, err := route.CompileDeployment(route.DeploymentSpec{API: s.API, Number: uint64(i + 1), Routes: r, BinaryMediaTypes: binary})
		if err != nil {
			t.Fatal(err)
		}
		spec.Deployments = append(spec.Deployments, d)
	}
	table, err := route.Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func newProxy(t testing.TB, table *route.Table, vary func(*Config)) *Proxy {
	t.Helper()
	c := Config{Table: func() *route.Table { return table }}
	if vary != nil {
		vary(&c)
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// get serves one request for a path, with the given "Name: value" headers.
func get(p *Proxy, path string, headers ...string) *httptest.ResponseRecorder {
	return do(p, httptest.NewRequest(http.MethodGet, path, nil), headers...)
}

func do(p *Proxy, r *http.Request, headers ...string) *httptest.ResponseRecorder {
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

// serve starts a server, which ends with the test.
func serve(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// upstream starts an HTTP upstream and returns a table that sends all of
// /prod/ to it.
func upstream(t testing.TB, h http.HandlerFunc) *route.Table {
	t.Helper()
	return compile(t, stage(nil), route.HTTPSpec{URI: serve(t, h).URL + "/{proxy}"})
}

// reply is a response that has been read to its end.
type reply struct {
	status          int
	header, trailer http.Header
	body            string
}

// fetch sends a request through a real client, which follows no redirects.
func fetch(t testing.TB, r *http.Request) reply {
	t.Helper()
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	res, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		t.Fatalf("read the body: %v", err)
	}
	return reply{res.StatusCode, res.Header, res.Trailer, string(body)}
}

func request(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// await waits for a channel to be closed or to yield.
func await[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("waited in vain: %s", what)
		panic("unreachable")
	}
}

// tables lets a test swap the table under a running proxy.
type tables struct{ atomic.Pointer[route.Table] }
