package store

import (
	"testing"

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
