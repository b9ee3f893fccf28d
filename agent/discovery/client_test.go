package discovery

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/fifegateway/fife/agent/route"
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
	server := grpc.NewServer()
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
	return script(&stream{s, n.t})
}

// stream is what scripts read and write. Its methods return zero values once the
// agent is gone.
type stream struct {
	grpc.BidiStreamingServer[discoveryv1.StreamRequest, discoveryv1.StreamResponse]
	t *testing.T
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

// nack sends a frame and wants a Nack.
func (s *stream) nack(f *discoveryv1.Frame, reason string, resync bool) {
	s.frame(f)
	r, _ := s.Recv()
	n := r.GetNack()
	if !proto.Equal(n.GetVersion(), f.GetTo()) || !strings.Contains(n.GetReason(), reason) || n.GetResync() != resync {
		s.t.Errorf("frame to %v was answered with %v, want a Nack: %s, resync %v", f.GetTo(), r, reason, resync)
	}
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
	ctx, cancel := context.WithCancel(n.t.Context())
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

// wait waits until a client has applied an index.
func wait(c *Client, index uint64) {
	for {
		changed := c.Changed()
		if c.Table().Version().Index >= index {
			return
		}
		<-changed
	}
}

func wantServed(t *testing.T, c *Client, want string, index uint64) {
	t.Helper()
	if got := served(c.Table(), "demo", "prod"); got != want {
		t.Errorf("serves %s, want %s", got, want)
	}
	if got := c.Status().Applied; got != c.Table().Version() || got.Index != index {
		t.Errorf("applied %v, table %v, want index %d", got, c.Table().Version(), index)
	}
}

func TestClientFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, cp := newNetwork(t), newControlPlane()
		step := make(chan struct{})
		n.node("n1:1", func(s *stream) error {
			h := s.hello()
			if h.GetAgentId() != "edge-1" || h.GetLabels()["zone"] != "a" || h.GetBuild() != "test" || h.GetHave() != nil || h.GetSeen() != nil {
				t.Errorf("hello %v", h)
			}
			s.ack(cp.full())
			<-step
			s.ack(cp.step(11, one(stage("demo", "prod", 2, 11))))
			return s.hold()
		})
		c := n.client(n.config("n1:1"))
		wantServed(t, c, "none", 0)
		if c.Connected() {
			t.Error("connected before Run")
		}
		first := c.Changed()
		n.start(c)
		<-first
		wantServed(t, c, "demo/1", 10)
		if s := c.Status(); !s.Connected || s.Address != "n1:1" || s.LastFrame.IsZero() || s.LastNack != "" {
			t.Errorf("status %+v", s)
		}
		old, second := c.Table(), c.Changed()
		close(step)
		<-second
		wantServed(t, c, "demo/2", 11)
		if served(old, "demo", "prod") != "demo/1" {
			t.Error("the old table has changed")
		}
		select {
		case <-c.Changed():
			t.Error("Changed is closed without a successor")
		default:
		}
	})
}

// TestClientReconnects: the next node hears what is held and seen, and goes on
// from there.
func TestClientReconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, cp := newNetwork(t), newControlPlane()
		begin := func(s *stream) error {
			s.hello()
			s.ack(cp.full())
			return status.Error(codes.Unavailable, "the node shuts down")
		}
		resume := func(s *stream) error {
			h := s.hello()
			if !proto.Equal(h.GetHave(), version(10)) || !proto.Equal(h.GetSeen(), version(10)) {
				t.Errorf("hello %v", h)
			}
			s.ack(cp.step(11, nil, "apis/demo/stages/prod"))
			return s.hold()
		}
		// Which of the two is first is random.
		var once sync.Once
		either := func(s *stream) error {
			script := resume
			once.Do(func() { script = begin })
			return script(s)
		}
		n.node("n1:1", either)
		n.node("n2:1", either)
		c := n.client(n.config("n1:1", "n2:1"))
		n.start(c)
		wait(c, 11)
		wantServed(t, c, "none", 11)
		d := n.dialled()
		if len(d) != 2 || d[0].address == d[1].address {
			t.Errorf("dialled %v, want each node once", d)
		}
	})
}

func TestClientChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, cp := newNetwork(t), newControlPlane()
		data, err := proto.Marshal(cp.full())
		if err != nil {
			t.Fatal(err)
		}
		n.node("n1:1", func(s *stream) error {
			s.hello()
			for piece := range slices.Chunk(data, 7) {
				if err := s.chunk(piece, false); err != nil {
					t.Error(err)
				}
			}
			if err := s.chunk(nil, true); err != nil {
				t.Error(err)
			}
			if r, _ := s.Recv(); !proto.Equal(r.GetAck().GetVersion(), version(10)) {
				t.Errorf("chunks were answered with %v", r)
			}
			s.ack(cp.step(11, one(stage("demo", "prod", 2, 11)))) // the pieces are forgotten
			return s.hold()
		})
		c := n.client(n.config("n1:1"))
		n.start(c)
		wait(c, 11)
		wantServed(t, c, "demo/2", 11)
	})
}

// TestClientEndsBrokenStreams: what cannot be answered ends the stream, and the
// agent goes on with a new one.
func TestClientEndsBrokenStreams(t *testing.T) {
	tests := map[string]func(*stream) error{
		"undecodable frame": func(s *stream) error { return s.chunk([]byte("\xff\xff"), true) },
		"frame among chunks": func(s *stream) error {
			if err := s.chunk([]byte("x"), false); err != nil {
				return err
			}
			return s.Send(&discoveryv1.StreamResponse{Message: &discoveryv1.StreamResponse_Frame{Frame: newControlPlane().full()}})
		},
		"unknown message": func(s *stream) error { return s.Send(&discoveryv1.StreamResponse{}) },
		"frame without end": func(s *stream) error {
			piece := make([]byte, 256<<10)
			for sent := 0; sent <= maxFrame; sent += len(piece) {
				if err := s.chunk(piece, false); err != nil {
					return err
				}
			}
			return nil
		},
	}
	for name, breakIt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, cp := newNetwork(t), newControlPlane()
				ended := false
				n.node("n1:1", func(s *stream) error {
					s.hello()
					if err := breakIt(s); err != nil {
						t.Error(err)
					}
					r, err := s.Recv()
					if ended = err != nil; !ended {
						t.Errorf("was answered with %v", r)
					}
					return err
				}, func(s *stream) error {
					s.hello()
					s.ack(cp.full())
					return s.hold()
				})
				c := n.client(n.config("n1:1"))
				n.start(c)
				wait(c, 10)
				wantServed(t, c, "demo/1", 10)
				if !ended {
					t.Error("the broken stream did not end")
				}
			})
		})
	}
}

// TestClientIsRedirected: a node that is behind names another, which the agent
// did not know of.
func TestClientIsRedirected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, cp := newNetwork(t), newControlPlane()
		n.node("n1:1", func(s *stream) error {
			s.hello()
			st, err := status.New(codes.Unavailable, "behind").WithDetails(&discoveryv1.Redirect{Addresses: []string{"n9:1"}})
			if err != nil {
				t.Error(err)
			}
			return st.Err()
		})
		n.node("n9:1", func(s *stream) error {
			s.hello()
			s.ack(cp.full())
			return s.hold()
		})
		c := n.client(n.config("n1:1"))
		n.start(c)
		wait(c, 10)
		wantServed(t, c, "demo/1", 10)
		if d := n.dialled(); len(d) != 2 || d[1].address != "n9:1" || d[1].after > minDelay {
			t.Errorf("dialled %v", d)
		}
	})
}

