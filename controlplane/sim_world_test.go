package controlplane_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/fifegateway/fife/controlplane/store"
)

// simWorld is a cluster of a simulation: stores over a network in memory, on
// disks in memory that outlive them.
type simWorld struct {
	t       *testing.T
	network *simNetwork
	ledger  *ledger
	size    int // voters it was founded with

	mu    sync.Mutex
	nodes map[string]*simNode // members and those that were until lately, up or down
	named int                 // a name is used once: an id that is back without its disk has lost its vote
	watch sync.WaitGroup
}

// simNode is a node. Its fields are guarded by the world's mutex.
type simNode struct {
	name      string
	storage   *store.Storage
	transport *simTransport
	store     *store.Store // nil while it is down
	stop      context.CancelFunc
}

// simRaft slows Raft down thirty times against Fife's settings, and all that
// happens to it is as rare: a simulated hour then costs a thirtieth. Snapshots are
// taken so often, and logs kept so short, that a node is soon behind them.
func simRaft(c *raft.Config) {
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 30*time.Second, 30*time.Second, 15*time.Second
	c.CommitTimeout = 2 * time.Second
	c.SnapshotInterval, c.SnapshotThreshold, c.TrailingLogs = time.Minute, 64, 4
}

// startWorld founds a cluster of some voters.
func startWorld(t *testing.T, rng *rand.Rand, size int) *simWorld {
	w := &simWorld{
		t: t, network: newSimNetwork(rand.New(rand.NewPCG(rng.Uint64(), 0))), ledger: newLedger(t), size: size,
		nodes: map[string]*simNode{},
	}
	first := w.newName()
	w.open(first, store.NewMemory(), true)
	w.until("the founder leads", simHealing, func(ctx context.Context) bool {
		_, ok := w.leader(ctx)
		return ok
	})
	w.until("all vote", simHealing, w.furnish)
	return w
}

func (w *simWorld) newName() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.named++
	return fmt.Sprintf("n%d", w.named)
}

func simAddress(name string) raft.ServerAddress { return raft.ServerAddress(name + ":raft") }

// open starts a node on its disk.
func (w *simWorld) open(name string, storage *store.Storage, bootstrap bool) {
	transport := w.network.attach(simAddress(name))
	s, err := store.Open(store.Config{
		NodeID: name, GRPCAddress: name + ":grpc", Transport: transport, Storage: storage, Bootstrap: bootstrap,
		Tune: simRaft, Logger: slog.New(slog.DiscardHandler),
		Fatal: func(err error) { w.t.Errorf("node %s would end its process: %v", name, err) },
	})
	if err != nil {
		w.t.Errorf("start %s: %v", name, err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	w.watch.Go(func() { w.ledger.follow(ctx, name, s) })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[name] = &simNode{name: name, storage: storage, transport: transport, store: s, stop: stop}
}

// crash ends a node at once, for the others; its disk stays.
func (w *simWorld) crash(name string) {
	w.mu.Lock()
	n := w.nodes[name]
	if n == nil || n.store == nil {
		w.mu.Unlock()
		return
	}
	s := n.store
	n.store = nil
	w.mu.Unlock()
	w.network.detach(n.transport)
	n.stop()
	if err := s.Close(); err != nil {
		w.t.Errorf("stop %s: %v", name, err)
	}
}

// restart starts a node that is down.
func (w *simWorld) restart(name string) {
	w.mu.Lock()
	n := w.nodes[name]
	w.mu.Unlock()
	if n != nil && n.store == nil {
		w.open(name, n.storage, false)
	}
}

// names returns the nodes in order, those that are up or those that are down.
func (w *simWorld) names(up bool) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(w.nodes)), func(name string) bool { return (w.nodes[name].store != nil) != up })
}

// store returns a node that is up.
func (w *simWorld) store(name string) (*store.Store, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.nodes[name]
	if n == nil || n.store == nil {
		return nil, false
	}
	return n.store, true
}

