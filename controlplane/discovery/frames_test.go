package discovery_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// TestSnapshotThenSteps: an agent that holds nothing gets all there is, and from
// then on what changes.
func TestSnapshotThenSteps(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		a := b.connect("n1", "a", nil)
		if f := a.take(); f.GetFrom() != nil || !proto.Equal(f.GetTo(), version(b.version("n1"))) || f.GetClusterId() == "" {
			t.Errorf("the first frame is %v", f)
		}
		a.wantNames("apis/demo", "apis/demo/deployments/1", "apis/demo/stages/prod")

		step := func(what string, change func(), upserts, removes string) {
			t.Helper()
			change()
			f := a.take()
			if u, r := changed(f); f.GetFrom() == nil || u != upserts || r != removes {
				t.Errorf("%s: got %s and without %s, want %s and without %s", what, u, r, upserts, removes)
			}
		}
		step("hosts", func() { b.setHosts("demo", "h") }, "apis/demo", "")
		step("deployment", func() { b.deploy("demo") }, "apis/demo/deployments/2 apis/demo/stages/prod", "")
		step("one more", func() { b.deploy("demo") }, "apis/demo/deployments/3 apis/demo/stages/prod", "apis/demo/deployments/1")
		step("canary", func() {
			must(b.stages().StartCanary(t.Context(), &fifev1.StartCanaryRequest{Name: "apis/demo/stages/prod", Canary: &fifev1.Canary{Percent: 5}}))(t)
		}, "apis/demo/stages/prod", "")
		step("promotion", func() {
			must(b.stages().PromoteCanary(t.Context(), &fifev1.PromoteCanaryRequest{Name: "apis/demo/stages/prod"}))(t)
		}, "apis/demo/stages/prod", "")
		step("rollback", func() {
			must(b.stages().RollbackStage(t.Context(), &fifev1.RollbackStageRequest{Name: "apis/demo/stages/prod"}))(t)
		}, "apis/demo/stages/prod", "")
		step("deleted stage", func() { b.deleteStage("demo") }, "", "apis/demo/deployments/2 apis/demo/deployments/3 apis/demo/stages/prod")
		step("deleted API", func() {
			must(b.apis().DeleteApi(t.Context(), &fifev1.DeleteApiRequest{Name: "apis/demo"}))(t)
		}, "", "apis/demo")
		a.wantNames("")
	})
}

// TestInvisibleChanges: what agents cannot see makes no frame.
func TestInvisibleChanges(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		a := b.connect("n1", "a", nil)
		a.take()
		b.putRoute("demo", "/y", "")
		must(b.deployments().CreateDeployment(t.Context(), &fifev1.CreateDeploymentRequest{Parent: "apis/demo"}))(t)
		a.quiet(5 * time.Second)
	})
}

// TestOneFrameInFlight: a slow agent is sent nothing until it has answered, and
// then one frame with all that it has missed.
func TestOneFrameInFlight(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		a := b.connect("n1", "a", nil)
		first := a.next()
		a.apply(first)
		b.setHosts("demo", "h")
		b.deploy("demo")
		b.createAPI("gone")
		b.setHosts("demo", "i")
		b.deleteStage("gone")
		must(b.apis().DeleteApi(t.Context(), &fifev1.DeleteApiRequest{Name: "apis/gone"}))(t)
		a.quiet(5 * time.Second)
		a.ack(first.GetTo())
		f := a.take()
		u, r := changed(f)
		if u != "apis/demo apis/demo/deployments/2 apis/demo/stages/prod" || r != "apis/gone apis/gone/deployments/1 apis/gone/stages/prod" {
			t.Errorf("got %s and without %s", u, r)
		}
		if !proto.Equal(f.GetFrom(), first.GetTo()) || !proto.Equal(f.GetTo(), version(b.version("n1"))) {
			t.Errorf("the step is from %v to %v", f.GetFrom(), f.GetTo())
		}
		a.quiet(time.Second)
	})
}

