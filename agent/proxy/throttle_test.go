package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/fifegateway/fife/agent/route"
)

// throttled is a table of two stages with the same routes, of which prod has limits and
// free has none.
func throttled(t testing.TB, limits route.ThrottleSpec, integration route.IntegrationSpec) *route.Table {
	t.Helper()
	d, err := route.CompileDeployment(route.DeploymentSpec{API: "demo", Number: 1, Routes: []route.RouteSpec{
		{Method: "ANY", Path: "/{proxy+}", Integration: integration},
	}})
	if err != nil {
		t.Fatal(err)
	}
	free := stage(nil)
	free.ID = "free"
	table, err := route.Compile(route.Spec{
		Version: route.Version{Epoch: 1, Index: 42}, APIs: []route.APISpec{{ID: "demo"}}, Deployments: []*route.Deployment{d},
		Stages: []route.StageSpec{stage(func(s *route.StageSpec) { s.Throttle = limits }), free},
	})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// askedClient is a client that keeps the head and the body of a short response.
type askedClient struct {
	discard
	status int
	fields map[string]string
	body   string
}

func (a *askedClient) begin(_ *exchange, res *response, first []byte) error {
	a.status, a.body, a.fields = res.status, string(first), map[string]string{}
	for _, f := range res.fields {
		a.fields[f.Name] = f.Value
	}
	return nil
}

// ask serves one GET without a connection, so that it needs no time.
func ask(p *Proxy, path string) *askedClient {
	a := new(askedClient)
	x := exchange{head: head{method: "GET", host: "demo.localhost", path: path, proto: "HTTP/1.1"}}
	p.begin(&x)
	p.handle(a, &x)
	scratches.Put(x.scratch)
	return a
}

// statuses serves n requests for a path, one after the other.
func statuses(p *Proxy, path string, n int) (passed, refused int) {
	for range n {
		switch code := ask(p, path).status; code {
		case http.StatusOK:
			passed++
		case http.StatusTooManyRequests:
			refused++
		}
	}
	return passed, refused
}

// TestRateLimit: a full bucket lets a burst through, then requests at the rate, and
// other stages notice nothing.
func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxy(t, throttled(t, route.ThrottleSpec{Millirate: 2000, Burst: 5}, route.MockSpec{}), nil)
		want := func(when string, n, passed int) {
			t.Helper()
			if got, refused := statuses(p, "/prod/x", n); got != passed || refused != n-passed {
				t.Errorf("%s: %d passed and %d were refused, want %d of %d to pass", when, got, refused, passed, n)
			}
		}
		want("a full bucket", 20, 5)
		time.Sleep(499 * time.Millisecond)
		want("just before a token", 2, 0)
		time.Sleep(time.Millisecond)
		want("a token", 2, 1)
		time.Sleep(1500 * time.Millisecond)
		want("three tokens", 9, 3)
		time.Sleep(time.Hour)
		want("a full bucket again", 20, 5)
		if passed, _ := statuses(p, "/free/x", 100); passed != 100 {
			t.Errorf("a stage without limits served %d of 100", passed)
		}
		a := ask(p, "/prod/x")
		if a.body != `{"message":"Too Many Requests"}` || a.fields["X-Amzn-ErrorType"] != "TooManyRequestsException" || a.fields["Retry-After"] != "1" {
			t.Errorf("got %s, %v", a.body, a.fields)
		}
		if got := ask(p, "/prod").status; got != http.StatusTooManyRequests {
			t.Errorf("a request without a route got %d: it counts like any other", got)
		}
	})
}

// TestRetryAfter: a client is told when there will be a token, in whole seconds.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxy(t, throttled(t, route.ThrottleSpec{Millirate: 100, Burst: 1}, route.MockSpec{}), nil)
		ask(p, "/prod/x")
		time.Sleep(2500 * time.Millisecond)
		if got := ask(p, "/prod/x").fields["Retry-After"]; got != "8" {
			t.Errorf("7.5 s before a token: Retry-After is %q, want 8", got)
		}
		time.Sleep(7500 * time.Millisecond)
		if got := ask(p, "/prod/x").status; got != 200 {
			t.Errorf("with a token: %d", got)
		}
	})
}

