package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/fifegateway/fife/agent/route"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

const (
	maxFrame  = 256 << 20 // of a frame that comes in chunks
	maxReason = 4 << 10   // of a Nack, by the protocol
	window    = 1 << 20   // of flow control, per stream and per connection
)

// Client keeps a route.Table in step with the control plane. All methods but Run
// may be called by any goroutine at any time, before Run and after it too.
type Client struct {
	config  Config
	apis    []string // of config, sorted
	log     *slog.Logger
	metrics *metrics
	nodes   *nodes
	disk    *lastGood
	// resume is whether what is held was received with the same filter, so that
	// a delta can follow it. Run alone uses it.
	resume bool
	// jitter draws a delay from below a limit; tests draw less randomly.
	jitter func(limit time.Duration) time.Duration

	// stepping is held by who makes the next table: the stream, or a flip.
	stepping sync.Mutex
	held     []string // the filter that what is held was received with
	current  atomic.Pointer[published]

	began      time.Time
	lease      atomic.Int64 // until when, in nanoseconds since began; 0 for never
	clockMoved chan struct{}
	spread     atomic.Int64 // of the next first attempt, in nanoseconds

	mu        sync.Mutex
	status    Status   // Applied and Lease are left unset
	clock     estimate // of the leader's
	reconnect context.CancelCauseFunc
}

// published is a held set with the channel that its successor closes.
type published struct {
	*held
	superseded chan struct{}
	// coming is what is held once former configurations have been left, by when each
	// is due, and left is how many of them a request has found due.
	coming []coming
	left   atomic.Int32
}

// Status is what a Client knows of itself, for operators.
type Status struct {
	// Connected is whether a stream is open, to Address.
	Connected bool
	// Address of the node that was asked last.
	Address string
	// Applied is the version that is routed by; zero before the first.
	Applied route.Version
	// LastFrame is when the last frame came, applied or not, since New.
	LastFrame time.Time
	// LastNack is why the last frame was refused; empty once a later one has
	// been applied.
	LastNack string
	// LastHeard is when the last message of any kind came from a node, since New.
	LastHeard time.Time
	// Lease is until when the agent has a lease, as Client.Lease says.
	Lease time.Time
	// LeaseDenied is why the last answer brought no lease; empty if it did.
	LeaseDenied string
}

// New checks the configuration and loads the last good table from Dir: Table
// serves it at once. A damaged generation is logged and the one before it is
// taken; it is an error only if Dir cannot be used. It starts nothing.
func New(config Config) (*Client, error) {
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	c := &Client{
		config: config,
		apis:   slices.Sorted(slices.Values(config.APIs)),
		log:    cmp.Or(config.Logger, slog.New(slog.DiscardHandler)),
		nodes:  newNodes(config.Addresses),
		jitter: rand.N[time.Duration],

		began:      time.Now(),
		clockMoved: make(chan struct{}, 1),
	}
	var err error
	if c.disk, err = openLastGood(config.Dir, config.KeyFile, c.log); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	if c.metrics, err = newMetrics(config.Registerer, c.Status); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	h, apis := c.disk.load(agent{config.AgentID, config.Labels}, time.Now())
	c.held = apis
	c.resume = slices.Equal(apis, c.apis)
	c.publish(h)
	if !h.version.IsZero() {
		c.log.Info("serving the last good table from disk", "version", h.version)
	}
	return c, nil
}

// Table returns what to route by. It is never nil; before the first frame of a
// new agent it routes nothing. It takes no lock, unless a former configuration is
// still to be left: whether that is due is looked at for every request, so that a
// process which was stopped does not route by it when it goes on.
func (c *Client) Table() *route.Table {
	p := c.current.Load()
	if len(p.coming) == 0 {
		return p.table
	}
	return p.at(c.stageClock()).table
}

// Changed returns a channel that is closed when the table of now is superseded.
// To miss no table, take the channel before the table.
func (c *Client) Changed() <-chan struct{} { return c.current.Load().superseded }

// Connected reports whether a stream to the control plane is open.
func (c *Client) Connected() bool { return c.Status().Connected }

