package discovery

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

func (s *stream) lease(l *discoveryv1.Lease) {
	if err := s.Send(&discoveryv1.StreamResponse{Message: &discoveryv1.StreamResponse_Lease{Lease: l}}); err != nil {
		s.t.Errorf("send a lease: %v", err)
	}
}

// grant answers every Renew with a lease and, if off is set, with a clock that is
// ahead of the agent's by so much.
func (s *stream) grant(off *time.Duration) {
	s.renew = func(r *discoveryv1.Renew) {
		l := &discoveryv1.Lease{Sequence: r.GetSequence(), Ttl: durationpb.New(leaseTTL)}
		if off != nil {
			l.LeaderTime, l.LeaderTimeError = timestamppb.New(time.Now().Add(*off)), durationpb.New(time.Millisecond)
		}
		s.lease(l)
	}
}

// left returns how much longer a client's lease lasts.
func left(c *Client) time.Duration { return max(time.Until(c.Lease()), 0) }

// TestLeaseIsRenewed: every third of its time, counted, from when it was sent, and
// with how far the clock may be wrong once it is known.
func TestLeaseIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		var at []time.Duration
		n.node("n1:1", func(s *stream) error {
			s.hello()
			s.renew = func(r *discoveryv1.Renew) {
				at = append(at, time.Since(n.began))
				if r.GetSequence() != uint64(len(at)) {
					t.Errorf("Renew %d has sequence %d", len(at), r.GetSequence())
				}
				if (r.GetClockError() != nil) != (len(at) > 1) {
					t.Errorf("Renew %d: clock error %v", len(at), r.GetClockError())
				}
				if len(at) > 1 && r.GetClockError().AsDuration() < 201*time.Millisecond {
					t.Errorf("Renew %d: clock error %v", len(at), r.GetClockError().AsDuration())
				}
				time.Sleep(400 * time.Millisecond) // an answer takes its time
				s.lease(&discoveryv1.Lease{Sequence: r.GetSequence(), Ttl: durationpb.New(9 * time.Second),
					LeaderTime: timestamppb.Now(), LeaderTimeError: durationpb.New(time.Millisecond)})
			}
			return s.hold()
		})
		c := n.client(n.config("n1:1"))
		if left(c) != 0 {
			t.Error("has a lease before Run")
		}
		n.start(c)
		time.Sleep(100 * time.Millisecond)
		if left(c) != 0 {
			t.Error("has a lease before the answer")
		}
		time.Sleep(400 * time.Millisecond)
		if got := left(c); got != 8500*time.Millisecond {
			t.Errorf("the lease lasts %v, want 8.5 s: it runs from when it was asked for", got)
		}
		time.Sleep(61 * time.Second)
		synctest.Wait()
		for i := 2; i < len(at); i++ {
			if got := at[i] - at[i-1]; got != 3*time.Second {
				t.Errorf("Renews %d and %d are %v apart", i, i+1, got)
			}
		}
		if len(at) < 20 || left(c) < 5*time.Second {
			t.Errorf("%d Renews, the lease lasts %v", len(at), left(c))
		}
	})
}

// TestLeaseRunsOn: a denial ends no lease, nor does the end of its stream; time does.
// A new process has none.
func TestLeaseRunsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, cp := newNetwork(t), newControlPlane()
		stopNode := n.node("n1:1", func(s *stream) error {
			s.hello()
			s.renew = func(r *discoveryv1.Renew) {
				l := &discoveryv1.Lease{Sequence: r.GetSequence(), Ttl: durationpb.New(leaseTTL)}
				if r.GetSequence() > 1 {
					l.Ttl, l.Reason = nil, "no quorum"
				}
				s.lease(l)
			}
			s.frame(cp.full())
			return s.holdAcked()
		})
		config := n.config("n1:1")
		c := n.client(config)
		stop := n.start(c)
		wait(t, c, 10)
		for c.Status().LeaseDenied == "" {
			time.Sleep(100 * time.Millisecond)
		}
		if s := c.Status(); left(c) < 5*time.Second || s.LeaseDenied != "no quorum" || !s.Lease.Equal(c.Lease()) {
			t.Errorf("after a denial the lease lasts %v; %+v", left(c), s)
		}
		stopNode()
		until := left(c)
		time.Sleep(until - time.Nanosecond)
		if left(c) != time.Nanosecond || c.Connected() {
			t.Errorf("without a stream the lease lasts %v, connected %v", left(c), c.Connected())
		}
		time.Sleep(time.Nanosecond)
		if time.Now().Before(c.Lease()) {
			t.Error("the lease outlasts itself")
		}
		stop()
		if c := n.client(config); left(c) != 0 {
			t.Error("a new process has a lease")
		}
	})
}

