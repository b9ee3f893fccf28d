// Package proxy is the data path of an agent: HTTP in, integrations out. It
// takes its decisions from a route.Table and talks to no control plane.
//
// The path of a request, each step in the file of that name:
//
//	Serve, accept      server.go       a coroutine (worker.go) or goroutine for every connection, a sweeper for all
//	conn.serve         conn.go         a head is read and parsed by http1 (HTTP/2: stream.go)
//	Proxy.handle       proxy.go        the table of this moment, a request id, the head in plain values
//	normalizePath      path.go         the bytes matched will be the bytes forwarded
//	Table.Lookup                       host and first segment name the stage
//	choose             decide.go       a signed override (override.go), a sticky key, or chance: base or canary
//	admit              throttle.go     is the stage above its limits?
//	Variant.Match                      method and path name the route
//	appendForwarded    headers.go      what the integration may see of the client's fields
//	serveHTTP          http.go         target.go says where, pool.go and upstream.go how; pump.go streams the body
//	serveGRPC          grpc.go         over HTTP/2 all the way
//	tunnel             websocket.go
//	serveLambda        lambda.go       lambda_event.go in, lambda_response.go out, over AWS or an emulator
//	serveMock          mock.go         answer from the table
//	fail               errors.go       or else an answer of the agent's own, worded as API Gateway words it
//	conn.begin, write  conn_answer.go  the head and the body go back to the client
//	end                proxy.go        counted and timed (metrics.go), and logged (accesslog.go)
//
// What decides (head, exchange, and the functions of path.go, decide.go, override.go,
// headers.go, target.go and lambda_*.go) works on plain values and is pure; http1
// knows what bytes mean; only conn, stream and upstream know how they are read and
// written.
//
// The strings of a request are pieces of the buffer that it was read into. They are
// valid until the request ends, and whatever outlives it must be a copy.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fifegateway/fife/agent/route"
)

// DefaultMaxBody is how many bytes a request's body may have by default.
const DefaultMaxBody = 10 << 20

// DefaultDrain is how long requests under way may take to finish by default.
const DefaultDrain = 10 * time.Second

// Config is what a Proxy needs. Only Table must be set.
type Config struct {
	// Table returns the table to route by; never nil. It is called once for
	// each request, by many goroutines, and must not block.
	Table func() *route.Table
	// Lease returns until when the agent has a lease, for stages that fail closed. It
	// is called by many goroutines and must not block; nil means that there is none.
	Lease func() time.Time
	// DefaultAPI is the API of requests whose host names none; empty means the
	// only API there is.
	DefaultAPI string
	// ExposeHeaders sets X-Fife-Variant, X-Fife-Deployment and X-Fife-Version on
	// the responses of all stages, not only of those that expose them.
	ExposeHeaders bool

	// LambdaEndpoint is the URL of a service that speaks Lambda's Invoke, for
	// all functions that LambdaEndpoints does not name. Empty means AWS, in the
	// region of the function's ARN. Requests to AWS, and to an endpoint in
	// amazonaws.com, are signed with the credentials of the ordinary AWS chain,
	// which is not looked at before it is needed.
	LambdaEndpoint string
	// LambdaEndpoints maps functions to the URLs of Runtime Interface Emulators,
	// each of which serves one function, one invocation at a time. A key is an
	// ARN or a name, with or without :QUALIFIER; the most exact one that fits
	// counts, and one without qualifier fits every qualifier.
	LambdaEndpoints map[string]string

	// TrustedProxies are the peers whose X-Forwarded-* and the like are
	// believed and passed on.
	TrustedProxies []netip.Prefix
	// AllowUpstream are addresses that HTTP integrations may dial although they are
	// link-local, as the metadata services of clouds are, or the agent's own.
	AllowUpstream []netip.Prefix
	// Own returns where the agent itself listens; nil means nowhere.
	Own func() []netip.AddrPort
	// MaxBody is how many bytes a request's body may have, 0 meaning
	// DefaultMaxBody. gRPC and WebSocket streams have no such limit.
	MaxBody int64
	// MaxPerAddress is how many connections one IPv4 address, or one IPv6 network of 64
	// bits, may have; 0 means any number.
	MaxPerAddress int
	// Drain is how long the requests under way get when Serve has to end, 0 meaning
	// DefaultDrain.
	Drain time.Duration

	// AccessLog gets a line of JSON for requests; nil means none. AccessLogShare is
	// the share of requests, 0 to 1, that get one by chance; one that failed on the
	// agent's or an upstream's side (5xx) always does.
	AccessLog      io.Writer
	AccessLogShare float64

	// Rand brings the numbers of the random split, uniform over all of uint64,
	// and is called by many goroutines; nil means math/rand/v2.
	Rand func() uint64
	// Logger gets what goes wrong on the way to integrations; nil means nobody.
	Logger *slog.Logger
	// Registerer gets the metrics; nil means nobody.
	Registerer prometheus.Registerer
}