// Status returns what the client knows of itself.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.Lease = c.Lease()
	s.Applied = c.current.Load().version
	return s
}

func (c *Client) publish(next *held) {
	old := c.current.Swap(&published{held: next, superseded: make(chan struct{}), coming: next.coming()})
	c.metrics.version(next.version)
	if old != nil {
		close(old.superseded)
	}
}

// Run keeps one stream open until ctx ends, and then returns nil: there is no
// other way to stop trying. It may be called once.
func (c *Client) Run(ctx context.Context) error {
	flipping := make(chan struct{})
	go func() {
		defer close(flipping)
		c.flips(ctx)
	}()
	defer func() { <-flipping }()
	for attempt := 0; ; attempt++ {
		address := c.nodes.next()
		began := time.Now()
		session, end := c.reconnectable(ctx)
		err := c.session(session, address)
		again := errors.Is(context.Cause(session), errReconnect)
		end()
		c.setConnected(false, address)
		if ctx.Err() != nil {
			return nil
		}
		if again {
			attempt = -1
			c.log.Info("stream is opened anew", "reason", errReconnect)
			continue
		}
		if to := redirects(err); len(to) > 0 {
			c.nodes.redirect(to)
		}
		if time.Since(began) >= maxDelay {
			attempt = 0
		}
		delay := c.jitter(delayLimit(attempt, time.Duration(c.spread.Load())))
		c.log.Warn("no stream to the control plane", "address", address, "error", err, "retry_in", delay)
		c.metrics.reconnects.Inc()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
	}
}

// redirects returns the addresses that a node sent the agent to.
func redirects(err error) []string {
	for _, detail := range status.Convert(err).Details() {
		if r, ok := detail.(*discoveryv1.Redirect); ok {
			return r.GetAddresses()
		}
	}
	return nil
}

// dialOptions returns how connections are made. A connection serves one stream
// and dies with it, so gRPC has nothing to retry. Fixed windows do without the
// bandwidth estimator, which would answer every frame with a ping.
func (c *Client) dialOptions() []grpc.DialOption {
	return append([]grpc.DialOption{
		grpc.WithUserAgent("fife-agent/" + c.config.Build),
		grpc.WithStaticStreamWindowSize(window),
		grpc.WithStaticConnWindowSize(window),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: maxDelay, MaxDelay: maxDelay},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
	}, c.config.DialOptions...)
}

// session holds one stream to one node and returns why it ended.
func (c *Client) session(ctx context.Context, address string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The dialer resolves names: one connection, whatever the name stands for.
	conn, err := grpc.NewClient("passthrough:///"+address, c.dialOptions()...)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	defer func() { _ = conn.Close() }() // it has nothing left to say
	stream, err := discoveryv1.NewDiscoveryServiceClient(conn).Stream(ctx)
	if err != nil {
		return fmt.Errorf("open a stream: %w", err)
	}
	s := newSession(c, stream)
	if err := s.say(c.hello()); err != nil {
		return fmt.Errorf("say hello: %w", err)
	}
	renewing := make(chan struct{})
	go func() {
		defer close(renewing)
		s.renew(ctx)
	}()
	defer func() {
		cancel() // which ends a Send that waits, too
		<-renewing
	}()
	c.setConnected(true, address)
	var chunks []byte
	for {
		response, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		c.setHeard()
		var frame *discoveryv1.Frame
		switch m := response.GetMessage().(type) {
		case *discoveryv1.StreamResponse_Frame:
			if len(chunks) > 0 {
				return errors.New("receive: a frame between the chunks of another")
			}
			frame = m.Frame
		case *discoveryv1.StreamResponse_Chunk:
			if len(chunks)+len(m.Chunk.GetData()) > maxFrame {
				return fmt.Errorf("receive: a frame in chunks of over %d bytes", maxFrame)
			}
			if chunks = append(chunks, m.Chunk.GetData()...); !m.Chunk.GetLast() {
				continue
			}
			frame = new(discoveryv1.Frame)
			if err := proto.Unmarshal(chunks, frame); err != nil {
				return fmt.Errorf("receive: decode a frame of %d bytes: %w", len(chunks), err)
			}
			chunks = nil
		case *discoveryv1.StreamResponse_Lease:
			s.take(m.Lease)
			continue
		case *discoveryv1.StreamResponse_Trust:
			if c.config.Trust == nil {
				return errors.New("receive: whom to trust, on a connection without TLS")
			}
			if err := s.say(c.believe(m.Trust)); err != nil {
				return fmt.Errorf("answer whom to trust: %w", err)
			}
			continue
		default:
			return errors.New("receive: a message of a kind that this build does not know")
		}
		if err := s.say(c.take(frame)); err != nil {
			return fmt.Errorf("answer a frame: %w", err)
		}
		if !time.Now().Before(c.Lease()) {
			s.renewNow() // what is held now may be what was wanting
		}
	}
}