// TestLeaseAnswersOutOfOrder: an answer counts from its own Renew, none counts twice
// or out of thin air, and a later one shortens nothing.
func TestLeaseAnswersOutOfOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c := n.client(n.config("n1:1"))
		s := newSession(c, nil)
		for range 3 {
			s.nextRenew()
			time.Sleep(time.Second)
		}
		answer := func(sequence uint64, ttl, want time.Duration) {
			t.Helper()
			s.take(&discoveryv1.Lease{Sequence: sequence, Ttl: durationpb.New(ttl)})
			if got := left(c); got != want {
				t.Errorf("after answer %d with %v the lease lasts %v, want %v", sequence, ttl, got, want)
			}
		}
		answer(0, time.Hour, 0)
		answer(4, time.Hour, 0)
		answer(2, 10*time.Second, 8*time.Second)
		answer(2, time.Hour, 8*time.Second)
		answer(1, time.Hour, 8*time.Second)
		answer(3, 2*time.Second, 8*time.Second)
		for range unanswered + 1 {
			s.nextRenew()
		}
		answer(4, time.Hour, 8*time.Second)
		answer(5, -time.Hour, 8*time.Second)
		answer(6, 20*time.Second, 20*time.Second)
	})
}

// TestLeaseBetweenChunks: answers come in the middle of a frame, and the frame that
// was wanting is followed by a Renew at once.
func TestLeaseBetweenChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, cp := newNetwork(t), newControlPlane()
		data, err := proto.Marshal(cp.full())
		if err != nil {
			t.Fatal(err)
		}
		n.node("n1:1", func(s *stream) error {
			s.hello()
			r, _ := s.BidiStreamingServer.Recv()
			for i, piece := range slices.Collect(slices.Chunk(data, 7)) {
				if i == 2 {
					s.lease(&discoveryv1.Lease{Sequence: r.GetRenew().GetSequence(), Reason: "is behind"})
				}
				if err := s.chunk(piece, false); err != nil {
					t.Error(err)
				}
			}
			if err := s.chunk(nil, true); err != nil {
				t.Error(err)
			}
			s.grant(nil)
			return s.holdAcked()
		})
		c := n.client(n.config("n1:1"))
		n.start(c)
		wait(t, c, 10)
		time.Sleep(time.Millisecond)
		wantServed(t, c, "demo/1", 10)
		if left(c) == 0 {
			t.Errorf("has no lease: %+v", c.Status())
		}
	})
}

// holdAcked is hold after an Ack.
func (s *stream) holdAcked() error {
	if r, _ := s.Recv(); r.GetAck() == nil {
		s.t.Errorf("got %v, want an Ack", r)
	}
	return s.hold()
}

// TestSilentStreamsLeakNothing: nodes that never answer a Renew, or never read, leave
// nothing behind.
func TestSilentStreamsLeakNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.node("n1:1", slices.Repeat([]script{func(s *stream) error {
			select {
			case <-s.Context().Done():
			case <-time.After(time.Minute):
			}
			return nil
		}}, 1000)...)
		c := n.client(n.config("n1:1"))
		n.start(c)
		time.Sleep(150 * time.Second)
		synctest.Wait()
		begin := runtime.NumGoroutine()
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := runtime.NumGoroutine(); got > begin+5 {
			t.Errorf("%d goroutines, an hour ago %d", got, begin)
		}
	})
}

// TestTimedFlip: with an estimate a client changes over when the leader's clock says
// so, once, and keeps that on disk; without one at once.
func TestTimedFlip(t *testing.T) {
	ahead, none := time.Hour, (*time.Duration)(nil)
	for name, tt := range map[string]struct {
		off  *time.Duration
		wait time.Duration
	}{"with an estimate": {&ahead, 5 * time.Second}, "without": {none, 0}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, cp := newNetwork(t), newControlPlane()
				n.node("n1:1", func(s *stream) error {
					s.hello()
					s.grant(tt.off)
					s.ack(cp.full())
					time.Sleep(time.Second)
					s.ack(cp.step(11, one(stage("demo", "prod", 2, 11, next(1, 40)))))
					at := time.Now().Add(ahead + 5*time.Second)
					s.ack(cp.step(12, one(stage("demo", "prod", 1, 12, former(2, 40, at)))))
					return s.hold()
				})
				config := n.config("n1:1")
				c := n.client(config)
				stop := n.start(c)
				wait(t, c, 12)
				committed := time.Now()
				for served(c.Table(), "demo", "prod") == "demo/2" && time.Since(committed) < time.Hour {
					await(t, c.Changed())
				}
				if got := time.Since(committed); (got - tt.wait).Abs() > 5*time.Millisecond {
					t.Errorf("changed over after %v, want %v", got, tt.wait)
				}
				wantServed(t, c, "demo/1", 12)
				stop()
				wantServed(t, n.client(config), "demo/1", 12)
			})
		})
	}
}

