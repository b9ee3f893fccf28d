package discovery

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// await waits for an event, but not for ever: keep-alives would go on as long in
// the bubble's time.
func await(t *testing.T, event <-chan struct{}) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(2 * time.Hour):
		t.Fatal("waited for two hours")
	}
}

// wait waits until a client has applied an index.
func wait(t *testing.T, c *Client, index uint64) {
	t.Helper()
	for {
		changed := c.Changed()
		if c.Table().Version().Index >= index {
			return
		}
		await(t, changed)
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
		await(t, first)
		wantServed(t, c, "demo/1", 10)
		if s := c.Status(); !s.Connected || s.Address != "n1:1" || s.LastFrame.IsZero() || s.LastNack != "" {
			t.Errorf("status %+v", s)
		}
		old, second := c.Table(), c.Changed()
		close(step)
		await(t, second)
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
		wait(t, c, 11)
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
		wait(t, c, 11)
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
				ended := make(chan struct{})
				n.node("n1:1", func(s *stream) error {
					s.hello()
					if err := breakIt(s); err != nil {
						t.Error(err)
					}
					defer close(ended)
					select {
					case <-s.Context().Done():
					case <-time.After(time.Minute):
						t.Error("the agent goes on")
					}
					return nil
				}, func(s *stream) error {
					s.hello()
					s.ack(cp.full())
					return s.hold()
				})
				c := n.client(n.config("n1:1"))
				n.start(c)
				wait(t, c, 10)
				wantServed(t, c, "demo/1", 10)
				await(t, ended)
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
		wait(t, c, 10)
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

// TestClientSpreads: the first attempt after a stream is spread over the time that its
// node asked for.
func TestClientSpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.node("n1:1", func(s *stream) error {
			asked := make(chan struct{})
			s.renew = func(r *discoveryv1.Renew) {
				s.lease(&discoveryv1.Lease{Sequence: r.GetSequence(), ReconnectWithin: durationpb.New(3 * time.Second)})
				close(asked)
			}
			s.hello()
			go func() { _ = s.hold() }()
			<-asked
			return nil
		}, func(s *stream) error {
			s.hello()
			return s.hold()
		})
		c := n.client(n.config("n1:1"))
		c.jitter = func(limit time.Duration) time.Duration { return limit }
		n.start(c)
		time.Sleep(time.Minute)
		synctest.Wait()
		if d := n.dialled(); len(d) != 2 || d[1].after != 3*time.Second {
			t.Errorf("dialled %v, want a second time after 3 s", d)
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
		wait(t, c, 10)
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
		await(t, first)
		table, second := c.Table(), c.Changed()
		await(t, refused)
		if c.Table() != table || !strings.Contains(c.Status().LastNack, "relative") || !c.Connected() {
			t.Errorf("status %+v", c.Status())
		}
		wantServed(t, c, "demo/1", 10)
		close(step)
		await(t, second)
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
		wait(t, c, 12)
		wantServed(t, c, "demo/2", 12)
	})
}

// TestReasonIsBounded: a Nack's reason is at most 4 KiB of valid UTF-8.
func TestReasonIsBounded(t *testing.T) {
	n := newNetwork(t)
	c := n.client(n.config("n1:1"))
	r := c.refuse(newControlPlane().full(), errors.New("x"+strings.Repeat("é", 4000)), false)
	if got := r.GetNack().GetReason(); len(got) > 4096 || len(got) < 4000 || strings.ToValidUTF8(got, "?") != got {
		t.Errorf("reason of %d bytes", len(got))
	}
}
