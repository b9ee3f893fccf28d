//go:build linux

package edge_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// held is how much load the tests of this file hold, and for how long.
type held struct {
	length time.Duration
	slow   int
	rate   int
	others int // WebSockets and uploads, of each
}

func holding() held {
	if *soaked == 0 {
		return held{length: 300 * time.Millisecond, slow: 60, rate: 200, others: 2}
	}
	return held{length: *soaked, slow: *slow, rate: *rate, others: 10}
}

// TestSlowClients: clients that send and read slowly, many of them, do not hurt the
// others: their p99 at most doubles, and memory stays bounded. nginx tells beside it what
// of that the machine does.
func TestSlowClients(t *testing.T) {
	h := holding()
	a, _ := soakAgent(t)
	before := vitals(t, a)
	c := &contestant{name: agentName, process: a.process, http1: a.http}
	open, closed, ratio := besideSlow(t, c, h, func(open int64) {
		during := vitals(t, a)
		perConn := float64(during.rss-before.rss) / float64(max(1, open)) / 1024
		if *soaked == 0 {
			return
		}
		fmt.Fprintf(t.Output(), "%v before, %v during: %.1f KiB per slow connection\n", before, during, perConn)
		if perConn > 64 {
			t.Errorf("a slow connection takes %.1f KiB", perConn)
		}
	})
	if h.length > 15*time.Second && closed == 0 {
		t.Error("the agent has ended no slow connection")
	}
	if *soaked == 0 {
		return
	}
	fmt.Fprintf(t.Output(), "%d slow connections held for %v: p99 of the others is %.2f times (goal: 2 at most: %s)\n",
		open, h.length, ratio, met(ratio <= 2))
	nginx := &peers[0]
	if version, ok := nginx.installed(); ok {
		h.length /= 5
		base := startBenchUpstream(t, nil)
		p, http1, _ := startPeer(t, nginx, base, base, runtime.NumCPU(), nil)
		_, _, ratio := besideSlow(t, &contestant{name: version, process: p, http1: http1}, h, func(int64) {})
		fmt.Fprintf(t.Output(), "beside the same clients for %v, of %s it is %.2f times\n", h.length, version, ratio)
	}
}

// besideSlow measures what a proxy does for others alone and beside slow clients, and
// returns how many were open at the end, how many it has ended, and by how much the p99
// of the others has grown. look is called while they are open.
func besideSlow(t *testing.T, c *contestant, h held, look func(open int64)) (open, closed int64, ratio float64) {
	t.Helper()
	spec := loadSpec{Path: "/b/x", Length: 100, Conns: 64, Streams: 1, Rate: h.rate, Warm: h.length / 10, Phase: h.length / 5}
	alone := measure(t, c, spec, nil)
	s := startSlow(t, c.http1, h.slow)
	if err := await(t.Context(), "open the slow connections", func() error {
		if open, _ := s.count(); open < int64(h.slow)*9/10 {
			return fmt.Errorf("%d of %d are open", open, h.slow)
		}
		return nil
	}, c.process, s.process); err != nil {
		t.Error(err)
	}
	spec.Phase = h.length
	beside := measure(t, c, spec, nil)
	open, closed = s.count()
	look(open)
	s.kill()
	ratio = beside[p99] / alone[p99]
	if *soaked > 0 {
		fmt.Fprintf(t.Output(), "%s: %d slow connections, %d more that it has ended; %d/s of others: p50 %s alone and %s beside them, p99 %s and %s\n",
			c.name, open, closed, h.rate, format(p50, alone[p50]), format(p50, beside[p50]), format(p99, alone[p99]), format(p99, beside[p99]))
	}
	return open, closed, ratio
}

func met(ok bool) string {
	if ok {
		return "met"
	}
	return "missed"
}

// TestSoak: five config swaps a second, beside load, WebSockets and uploads: not one
// request fails, and goroutines, file descriptors and memory stay flat.
func TestSoak(t *testing.T) {
	h := holding()
	a, plane := soakAgent(t)
	ctx, cancel := context.WithTimeout(t.Context(), h.length+h.length/5)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	var swaps, messages, uploads atomic.Int64
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(200 * time.Millisecond):
				plane.publish(soakStage(rand.Uint32N(1_000_001)))
				swaps.Add(1)
			}
		}
	})
	for i := range h.others {
		g.Go(func() error { return holdWebSocket(ctx, a.http, &messages) })
		g.Go(func() error { return upload(ctx, a.http, i, &uploads) })
	}
	c := &contestant{name: agentName, process: a.process, http1: a.http}
	spec := loadSpec{Path: "/b/x", Length: 100, Conns: 64, Streams: 1, Rate: h.rate, Phase: h.length / 10}
	measure(t, c, spec, nil) // what grows at the beginning is no leak
	before := vitals(t, a)
	spec.Phase = h.length * 9 / 10
	got := measure(t, c, spec, nil)
	after := vitals(t, a)
	cancel()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if swaps.Load() == 0 || messages.Load() == 0 || uploads.Load() == 0 {
		t.Errorf("%d swaps, %d messages, %d uploads", swaps.Load(), messages.Load(), uploads.Load())
	}
	if *soaked == 0 {
		return
	}
	fmt.Fprintf(t.Output(), "%v: %d swaps, %.0f requests/s, %d WebSocket messages, %d uploads of 1 MiB; none failed; p99 %s, p99.9 %s\n",
		h.length, swaps.Load(), got[throughput], messages.Load(), uploads.Load(), format(p99, got[p99]), format(p999, got[p999]))
	fmt.Fprintf(t.Output(), "%v in the beginning, %v at the end\n", before, after)
	// Each connection of the load may have left one to an upstream in a pool.
	if after.goroutines > before.goroutines+before.goroutines/5+20 || after.fds > before.fds+spec.Conns+20 ||
		after.rss > before.rss+before.rss/2+(8<<20) {
		t.Errorf("the agent grows: %v in the beginning, %v at the end", before, after)
	}
}

