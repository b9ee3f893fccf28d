package discovery_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fifegateway/fife/controlplane/controlplanetest"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// TestEndlessRefusals: an agent that refuses everything, and asks for all of it
// again every time, is sent each version twice at the most, and nothing in between.
// The others go on as if it were not there.
func TestEndlessRefusals(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		good := b.settle("n1", "good")
		bad := b.connect("n1", "bad", nil)
		for i := range 20 {
			for range 2 {
				bad.nack(bad.next().GetTo(), "no", true)
			}
			bad.quiet(time.Minute)
			good.takeUntil(b.setHosts("demo", fmt.Sprint("h", i)))
		}
	})
}

// TestLiars: an agent that says it holds what it was not sent is let go, whatever
// the version, and the others go on.
func TestLiars(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		good := b.settle("n1", "good")
		for what, lie := range map[string]func(sent *discoveryv1.Version) *discoveryv1.Version{
			"newer": func(sent *discoveryv1.Version) *discoveryv1.Version {
				return &discoveryv1.Version{Epoch: sent.GetEpoch(), Index: sent.GetIndex() + 1}
			},
			"older": func(sent *discoveryv1.Version) *discoveryv1.Version {
				return &discoveryv1.Version{Epoch: sent.GetEpoch(), Index: sent.GetIndex() - 1}
			},
			"of-another-epoch": func(sent *discoveryv1.Version) *discoveryv1.Version {
				return &discoveryv1.Version{Epoch: sent.GetEpoch() + 1, Index: sent.GetIndex()}
			},
			"none": func(*discoveryv1.Version) *discoveryv1.Version { return nil },
		} {
			liar := b.connect("n1", "liar", nil)
			liar.ack(lie(liar.next().GetTo()))
			wantEnd(t, what, liar.ended(), codes.InvalidArgument)
			good.takeUntil(b.setHosts("demo", what))
		}
	})
}

// dribble reads a byte a second once a connection stands.
type dribble struct {
	net.Conn
	fast int // bytes that are still read at once
}

func (d *dribble) Read(p []byte) (int, error) {
	if d.fast <= 0 {
		<-time.After(time.Second)
		return d.Conn.Read(p[:1])
	}
	n, err := d.Conn.Read(p[:min(len(p), d.fast)])
	d.fast -= n
	return n, err
}

// TestDribblingReader: an agent that reads a byte a second is let go before long, and
// until then holds up nobody.
func TestDribblingReader(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.createAPI("big")
		for i := range 30 {
			b.putRoute("big", fmt.Sprintf("/%02d", i), strings.Repeat("b", 60_000))
		}
		b.deploy("big")
		conn, err := grpc.NewClient("passthrough:///"+controlplanetest.GRPC("n1"),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
				raw, err := b.Network.Host("slow").Dial(ctx, address)
				return &dribble{Conn: raw, fast: 256}, err
			}))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // the test is over
		slow := must(discoveryv1.NewDiscoveryServiceClient(conn).Stream(t.Context()))(t)
		if err := slow.Send(&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Hello{
			Hello: &discoveryv1.Hello{AgentId: "slow"},
		}}); err != nil {
			t.Fatal(err)
		}
		fleet, begin := fifev1.NewFleetServiceClient(b.conns["n1"]), time.Now()
		there := func() bool {
			resp, err := fleet.ListAgents(t.Context(), &fifev1.ListAgentsRequest{Node: "n1"})
			return err == nil && strings.Contains(fmt.Sprint(resp), "agents/slow")
		}
		b.until("it is served", there)
		other := b.greet("n1", &discoveryv1.Hello{AgentId: "other", Apis: []string{"small"}})
		other.take()
		for i := range 5 {
			asked := time.Now()
			other.takeUntil(b.setHosts("big", fmt.Sprint("h", i)))
			if took := time.Since(asked); took > time.Second {
				t.Errorf("another agent waited %v", took)
			}
		}
		b.until("it is let go", func() bool { return !there() })
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("it was let go after %v", took)
		}
	})
}

// TestLargeRequests: an agent that says more at once than any agent has to say is let
// go; the most that one may say is heard out.
func TestLargeRequests(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		verbose := b.connect("n1", "verbose", nil)
		reason := strings.Repeat("x", 255<<10)
		verbose.nack(verbose.next().GetTo(), reason, true)
		verbose.nack(verbose.next().GetTo(), reason+reason[:1<<10], true)
		wantEnd(t, "256 KiB and more", verbose.ended(), codes.Internal)
	})
}