// TestFlipAfterRestart: what comes from disk waits by the wall clock, until a node
// tells the leader's or grants a lease without it.
func TestFlipAfterRestart(t *testing.T) {
	slow, fast := -10*time.Second, 10*time.Second
	for name, tt := range map[string]struct {
		node bool
		off  *time.Duration
		want time.Duration
	}{
		"alone":                 {false, nil, time.Minute},
		"with a slower clock":   {true, &slow, time.Minute - slow},
		"with a faster clock":   {true, &fast, time.Minute - fast},
		"a lease without clock": {true, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, cp := newNetwork(t), newControlPlane()
				config := n.config("n1:1")
				cp.step(11, one(stage("demo", "prod", 1, 11, former(2, 40, time.Now().Add(time.Minute)))))
				c := n.client(config)
				h, err := c.current.Load().apply(cp.full(), time.Now())
				if err != nil {
					t.Fatal(err)
				}
				if err := c.disk.save(h, cp.full(), nil); err != nil {
					t.Fatal(err)
				}
				if tt.node {
					n.node("n1:1", func(s *stream) error {
						s.hello()
						s.grant(tt.off)
						return s.hold()
					})
				}
				c = n.client(config)
				wantServed(t, c, "demo/2", 11)
				changed, began := c.Changed(), time.Now()
				n.start(c)
				await(t, changed)
				if got := time.Since(began); (got - tt.want).Abs() > 5*time.Millisecond {
					t.Errorf("changed over after %v, want %v", got, tt.want)
				}
				wantServed(t, c, "demo/1", 11)
			})
		})
	}
}

// TestFlipIsSeenByRequests: a former configuration is left when its time has come even
// if nobody has got to do that, as when a process was stopped and goes on, and not gone
// back to if the clock is.
func TestFlipIsSeenByRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, cp := newNetwork(t), newControlPlane()
		c := n.client(n.config("n1:1")) // does not run
		s := newSession(c, nil)
		leases := uint64(0)
		grant := func(leader time.Time) {
			leases++
			s.nextRenew()
			s.take(&discoveryv1.Lease{Sequence: leases, Ttl: durationpb.New(time.Hour), LeaderTime: timestamppb.New(leader)})
		}
		want := func(when, deployment string) {
			t.Helper()
			if got := served(c.Table(), "demo", "prod"); got != deployment {
				t.Errorf("%s: serves %s, want %s", when, got, deployment)
			}
		}
		take := func(f *discoveryv1.Frame) {
			t.Helper()
			if r := c.take(f); r.GetAck() == nil {
				t.Fatal(r)
			}
		}
		grant(time.Now())
		due := time.Now().Add(time.Minute)
		cp.step(11, one(stage("demo", "prod", 1, 11, former(2, 40, due))))
		take(cp.full())
		want("before its time", "demo/2")
		time.Sleep(time.Minute)
		want("at its time", "demo/1")
		grant(due.Add(-time.Hour))
		want("when the clock has gone back", "demo/1")
		take(cp.step(12, one(stage("demo", "prod", 1, 12, former(2, 40, due)))))
		want("after another frame", "demo/1")
	})
}

// TestLeaseOfAnotherCluster: a lease and a clock are of the cluster that gave them.
func TestLeaseOfAnotherCluster(t *testing.T) {
	n, cp := newNetwork(t), newControlPlane()
	c := n.client(n.config("n1:1"))
	s := newSession(c, nil)
	f := cp.full()
	f.ClusterId = "one"
	if r := c.take(f); r.GetAck() == nil {
		t.Fatal(r)
	}
	s.nextRenew()
	s.take(&discoveryv1.Lease{Sequence: 1, Ttl: durationpb.New(time.Hour), LeaderTime: timestamppb.Now()})
	if left(c) == 0 || c.leaderNow().IsZero() {
		t.Fatal("has no lease or no clock")
	}
	f = proto.CloneOf(cp.full())
	f.ClusterId, f.To.Epoch = "two", 2
	if r := c.take(f); r.GetAck() == nil {
		t.Fatal(r)
	}
	if left(c) != 0 || !c.leaderNow().IsZero() {
		t.Error("keeps the lease or the clock of the cluster before")
	}
	if !strings.Contains(fmt.Sprint(c.Status().Applied), "2.") {
		t.Error("does not follow the other cluster")
	}
}
