package controlplane_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/fifegateway/fife/controlplane/bubbletest"
	"github.com/fifegateway/fife/controlplane/store"
)

var (
	simHours = flag.Float64("sim.hours", 50, "hours to simulate, over all worlds")
	simSeed  = flag.Uint64("sim.seed", rand.Uint64(), "seed of what is broken and called when")
)

// TestSimulation runs clusters of three and five nodes for many simulated hours,
// breaks networks, nodes and memberships all the time, and checks that the
// clusters keep their word. The nodes are stores over Raft, with Raft's own times
// thirty times as long as Fife's; what is above them has tests of its own.
//
// What is broken and called when is the seed's. When goroutines run is not, nor
// are Raft's random timeouts, so a replay meets the same storms but not always the
// same waves.
//
// With -sim.hours=10 -sim.seed=7 it was seen to fail when
//   - apply forgets request ids: "request ... has been applied as revision 1 ... and as revision 2"
//   - Sync returns without a barrier: "watcher saw the state of 1.73 after somebody had seen 1.74"
//   - apply takes the time from the clock: "the states ... differ"
//   - a stage's revision starts over: "saw ... at revision 1 after somebody had seen 50"
//   - apply drops one entry of forty: "lost: revision 3 of apis/a/stages/dev was acknowledged to c2-20 and is c4-24's"
//   - a restart cuts the log short: "entry 66 does not follow entry 63"
//   - a restart begins with an empty disk: "waited 15m0s until the cluster is whole"
//   - a leadership lost underway is taken for a refusal: "was answered ... and is in revision 4"
//   - late snapshots reach Raft: "5 snapshots were installed and no entry applied after any"
func TestSimulation(t *testing.T) {
	const length = 150 * time.Minute // of one world
	t.Logf("replay with -sim.seed=%d -sim.hours=%g", *simSeed, *simHours)
	rest := time.Duration(*simHours * float64(time.Hour))
	for i := uint64(0); rest > 0; i++ {
		size, hours := []int{3, 5}[i%2], min(rest, length)
		rest -= hours
		t.Run(fmt.Sprintf("world=%d/nodes=%d", i, size), func(t *testing.T) {
			t.Parallel()
			bubbletest.Test(t, func(t *testing.T) { simulate(t, rand.New(rand.NewPCG(*simSeed, i)), size, hours) })
		})
	}
}

// simulate runs one world.
func simulate(t *testing.T, rng *rand.Rand, size int, length time.Duration) {
	begin := time.Now()
	w := startWorld(t, rng, size)
	ctx, stop := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	for i := range simClients {
		c := &simClient{name: fmt.Sprintf("c%d", i+1), world: w, rng: rand.New(rand.NewPCG(rng.Uint64(), 0))}
		clients.Go(func() { c.run(ctx) })
	}
	watcher := &simClient{name: "watcher", world: w}
	clients.Go(func() { watcher.watch(ctx) })
	faults := &simFaults{world: w, rng: rng, done: map[string]int{}}
	for time.Since(begin) < length && !t.Failed() {
		faults.run(time.Now().Add(time.Duration(rng.Int64N(int64(30 * time.Minute)))))
		faults.heal()
		checkWorld(w)
		w.until("the cluster has its voters", simHealing, w.furnish)
	}
	stop()
	clients.Wait()
	if !t.Failed() {
		checkWorld(w)
	}
	w.end()
	l, n := w.ledger, w.network
	l.mu.Lock()
	defer l.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	t.Logf("%v: %d acknowledged, %d outcomes unknown, %d refused, %d read; messages: %d carried, %d lost, %d held, %d snapshots; faults: %v",
		time.Since(begin).Round(time.Minute), l.acks, l.unknowns, l.refusals, l.reads,
		n.carried, n.lost, n.held, n.snapshots, faults.done)
}

// simHealing is how soon a cluster without faults must work: thirty times an
// election timeout.
const simHealing = 15 * time.Minute

// checkWorld waits until a world without faults works again, and checks all that
// it has promised.
func checkWorld(w *simWorld) {
	acked := w.ledger.take()
	var leader *store.Store
	if !w.until("the cluster is whole", simHealing, func(ctx context.Context) bool {
		var ok bool
		if leader, ok = w.leader(ctx); !ok || !w.settle(ctx) {
			return false
		}
		w.ledger.checkAll(leader.State(), acked)
		return true
	}) {
		return
	}
	w.until("all nodes have the same state", simHealing, func(ctx context.Context) bool {
		leader, ok := w.leader(ctx)
		if !ok {
			return false
		}
		at, err := leader.Checkpoint(ctx)
		if err != nil {
			return false
		}
		hashes := map[uint64][]string{}
		for _, name := range w.names(true) {
			s, ok := w.store(name)
			if !ok {
				return false
			}
			hash, err := s.StateHash(ctx, at)
			if err != nil {
				return false // it was sent a snapshot instead
			}
			hashes[hash] = append(hashes[hash], name)
		}
		if len(hashes) != 1 {
			w.t.Errorf("the states at %v differ: %v", at, hashes)
		}
		return true
	})
}
