package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"strings"
	"sync"
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
	c := Config{Table: func() *route.Table { return table }, Drain: time.Second}
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

// do serves one request through the whole engine, over a connection in memory whose
// ends are where the request says.
func do(p *Proxy, r *http.Request, headers ...string) *httptest.ResponseRecorder {
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	conn := connect(p, r.RemoteAddr)
	go func() { _ = writeRequest(conn, r) }()
	w := httptest.NewRecorder()
	res, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		panic(fmt.Sprintf("%s %s: no response: %v", r.Method, r.RequestURI, err))
	}
	maps.Copy(w.Header(), res.Header)
	w.WriteHeader(res.StatusCode)
	if _, err := io.Copy(w, res.Body); err != nil {
		panic(fmt.Sprintf("%s %s: broken off: %v", r.Method, r.RequestURI, err))
	}
	_ = res.Body.Close()
	_ = conn.Close()
	<-conn.ended // then it is counted, too
	return w
}

// writeRequest writes a request with the bytes of its target as they are.
func writeRequest(w io.Writer, r *http.Request) error {
	target, _, _ := strings.Cut(r.RequestURI, "?")
	if r.URL.RawQuery != "" {
		target += "?" + r.URL.RawQuery
	}
	out := bufio.NewWriter(w)
	_, _ = fmt.Fprintf(out, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, target, r.Host)
	_ = r.Header.Write(out)
	switch {
	case r.ContentLength > 0:
		_, _ = fmt.Fprintf(out, "Content-Length: %d\r\n\r\n", r.ContentLength)
		_, _ = io.Copy(out, r.Body)
	case r.ContentLength < 0:
		_, _ = io.WriteString(out, "Transfer-Encoding: chunked\r\n\r\n")
		chunks := httputil.NewChunkedWriter(out)
		_, _ = io.Copy(chunks, r.Body)
		_ = chunks.Close()
		_, _ = io.WriteString(out, "\r\n")
	default:
		_, _ = io.WriteString(out, "\r\n")
	}
	return out.Flush()
}

// memory is a listener of connections in memory.
type memory struct{ handover }

// inMemory holds the listener in memory of every Proxy that a test has used.
var inMemory sync.Map

func connect(p *Proxy, remote string) *memoryConn {
	l := &memory{handover{conns: make(chan net.Conn), closed: make(chan struct{}), addr: new(net.TCPAddr)}}
	if known, ok := inMemory.LoadOrStore(p, l); ok {
		l = known.(*memory)
	} else {
		go func() { _ = p.Serve(context.Background(), l, nil) }()
	}
	here, there := net.Pipe()
	c := &memoryConn{Conn: here, ended: make(chan struct{})}
	peer := netip.MustParseAddrPort(remote)
	l.conns <- &memoryEnd{Conn: there, remote: net.TCPAddrFromAddrPort(peer), ended: c.ended}
	return c
}

type memoryConn struct {
	net.Conn
	ended chan struct{}
}

// memoryEnd is the agent's end of a connection in memory.
type memoryEnd struct {
	net.Conn
	remote net.Addr
	once   sync.Once
	ended  chan struct{}
}

func (e *memoryEnd) RemoteAddr() net.Addr { return e.remote }
func (e *memoryEnd) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 200), Port: 80} }
func (e *memoryEnd) Close() error {
	e.once.Do(func() { close(e.ended) })
	return e.Conn.Close()
}

// front is an agent's data path on a real port.
type front struct {
	URL      string
	Listener net.Listener
}

// edge serves p on a real port until the test ends.
func edge(t testing.TB, p *Proxy) front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx, l, nil) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return front{"http://" + l.Addr().String(), l}
}

// serve starts a server, which ends with the test.
func serve(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// proxied starts an HTTP upstream and returns a table that sends all of
// /prod/ to it.
func proxied(t testing.TB, h http.HandlerFunc) *route.Table {
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
