package discovery_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
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
