package discovery_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// TestDrain: a node that shuts down ends its streams and names the others.
func TestDrain(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		var agents []*agent
		for i := range 5 {
			agents = append(agents, b.settle("n2", fmt.Sprint("a", i)))
		}
		waiting := b.greet("n2", &discoveryv1.Hello{AgentId: "early", Seen: &discoveryv1.Version{Epoch: 9}})
		begin := time.Now()
		b.StopNode("n2")
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("the node took %v to stop", took)
		}
		for _, a := range append(agents, waiting) {
			redirects := wantEnd(t, a.id, a.ended(), codes.Unavailable)
			if want := []string{"n1:7400", "n3:7400"}; !slices.Equal(redirects, want) {
				t.Errorf("%s: redirected to %v, want %v", a.id, redirects, want)
			}
		}
		back := b.connect("n3", "a0", agents[0])
		back.takeUntil(b.setHosts("demo", "h"))
	})
}

// TestRestartedNode: a node that starts again serves no agent before it has caught
// up with what others have shown.
func TestRestartedNode(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		b.StopNode("n2")
		now := b.deploy("demo")
		b.Isolate("n2")
		b.StartNode("n2")
		b.conns["n2"] = b.Conn("n2")
		b.until("n2 listens", func() bool {
			_, err := fifev1.NewClusterServiceClient(b.conns["n2"]).GetCluster(t.Context(), &fifev1.GetClusterRequest{})
			return err == nil
		})
		a := b.connect("n2", "a", nil)
		wantEnd(t, "behind", a.ended(), codes.Unavailable)
		if len(a.frames) > 0 {
			t.Errorf("it was served %v", <-a.frames)
		}
		b.Heal("n2")
		b.until("n2 serves again", func() bool {
			a = b.connect("n2", "a", nil)
			select {
			case f := <-a.frames:
				a.apply(f)
				return compare(a.version, version(now)) >= 0
			case err := <-a.end:
				wantEnd(t, "not yet", err, codes.Unavailable)
				return false
			}
		})
	})
}

// TestStalledReader: an agent that does not read is let go after 15 s, and costs
// the others nothing.
func TestStalledReader(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		must(b.apis().CreateApi(t.Context(), &fifev1.CreateApiRequest{ApiId: "big"}))(t)
		for i := range 30 {
			b.putRoute("big", fmt.Sprintf("/%02d", i), strings.Repeat("b", 60_000))
		}
		b.deploy("big")
		begin := time.Now()
		stalled := must(discoveryv1.NewDiscoveryServiceClient(b.conns["n1"]).Stream(t.Context()))(t)
		if err := stalled.Send(&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Hello{
			Hello: &discoveryv1.Hello{AgentId: "stalled"},
		}}); err != nil {
			t.Fatal(err)
		}
		fleet := fifev1.NewFleetServiceClient(b.conns["n1"])
		there := func(want bool) func() bool {
			return func() bool {
				resp, err := fleet.ListAgents(t.Context(), &fifev1.ListAgentsRequest{})
				return err == nil && strings.Contains(fmt.Sprint(resp), "agents/stalled") == want
			}
		}
		b.until("it is served", there(true))
		other := b.greet("n1", &discoveryv1.Hello{AgentId: "other", Apis: []string{"small"}})
		other.take()
		other.takeUntil(b.setHosts("big", "h"))
		b.until("it is let go", there(false))
		if took := time.Since(begin); took < 14*time.Second || took > 17*time.Second {
			t.Errorf("it was let go after %v, want 15 s", took)
		}
	})
}

// TestAgentsNeverGoBack: an agent that wanders among the nodes while changes are
// made and nodes are cut off only ever moves on, and in the end holds what an
// agent holds that begins now.
func TestAgentsNeverGoBack(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		random := rand.New(rand.NewPCG(1, 2))
		b.createAPI("a")
		wanderer := b.connect("n1", "w", nil)
		wanderer.take()
		live := map[string]bool{"a": true}
		for i := range 150 {
			id := string(rune('a' + random.IntN(4)))
			switch {
			case !live[id]:
				b.createAPI(id)
				live[id] = true
			case random.IntN(4) == 0:
				b.deleteStage(id)
				must(b.apis().DeleteApi(t.Context(), &fifev1.DeleteApiRequest{Name: "apis/" + id}))(t)
				live[id] = false
			case random.IntN(2) == 0:
				b.deploy(id)
			default:
				b.setHosts(id, fmt.Sprintf("h%d", i)+id)
			}
			switch random.IntN(4) {
			case 0: // answers what there is
				for len(wanderer.frames) > 0 {
					wanderer.take()
				}
			case 1: // lets things pile up
			case 2: // moves on, having answered or not
				wanderer.depart()
				wanderer = b.connect([]string{"n1", "n2", "n3"}[random.IntN(3)], "w", wanderer)
			case 3:
				<-time.After(time.Duration(random.IntN(30)) * time.Millisecond)
			}
			switch random.IntN(20) {
			case 0:
				b.Isolate("n3") // n1 and n2 can do without
			case 1:
				b.Heal("n3")
			}
		}
		b.Heal("n3")
		wanderer.depart()
		wanderer = b.connect("n2", "w", wanderer)
		b.createAPI("end")
		wanderer.takeUntil(b.setHosts("end", "h"))
		fresh := b.connect("n1", "fresh", nil)
		fresh.takeUntil(b.version("n1"))
		if wanderer.names() != fresh.names() {
			t.Errorf("the wanderer holds\n%s\na new agent\n%s", wanderer.names(), fresh.names())
		}
		for name, r := range fresh.holds {
			if !proto.Equal(r, wanderer.holds[name]) {
				t.Errorf("%s: the wanderer holds\n%v\na new agent\n%v", name, wanderer.holds[name], r)
			}
		}
	})
}
