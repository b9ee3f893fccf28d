package store

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/fifegateway/fife/controlplane/bubbletest"
	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// cluster is a set of stores over Raft in memory, for a test in a synctest
// bubble. The first node founds it.
type cluster struct {
	t     *testing.T
	nodes map[string]*clusterNode
}

type clusterNode struct {
	*Store
	transport *raft.InmemTransport
	storage   *Storage
}

// startCluster starts nodes n1 to n of a cluster, all of them voters.
func startCluster(t *testing.T, n int) *cluster {
	t.Helper()
	c := &cluster{t: t, nodes: map[string]*clusterNode{}}
	t.Cleanup(c.stop)
	for i := range n {
		id := fmt.Sprintf("n%d", i+1)
		c.open(id, NewMemory(), i == 0)
		if i == 0 {
			c.until("n1 leads", func() bool { _, ok := c.nodes["n1"].Leader(); return ok })
			continue
		}
		if err := c.nodes["n1"].Join(t.Context(), c.node(id), id+":raft", false); err != nil {
			t.Fatal(err)
		}
		if _, err := c.nodes["n1"].Promote(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	// A voter that does not know yet that another is one refuses it its vote
	// (hashicorp/raft, requestVote), so everybody has to know before a test begins.
	for _, node := range c.nodes {
		c.until("everybody knows all voters", func() bool {
			members, err := node.Members()
			voters := slices.DeleteFunc(members, func(m Member) bool { return !m.Voter })
			return err == nil && len(voters) == n && node.State().Applied() == c.nodes["n1"].State().Applied()
		})
	}
	return c
}

func (c *cluster) node(id string) Node {
	return Node{ID: id, GRPCAddress: id + ":grpc", Schema: Schema}
}

// open starts a node on a storage, which may have a past.
func (c *cluster) open(id string, storage *Storage, bootstrap bool) {
	c.t.Helper()
	_, transport := raft.NewInmemTransport(raft.ServerAddress(id + ":raft"))
	s, err := Open(Config{
		NodeID: id, GRPCAddress: id + ":grpc", Transport: transport, Storage: storage, Bootstrap: bootstrap,
		Logger: slog.New(slog.DiscardHandler),
		Fatal:  func(err error) { c.t.Errorf("node %s would end its process: %v", id, err) },
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.nodes[id] = &clusterNode{s, transport, storage}
	c.connect()
}

// connect joins all nodes with each other, except those that are named.
func (c *cluster) connect(except ...string) {
	cut := map[string]bool{}
	for _, id := range except {
		cut[id] = true
	}
	for a, from := range c.nodes {
		for b, to := range c.nodes {
			switch {
			case a == b:
			case cut[a] || cut[b]:
				from.transport.Disconnect(to.transport.LocalAddr())
			default:
				from.transport.Connect(to.transport.LocalAddr(), to.transport)
			}
		}
	}
}

func (c *cluster) close(id string) {
	c.t.Helper()
	n := c.nodes[id]
	delete(c.nodes, id)
	if err := errors.Join(n.Close(), n.transport.Close()); err != nil {
		c.t.Error(err)
	}
}

func (c *cluster) stop() {
	for id := range c.nodes {
		c.close(id)
	}
	// A stopped Raft leaves calls behind that nobody will answer, and the bubble's
	// clock stands still once the test has ended.
	<-time.After(time.Minute)
}

// until waits for a condition.
func (c *cluster) until(what string, ok func() bool) {
	c.t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	c.t.Fatalf("waited 30 s until %s", what)
}

// leader returns a node that leads and is none of those named.
func (c *cluster) leader(except ...string) (leader *clusterNode) {
	c.t.Helper()
	c.until("somebody leads", func() bool {
		for id, n := range c.nodes {
			if n.IsLeader() && !strings.Contains(strings.Join(except, " "), id) {
				leader = n
				return true
			}
		}
		return false
	})
	return leader
}

func (c *cluster) apply(n *clusterNode, cmd *storev1.Command) Outcome {
	c.t.Helper()
	o, err := n.Apply(c.t.Context(), cmd)
	if err != nil {
		c.t.Fatal(err)
	}
	return o
}

func TestStoreApply(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startCluster(t, 1)
		n := c.nodes["n1"]
		before := n.State()
		if o := c.apply(n, createAPI("a")); o.Refusal != nil || o.API.ID != "a" {
			t.Errorf("got %+v", o)
		}
		if _, ok := n.State().API("a"); !ok {
			t.Error("Apply returned before the state had its effect")
		}
		if !isClosed(before.Changed()) {
			t.Error("nobody was told of the change")
		}
		if o := c.apply(n, createAPI("a")); o.Refusal == nil || o.Refusal.Reason != release.Exists {
			t.Errorf("a refusal is an outcome; got %+v", o)
		}
		if err := n.Sync(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestFounding: the first leader gives the cluster its identity, once, and every
// leader records where it is reached.
func TestFounding(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		id := c.nodes["n1"].State().ClusterID()
		if len(id) != 26 || c.nodes["n1"].State().Version().Epoch != 1 {
			t.Errorf("founded cluster %q at %v", id, c.nodes["n1"].State().Version())
		}
		c.nodes["n1"].HandOver(5 * time.Second)
		leader := c.leader("n1")
		if err := leader.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := leader.State().ClusterID(); got != id {
			t.Errorf("the next leader leads cluster %s, the first %s", got, id)
		}
		members, err := leader.Members()
		if err != nil || len(members) != 3 {
			t.Fatalf("got %v, %v", members, err)
		}
		for i, m := range members {
			want := Member{
				ID: fmt.Sprintf("n%d", i+1), RaftAddress: fmt.Sprintf("n%d:raft", i+1), GRPCAddress: fmt.Sprintf("n%d:grpc", i+1),
				Voter: true, Leader: m.ID == leader.NodeID(),
			}
			if m != want {
				t.Errorf("member %+v, want %+v", m, want)
			}
		}
		if l, ok := leader.Leader(); !ok || l.GRPCAddress != leader.NodeID()+":grpc" {
			t.Errorf("the leader says it is %+v", l)
		}
	})
}

// TestRestart: a node that starts again with its storage has what it had, from
// its log or from a snapshot.
func TestRestart(t *testing.T) {
	for _, snapshots := range []bool{false, true} {
		t.Run(fmt.Sprintf("snapshot=%v", snapshots), func(t *testing.T) {
			bubbletest.Test(t, func(t *testing.T) {
				c := startCluster(t, 1)
				for _, id := range []string{"a", "b"} {
					c.apply(c.nodes["n1"], createAPI(id))
					if snapshots {
						if err := c.nodes["n1"].raft.Snapshot().Error(); err != nil {
							t.Fatal(err)
						}
					}
				}
				before, storage := c.nodes["n1"].State(), c.nodes["n1"].storage
				c.close("n1")
				if used, err := storage.Used(); err != nil || !used {
					t.Fatalf("used %v, %v", used, err)
				}
				if _, err := Open(Config{NodeID: "n1", Storage: storage, Bootstrap: true}); !errors.Is(err, ErrUsed) {
					t.Errorf("founding a cluster anew: %v", err)
				}
				c.open("n1", storage, false)
				c.until("the node leads again", c.nodes["n1"].IsLeader)
				if err := c.nodes["n1"].Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got, want := stateText(c.nodes["n1"].State()), stateText(before); got != want {
					t.Errorf("before\n%s\nafter\n%s", want, got)
				}
			})
		})
	}
}

// TestFollowerIsServedASnapshot: a node that is too far behind for the log gets a
// snapshot, and is the same as the others.
func TestFollowerIsServedASnapshot(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startCluster(t, 1)
		n1 := c.nodes["n1"]
		c.apply(n1, createAPI("a"))
		config := n1.raft.ReloadableConfig()
		config.TrailingLogs = 0
		if err := n1.raft.ReloadConfig(config); err != nil {
			t.Fatal(err)
		}
		if err := n1.raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		c.open("n2", NewMemory(), false)
		n2 := c.nodes["n2"]
		before := n2.State()
		if err := n1.Join(t.Context(), c.node("n2"), "n2:raft", false); err != nil {
			t.Fatal(err)
		}
		c.until("n2 has caught up", func() bool { return n2.State().Applied() == n1.State().Applied() })
		if !isClosed(before.Changed()) || string(snapshotBytes(t, n2.State())) != string(snapshotBytes(t, n1.State())) {
			t.Errorf("n1 is\n%s\nn2\n%s", stateText(n1.State()), stateText(n2.State()))
		}
		if metas, err := n2.storage.snapshots.List(); err != nil || len(metas) == 0 {
			t.Errorf("n2 came up without a snapshot: %v, %v", metas, err)
		}
	})
}

func TestMembership(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startCluster(t, 2)
		n1 := c.nodes["n1"]
		applied := n1.State().Applied()
		for what, tt := range map[string]struct {
			id, grpc, raft string
			want           error
		}{
			"a voter's name":       {"n2", "n2:grpc", "n2:raft", ErrMemberConflict}, // it has lost its disk
			"other raft address":   {"n2", "n2:grpc", "n9:raft", ErrMemberConflict},
			"another's raft":       {"n9", "n9:grpc", "n2:raft", ErrMemberConflict},
			"another's grpc":       {"n9", "n2:grpc", "n9:raft", ErrMemberConflict},
			"the leader's address": {"n9", "n1:grpc", "n9:raft", ErrMemberConflict},
		} {
			err := n1.Join(t.Context(), Node{ID: tt.id, GRPCAddress: tt.grpc, Schema: Schema}, tt.raft, false)
			if !errors.Is(err, tt.want) {
				t.Errorf("%s: got %v, want %v", what, err, tt.want)
			}
		}
		if got := n1.State().Applied(); got != applied {
			t.Errorf("these joins made entries up to %v, from %v", got, applied)
		}
		if m, err := n1.Promote(t.Context(), "n2"); err != nil || !m.Voter {
			t.Errorf("promoting a voter: %+v, %v", m, err)
		}
		if _, err := n1.Promote(t.Context(), "n9"); !errors.Is(err, ErrNoMember) {
			t.Errorf("promoting a stranger: %v", err)
		}
		if err := c.nodes["n2"].Join(t.Context(), c.node("n9"), "n9:raft", false); !errors.Is(err, ErrNotLeader) {
			t.Errorf("joining through a follower: %v", err)
		}
		// A node that has moved says so by joining again.
		if err := n1.Join(t.Context(), Node{ID: "n2", GRPCAddress: "moved:grpc", Schema: Schema}, "n2:raft", true); err != nil {
			t.Fatal(err)
		}
		if n, _ := n1.State().Node("n2"); n.GRPCAddress != "moved:grpc" {
			t.Errorf("n2 is recorded as %+v", n)
		}
	})
}
