package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fifegateway/fife/agent/route"
)

func TestHTTPPassesThrough(t *testing.T) {
	up := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Saw", r.Method+" "+r.RequestURI+" "+r.Host+" "+r.Header.Get("User-Agent")+" "+r.Header.Get("X-Custom")+" "+r.Header.Get("Accept-Encoding"))
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		w.Header().Set("Location", "http://elsewhere/")
		w.WriteHeader(http.StatusFound)
		_, _ = w.Write(body)
	}))
	host := strings.TrimPrefix(up.URL, "http://")
	table := compileRoutes(t, stage(func(s *route.StageSpec) { s.Variables = map[string]string{"host": host, "v": "v2"} }), nil, []route.RouteSpec{
		{Method: "ANY", Path: "/pets/{id}/{rest+}", Integration: route.HTTPSpec{URI: "http://${stageVariables.host}/${stageVariables.v}/{id}/x{rest}?fixed=1"}},
		{Method: "POST", Path: "/as-put", Integration: route.HTTPSpec{URI: up.URL, Method: "PUT"}},
	})
	front := edge(t, newProxy(t, table, nil))
	for _, c := range []struct{ method, target, body, saw string }{
		{"POST", "/prod/pets/a%2Fb%20c/d//e/?q=%20&q=2;x", "hello", "POST /v2/a%2Fb%20c/xd//e/?fixed=1&q=%20&q=2;x "},
		{"PATCH", "/prod/pets/1/2/./3/../4", "", "PATCH /v2/1/x2/4?fixed=1 "},
		{"POST", "/prod/as-put", "hello", "PUT / "},
	} {
		r := request(t, c.method, front.URL+c.target, strings.NewReader(c.body))
		r.Header["User-Agent"] = nil
		r.Header.Set("X-Custom", "kept")
		res := fetch(t, r)
		if saw := res.header.Get("X-Saw"); saw != c.saw+host+"  kept" {
			t.Errorf("%s %s: upstream saw %q, want %q", c.method, c.target, saw, c.saw)
		}
		if res.status != 302 || res.body != c.body || res.header.Get("Location") != "http://elsewhere/" || len(res.header["Set-Cookie"]) != 2 {
			t.Errorf("%s %s: got %+v", c.method, c.target, res)
		}
	}
}

// TestBytesMatchedAreForwarded sends what net/http would parse and write anew, so
// that the encoded slash becomes a real one.
func TestBytesMatchedAreForwarded(t *testing.T) {
	var saw string
	table := proxied(t, func(_ http.ResponseWriter, r *http.Request) { saw = r.RequestURI })
	get(newProxy(t, table, nil), "/prod/x%2fy|z?a|b")
	if saw != "/x%2fy%7Cz?a|b" {
		t.Errorf("upstream saw %s", saw)
	}
}

// seen serves one request to an upstream that reports the headers it saw.
func seen(t *testing.T, vary func(*Config), remote string, header http.Header) http.Header {
	t.Helper()
	var saw http.Header
	table := proxied(t, func(_ http.ResponseWriter, r *http.Request) { saw = r.Header })
	r := httptest.NewRequest(http.MethodGet, "http://api.example.com/prod/x", nil)
	r.RemoteAddr, r.Header = remote, header
	if w := do(newProxy(t, table, vary), r); w.Code != 200 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	return saw
}