// TestLimitsOverSwaps: what is counted outlives tables; a bucket that was drained under
// other limits is empty at most.
func TestLimitsOverSwaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table atomic.Pointer[route.Table]
		set := func(limits route.ThrottleSpec) { table.Store(throttled(t, limits, route.MockSpec{})) }
		set(route.ThrottleSpec{Millirate: 10, Burst: 5})
		p := newProxy(t, nil, func(c *Config) { c.Table = table.Load })
		if passed, _ := statuses(p, "/prod/x", 9); passed != 5 {
			t.Fatalf("%d passed, want 5", passed)
		}
		set(route.ThrottleSpec{Millirate: 10, Burst: 5})
		if passed, _ := statuses(p, "/prod/x", 9); passed != 0 {
			t.Errorf("after a swap without a change %d passed", passed)
		}
		set(route.ThrottleSpec{Millirate: 1000, Burst: 5})
		if passed, _ := statuses(p, "/prod/x", 9); passed != 0 {
			t.Errorf("under the new limits at once %d passed: the bucket is empty", passed)
		}
		time.Sleep(2 * time.Second)
		if passed, _ := statuses(p, "/prod/x", 9); passed != 2 {
			t.Errorf("two seconds later %d passed, want 2: the new rate counts", passed)
		}
		set(route.ThrottleSpec{})
		if passed, _ := statuses(p, "/prod/x", 9); passed != 9 {
			t.Errorf("without limits %d passed", passed)
		}
	})
}

// TestConcurrencyLimit: a streaming body holds its place until its end, over a change
// of tables; what is turned away takes neither a place nor a token.
func TestConcurrencyLimit(t *testing.T) {
	var table atomic.Pointer[route.Table]
	entered, release := make(chan bool, 10), make(chan bool)
	up := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/stream") {
			return
		}
		_, _ = io.WriteString(w, "begun")
		_ = http.NewResponseController(w).Flush()
		entered <- true
		<-release
	}))
	integration := route.HTTPSpec{URI: up.URL + "/{proxy}"}
	limits := route.ThrottleSpec{Concurrency: 2, Millirate: 1, Burst: 4}
	table.Store(throttled(t, limits, integration))
	registry := prometheus.NewRegistry()
	p := newProxy(t, nil, func(c *Config) { c.Table, c.Registerer = table.Load, registry })
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			if w := get(p, "/prod/stream"); w.Code != 200 || w.Body.String() != "begun" {
				t.Errorf("a stream: %d %s", w.Code, w.Body)
			}
		})
		await(t, "a stream to begin", entered)
	}
	table.Store(throttled(t, limits, integration))
	for range 5 {
		w := get(p, "/prod/x")
		if w.Code != 429 || w.Header().Get("Retry-After") != "1" || w.Header().Get("X-Amzn-ErrorType") != "TooManyRequestsException" {
			t.Errorf("a third at once: %d %v", w.Code, w.Header())
		}
	}
	if w := get(p, "/free/x"); w.Code != 200 {
		t.Errorf("another stage: %d", w.Code)
	}
	close(release)
	group.Wait()
	var codes []int
	for range 4 {
		codes = append(codes, get(p, "/prod/x").Code)
	}
	if want := []int{200, 200, 429, 429}; !slices.Equal(codes, want) {
		t.Errorf("got %v, want %v: 2 tokens are left", codes, want)
	}
	for series, want := range map[string]float64{
		`fife_agent_throttled_requests_total api="demo" reason="concurrency" stage="prod"`: 5,
		`fife_agent_throttled_requests_total api="demo" reason="rate" stage="prod"`:        2,
		`fife_agent_throttled_requests_total api="demo" reason="rate" stage="free"`:        0,
	} {
		if got, ok := gather(t, registry)[series]; !ok || got != want {
			t.Errorf("%s: got %v, want %v", series, got, want)
		}
	}
	if n := (*p.gates.byKey.Load())[gateKey{"demo", "prod"}].inside.Load(); n != 0 {
		t.Errorf("%d places are taken at the end", n)
	}
}

// TestConcurrencyLimitCoversWebSockets: a tunnel holds its place until it is closed, and
// one that is above a limit gets an ordinary answer.
func TestConcurrencyLimitCoversWebSockets(t *testing.T) {
	up := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"}, InsecureSkipVerify: true}); err == nil {
			_, _, _ = c.Read(r.Context())
		}
	}))
	p := newProxy(t, throttled(t, route.ThrottleSpec{Concurrency: 1}, route.HTTPSpec{URI: up.URL}), nil)
	first, conn, err := tunnel(t, p)
	if err != nil {
		t.Fatal(err)
	}
	var refused *refusedTunnel
	if _, _, err := tunnel(t, p); !errors.As(err, &refused) || refused.status != 429 || refused.header.Get("Retry-After") != "1" {
		t.Errorf("a second tunnel: %v, want a 429", err)
	}
	_ = first.CloseNow()
	await(t, "the end of the tunnel", conn.ended)
	place := &(*p.gates.byKey.Load())[gateKey{"demo", "prod"}].inside
	for deadline := time.Now().Add(20 * time.Second); place.Load() > 0 && time.Now().Before(deadline); {
		runtime.Gosched() // it is given back just behind the end
	}
	again, _, err := tunnel(t, p)
	if err != nil {
		t.Fatalf("once the first has ended: %v", err)
	}
	_ = again.CloseNow()
}