// TestClientBacksOff: without a node, the limits of the delays double up to the
// maximum; after a stream that held, they begin anew.
func TestClientBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c := n.client(n.config("n1:1"))
		c.jitter = func(limit time.Duration) time.Duration { return limit }
		n.start(c)
		time.Sleep(time.Minute) // in the bubble's time
		synctest.Wait()
		ms := func(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }
		want := []time.Duration{0, ms(100), ms(300), ms(700), ms(1500), ms(3100), ms(6300), ms(12700), ms(25500), ms(40500), ms(55500)}
		var got []time.Duration
		for _, d := range n.dialled() {
			got = append(got, d.after)
		}
		if !slices.Equal(got, want) {
			t.Errorf("attempts at %v, want %v", got, want)
		}

		n.node("n1:1", func(s *stream) error {
			s.hello()
			time.Sleep(20 * time.Second)
			return nil
		}, func(s *stream) error {
			s.hello()
			return s.hold()
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		d := n.dialled()
		if last := d[len(d)-2:]; last[1].after-last[0].after != 20*time.Second+minDelay {
			t.Errorf("attempts at %v and %v, want 20.1 s between them", last[0].after, last[1].after)
		}
		if !c.Connected() {
			t.Error("is not connected")
		}
	})
}

// TestClientDoesNotFight: a stream that is ended at once, as when two agents have
// one id, is not opened again and again without delay.
func TestClientDoesNotFight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		fight := slices.Repeat([]script{func(s *stream) error {
			s.hello()
			return status.Error(codes.AlreadyExists, "another agent has this id")
		}}, 1000)
		n.node("n1:1", fight...)
		c := n.client(n.config("n1:1"))
		c.jitter = func(limit time.Duration) time.Duration { return limit / 2 }
		n.start(c)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := len(n.dialled()); got > 20 {
			t.Errorf("%d attempts in a minute", got)
		}
	})
}

// TestJitterIsFull: delays are drawn from all of the range.
func TestJitterIsFull(t *testing.T) {
	c := newNetwork(t).client(newNetwork(t).config("n1:1"))
	low, high := false, false
	for range 1000 {
		d := c.jitter(minDelay)
		if d < 0 || d >= minDelay {
			t.Fatalf("delay %v of up to %v", d, minDelay)
		}
		low, high = low || d < minDelay/4, high || d > minDelay*3/4
	}
	if !low || !high {
		t.Error("1000 delays lie in one half of the range")
	}
}

// TestClientLeavesASilentNode: a node that takes connections and says nothing
// does not hold the agent.
func TestClientLeavesASilentNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, cp := newNetwork(t), newControlPlane()
		silent := bufconn.Listen(1 << 20)
		t.Cleanup(func() { _ = silent.Close() })
		n.nodes["silent:1"] = silent
		n.node("n1:1", func(s *stream) error {
			s.hello()
			s.ack(cp.full())
			return s.hold()
		})
		c := n.client(n.config("silent:1", "n1:1"))
		n.start(c)
		wait(c, 10)
		if waited := time.Since(n.began); waited > 30*time.Second {
			t.Errorf("took %v", waited)
		}
	})
}

// TestClientRefuses: a poisoned frame leaves everything as it was; the next good
// one is applied.
func TestClientRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, cp := newNetwork(t), newControlPlane()
		refused, step := make(chan struct{}), make(chan struct{})
		n.node("n1:1", func(s *stream) error {
			s.hello()
			s.ack(cp.full())
			poisoned := cp.step(11, one(stage("demo", "prod", 2, 11), deploymentOf("demo", 3, 11, &discoveryv1.Route{Method: "GET", Path: "relative"})))
			s.nack(poisoned, `path "relative"`, false)
			close(refused)
			<-step
			cp.index = 10
			s.ack(cp.step(12, one(stage("demo", "prod", 2, 11), deployment("demo", 3, 12))))
			return s.hold()
		})
		c := n.client(n.config("n1:1"))
		first := c.Changed()
		n.start(c)
		<-first
		table, second := c.Table(), c.Changed()
		<-refused
		if c.Table() != table || !strings.Contains(c.Status().LastNack, "relative") || !c.Connected() {
			t.Errorf("status %+v", c.Status())
		}
		wantServed(t, c, "demo/1", 10)
		close(step)
		<-second
		synctest.Wait()
		wantServed(t, c, "demo/2", 12)
		if got := c.Status().LastNack; got != "" {
			t.Errorf("last nack %q", got)
		}
	})
}