// Proxy serves an agent's requests, from the bytes that clients send to the bytes that
// they get. It is safe for concurrent use.
type Proxy struct {
	table      func() *route.Table
	lease      func() time.Time
	defaultAPI string
	expose     bool
	trusted    []netip.Prefix
	maxBody    int64
	tooLarge   answer
	perAddress int
	drain      time.Duration
	rand       func() uint64
	logger     *slog.Logger
	metrics    *metrics
	gates      *gates
	access     *accessLog
	clock      clock
	dated      atomic.Pointer[dated]

	guard  guard
	pools  *pools
	grpc   *http.Transport // HTTP/2, without TLS by prior knowledge
	lambda *lambda
}

// New checks the configuration and makes a Proxy. It starts nothing.
func New(c Config) (*Proxy, error) {
	switch {
	case c.Table == nil:
		return nil, errors.New("proxy: Table is not set")
	case c.MaxBody < 0:
		return nil, fmt.Errorf("proxy: MaxBody is %d: want 0 or more", c.MaxBody)
	case c.MaxPerAddress < 0:
		return nil, fmt.Errorf("proxy: MaxPerAddress is %d: want 0 or more", c.MaxPerAddress)
	case c.Drain < 0:
		return nil, fmt.Errorf("proxy: Drain is %v: want 0 or more", c.Drain)
	case !(c.AccessLogShare >= 0 && c.AccessLogShare <= 1):
		return nil, fmt.Errorf("proxy: AccessLogShare is %v: want 0 to 1", c.AccessLogShare)
	}
	for _, prefix := range append(c.TrustedProxies[:len(c.TrustedProxies):len(c.TrustedProxies)], c.AllowUpstream...) {
		if !prefix.IsValid() {
			return nil, errors.New("proxy: TrustedProxies or AllowUpstream holds an invalid prefix")
		}
	}
	p := &Proxy{
		table:      c.Table,
		lease:      c.Lease,
		defaultAPI: c.DefaultAPI,
		expose:     c.ExposeHeaders,
		trusted:    c.TrustedProxies,
		maxBody:    c.MaxBody,
		rand:       c.Rand,
		logger:     c.Logger,
		perAddress: c.MaxPerAddress,
		drain:      c.Drain,
		access:     newAccessLog(c.AccessLog, c.AccessLogShare),
		guard:      guard{allowed: c.AllowUpstream, own: c.Own},
	}
	p.gates = newGates()
	p.pools = newPools(&p.guard, &p.clock)
	p.grpc = newTransport(&p.guard)
	if p.drain == 0 {
		p.drain = DefaultDrain
	}
	if p.lease == nil {
		p.lease = func() time.Time { return time.Time{} }
	}
	if p.maxBody == 0 {
		p.maxBody = DefaultMaxBody
	}
	p.tooLarge = tooLarge(p.maxBody)
	if p.rand == nil {
		p.rand = rand.Uint64
	}
	if p.logger == nil {
		p.logger = slog.New(slog.DiscardHandler)
	}
	p.grpc.Protocols.SetHTTP2(true)
	p.grpc.Protocols.SetUnencryptedHTTP2(true)
	var err error
	if p.lambda, err = newLambda(c.LambdaEndpoint, c.LambdaEndpoints); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	if p.metrics, err = newMetrics(c.Registerer); err != nil {
		return nil, fmt.Errorf("proxy: register metrics: %w", err)
	}
	return p, nil
}

// Close gives up the idle connections to integrations. Requests that are still
// served are not disturbed.
func (p *Proxy) Close() {
	p.pools.close()
	p.access.flush()
	p.grpc.CloseIdleConnections()
	p.lambda.transport.CloseIdleConnections()
}

// handle serves one request from its head to the end of the response, whatever its
// client speaks. It reports whether the response broke off, or nobody was left to
// read it.
func (p *Proxy) handle(c client, x *exchange) (broken bool) {
	defer x.leave()
	return p.end(c, x, p.serve(c, x))
}