// tunnel opens a WebSocket over a connection in memory.
func tunnel(t *testing.T, p *Proxy) (*websocket.Conn, *memoryConn, error) {
	t.Helper()
	conn := connect(p, "192.0.2.1:1234")
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	c, res, err := websocket.Dial(t.Context(), "http://demo.localhost/prod/chat", &websocket.DialOptions{
		Subprotocols: []string{"chat"}, HTTPClient: &http.Client{Transport: transport},
	})
	if err == nil {
		return c, conn, nil
	}
	if res != nil {
		_ = res.Body.Close()
		err = &refusedTunnel{res.StatusCode, res.Header}
	}
	transport.CloseIdleConnections()
	_ = conn.Close()
	return nil, nil, err
}

// refusedTunnel is an ordinary answer where a WebSocket was asked for.
type refusedTunnel struct {
	status int
	header http.Header
}

func (r *refusedTunnel) Error() string { return fmt.Sprint(r.status, r.header) }

// TestLimitsOverHTTP2: streams of one connection count like connections, and a stream
// gives its place back when its client resets it.
func TestLimitsOverHTTP2(t *testing.T) {
	entered, left := make(chan bool, 10), make(chan bool, 10)
	up := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/stream") {
			_ = http.NewResponseController(w).Flush()
			entered <- true
			<-r.Context().Done()
			left <- true
		}
	}))
	table := throttled(t, route.ThrottleSpec{Concurrency: 2}, route.HTTPSpec{URI: up.URL + "/{proxy}"})
	p := newProxy(t, table, nil)
	front := edge(t, p)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	ask := func(path string) *http.Response {
		t.Helper()
		r := request(t, http.MethodGet, front.URL+path, nil)
		r.Host = "demo.localhost"
		res, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	var streams []*http.Response
	for range 2 {
		streams = append(streams, ask("/prod/stream")) //nolint:bodyclose // below
		await(t, "a stream to begin", entered)
	}
	short := func(path string) (status int, header http.Header) {
		t.Helper()
		res := ask(path)
		_ = res.Body.Close()
		if res.ProtoMajor != 2 {
			t.Errorf("%s was answered over %s", path, res.Proto)
		}
		return res.StatusCode, res.Header
	}
	if status, h := short("/prod/x"); status != 429 || h.Get("Retry-After") != "1" || h.Get("X-Amzn-ErrorType") != "TooManyRequestsException" {
		t.Errorf("a third stream: %d %v, want 429", status, h)
	}
	if status, _ := short("/free/x"); status != 200 {
		t.Errorf("another stage: %d", status)
	}
	for _, stream := range streams {
		_ = stream.Body.Close() // which resets it
		await(t, "a stream to end", left)
	}
	deadline := time.Now().Add(20 * time.Second)
	for status := 429; status != 200; status, _ = short("/prod/x") {
		if time.Now().After(deadline) {
			t.Fatal("the places were not given back")
		}
	}
}

// TestThrottledGRPC: a call above a limit fails as gRPC says that an HTTP 429 does, and
// one that streams holds its place until its end.
func TestThrottledGRPC(t *testing.T) {
	checker := health.NewServer()
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, checker)
	up := h2c(t, server)
	front := edge(t, newProxy(t, throttled(t, route.ThrottleSpec{Concurrency: 1}, route.HTTPSpec{URI: up.URL + "/{proxy}"}), nil))
	conn, err := grpc.NewClient("passthrough:///"+front.Listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("demo.localhost"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the test is over
	client := healthpb.NewHealthClient(staged{conn, "/prod"})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stream, err := client.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Check(ctx, &healthpb.HealthCheckRequest{}); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "429") {
		t.Errorf("beside a stream: %v, want UNAVAILABLE because of a 429", err)
	}
	if _, err := healthpb.NewHealthClient(staged{conn, "/free"}).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("another stage: %v", err)
	}
	checker.Shutdown()
	server.Stop()
	for err == nil {
		_, err = stream.Recv()
	}
}