// TestResume: an agent that comes back, to whichever node, goes on from what it
// holds; what was removed meanwhile it is told of, and of nothing if nothing was.
func TestResume(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		b.createAPI("gone")
		a := b.connect("n1", "a", nil)
		a.take()
		a.depart()
		b.deleteStage("gone")
		now := b.deploy("demo")
		b.until("n2 has followed", func() bool { return b.version("n2").GetIndex() >= now.GetIndex() })
		back := b.connect("n2", "a", a)
		f := back.take()
		if u, r := changed(f); u != "apis/demo/deployments/2 apis/demo/stages/prod" || r != "apis/gone/deployments/1 apis/gone/stages/prod" {
			t.Errorf("got %s and without %s", u, r)
		}
		back.wantNames("apis/demo", "apis/demo/deployments/1", "apis/demo/deployments/2", "apis/demo/stages/prod", "apis/gone")
		again := b.connect("n3", "b", back)
		again.quiet(5 * time.Second)
		again.takeUntil(b.setHosts("demo", "h"))

		old := &discoveryv1.Version{Epoch: 0, Index: 7}
		strayed := b.greet("n3", &discoveryv1.Hello{AgentId: "c", Have: old, Seen: old})
		if f := strayed.take(); f.GetFrom() != nil || strayed.names() != again.names() {
			t.Errorf("an agent of another epoch was sent a step from %v", f.GetFrom())
		}
	})
}

// TestNack: after a refusal nothing comes until there is something new, which
// then starts from what the agent still holds.
func TestNack(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		a := b.connect("n1", "a", nil)
		a.take()
		held := a.version
		b.setHosts("demo", "h")
		bad := a.next()
		a.nack(bad.GetTo(), "does not compile", false)
		a.quiet(time.Minute)
		b.setHosts("demo", "i")
		f := a.take()
		if !proto.Equal(f.GetFrom(), held) {
			t.Errorf("the next step is from %v, the agent holds %v", f.GetFrom(), held)
		}
		a.quiet(time.Second)
	})
}

// TestResync: an agent that has lost its place gets the same state in full, once;
// if that is no good either, it waits for another.
func TestResync(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		a := b.connect("n1", "a", nil)
		a.take()
		b.setHosts("demo", "h")
		bad := a.next()
		a.nack(bad.GetTo(), "digest differs", true)
		full := a.next()
		if full.GetFrom() != nil || !proto.Equal(full.GetTo(), bad.GetTo()) || len(full.GetUpserts()) != 3 {
			t.Errorf("after a resync: %v", full)
		}
		a.nack(full.GetTo(), "digest differs still", true)
		a.quiet(time.Minute)
		b.setHosts("demo", "i")
		if f := a.take(); f.GetFrom() != nil {
			t.Errorf("an agent that does not know what it holds was sent a step from %v", f.GetFrom())
		}
		// The next version may be resynced once, too.
		b.setHosts("demo", "j")
		a.nack(a.next().GetTo(), "again", true)
		if f := a.take(); f.GetFrom() != nil {
			t.Errorf("after another resync: a step from %v", f.GetFrom())
		}
	})
}

