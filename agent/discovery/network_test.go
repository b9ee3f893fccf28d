package discovery

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// network is a set of nodes in memory. It runs inside a synctest bubble.
type network struct {
	t     *testing.T
	mu    sync.Mutex
	nodes map[string]*bufconn.Listener
	dials []dial
	began time.Time
}

// dial is one attempt to connect.
type dial struct {
	address string
	after   time.Duration // since the network began
}

func newNetwork(t *testing.T) *network {
	return &network{t: t, nodes: make(map[string]*bufconn.Listener), began: time.Now()}
}

// script is a node's side of one stream; the stream ends when it returns.
type script func(*stream) error

// node starts a node whose streams follow the scripts, one after the other, and
// fail the test if there are more. It returns a function that stops it.
func (n *network) node(address string, scripts ...script) (stop func()) {
	server := grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}))
	discoveryv1.RegisterDiscoveryServiceServer(server, &node{t: n.t, address: address, scripts: scripts})
	listener := bufconn.Listen(1 << 20)
	n.mu.Lock()
	n.nodes[address] = listener
	n.mu.Unlock()
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(listener); err != nil {
			n.t.Errorf("node %s: %v", address, err)
		}
	}()
	stop = sync.OnceFunc(func() {
		synctest.Wait() // until all that is on its way has arrived
		n.mu.Lock()
		delete(n.nodes, address)
		n.mu.Unlock()
		server.Stop()
		<-served
	})
	n.t.Cleanup(stop)
	return stop
}

func (n *network) dial(ctx context.Context, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dials = append(n.dials, dial{address, time.Since(n.began)})
	listener := n.nodes[address]
	n.mu.Unlock()
	if listener == nil {
		return nil, errors.New("connection refused")
	}
	return listener.DialContext(ctx)
}

func (n *network) dialled() []dial {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.dials)
}

type node struct {
	discoveryv1.UnimplementedDiscoveryServiceServer
	t       *testing.T
	address string
	mu      sync.Mutex
	scripts []script
}

func (n *node) Stream(s grpc.BidiStreamingServer[discoveryv1.StreamRequest, discoveryv1.StreamResponse]) error {
	n.mu.Lock()
	if len(n.scripts) == 0 {
		n.mu.Unlock()
		n.t.Errorf("node %s: a stream too many", n.address)
		return status.Error(codes.Internal, "a stream too many")
	}
	script := n.scripts[0]
	n.scripts = n.scripts[1:]
	n.mu.Unlock()
	return script(&stream{BidiStreamingServer: s, t: n.t})
}

// stream is what scripts read and write. Its methods return zero values once the
// agent is gone.
type stream struct {
	grpc.BidiStreamingServer[discoveryv1.StreamRequest, discoveryv1.StreamResponse]
	t *testing.T
	// renew is given every Renew; nil leaves them unanswered.
	renew func(*discoveryv1.Renew)
}

// Recv returns what is not a Renew.
func (s *stream) Recv() (*discoveryv1.StreamRequest, error) {
	for {
		r, err := s.BidiStreamingServer.Recv()
		if r.GetRenew() == nil {
			return r, err
		}
		if s.renew != nil {
			s.renew(r.GetRenew())
		}
	}
}

func (s *stream) hello() *discoveryv1.Hello {
	r, _ := s.Recv()
	if r.GetHello() == nil {
		s.t.Errorf("the stream begins with %v, not with a Hello", r)
	}
	return r.GetHello()
}

func (s *stream) frame(f *discoveryv1.Frame) {
	if err := s.Send(&discoveryv1.StreamResponse{Message: &discoveryv1.StreamResponse_Frame{Frame: f}}); err != nil {
		s.t.Errorf("send a frame: %v", err)
	}
}

// ack sends a frame and wants an Ack.
func (s *stream) ack(f *discoveryv1.Frame) {
	s.frame(f)
	r, _ := s.Recv()
	if !proto.Equal(r.GetAck().GetVersion(), f.GetTo()) {
		s.t.Errorf("frame to %v was answered with %v, want an Ack", f.GetTo(), r)
	}
}

// nack sends a frame and wants a Nack of what does not pass by itself.
func (s *stream) nack(f *discoveryv1.Frame, reason string, resync bool) {
	s.t.Helper()
	if n := s.refused(f, reason, resync); n.GetRetry() {
		s.t.Errorf("frame to %v was answered with %v: it does not pass", f.GetTo(), n)
	}
}

// refused sends a frame, wants a Nack and returns it.
func (s *stream) refused(f *discoveryv1.Frame, reason string, resync bool) *discoveryv1.Nack {
	s.t.Helper()
	s.frame(f)
	r, _ := s.Recv()
	n := r.GetNack()
	if !proto.Equal(n.GetVersion(), f.GetTo()) || !strings.Contains(n.GetReason(), reason) || n.GetResync() != resync {
		s.t.Errorf("frame to %v was answered with %v, want a Nack: %s, resync %v", f.GetTo(), r, reason, resync)
	}
	return n
}

// hold keeps the stream open until the agent ends it.
func (s *stream) hold() error {
	_, err := s.Recv()
	return err
}

func (s *stream) chunk(data []byte, last bool) error {
	return s.Send(&discoveryv1.StreamResponse{Message: &discoveryv1.StreamResponse_Chunk{
		Chunk: &discoveryv1.Chunk{Data: data, Last: last},
	}})
}

// config is that of an agent on the network.
func (n *network) config(addresses ...string) Config {
	return Config{
		AgentID:   "edge-1",
		Labels:    map[string]string{"zone": "a"},
		Addresses: addresses,
		Dir:       n.t.TempDir(),
		Build:     "test",
		DialOptions: []grpc.DialOption{
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(n.dial),
		},
	}
}

func (n *network) client(config Config) *Client {
	n.t.Helper()
	c, err := New(config)
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

// start runs a client and returns a function that stops it.
func (n *network) start(c *Client) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background()) // t.Context ends before cleanups do
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		synctest.Wait() // until all that is on its way has arrived
		cancel()
		if err := <-ended; err != nil {
			n.t.Errorf("Run: %v", err)
		}
		if c.Connected() {
			n.t.Error("connected after Run has ended")
		}
	})
	n.t.Cleanup(stop)
	return stop
}