// TestClientResyncs: what does not fit is refused with a wish for a full
// snapshot, and that mends it.
func TestClientResyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, cp := newNetwork(t), newControlPlane()
		n.node("n1:1", func(s *stream) error {
			s.hello()
			s.ack(cp.full())
			f := cp.step(11, one(stage("demo", "prod", 2, 11)))
			f.Digest++
			s.nack(f, "digest", true)
			s.ack(cp.full())
			f = cp.step(12, nil)
			f.From = version(10)
			s.nack(f, "starts from", true)
			s.ack(cp.full())
			return s.hold()
		})
		c := n.client(n.config("n1:1"))
		n.start(c)
		wait(c, 12)
		wantServed(t, c, "demo/2", 12)
	})
}

// TestReasonIsBounded: a Nack's reason is at most 4 KiB of valid UTF-8.
func TestReasonIsBounded(t *testing.T) {
	n := newNetwork(t)
	c := n.client(n.config("n1:1"))
	r := c.refuse(newControlPlane().full(), errors.New("x"+strings.Repeat("é", 4000)))
	if got := r.GetNack().GetReason(); len(got) > 4096 || len(got) < 4000 || strings.ToValidUTF8(got, "?") != got {
		t.Errorf("reason of %d bytes", len(got))
	}
}

// TestClientStartsFromDisk: without any node, what was held is served at once,
// and said to the node that comes.
func TestClientStartsFromDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, cp := newNetwork(t), newControlPlane()
		config := n.config("n1:1")
		stopNode := n.node("n1:1", func(s *stream) error {
			s.hello()
			s.ack(cp.full())
			return s.hold()
		})
		c := n.client(config)
		stop := n.start(c)
		wait(c, 10)
		stop()
		stopNode()

		c = n.client(config)
		wantServed(t, c, "demo/1", 10)
		n.start(c)
		time.Sleep(time.Hour)
		synctest.Wait()
		wantServed(t, c, "demo/1", 10)
		n.node("n1:1", func(s *stream) error {
			if h := s.hello(); !proto.Equal(h.GetHave(), version(10)) || !proto.Equal(h.GetSeen(), version(10)) {
				t.Errorf("hello %v", h)
			}
			s.ack(cp.step(11, one(stage("demo", "prod", 2, 11))))
			return s.hold()
		})
		wait(c, 11)
		wantServed(t, c, "demo/2", 11)
	})
}

// TestClientWithAnotherFilter: what was received for other APIs is served, but no
// delta can follow it.
func TestClientWithAnotherFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, cp := newNetwork(t), newControlPlane()
		config := n.config("n1:1")
		var resumed []bool
		follow := func(s *stream) error {
			resumed = append(resumed, s.hello().GetHave() != nil)
			s.ack(cp.full())
			return s.hold()
		}
		n.node("n1:1", follow, follow, follow)
		for _, apis := range [][]string{nil, {"shop", "demo"}, {"demo", "shop"}} {
			config.APIs = apis
			c := n.client(config)
			changed := c.Changed()
			stop := n.start(c)
			<-changed
			stop()
			wantServed(t, c, "demo/1", 10)
		}
		if !slices.Equal(resumed, []bool{false, false, true}) {
			t.Errorf("resumed: %v", resumed)
		}
	})
}

