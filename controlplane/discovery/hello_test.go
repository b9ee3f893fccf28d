package discovery_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func manyTexts(n int) (list []string, labels map[string]string) {
	labels = map[string]string{}
	for i := range n {
		text := fmt.Sprintf("t%d", i)
		list, labels[text] = append(list, text), "v"
	}
	return list, labels
}

func TestHelloIsChecked(t *testing.T) {
	_, labels32 := manyTexts(32)
	_, labels33 := manyTexts(33)
	apis1000, _ := manyTexts(1000)
	apis1001, _ := manyTexts(1001)
	long := strings.Repeat("x", 129)
	hello := func(h *discoveryv1.Hello) *discoveryv1.StreamRequest {
		return &discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Hello{Hello: h}}
	}
	tests := map[string]struct {
		message *discoveryv1.StreamRequest
		ok      bool
	}{
		"shortest":       {hello(&discoveryv1.Hello{AgentId: "a"}), true},
		"longest id":     {hello(&discoveryv1.Hello{AgentId: long[1:]}), true},
		"every letter":   {hello(&discoveryv1.Hello{AgentId: "AZaz09._-"}), true},
		"most":           {hello(&discoveryv1.Hello{AgentId: "most", Labels: labels32, Apis: apis1000, Build: "v1"}), true},
		"no message":     {&discoveryv1.StreamRequest{}, false},
		"an ack":         {&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Ack{Ack: &discoveryv1.Ack{}}}, false},
		"a nack":         {&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Nack{Nack: &discoveryv1.Nack{}}}, false},
		"no id":          {hello(&discoveryv1.Hello{}), false},
		"long id":        {hello(&discoveryv1.Hello{AgentId: long}), false},
		"blank in id":    {hello(&discoveryv1.Hello{AgentId: "a b"}), false},
		"slash in id":    {hello(&discoveryv1.Hello{AgentId: "a/b"}), false},
		"umlaut in id":   {hello(&discoveryv1.Hello{AgentId: "ä"}), false},
		"33 labels":      {hello(&discoveryv1.Hello{AgentId: "a", Labels: labels33}), false},
		"long label":     {hello(&discoveryv1.Hello{AgentId: "a", Labels: map[string]string{long: "v"}}), false},
		"long value":     {hello(&discoveryv1.Hello{AgentId: "a", Labels: map[string]string{"k": long}}), false},
		"1001 apis":      {hello(&discoveryv1.Hello{AgentId: "a", Apis: apis1001}), false},
		"an api's name":  {hello(&discoveryv1.Hello{AgentId: "a", Apis: []string{strings.Repeat("x", 200<<10)}}), false},
		"a long build":   {hello(&discoveryv1.Hello{AgentId: "a", Build: strings.Repeat("x", 200<<10)}), false},
		"a long cluster": {hello(&discoveryv1.Hello{AgentId: "a", ClusterId: strings.Repeat("x", 200<<10)}), false},
	}
	inBubble(t, 1, func(t *testing.T, b *bench) {
		for name, tt := range tests {
			a := b.open("n1")
			a.id = name
			a.say(tt.message)
			if tt.ok {
				a.take()
				a.leave()
				wantEnd(t, name, a.ended(), codes.Canceled)
				continue
			}
			select {
			case f := <-a.frames:
				t.Errorf("%s: was sent %v", name, f)
			case err := <-a.end:
				wantEnd(t, name, err, codes.InvalidArgument)
			}
			a.leave()
		}
		// None of those who were refused is in the fleet.
		b.until("the fleet is empty", func() bool {
			resp, err := fifev1.NewFleetServiceClient(b.conns["n1"]).ListAgents(t.Context(), &fifev1.ListAgentsRequest{})
			return err == nil && len(resp.GetAgents()) == 0
		})
	})
}

// TestSilence: who opens a stream and says nothing is shown out.
func TestSilence(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		a := b.open("n1")
		begin := time.Now()
		wantEnd(t, "silence", a.ended(), codes.DeadlineExceeded)
		if took := time.Since(begin); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestSecondHello(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		a := b.connect("n1", "a", nil)
		a.take()
		a.say(&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Hello{Hello: &discoveryv1.Hello{AgentId: "a"}}})
		wantEnd(t, "second hello", a.ended(), codes.InvalidArgument)
	})
}