// leader returns a node that leads, by what it has put in the log.
func (w *simWorld) leader(ctx context.Context) (*store.Store, bool) {
	for _, name := range w.names(true) {
		if s, ok := w.store(name); ok && s.IsLeader() && s.Sync(ctx) == nil {
			return s, true
		}
	}
	return nil, false
}

// until waits for a condition.
func (w *simWorld) until(what string, patience time.Duration, ok func(ctx context.Context) bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for !ok(ctx) {
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			w.t.Errorf("waited %v until %s", patience, what)
			return false
		}
	}
	return true
}

// add joins a new node, as its process does: it talks Raft to nobody before it has
// been taken in.
func (w *simWorld) add(ctx context.Context) error {
	leader, ok := w.leader(ctx)
	if !ok {
		return store.ErrNotLeader
	}
	name := w.newName()
	node := store.Node{ID: name, GRPCAddress: name + ":grpc", Schema: store.Schema}
	if err := leader.Join(ctx, node, string(simAddress(name)), false); err != nil {
		return err
	}
	return w.welcome(name, leader.State().ClusterID())
}

// welcome starts a node that a cluster has taken in.
func (w *simWorld) welcome(name, cluster string) error {
	storage := store.NewMemory()
	if err := storage.JoinCluster(cluster); err != nil {
		return err
	}
	w.open(name, storage, false)
	return nil
}

// promote gives a node its vote, once it has what the leader has.
func (w *simWorld) promote(ctx context.Context, name string) error {
	leader, ok := w.leader(ctx)
	if !ok {
		return store.ErrNotLeader
	}
	s, ok := w.store(name)
	if !ok {
		return store.ErrNoMember
	}
	if _, err := s.Reach(ctx, leader.State().Applied()); err != nil {
		return err
	}
	_, err := leader.Promote(ctx, name)
	return err
}

// furnish gives every member its vote, adds one if there are too few, and reports
// whether neither was needed.
func (w *simWorld) furnish(ctx context.Context) bool {
	leader, ok := w.leader(ctx)
	if !ok {
		return false
	}
	members, err := leader.Members()
	if err != nil {
		return false
	}
	if len(members) < w.size {
		_ = w.add(ctx) // done again if it failed
		return false
	}
	all := true
	for _, m := range members {
		if !m.Voter {
			all = false
			_ = w.promote(ctx, m.ID) // as above
		}
	}
	return all
}

// remove takes a member out. It does not stop it.
func (w *simWorld) remove(ctx context.Context, name string) error {
	leader, ok := w.leader(ctx)
	if !ok {
		return store.ErrNotLeader
	}
	return leader.Remove(ctx, name, func(ctx context.Context, m store.Member, applied store.Version) bool {
		s, ok := w.store(m.ID)
		if !ok {
			return false
		}
		_ = leader.Sync(ctx) // followers learn of a commit with the next entry; it may wait long for one
		_, err := s.Reach(ctx, applied)
		return err == nil
	})
}

// settle makes the nodes that run those that the cluster consists of, whatever
// came of joins and removals whose outcome nobody has learnt.
func (w *simWorld) settle(ctx context.Context) bool {
	leader, ok := w.leader(ctx)
	if !ok {
		return false
	}
	members, err := leader.Members()
	if err != nil {
		return false
	}
	in := map[string]bool{}
	for _, m := range members {
		in[m.ID] = true
		w.mu.Lock()
		known := w.nodes[m.ID] != nil
		w.mu.Unlock()
		if !known && w.welcome(m.ID, leader.State().ClusterID()) != nil {
			return false
		}
	}
	for _, name := range append(w.names(true), w.names(false)...) {
		if !in[name] {
			w.crash(name)
			w.mu.Lock()
			delete(w.nodes, name)
			w.mu.Unlock()
		}
	}
	return true
}

// end stops all nodes.
func (w *simWorld) end() {
	for _, name := range w.names(true) {
		w.crash(name)
	}
	w.watch.Wait()
	// A stopped Raft leaves calls behind that nobody will answer, and the bubble's
	// clock stands still once the test has ended.
	<-time.After(5 * time.Minute)
}
