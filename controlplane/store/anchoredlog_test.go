package store

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/fifegateway/fife/controlplane/bubbletest"
)

// TestLogBehindSnapshot: a node that holds nothing between its snapshot and an entry of
// a leader that fell follows the next leader. Without the anchor it stays behind: no
// entry that it has is the leader's.
func TestLogBehindSnapshot(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startCluster(t, 1)
		n1 := c.nodes["n1"]
		c.open("n2", NewMemory(), false)
		n2 := c.nodes["n2"]
		if err := n1.Join(t.Context(), c.node("n2"), "n2:raft", false); err != nil {
			t.Fatal(err)
		}
		c.apply(n1, createAPI("a"))
		caughtUp := func() bool { return n2.State().Applied() == n1.State().Applied() }
		c.until("n2 has caught up", caughtUp)
		if err := n2.raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		last, term := lastSnapshot(n2.raft)
		if err := n2.storage.logs.DeleteRange(1, last); err != nil {
			t.Fatal(err)
		}

		say := func(req raft.AppendEntriesRequest) {
			t.Helper()
			req.RPCHeader = raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n3"), Addr: []byte("n3:raft")}
			var resp raft.AppendEntriesResponse
			if err := n1.transport.AppendEntries("n2", n2.transport.LocalAddr(), &req, &resp); err != nil || !resp.Success {
				t.Fatalf("n2 did not take what a leader says: %+v, %v", &resp, err)
			}
		}
		fallen := n1.Term() + 1
		say(raft.AppendEntriesRequest{
			Term: fallen, PrevLogEntry: last, PrevLogTerm: term,
			Entries: []*raft.Log{{Index: last + 1, Term: fallen, Type: raft.LogNoop}},
		})
		say(raft.AppendEntriesRequest{Term: fallen + 1})
		c.until("n1 leads in a later term", func() bool {
			_ = n1.Sync(t.Context()) // which tells it of n2's term
			return n1.IsLeader() && n1.Term() > fallen
		})
		c.apply(n1, createAPI("b"))
		c.until("n2 follows", caughtUp)
	})
}

// slowToShrink is a log that takes its time to delete entries.
type slowToShrink struct{ raft.LogStore }

func (l slowToShrink) DeleteRange(first, last uint64) error {
	<-time.After(time.Second)
	return l.LogStore.DeleteRange(first, last)
}

func (l slowToShrink) IsMonotonic() bool { return isMonotonic(l.LogStore) }

// TestRestoreReachesFollowers: a leader that restores a backup sends it to its
// followers, also if one asks for the next entry while the old ones are being deleted.
// Without the refusal of anchors the follower takes one in the snapshot's place, and
// goes on with the state that it had.
func TestRestoreReachesFollowers(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		slow := NewMemory()
		slow.logs = slowToShrink{slow.logs}
		c := startPair(t, slow, NewMemory())
		c.restoreEmpty("n1")
		c.apply(c.nodes["n1"], createAPI("after"))
		c.until("n2 has what was restored", c.agree)
	})
}

// lastDeletion is a log that keeps what it held before entries were last deleted:
// what is on the disk of a node that was killed at that moment.
type lastDeletion struct {
	*memoryLogs
	before *memoryLogs
}

func (l *lastDeletion) DeleteRange(first, last uint64) error {
	l.before = &memoryLogs{logs: slices.Clone(l.logs)}
	return l.memoryLogs.DeleteRange(first, last)
}

// TestKilledInInstall: a node that was killed when it had a new snapshot and not yet
// deleted the log before it comes back, whether it had restored the snapshot or been
// sent it. Without dropStale it would end its process with every entry that it is sent.
func TestKilledInInstall(t *testing.T) {
	for _, id := range []string{"n1", "n2"} {
		t.Run(id, func(t *testing.T) {
			bubbletest.Test(t, func(t *testing.T) {
				disks := map[string]*Storage{"n1": NewMemory(), "n2": NewMemory()}
				logs := &lastDeletion{memoryLogs: &memoryLogs{}}
				disks[id].logs = logs
				c := startPair(t, disks["n1"], disks["n2"])
				c.restoreEmpty("n1")
				c.until("n2 has what was restored", c.agree)

				c.close(id)
				if logs.before == nil || len(logs.before.logs) == 0 {
					t.Fatal("no log was deleted")
				}
				disks[id].logs = logs.before
				c.open(id, disks[id], false)
				c.apply(c.leader(), createAPI("after"))
				c.until("both have what came after", c.agree)
			})
		})
	}
}

// startPair starts a cluster of n1, which leads, and n2.
func startPair(t *testing.T, disk1, disk2 *Storage) *cluster {
	t.Helper()
	c := &cluster{t: t, nodes: map[string]*clusterNode{}}
	t.Cleanup(c.stop)
	c.open("n1", disk1, true)
	n1 := c.leader()
	c.open("n2", disk2, false)
	if err := n1.Join(t.Context(), c.node("n2"), "n2:raft", false); err != nil {
		t.Fatal(err)
	}
	if _, err := n1.Promote(t.Context(), "n2"); err != nil {
		t.Fatal(err)
	}
	c.until("n2 has caught up", c.agree)
	if err := disk2.JoinCluster(n1.State().ClusterID()); err != nil { // as its server does
		t.Fatal(err)
	}
	return c
}

// agree reports whether n1 and n2 are in the same state.
func (c *cluster) agree() bool {
	return wholeText(c.nodes["n1"].State()) == wholeText(c.nodes["n2"].State())
}

// restoreEmpty restores a backup that ends where the log does: what would come next in
// the log is what ends the snapshot.
func (c *cluster) restoreEmpty(id string) {
	c.t.Helper()
	var backup bytes.Buffer
	if err := c.nodes[id].State().Backup(&backup); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.nodes[id].Restore(c.t.Context(), &backup, func(*State) error { return nil }); err != nil {
		c.t.Fatal(err)
	}
}