func TestRequestHeaderHygiene(t *testing.T) {
	sent := http.Header{
		"X-Forwarded-For": {"1.1.1.1"}, "X-Forwarded-Host": {"evil"}, "X-Forwarded-Prefix": {"/evil"}, "X_forwarded_proto": {"evil"},
		"Forwarded": {"for=1.1.1.1"}, "X-Real-Ip": {"1.1.1.1"}, "X_real_ip": {"1.1.1.1"}, "X-Original-Url": {"/admin"}, "X-Rewrite-Url": {"/admin"}, "X_rewrite-Url": {"/admin"},
		"Connection": {"close, x-listed", "X-Forwarded-Proto"}, "X-Listed": {"1"}, "Keep-Alive": {"1"}, "Proxy-Authorization": {"1"}, "Proxy-Connection": {"1"}, "Te": {"gzip"},
		"Upgrade": {"h2c"}, "Http2-Settings": {"AAMAAABkAAQAAP__"}, "Trailer": {"X-T"}, "Expect": {"100-continue"}, "Proxy": {"http://evil"},
		"X-Fife-Variant": {"canary"}, "X_fife_variant": {"canary"}, "X-Fife-Version": {"9.9"},
		"Authorization": {"Bearer x"}, "X_custom": {"kept"}, "Cookie": {"a=b"},
	}
	want := http.Header{
		"Authorization": {"Bearer x"}, "X_custom": {"kept"}, "Cookie": {"a=b"},
		"X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"api.example.com"}, "X-Forwarded-Port": {"80"},
	}
	same(t, seen(t, nil, "192.0.2.7:4711", sent.Clone()), want)

	trusting := func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }
	want["X-Forwarded-For"] = []string{"1.1.1.1, 192.0.2.7"}
	want["X-Forwarded-Host"] = []string{"evil"}
	want["X-Forwarded-Prefix"] = []string{"/evil"}
	want["Forwarded"], want["X-Real-Ip"] = []string{"for=1.1.1.1"}, []string{"1.1.1.1"}
	want["X-Original-Url"], want["X-Rewrite-Url"] = []string{"/admin"}, []string{"/admin"}
	same(t, seen(t, trusting, "192.0.2.7:4711", sent.Clone()), want)
	want = http.Header{"X-Forwarded-For": {"198.51.100.1"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"api.example.com"}, "X-Forwarded-Port": {"80"}}
	same(t, seen(t, trusting, "198.51.100.1:4711", http.Header{"X-Forwarded-For": {"1.1.1.1"}}), want)
}

func same(t *testing.T, got, want http.Header) {
	t.Helper()
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("upstream saw %s: %q", name, got[name])
		}
	}
	for name, values := range want {
		if strings.Join(got[name], "\n") != strings.Join(values, "\n") {
			t.Errorf("upstream saw %s: %q, want %q", name, got[name], values)
		}
	}
}

func TestResponseHeaderHygiene(t *testing.T) {
	up := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Connection", "x-listed")
		h.Set("X-Listed", "1")
		h.Set("Keep-Alive", "timeout=5")
		h.Set("Proxy-Authenticate", "Basic")
		h.Set("Upgrade", "h2c")
		h.Set("X-Fife-Variant", "canary")
		h.Set("X-Fife-Deployment", "99")
		h.Set("X-Amzn-Requestid", "upstream's")
		h.Set("X-Kept", "1")
	}))
	silent := compile(t, stage(func(s *route.StageSpec) { s.ExposeHeaders = false }), route.HTTPSpec{URI: up.URL})
	if h := get(newProxy(t, silent, nil), "/prod/x").Header(); h.Get("X-Fife-Variant") != "" || h.Get("X-Kept") != "1" {
		t.Errorf("a stage that exposes nothing: %v", h)
	}
	h := get(newProxy(t, compile(t, stage(nil), route.HTTPSpec{URI: up.URL}), nil), "/prod/x").Header()
	for name, want := range map[string]string{"Connection": "", "X-Listed": "", "Keep-Alive": "", "Proxy-Authenticate": "", "Upgrade": "",
		"X-Fife-Variant": "base", "X-Fife-Deployment": "1", "X-Kept": "1"} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if id := h["X-Amzn-Requestid"]; len(id) != 1 || !uuid.MatchString(id[0]) {
		t.Errorf("request id: got %q", id)
	}
}

func TestExpandedURIIsCheckedAnew(t *testing.T) {
	for _, host := range []string{"#x", "127.0.0.1:99999999", "?x", "a/../b"} {
		table := compileRoutes(t, stage(func(s *route.StageSpec) { s.Variables = map[string]string{"host": host} }), nil,
			[]route.RouteSpec{{Method: "GET", Path: "/x", Integration: route.HTTPSpec{URI: "http://${stageVariables.host}/"}}})
		if w := get(newProxy(t, table, nil), "/prod/x"); w.Code != 500 || w.Body.String() != `{"message":"Internal server error"}` {
			t.Errorf("host %q: got %d %s", host, w.Code, w.Body)
		}
	}
	// An empty segment, which a path may have, makes a dot segment here.
	table := compile(t, stage(nil), route.HTTPSpec{URI: serve(t, http.NotFoundHandler()).URL + "/.{proxy}"})
	if w := get(newProxy(t, table, nil), "/prod//x"); w.Code != 500 {
		t.Errorf("a dot segment was forwarded: got %d %s", w.Code, w.Body)
	}
}