// serve decides and hands over to the integration. The error is a *failure if nothing
// was sent yet, or else wraps errBroken or errClientGone.
func (p *Proxy) serve(c client, x *exchange) error {
	if x.path == "*" && x.method == http.MethodOptions {
		x.path = "/"
		return x.answer(c, http.StatusOK, nil, "")
	}
	if s, ok := c.(*stream); ok {
		if err := s.check(); err != nil {
			return err
		}
	}
	if err := p.decide(x); err != nil {
		return err
	}
	if x.length > p.maxBody && !(x.proto == "HTTP/2.0" && isGRPC(x.first("Content-Type"))) {
		return p.tooLarge.because(nil)
	}
	switch i := x.route.Integration.(type) {
	case *route.HTTP:
		return p.serveHTTP(c, x, i)
	case *route.Lambda:
		return p.serveLambda(c, x, i)
	case *route.Mock:
		return x.serveMock(c, i)
	default:
		return internalError.because(fmt.Errorf("unknown integration %T", i))
	}
}

// begin completes what is known at the beginning of every request.
func (p *Proxy) begin(x *exchange) {
	x.scratch = scratches.Get().(*scratch)
	x.id = newRequestID(&x.scratch.id)
	x.start = time.Now()
	x.leased = p.lease() // before the table: a lease of later says nothing of an older one
	x.table = p.table()
	x.expose = p.expose
	if x.trusted {
		x.client = clientAddr(x.peer, x.values("X-Forwarded-For"), p.isTrusted)
	}
}

// end tells the client what went wrong, if it has not heard anything yet, and
// everybody else how it went.
func (p *Proxy) end(c client, x *exchange, err error) (broken bool) {
	var f *failure
	broken = errors.Is(err, errBroken) || errors.Is(err, errClientGone)
	switch {
	case errors.Is(err, errClientGone):
		x.status = statusClientGone
	case !broken && errors.As(err, &f):
		x.fail(c, f.answer)
		err = f.cause // the client's answer is no news
	}
	x.took = time.Since(x.start)
	p.metrics.observe(x)
	p.access.record(x)
	if err != nil {
		p.log(x, err)
	}
	return broken
}

// date returns the time for a Date field.
func (p *Proxy) date() string {
	now := p.clock.now()
	if d := p.dated.Load(); d != nil && d.second == now.Unix() {
		return d.text
	}
	d := &dated{now.Unix(), now.UTC().Format(http.TimeFormat)}
	p.dated.Store(d)
	return d.text
}

type dated struct {
	second int64
	text   string
}

func (p *Proxy) isTrusted(addr netip.Addr) bool { return containsAddr(p.trusted, addr) }

func containsAddr(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, prefix := range prefixes {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// requestPath returns the path of a request as the client sent it. The URL that
// net/http parsed will not do: of a path with odd bytes it gives a decoded and
// newly encoded form, in which an encoded slash has become a real one.
func requestPath(r *http.Request) string {
	path := r.RequestURI
	if path == "" { // not from a server
		return r.URL.EscapedPath()
	}
	if _, rest, ok := strings.Cut(path, "://"); ok && path[0] != '/' { // absolute-form, RFC 9112, 3.2.2
		path = rest[strings.IndexAny(rest+"/", "/?"):]
	}
	path, _, _ = strings.Cut(path, "?")
	return path
}

// log says why an exchange did not end well: loudly if the agent or an upstream
// is at fault, else for those who look for it.
func (p *Proxy) log(x *exchange, err error) {
	level := slog.LevelDebug
	if x.status >= 500 {
		level = slog.LevelWarn
	}
	if !p.logger.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{slog.String("request_id", x.id), slog.Int("status", x.status), slog.String("error", x.shown(err))}
	if x.stage != nil {
		attrs = append(attrs, slog.String("api", x.stage.API), slog.String("stage", x.stage.Name), slog.String("variant", x.variant.Name))
	}
	if x.route != nil {
		attrs = append(attrs, slog.String("route", x.route.Method+" "+x.route.Path))
	}
	p.logger.LogAttrs(context.Background(), level, "request failed", attrs...)
}

// newRequestID writes a random UUID (RFC 9562, version 4) and returns it as a string
// of the same bytes. It names a request in logs and guards nothing.
func newRequestID(out *[36]byte) string {
	const digits = "0123456789abcdef"
	hi, lo := rand.Uint64()&^0xf000|0x4000, rand.Uint64()&^(3<<62)|1<<63
	for i := len(out) - 1; i >= 0; i-- {
		switch i {
		case 8, 13, 18, 23:
			out[i] = '-'
			continue
		case 17: // the low word is used up
			lo = hi
		}
		out[i] = digits[lo&15]
		lo >>= 4
	}
	return unsafe.String(&out[0], len(out))
}