// TestClientWithoutDisk: a frame that cannot be kept is not routed by.
func TestClientWithoutDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, cp := newNetwork(t), newControlPlane()
		config := n.config("n1:1")
		obstacle := filepath.Join(config.Dir, currentName+tmpSuffix)
		n.node("n1:1", func(s *stream) error {
			s.hello()
			if err := os.Mkdir(obstacle, 0o700); err != nil {
				t.Error(err)
			}
			s.nack(cp.full(), "to disk", false)
			if err := os.Remove(obstacle); err != nil {
				t.Error(err)
			}
			cp.step(11, nil)
			s.ack(cp.full())
			return s.hold()
		})
		c := n.client(config)
		n.start(c)
		wait(c, 11)
		wantServed(t, c, "demo/1", 11)
	})
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, cp := newNetwork(t), newControlPlane()
		registry := prometheus.NewRegistry()
		config := n.config("n1:1")
		config.Registerer = registry
		held := make(chan struct{})
		n.node("n1:1", func(s *stream) error {
			s.hello()
			return nil
		}, func(s *stream) error {
			s.hello()
			s.ack(cp.full())
			f := cp.step(11, nil)
			f.Digest++
			s.nack(f, "digest", true)
			close(held)
			return s.hold()
		})
		c := n.client(config)
		wantMetrics(t, registry, map[string]float64{
			"fife_agent_connected": 0, "fife_agent_applied_version_epoch": 0, "fife_agent_applied_version_index": 0,
			"fife_agent_frames_total applied": 0, "fife_agent_frames_total refused": 0, "fife_agent_reconnects_total": 0,
			"fife_agent_seconds_since_last_frame": math.NaN(), "fife_agent_frame_apply_seconds": 0,
		})
		n.start(c)
		<-held
		time.Sleep(5 * time.Second)
		synctest.Wait()
		wantMetrics(t, registry, map[string]float64{
			"fife_agent_connected": 1, "fife_agent_applied_version_epoch": 1, "fife_agent_applied_version_index": 10,
			"fife_agent_frames_total applied": 1, "fife_agent_frames_total refused": 1, "fife_agent_reconnects_total": 1,
			"fife_agent_seconds_since_last_frame": 5, "fife_agent_frame_apply_seconds": 1,
		})
		if _, err := New(config); err == nil || !strings.Contains(err.Error(), "register metrics") {
			t.Errorf("two clients on one registry: %v", err)
		}
	})
}

func wantMetrics(t *testing.T, g prometheus.Gatherer, want map[string]float64) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range want {
		if g, ok := got[name]; !ok || g != want && !(math.IsNaN(g) && math.IsNaN(want)) {
			t.Errorf("%s = %v, want %v", name, g, want)
		}
	}
	if len(got) != len(want) {
		t.Errorf("metrics %v", got)
	}
}

func TestNewRefuses(t *testing.T) {
	labels := make(map[string]string)
	for i := range 33 {
		labels[strings.Repeat("k", i+1)] = ""
	}
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"agent id, none", func(c *Config) { c.AgentID = "" }, `agent id ""`},
		{"agent id, character", func(c *Config) { c.AgentID = "a b" }, `agent id "a b"`},
		{"agent id, long", func(c *Config) { c.AgentID = strings.Repeat("a", 129) }, "1 to 128"},
		{"labels", func(c *Config) { c.Labels = labels }, "33 labels"},
		{"label key", func(c *Config) { c.Labels = map[string]string{"": "x"} }, `label ""`},
		{"label value", func(c *Config) { c.Labels = map[string]string{"x": strings.Repeat("a", 129)} }, `label "x"`},
		{"no address", func(c *Config) { c.Addresses = nil }, "no address"},
		{"address without port", func(c *Config) { c.Addresses = []string{"host"} }, `address "host"`},
		{"address without host", func(c *Config) { c.Addresses = []string{":80"} }, `address ":80"`},
		{"no directory", func(c *Config) { c.Dir = "" }, "no directory"},
		{"unusable directory", func(c *Config) { c.Dir = filepath.Join(os.DevNull, "x") }, "directory"},
	}
	for _, tt := range tests {
		config := newNetwork(t).config("n1:1")
		tt.change(&config)
		if _, err := New(config); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %s", tt.name, err, tt.want)
		}
	}
}

func TestNewLogsDamage(t *testing.T) {
	var log bytes.Buffer
	config := newNetwork(t).config("n1:1")
	config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	if err := os.WriteFile(filepath.Join(config.Dir, currentName), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newNetwork(t).client(config)
	if !c.Status().Applied.IsZero() || c.Table().Version() != (route.Version{}) || !strings.Contains(log.String(), "damaged") {
		t.Errorf("status %+v, log %s", c.Status(), &log)
	}
}