// say sends one request for the reader. A stream that has ended says why only to
// Recv, which is the reader's alone.
func (s *session) say(r *discoveryv1.StreamRequest) error {
	err := s.send(r)
	if !errors.Is(err, io.EOF) {
		return err
	}
	for err = nil; err == nil; {
		_, err = s.stream.Recv()
	}
	return err
}

func (c *Client) hello() *discoveryv1.StreamRequest {
	h := c.current.Load().held
	hello := &discoveryv1.Hello{
		AgentId: c.config.AgentID,
		Labels:  c.config.Labels,
		Seen:    toProto(h.seen),
		Apis:    c.apis,
		Build:   c.config.Build,

		ClusterId: h.cluster,
	}
	if c.config.Trust != nil {
		hello.Roots = c.config.Trust.Roots()
	}
	if c.resume {
		hello.Have = toProto(h.version)
	}
	return &discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Hello{Hello: hello}}
}

// take applies one frame, or refuses it and leaves everything as it was, and
// returns the answer to it.
func (c *Client) take(f *discoveryv1.Frame) *discoveryv1.StreamRequest {
	c.stepping.Lock()
	defer c.stepping.Unlock()
	began := time.Now()
	held := c.current.Load().soFar()
	next, err := held.apply(f, c.leaderNow())
	if err != nil {
		return c.refuse(f, err, false)
	}
	if err := c.disk.save(next, f, c.apis); err != nil {
		return c.refuse(f, err, true) // the disk may have room again before there is a newer version
	}
	c.resume, c.held = true, c.apis
	if held.cluster != "" && next.cluster != held.cluster {
		c.dropLease()
	}
	c.metrics.applied.Inc()
	c.metrics.apply.Observe(time.Since(began).Seconds())
	c.setFrame("")
	c.publish(next)
	c.log.Info("applied a frame", "version", next.version, "from", fromProto(f.GetFrom()), "resources", len(next.resources),
		"upserts", len(f.GetUpserts()), "removes", len(f.GetRemoves()), "took", time.Since(began))
	return &discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Ack{
		Ack: &discoveryv1.Ack{Version: f.GetTo()},
	}}
}

// refuse returns the answer to a frame that was not taken. Retry asks to be sent it again.
func (c *Client) refuse(f *discoveryv1.Frame, cause error, retry bool) *discoveryv1.StreamRequest {
	reason := cause.Error()
	reason = strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "")
	c.metrics.refused.Inc()
	c.setFrame(reason)
	c.log.Error("refused a frame", "version", fromProto(f.GetTo()), "held", c.current.Load().version, "reason", reason)
	return &discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Nack{
		Nack: &discoveryv1.Nack{Version: f.GetTo(), Reason: reason, Resync: errors.Is(cause, errOutOfStep), Retry: retry},
	}}
}

func (c *Client) setConnected(connected bool, address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Connected, c.status.Address = connected, address
	c.metrics.connected.Set(0)
	if connected {
		c.metrics.connected.Set(1)
	}
}

func (c *Client) setHeard() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.LastHeard = time.Now()
}

func (c *Client) setFrame(nack string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.LastFrame, c.status.LastNack = time.Now(), nack
}