// TestWrongAnswers: an agent that answers what it was not asked has lost its
// place; it is better off with a new stream.
func TestWrongAnswers(t *testing.T) {
	for what, answer := range map[string]func(a *agent, f *discoveryv1.Frame){
		"an older version": func(a *agent, f *discoveryv1.Frame) {
			a.ack(&discoveryv1.Version{Epoch: f.GetTo().GetEpoch(), Index: f.GetTo().GetIndex() - 1})
		},
		"a newer version": func(a *agent, f *discoveryv1.Frame) {
			a.ack(&discoveryv1.Version{Epoch: f.GetTo().GetEpoch(), Index: f.GetTo().GetIndex() + 1})
		},
		"another epoch": func(a *agent, f *discoveryv1.Frame) {
			a.ack(&discoveryv1.Version{Epoch: f.GetTo().GetEpoch() + 1, Index: f.GetTo().GetIndex()})
		},
		"no version":       func(a *agent, _ *discoveryv1.Frame) { a.ack(nil) },
		"nothing":          func(a *agent, _ *discoveryv1.Frame) { a.say(&discoveryv1.StreamRequest{}) },
		"a wrong nack":     func(a *agent, _ *discoveryv1.Frame) { a.nack(&discoveryv1.Version{}, "", false) },
		"twice":            func(a *agent, f *discoveryv1.Frame) { a.ack(f.GetTo()); a.ack(f.GetTo()) },
		"yes, and then no": func(a *agent, f *discoveryv1.Frame) { a.ack(f.GetTo()); a.nack(f.GetTo(), "", true) },
		"no, and then yes": func(a *agent, f *discoveryv1.Frame) { a.nack(f.GetTo(), "", false); a.ack(f.GetTo()) },
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, 1, func(t *testing.T, b *bench) {
				b.createAPI("demo")
				a := b.connect("n1", "a", nil)
				answer(a, a.next())
				wantEnd(t, what, a.ended(), codes.InvalidArgument)
			})
		})
	}
}

// TestChunks: a frame of any size arrives whole.
func TestChunks(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		must(b.apis().CreateApi(t.Context(), &fifev1.CreateApiRequest{ApiId: "big"}))(t)
		bodies := map[string]string{}
		for i := range 40 {
			path := fmt.Sprintf("/%02d", i)
			bodies[path] = strings.Repeat(string(rune('a'+i%26)), 60_000+i)
			b.putRoute("big", path, bodies[path])
		}
		b.deploy("big")
		a := b.connect("n1", "a", nil)
		f := a.take()
		if n := proto.Size(f); n < 2<<20 {
			t.Errorf("the frame has %d bytes only", n)
		}
		for _, r := range a.holds["apis/big/deployments/1"].GetDeployment().GetRoutes() {
			if r.GetMock().GetBody() != bodies[r.GetPath()] {
				t.Errorf("%s has a body of %d bytes, want %d", r.GetPath(), len(r.GetMock().GetBody()), len(bodies[r.GetPath()]))
			}
			delete(bodies, r.GetPath())
		}
		if len(bodies) > 0 {
			t.Errorf("%d routes are missing", len(bodies))
		}
		b.setHosts("big", "h") // and small ones still arrive in one piece
		if u, _ := changed(a.take()); u != "apis/big" {
			t.Errorf("got %s", u)
		}
	})
}

// TestAPIsFilter: an agent that asks for some APIs gets these alone, but every
// version, so that one can wait for it.
func TestAPIsFilter(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		for _, id := range []string{"a", "a-b", "ab", "b"} {
			b.createAPI(id)
		}
		x := b.greet("n1", &discoveryv1.Hello{AgentId: "x", Apis: []string{"b", "a"}})
		y := b.greet("n1", &discoveryv1.Hello{AgentId: "y", Apis: []string{"none"}})
		x.take()
		y.take()
		x.wantNames("apis/a", "apis/a/deployments/1", "apis/a/stages/prod", "apis/b", "apis/b/deployments/1", "apis/b/stages/prod")
		y.wantNames("")
		now := b.deploy("a-b")
		for _, a := range []*agent{x, y} {
			if f := a.take(); len(f.GetUpserts())+len(f.GetRemoves()) > 0 || !proto.Equal(f.GetTo(), version(now)) {
				t.Errorf("%s was sent %v", a.id, f)
			}
		}
		now = b.deleteStage("b")
		x.takeUntil(now)
		x.wantNames("apis/a", "apis/a/deployments/1", "apis/a/stages/prod", "apis/b")
		back := b.greet("n1", &discoveryv1.Hello{AgentId: "x", Apis: []string{"b", "a"}, Have: x.version, Seen: x.version})
		back.version, back.holds = x.version, x.holds
		back.takeUntil(b.deploy("a"))
		y.take()
	})
}