// soakAgent starts an agent with routes to upstreams for load, uploads and
// WebSockets, split between two deployments.
func soakAgent(t *testing.T) (*agent, *controlPlane) {
	t.Helper()
	base := startBenchUpstream(t, nil)
	other := httpUpstream(t)
	routes := func() []*discoveryv1.Route {
		return []*discoveryv1.Route{
			httpRoute("GET", "/{proxy+}", "http://"+base+"/b/{proxy}"),
			httpRoute("POST", "/{proxy+}", "http://"+other+"/{proxy}"),
			httpRoute("GET", "/ws", "http://"+other+"/ws"),
		}
	}
	plane := startControlPlane(t, apiResource(), deploymentResource(1, routes()...), deploymentResource(2, routes()...), soakStage(500_000))
	return startAgent(t, agentName, plane, nil), plane
}

func soakStage(ppm uint32) *discoveryv1.Resource {
	return stageResource("b", &discoveryv1.Stage{Deployment: 1, Canary: &discoveryv1.Canary{Deployment: 2, PartsPerMillion: ppm}})
}

// httpUpstream counts what is uploaded, and echoes what comes on WebSockets.
func httpUpstream(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return // the client is gone
		}
		fmt.Fprint(w, n)
	})
	mux.HandleFunc("GET /ws", func(w http.ResponseWriter, r *http.Request) {
		accept := acceptOf(&message{fields: []field{{"Sec-WebSocket-Key", r.Header.Get("Sec-WebSocket-Key")}}})
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close() //nolint:errcheck // all was said
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "+accept+"\r\n\r\n")
		_, _ = io.Copy(conn, buffered)
	})
	s := &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	go func() { _ = s.Serve(l) }() // it ends with Close
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

// holdWebSocket keeps one WebSocket open and sends messages that have to come back.
func holdWebSocket(ctx context.Context, address string, messages *atomic.Int64) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // all was said
	_, _ = io.WriteString(conn, "GET /b/ws HTTP/1.1\r\nHost: ws.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	r := bufio.NewReader(conn)
	if res, err := readResponse(r, false); err != nil || res.status != 101 {
		return fmt.Errorf("open a WebSocket: status %d, %v", res.status, err) //nolint:errorlint // it may be nil
	}
	buf := make([]byte, 64)
	for n := 0; ; n++ {
		_ = conn.SetDeadline(time.Now().Add(patience))
		text := fmt.Sprintf("%064d", n)
		if _, err := io.WriteString(conn, text); err != nil {
			return fmt.Errorf("send message %d: %w", n, err)
		}
		if _, err := io.ReadFull(r, buf); err != nil || string(buf) != text {
			return fmt.Errorf("message %d came back as %q: %v", n, buf, err) //nolint:errorlint // it may be nil
		}
		messages.Add(1)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// upload sends bodies of 1 MiB, with a length or in chunks, and wants them counted.
func upload(ctx context.Context, address string, kind int, uploads *atomic.Int64) error {
	client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
	defer client.CloseIdleConnections()
	body := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	for ctx.Err() == nil {
		var reader io.Reader = bytes.NewReader(body)
		if kind%2 == 1 {
			reader = io.MultiReader(reader) // whose length is not known
		}
		resp, err := client.Post("http://"+address+"/b/upload", "application/octet-stream", reader)
		if err != nil {
			return fmt.Errorf("upload: %w", err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || string(text) != strconv.Itoa(len(body)) {
			return fmt.Errorf("an upload was answered %s %q: %v", resp.Status, text, err) //nolint:errorlint // it may be nil
		}
		uploads.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// vital signs of an agent.
type vitalSigns struct {
	goroutines, fds int
	rss             int64
}

func (v vitalSigns) String() string {
	return fmt.Sprintf("%d goroutines, %d file descriptors, %.1f MiB", v.goroutines, v.fds, float64(v.rss)/(1<<20))
}

var goroutinesMetric = regexp.MustCompile(`(?m)^go_goroutines (\d+)$`)

func vitals(t *testing.T, a *agent) vitalSigns {
	t.Helper()
	resp, err := http.Get("http://" + a.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var v vitalSigns
	found := goroutinesMetric.FindSubmatch(text)
	if found == nil {
		t.Fatal("the agent does not tell how many goroutines it has")
	}
	if v.goroutines, err = strconv.Atoi(string(found[1])); err != nil {
		t.Fatal(err)
	}
	if v.fds, err = a.fds(); err != nil {
		t.Fatal(err)
	}
	if v.rss, err = a.rss(); err != nil {
		t.Fatal(err)
	}
	return v
}