// TestOrderlyEnd: an agent that closes its side has done nothing wrong.
func TestOrderlyEnd(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		a := b.connect("n1", "a", nil)
		a.take()
		if err := a.stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		wantEnd(t, "an orderly end", a.ended(), codes.OK)
	})
}

// TestSeenAhead: a node that is behind what an agent has seen does not serve it,
// and names the others.
func TestSeenAhead(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		now := version(b.version("n2"))
		for what, ahead := range map[string]*discoveryv1.Version{
			"index": {Epoch: now.GetEpoch(), Index: now.GetIndex() + 1000}, "epoch": {Epoch: now.GetEpoch() + 1},
		} {
			begin := time.Now()
			a := b.greet("n2", &discoveryv1.Hello{AgentId: "a", Seen: ahead})
			redirects := wantEnd(t, what, a.ended(), codes.Unavailable)
			if want := []string{"n1:7400", "n3:7400"}; !slices.Equal(redirects, want) {
				t.Errorf("%s: redirected to %v, want %v", what, redirects, want)
			}
			if took := time.Since(begin); took < 2*time.Second || took > 2100*time.Millisecond {
				t.Errorf("%s: it took %v, want 2 s", what, took)
			}
			if len(a.frames) > 0 {
				t.Errorf("%s: it was served", what)
			}
		}
	})
}

// TestSeenIsWaitedFor: a node that catches up in time serves the agent.
func TestSeenIsWaitedFor(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		now := version(b.version("n1"))
		a := b.greet("n1", &discoveryv1.Hello{AgentId: "a", Seen: &discoveryv1.Version{Epoch: now.GetEpoch(), Index: now.GetIndex() + 3}})
		a.quiet(time.Second)
		for range 3 {
			b.setHosts("demo", "h")
		}
		if f := a.take(); f.GetFrom() != nil {
			t.Errorf("an agent that holds nothing was sent a step from %v", f.GetFrom())
		}
	})
}

// TestOtherCluster: an agent of another cluster is taken over under a higher epoch
// only, with nothing of what it holds; otherwise it is told why not.
func TestOtherCluster(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		for _, index := range []uint64{1, 1 << 40} { // the other cluster's log may be shorter or longer
			a := b.greet("n1", &discoveryv1.Hello{
				AgentId: "a", ClusterId: "another", Have: &discoveryv1.Version{Epoch: 1, Index: index}, Seen: &discoveryv1.Version{Epoch: 1, Index: index},
			})
			wantEnd(t, fmt.Sprint("index ", index), a.ended(), codes.FailedPrecondition)
		}
		a := b.greet("n1", &discoveryv1.Hello{
			AgentId: "a", ClusterId: "another", Have: &discoveryv1.Version{Epoch: 0, Index: 1 << 40}, Seen: &discoveryv1.Version{Epoch: 0, Index: 1 << 40},
		})
		if f := a.take(); f.GetFrom() != nil {
			t.Errorf("it was sent a step from %v of another cluster", f.GetFrom())
		}
		a.wantNames("apis/demo", "apis/demo/deployments/1", "apis/demo/stages/prod")
	})
}

// TestNewerStreamWins: of two streams of one agent, the newer one is served.
func TestNewerStreamWins(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		older := b.connect("n1", "a", nil)
		older.take()
		newer := b.connect("n1", "a", older)
		wantEnd(t, "the older stream", older.ended(), codes.AlreadyExists)
		newer.takeUntil(b.setHosts("demo", "h"))
		b.until("the fleet knows the newer one alone", func() bool {
			resp, err := fifev1.NewFleetServiceClient(b.conns["n1"]).ListAgents(t.Context(), &fifev1.ListAgentsRequest{})
			return err == nil && len(resp.GetAgents()) == 1 && resp.GetAgents()[0].GetApplied().GetIndex() == newer.version.GetIndex()
		})
	})
}