func TestUpstreamFailures(t *testing.T) {
	raw := func(answer string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = http.ReadRequest(bufio.NewReader(c))
				_, _ = io.WriteString(c, answer)
				_ = c.Close()
			}
		}()
		return "http://" + l.Addr().String()
	}
	closed := serve(t, http.NotFoundHandler())
	closed.Close()
	for name, uri := range map[string]string{
		"unreachable":      closed.URL,
		"no HTTP":          raw("220 smtp.example.com\r\n"),
		"nothing":          raw(""),
		"status 600":       raw("HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n"),
		"switched unasked": raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
		"two lengths":      raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
		"huge headers":     raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n"),
	} {
		front := edge(t, newProxy(t, compile(t, stage(nil), route.HTTPSpec{URI: uri}), nil))
		if res := fetch(t, request(t, "GET", front.URL+"/prod/x", nil)); res.status != 500 || res.body != `{"message":"Internal server error"}` {
			t.Errorf("%s: got %+v", name, res)
		}
	}
}

// TestBrokenOff sees to it that half a response is not taken for a whole one.
func TestBrokenOff(t *testing.T) {
	table := proxied(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	front := edge(t, newProxy(t, table, nil))
	res, err := http.Get(front.URL + "/prod/x")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if body, err := io.ReadAll(res.Body); err == nil || string(body) != "half" {
		t.Errorf("got %q, %v; want half of it and an error", body, err)
	}
}

// reached is a timeout within which a request gets to its integration even if the
// machine is busy.
const reached = time.Second

func TestTimeoutToHeaders(t *testing.T) {
	gone := make(chan struct{}, 1)
	up := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		gone <- struct{}{}
	}))
	table := compileRoutes(t, stage(nil), nil, []route.RouteSpec{
		{Method: "GET", Path: "/x", Timeout: reached, Integration: route.HTTPSpec{URI: up.URL}}})
	w := get(newProxy(t, table, nil), "/prod/x")
	if w.Code != 504 || w.Body.String() != `{"message": "Endpoint request timed out"}` {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	await(t, "the upstream's request to be cancelled", gone)
}

// TestTimeoutDoesNotCutStreams streams for longer than the route's timeout: that
// it has passed is known by another request, which ran into it.
func TestTimeoutDoesNotCutStreams(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	up := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
			return
		}
		_ = http.NewResponseController(w).Flush()
		close(begun)
		<-finish
		_, _ = io.WriteString(w, "late")
	}))
	table := compileRoutes(t, stage(nil), nil, []route.RouteSpec{
		{Method: "GET", Path: "/{x}", Timeout: reached, Integration: route.HTTPSpec{URI: up.URL + "/{x}"}}})
	p := newProxy(t, table, nil)
	done := make(chan *httptest.ResponseRecorder, 1)
	go func() { done <- get(p, "/prod/stream") }()
	await(t, "the stream's beginning", begun)
	if w := get(p, "/prod/hang"); w.Code != 504 {
		t.Errorf("the other request: got %d", w.Code)
	}
	close(finish)
	if w := await(t, "the stream's end", done); w.Code != 200 || w.Body.String() != "late" {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
}

func TestClientGoneCancelsUpstream(t *testing.T) {
	arrived, gone := make(chan struct{}), make(chan struct{})
	table := proxied(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(gone)
	})
	front := edge(t, newProxy(t, table, nil))
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, front.URL+"/prod/x", nil)
		res, err := http.DefaultClient.Do(r)
		if err == nil {
			_ = res.Body.Close()
		}
		failed <- err
	}()
	await(t, "the request at its upstream", arrived)
	cancel()
	if err := await(t, "the client's error", failed); err == nil {
		t.Error("the client got a response")
	}
	await(t, "the upstream's request to be cancelled", gone)
}

