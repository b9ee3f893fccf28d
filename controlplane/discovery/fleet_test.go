package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func (b *bench) fleet(node string) fifev1.FleetServiceClient {
	return fifev1.NewFleetServiceClient(b.conns[node])
}

// list returns `AGENT@NODE` for each agent that a node lists.
func (b *bench) list(node string, req *fifev1.ListAgentsRequest) ([]string, *fifev1.ListAgentsResponse) {
	b.t.Helper()
	resp := must(b.fleet(node).ListAgents(b.t.Context(), req))(b.t)
	var got []string
	for _, a := range resp.GetAgents() {
		got = append(got, strings.TrimPrefix(a.GetName(), "agents/")+"@"+a.GetNode())
	}
	return got, resp
}

// TestListAgents: any node tells of all nodes' agents, in order, in pages.
func TestListAgents(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		begin := time.Now()
		connected := b.greet("n1", &discoveryv1.Hello{
			AgentId: "b", Labels: map[string]string{"zone": "z"}, Build: "v9", Apis: []string{"demo"},
		})
		connected.take()
		b.settle("n2", "c")
		b.connect("n3", "a", nil) // answers nothing
		all := []string{"a@n3", "b@n1", "c@n2"}
		for node := range b.conns {
			b.until(node+" lists all", func() bool {
				got, resp := b.list(node, &fifev1.ListAgentsRequest{})
				return slices.Equal(got, all) && len(resp.GetUnreachableNodes()) == 0
			})
			if got, _ := b.list(node, &fifev1.ListAgentsRequest{Node: "n2"}); !slices.Equal(got, []string{"c@n2"}) {
				t.Errorf("%s says that n2 has %v", node, got)
			}
			var paged []string
			for token, n := "", 0; n == 0 || token != ""; n++ {
				got, resp := b.list(node, &fifev1.ListAgentsRequest{PageSize: 1, PageToken: token})
				paged, token = append(paged, got...), resp.GetNextPageToken()
				if n > 9 {
					t.Fatalf("%s: page %d, so far %v", node, n, paged)
				}
			}
			if !slices.Equal(paged, all) {
				t.Errorf("%s: page by page: %v", node, paged)
			}
		}
		var got *fifev1.Agent
		b.until("b's answer is recorded", func() bool {
			_, resp := b.list("n3", &fifev1.ListAgentsRequest{Node: "n1"})
			got = resp.GetAgents()[0]
			return got.GetAppliedTime() != nil
		})
		if got.GetName() != "agents/b" || got.GetLabels()["zone"] != "z" || got.GetBuild() != "v9" || !slices.Equal(got.GetApis(), []string{"demo"}) ||
			got.GetAddress() == "" || got.GetConnectTime().AsTime().Before(begin) || got.GetApplied().GetIndex() != connected.version.GetIndex() {
			t.Errorf("got %v", got)
		}
		_, resp := b.list("n1", &fifev1.ListAgentsRequest{Node: "n3"})
		if a := resp.GetAgents()[0]; a.GetApplied() != nil || a.GetAppliedTime() != nil {
			t.Errorf("an agent that has not answered: %v", a)
		}
		connected.leave()
		b.until("who has left is gone", func() bool {
			got, _ := b.list("n2", &fifev1.ListAgentsRequest{})
			return slices.Equal(got, []string{"a@n3", "c@n2"})
		})
	})
}

// TestAgentOnTwoNodes: an agent whose old node has not noticed that it left can
// still be listed in pages of any size.
func TestAgentOnTwoNodes(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		a := b.settle("n1", "a")
		b.connect("n2", "a", a)
		b.settle("n3", "b")
		b.until("b is listed", func() bool {
			got, _ := b.list("n1", &fifev1.ListAgentsRequest{})
			return strings.Contains(strings.Join(got, " "), "b@n3") && strings.Contains(strings.Join(got, " "), "a@n2")
		})
		var paged []string
		for token, n := "", 0; n == 0 || token != ""; n++ {
			got, resp := b.list("n1", &fifev1.ListAgentsRequest{PageSize: 1, PageToken: token})
			paged, token = append(paged, got...), resp.GetNextPageToken()
			if n > 9 {
				t.Fatalf("page %d, so far %v", n, paged)
			}
		}
		if paged[len(paged)-1] != "b@n3" {
			t.Errorf("page by page: %v", paged)
		}
	})
}