// TestThrottledLine: the access log says which limit it was.
func TestThrottledLine(t *testing.T) {
	var log strings.Builder
	p := newProxy(t, throttled(t, route.ThrottleSpec{Millirate: 1, Burst: 1}, route.MockSpec{}), func(c *Config) {
		c.AccessLog, c.AccessLogShare = &log, 1
	})
	statuses(p, "/prod/x", 2)
	p.Close() // what was recorded is written
	var lines [2]map[string]any
	d := json.NewDecoder(strings.NewReader(log.String()))
	for i := range lines {
		if err := d.Decode(&lines[i]); err != nil {
			t.Fatal(err)
		}
	}
	if lines[0]["throttled"] != nil || lines[1]["throttled"] != "rate" || lines[1]["status"] != 429.0 {
		t.Errorf("got %v", lines)
	}
}

// TestGateUnderLoad: however many ask at once, no more enter than may.
func TestGateUnderLoad(t *testing.T) {
	const workers, requests = 8, 2000
	table := throttled(t, route.ThrottleSpec{Millirate: 1, Burst: 100, Concurrency: 3}, route.MockSpec{})
	s, _, _ := table.Lookup("demo.localhost", "/prod", "")
	var g gate
	var passed, inside, most atomic.Int64
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for range requests {
				above, _ := g.enter(&s.Throttle, 0)
				if above != unlimited {
					continue
				}
				passed.Add(1)
				for n := inside.Add(1); ; {
					if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
						break
					}
				}
				inside.Add(-1)
				g.leave()
			}
		})
	}
	group.Wait()
	if passed.Load() != 100 || most.Load() > 3 || g.inside.Load() != 0 {
		t.Errorf("%d passed, want 100; %d at once, want 3 at most; %d inside at the end", passed.Load(), most.Load(), g.inside.Load())
	}
}

// TestBucketUnderLoad: however many ask at once, each token is given out once. Nothing but
// the bucket is between them, so that they meet there.
func TestBucketUnderLoad(t *testing.T) {
	const workers, tokens = 8, 200_000
	var g gate
	var passed atomic.Int64
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			mine := int64(0)
			for range tokens / workers * 2 {
				if g.take(int64(time.Second), tokens*int64(time.Second), 0) <= 0 {
					mine++
				}
			}
			passed.Add(mine)
		})
	}
	group.Wait()
	if passed.Load() != tokens {
		t.Errorf("%d passed, want %d", passed.Load(), tokens)
	}
}

// TestIdleGatesAreForgotten: stages that are gone do not fill the memory, and none is
// forgotten that has something to remember.
func TestIdleGatesAreForgotten(t *testing.T) {
	g := newGates()
	busy := g.of(&route.Stage{API: "demo", Name: "busy"}, 0)
	busy.inside.Add(1)
	drained := g.of(&route.Stage{API: "demo", Name: "drained"}, 0)
	drained.due.Store(1000)
	for i := range 3 * maxIdleGates {
		g.of(&route.Stage{API: "demo", Name: fmt.Sprint("s", i)}, 1)
	}
	if n := len(*g.byKey.Load()); n > maxIdleGates {
		t.Errorf("%d gates are kept", n)
	}
	if g.of(&route.Stage{API: "demo", Name: "busy"}, 1) != busy || g.of(&route.Stage{API: "demo", Name: "drained"}, 1) != drained {
		t.Error("a gate that counts was forgotten")
	}
}

func TestGateDoesNotAllocate(t *testing.T) {
	table := throttled(t, route.ThrottleSpec{Millirate: 1, Burst: 500, Concurrency: 3}, route.MockSpec{})
	p := newProxy(t, table, nil)
	x := exchange{start: time.Now()}
	x.stage, _, _ = table.Lookup("demo.localhost", "/prod", "")
	if n := testing.AllocsPerRun(1000, func() { // half of them pass
		_ = p.admit(&x)
		x.leave()
	}); n != 0 {
		t.Errorf("%v allocations for each request", n)
	}
}

// BenchmarkThrottle is what limits cost a request, asked for by all cores at once.
func BenchmarkThrottle(b *testing.B) {
	for name, limits := range map[string]route.ThrottleSpec{
		"none":        {},
		"both, pass":  {Millirate: 1e9, Burst: 1e6, Concurrency: 100},
		"rate, above": {Millirate: 1, Burst: 1},
	} {
		b.Run(name, func(b *testing.B) {
			table := throttled(b, limits, route.MockSpec{})
			p := newProxy(b, table, nil)
			s, _, _ := table.Lookup("demo.localhost", "/prod", "")
			start := time.Now()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				x := exchange{start: start, stage: s}
				for pb.Next() {
					_ = p.admit(&x)
					x.leave()
				}
			})
		})
	}
}