// TestClientsGoneAmongMany: of more connections than are looked at in one step all are
// seen to, whose clients are gone; nobody else is cut off.
func TestClientsGoneAmongMany(t *testing.T) {
	const n = 2*lookStep + lookStep/2
	arrived, gone, stay := make(chan struct{}, n), make(chan struct{}, n), make(chan struct{})
	table := proxied(t, func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		select {
		case <-r.Context().Done():
			gone <- struct{}{}
		case <-stay:
		}
	})
	front := edge(t, newProxy(t, table, nil))
	var conns []net.Conn
	for range n {
		conn, err := net.Dial("tcp", front.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // all was said
		if _, err := io.WriteString(conn, "GET /prod/x HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	for range n {
		await(t, "a request at its upstream", arrived)
	}
	for _, conn := range conns[1:] {
		_ = conn.Close()
	}
	for range n - 1 {
		await(t, "a request to be cancelled", gone)
	}
	close(stay)
	if status, err := bufio.NewReader(conns[0]).ReadString('\n'); err != nil || !strings.HasPrefix(status, "HTTP/1.1 200") {
		t.Errorf("the client that has stayed got %q, %v", status, err)
	}
}

func TestServerSentEvents(t *testing.T) {
	next := make(chan string)
	table := proxied(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		_ = http.NewResponseController(w).Flush()
		for event := range next {
			_, _ = io.WriteString(w, "data: "+event+"\n\n")
			_ = http.NewResponseController(w).Flush()
		}
	})
	front := edge(t, newProxy(t, table, nil))
	// The response comes before the first event, and each event before the next.
	res, err := http.Get(front.URL + "/prod/events")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	lines := bufio.NewReader(res.Body)
	for _, event := range []string{"one", "two"} {
		next <- event
		line, _ := lines.ReadString('\n')
		if _, err := lines.ReadString('\n'); err != nil || line != "data: "+event+"\n" {
			t.Errorf("got %q, %v; want %s", line, err, event)
		}
	}
	close(next)
	if _, err := lines.ReadByte(); err != io.EOF {
		t.Errorf("at the end: %v, want EOF", err)
	}
}

// TestStreamsBothWays talks in turns over one HTTP/1.1 request.
func TestStreamsBothWays(t *testing.T) {
	table := proxied(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		_ = rc.Flush()
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			_, _ = io.WriteString(w, "echo "+lines.Text()+"\n")
			_ = rc.Flush()
			if lines.Text() == "enough" {
				return // before the request has ended
			}
		}
	})
	front := edge(t, newProxy(t, table, nil))
	for _, last := range []string{"end", "enough"} {
		body, send := io.Pipe()
		res, err := http.DefaultClient.Do(request(t, "POST", front.URL+"/prod/chat", body))
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(res.Body)
		for _, word := range []string{"one", "two", last} {
			_, _ = io.WriteString(send, word+"\n")
			if got, err := lines.ReadString('\n'); err != nil || got != "echo "+word+"\n" {
				t.Errorf("got %q, %v; want echo of %s", got, err, word)
			}
		}
		if last == "end" {
			_ = send.Close()
		}
		if _, err := lines.ReadByte(); err != io.EOF {
			t.Errorf("after %q: %v, want EOF", last, err)
		}
		_ = res.Body.Close()
		_ = send.Close()
	}
}

func TestTrailers(t *testing.T) {
	table := proxied(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum, X-Fife-Version")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Sum", "4")
		w.Header().Set("X-Fife-Version", "9.9")
		w.Header().Set(http.TrailerPrefix+"X-More", "5")
	})
	front := edge(t, newProxy(t, table, nil))
	res := fetch(t, request(t, "GET", front.URL+"/prod/x", nil))
	if res.body != "body" || res.trailer.Get("X-Sum") != "4" || res.trailer.Get("X-More") != "5" || res.trailer.Get("X-Fife-Version") != "" {
		t.Errorf("got %+v", res)
	}
}

func TestBodyLimit(t *testing.T) {
	table := proxied(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil || n != 10 {
			w.WriteHeader(http.StatusTeapot)
		}
	})
	front := edge(t, newProxy(t, table, func(c *Config) { c.MaxBody = 10 }))
	for _, c := range []struct {
		size    int
		chunked bool
		want    int
	}{{10, false, 200}, {10, true, 200}, {11, false, 413}, {11, true, 413}, {1 << 20, true, 413}} {
		var body io.Reader = strings.NewReader(strings.Repeat("x", c.size))
		if c.chunked {
			body = io.MultiReader(body) // of unknown length
		}
		res := fetch(t, request(t, "POST", front.URL+"/prod/x", body))
		if res.status != c.want {
			t.Errorf("%+v: got %+v", c, res)
		}
	}
}

// TestMalformedBody sees to it that a client's fault is told to the client.
func TestMalformedBody(t *testing.T) {
	table := proxied(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	front := edge(t, newProxy(t, table, nil))
	conn, err := net.Dial("tcp", front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "POST /prod/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("got %d, want 400", res.StatusCode)
	}
}