// TestNackIsShown: operators see who refused what and why, until a newer version
// is applied.
func TestNackIsShown(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		a := b.settle("n2", "a")
		b.setHosts("demo", "h")
		bad := a.next()
		a.nack(bad.GetTo(), strings.Repeat("é", 3000), false)
		var got *fifev1.Agent
		b.until("the refusal is listed", func() bool {
			_, resp := b.list("n1", &fifev1.ListAgentsRequest{})
			got = resp.GetAgents()[0]
			return got.GetLastNack() != nil
		})
		reason := got.GetLastNack().GetReason()
		if got.GetLastNack().GetVersion().GetIndex() != bad.GetTo().GetIndex() || got.GetLastNack().GetTime() == nil ||
			got.GetApplied().GetIndex() != a.version.GetIndex() {
			t.Errorf("got %.300v", got)
		}
		if len(reason) > 4096 || len(reason) < 4090 || !utf8.ValidString(reason) {
			t.Errorf("a reason of 6,000 bytes became one of %d", len(reason))
		}
		b.setHosts("demo", "i")
		a.take()
		b.until("the refusal is forgotten", func() bool {
			_, resp := b.list("n1", &fifev1.ListAgentsRequest{})
			return resp.GetAgents()[0].GetLastNack() == nil
		})
	})
}

// TestUnreachableNode: agents of a node that is cut off are missing, and the node
// is named; nobody waits for it long.
func TestUnreachableNode(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		b.settle("n1", "a")
		b.settle("n3", "c")
		b.Isolate("n3")
		begin := time.Now()
		got, resp := b.list("n1", &fifev1.ListAgentsRequest{})
		if !slices.Equal(got, []string{"a@n1"}) || !slices.Equal(resp.GetUnreachableNodes(), []string{"n3"}) {
			t.Errorf("got %v, unreachable %v", got, resp.GetUnreachableNodes())
		}
		if took := time.Since(begin); took > 2100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		b.Heal("n3")
		b.until("n3 is back", func() bool {
			_, resp := b.list("n1", &fifev1.ListAgentsRequest{})
			return len(resp.GetUnreachableNodes()) == 0
		})
	})
}

// waiter follows a wait.
type waiter struct {
	t      *testing.T
	stream interface {
		Recv() (*fifev1.WaitForVersionResponse, error)
	}
	last *fifev1.WaitForVersionResponse
}

func (b *bench) wait(ctx context.Context, node string, req *fifev1.WaitForVersionRequest) *waiter {
	b.t.Helper()
	return &waiter{t: b.t, stream: must(b.fleet(node).WaitForVersion(ctx, req))(b.t)}
}

// until reads reports until one is as wanted.
func (w *waiter) until(what string, ok func(*fifev1.WaitForVersionResponse) bool) {
	w.t.Helper()
	for range 60 {
		p, err := w.stream.Recv()
		if err != nil {
			w.t.Fatalf("waiting until %s: %v; the last report was %v", what, err, w.last)
		}
		if n := len(p.GetLaggards()); (n < 20 && int(p.GetTotal()-p.GetApplied()) != n) || (p.GetDone() && n+len(p.GetUnreachableNodes()) > 0) {
			w.t.Errorf("a report that contradicts itself: %v", p)
		}
		if w.last = p; ok(p) {
			return
		}
	}
	w.t.Fatalf("60 reports, and not yet %s; the last one was %v", what, w.last)
}

// ends reads the end that follows the last report.
func (w *waiter) ends() {
	w.t.Helper()
	if p, err := w.stream.Recv(); !errors.Is(err, io.EOF) {
		w.t.Errorf("after the end: %v, %v", p, err)
	}
}

func done(p *fifev1.WaitForVersionResponse) bool { return p.GetDone() }

func lag(want ...string) func(*fifev1.WaitForVersionResponse) bool {
	return func(p *fifev1.WaitForVersionResponse) bool { return slices.Equal(p.GetLaggards(), want) }
}

// TestWaitForVersion: a wait counts the agents of all nodes, names those that lag
// and those that refuse, and ends with the last of them.
func TestWaitForVersion(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		agents := map[string]*agent{}
		for i, id := range []string{"a", "b", "c", "d"} {
			agents[id] = b.settle([]string{"n1", "n2", "n3", "n3"}[i], id)
		}
		// All have what there is.
		w := b.wait(t.Context(), "n2", &fifev1.WaitForVersionRequest{Version: b.version("n1")})
		w.until("all have it", done)
		w.ends()
		if w.last.GetTotal() != 4 || w.last.GetApplied() != 4 {
			t.Errorf("got %v", w.last)
		}

		begin := time.Now()
		now := b.setHosts("demo", "h")
		w = b.wait(t.Context(), "n1", &fifev1.WaitForVersionRequest{Version: now})
		w.until("all lag", lag("agents/a", "agents/b", "agents/c", "agents/d"))
		agents["c"].take()
		w.until("c has it", lag("agents/a", "agents/b", "agents/d"))
		agents["a"].take()
		refused := agents["b"].next()
		agents["b"].nack(refused.GetTo(), "no", false)
		w.until("b refuses", func(p *fifev1.WaitForVersionResponse) bool {
			return len(p.GetRefused()) == 1 && lag("agents/b", "agents/d")(p)
		})
		if r := w.last.GetRefused()[0]; r.GetName() != "agents/b" || r.GetLastNack().GetReason() != "no" {
			t.Errorf("got %v", r)
		}
		<-time.After(10 * time.Second)
		agents["d"].leave() // who leaves is not waited for
		w.until("b alone lags", lag("agents/b"))
		b.setHosts("demo", "i") // a newer version counts as well
		agents["a"].take()
		agents["c"].take()
		agents["b"].take()
		w.until("all have it", done)
		w.ends()
		if got, took := w.last.GetElapsed().AsDuration(), time.Since(begin); got < 10*time.Second || got > took {
			t.Errorf("it took %v, the report says %v", took, got)
		}
	})
}

