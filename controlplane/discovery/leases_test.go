package discovery_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/fifegateway/fife/controlplane/discovery"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// TestSlowClock: an agent's clock may run slower than its node's by one part in a
// hundred, and the agent holds its lease for that much longer. So long it is
// reported with one, whether its stream goes on or not.
func TestSlowClock(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		stays, leaves := b.settle("n1", "stays"), b.settle("n1", "leaves")
		for range 2 { // the second time it takes no time, and so both run from now
			stays.obtainLease()
			leaves.obtainLease()
		}
		leaves.depart()
		for _, at := range []struct {
			after  time.Duration // since the last look
			leased bool
		}{
			{discovery.LeaseTTL, true},
			{90 * time.Millisecond, true},
			{20 * time.Millisecond, false},
		} {
			time.Sleep(at.after)
			resp := must(fifev1.NewNodeServiceClient(b.conns["n1"]).ReportAgents(t.Context(), &fifev1.ReportAgentsRequest{}))(t)
			leased := map[string]bool{}
			for _, r := range resp.GetAgents() {
				leased[r.GetAgentId()] = r.GetLease() != nil
			}
			if leased["stays"] != at.leased || leased["leaves"] != at.leased {
				t.Errorf("%v later: leases of %v; want %v for both", at.after, leased, at.leased)
			}
		}
	})
}

// TestReconnectWithin: the more agents a node has, the longer they are to take to come
// to another one.
func TestReconnectWithin(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		for n := range 3 {
			a := b.settle("n1", fmt.Sprint("a", n))
			if got, want := a.obtainLease().GetReconnectWithin().AsDuration(), time.Duration(n+1)*100*time.Microsecond; got != want {
				t.Errorf("with %d agents: within %v, want %v", n+1, got, want)
			}
		}
	})
}

// obtainLease asks for leases until one is granted: the first wishes come before the
// agent is on the record.
func (a *agent) obtainLease() *discoveryv1.Lease {
	a.t.Helper()
	for range 100 {
		if l := a.renew(); l.GetTtl() != nil {
			return l
		}
		time.Sleep(100 * time.Millisecond)
	}
	a.t.Fatalf("agent %s: no lease", a.id)
	return nil
}