// TestWaitReportsRegularly: without news there is a report every second, so that
// whoever waits knows that the wait goes on.
func TestWaitReportsRegularly(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		b.connect("n1", "a", nil) // answers nothing
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		stream := must(b.fleet("n2").WaitForVersion(ctx, &fifev1.WaitForVersionRequest{Version: b.version("n1")}))(t)
		reports := 0
		for {
			p, err := stream.Recv()
			if err != nil {
				wantEnd(t, "deadline", err, codes.DeadlineExceeded)
				break
			}
			if reports++; p.GetDone() {
				t.Fatalf("done: %v", p)
			}
		}
		if reports < 25 || reports > 130 {
			t.Errorf("%d reports in 30 s", reports)
		}
	})
}

// TestWaitForNobody: where no agent is connected, there is nobody to wait for.
func TestWaitForNobody(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		w := b.wait(t.Context(), "n1", &fifev1.WaitForVersionRequest{Version: &fifev1.Version{Epoch: 9, Index: 9}})
		w.until("done", done)
		w.ends()
		_, err := must(b.fleet("n1").WaitForVersion(t.Context(), &fifev1.WaitForVersionRequest{}))(t).Recv()
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("waiting for no version: %v", err)
		}
	})
}

// TestWaitForOneNode: a wait for one node's agents is the same through any node.
func TestWaitForOneNode(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		a := b.settle("n1", "a")
		b.connect("n2", "b", nil) // answers nothing
		now := b.setHosts("demo", "h")
		for _, through := range []string{"n3", "n1"} {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			w := b.wait(ctx, through, &fifev1.WaitForVersionRequest{Version: now, Node: "n1"})
			if through == "n3" {
				w.until("a lags", lag("agents/a"))
				a.take()
			}
			w.until("done", done)
			w.ends()
			cancel()
		}
	})
}

// TestWaitWithNodeCutOff: a node that does not answer is named, and the wait is
// not over: its agents may route by anything.
func TestWaitWithNodeCutOff(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		a, c := b.settle("n1", "a"), b.settle("n3", "c")
		b.Isolate("n3")
		now := b.setHosts("demo", "h")
		a.take()
		w := b.wait(t.Context(), "n2", &fifev1.WaitForVersionRequest{Version: now})
		w.until("n3 is named", func(p *fifev1.WaitForVersionResponse) bool { return len(p.GetUnreachableNodes()) > 0 })
		for range 5 {
			w.until("it goes on", func(p *fifev1.WaitForVersionResponse) bool { return !p.GetDone() })
			if p := w.last; fmt.Sprint(p.GetUnreachableNodes()) != "[n3]" || p.GetTotal() != 1 || p.GetApplied() != 1 {
				t.Errorf("got %v", p)
			}
		}
		b.Heal("n3")
		w.until("n3 is heard of, and c lags or has it", func(p *fifev1.WaitForVersionResponse) bool { return len(p.GetUnreachableNodes()) == 0 })
		c.takeUntil(now)
		w.until("all have it", done)
		w.ends()

		// One that is cut off in the middle of a wait, too.
		now = b.setHosts("demo", "i")
		w = b.wait(t.Context(), "n2", &fifev1.WaitForVersionRequest{Version: now})
		a.take()
		w.until("c lags", lag("agents/c"))
		b.Isolate("n3")
		w.until("n3 is named", func(p *fifev1.WaitForVersionResponse) bool { return fmt.Sprint(p.GetUnreachableNodes()) == "[n3]" })
	})
}

// TestWaitFollowsAgents: an agent that changes over to a node whose agents were
// all done is still waited for.
func TestWaitFollowsAgents(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		a, c := b.settle("n1", "a"), b.settle("n3", "c")
		now := b.setHosts("demo", "h")
		a.take()
		w := b.wait(t.Context(), "n2", &fifev1.WaitForVersionRequest{Version: now})
		w.until("c lags", lag("agents/c"))
		b.connect("n1", "c", c)
		w.until("it is seen on n1 as well", func(p *fifev1.WaitForVersionResponse) bool { return p.GetTotal() == 3 })
		c.leave()
		for range 3 {
			w.until("it is still waited for", func(p *fifev1.WaitForVersionResponse) bool { return !p.GetDone() })
		}
		if got := w.last.GetLaggards(); !slices.Equal(got, []string{"agents/c"}) {
			t.Errorf("these lag: %v", got)
		}
	})
}
