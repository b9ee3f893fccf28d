package store

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/fifegateway/fife/controlplane/bubbletest"
)

// TestLateSnapshot: a snapshot that turns up after the log has gone on, as one
// does that a paused node finds in its buffers, is not installed over what has
// come since. With isLate answering false for all, n2 goes back to the snapshot
// and its log is cleared; in a new term also if isLate relies on the term of the last
// entry alone, as it is an older one until the leader has replicated its own first.
func TestLateSnapshot(t *testing.T) {
	for name, tt := range map[string]struct{ compact, newTerm bool }{
		"in the log":                    {false, false},
		"before the log":                {true, false},
		"in the log, in a new term":     {false, true},
		"before the log, in a new term": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubbletest.Test(t, func(t *testing.T) {
				c := startCluster(t, 2)
				n1, n2 := c.nodes["n1"], c.nodes["n2"]
				c.apply(n1, createAPI("a"))
				if err := n1.raft.Snapshot().Error(); err != nil {
					t.Fatal(err)
				}
				metas, err := n1.storage.snapshots.List()
				if err != nil {
					t.Fatal(err)
				}
				meta, data := metas[0], snapshotBytes(t, n1.State())
				for i := range 3 {
					c.apply(n1, createAPI(fmt.Sprintf("b%d", i)))
				}
				caughtUp := func() bool { return n2.State().Applied() == n1.State().Applied() }
				c.until("n2 has caught up", caughtUp)
				if tt.compact {
					if err := n2.storage.logs.DeleteRange(1, meta.Index); err != nil {
						t.Fatal(err)
					}
				}
				last, term := n2.raft.LastIndex(), n2.raft.CurrentTerm()
				header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n1"), Addr: []byte("n1:raft")}
				if tt.newTerm {
					term++
					var resp raft.AppendEntriesResponse
					beat := &raft.AppendEntriesRequest{RPCHeader: header, Term: term}
					if err := n1.transport.AppendEntries("n2", n2.transport.LocalAddr(), beat, &resp); err != nil || !resp.Success {
						t.Fatalf("n2 did not follow into a new term: %+v, %v", &resp, err)
					}
				}

				var resp raft.InstallSnapshotResponse
				err = n1.transport.InstallSnapshot("n2", n2.transport.LocalAddr(), &raft.InstallSnapshotRequest{
					SnapshotVersion: meta.Version, Term: term, Leader: []byte(n1.transport.LocalAddr()),
					RPCHeader:    header,
					LastLogIndex: meta.Index, LastLogTerm: meta.Term, Size: int64(len(data)),
					Configuration: raft.EncodeConfiguration(meta.Configuration), ConfigurationIndex: meta.ConfigurationIndex,
				}, &resp, bytes.NewReader(data))
				if err != nil || !resp.Success {
					t.Errorf("the late snapshot was answered %+v, %v", resp, err)
				}
				if !caughtUp() || n2.raft.LastIndex() != last {
					t.Errorf("n2 is at %v of %v, its log at %d of %d", n2.State().Applied(), n1.State().Applied(), n2.raft.LastIndex(), last)
				}
				if kept, err := n2.storage.logs.LastIndex(); err != nil || kept != last {
					t.Errorf("the log ends at %d, %v; it ended at %d", kept, err, last)
				}
				if t.Failed() {
					return // a log with a hole in it is not gone on with
				}
				c.until("a leader is of that term", func() bool { return c.leader().Term() >= term })
				c.apply(c.leader(), createAPI("c"))
				c.until("both go on", caughtUp)
			})
		})
	}
}

// TestCompactedEntries: a leader that believes a node to be behind what that node has
// compacted away learns that it is not. With withoutCompacted returning what it is
// given, n2 answers that it does not have the entry before, for ever.
func TestCompactedEntries(t *testing.T) {
	for name, all := range map[string]bool{"the log is empty": true, "the log goes on": false} {
		t.Run(name, func(t *testing.T) {
			bubbletest.Test(t, func(t *testing.T) {
				c := startCluster(t, 2)
				n1, n2 := c.nodes["n1"], c.nodes["n2"]
				for i := range 6 {
					c.apply(n1, createAPI(fmt.Sprintf("a%d", i)))
				}
				caughtUp := func() bool { return n2.State().Applied() == n1.State().Applied() }
				c.until("n2 has caught up", caughtUp)
				if err := n2.raft.Snapshot().Error(); err != nil {
					t.Fatal(err)
				}
				last, _ := lastSnapshot(n2.raft)
				if !all {
					c.apply(n1, createAPI("b"))
					c.until("n2 has caught up", caughtUp)
				}
				if err := n2.storage.logs.DeleteRange(1, last); err != nil {
					t.Fatal(err)
				}
				for _, from := range []uint64{1, last - 3} {
					req := &raft.AppendEntriesRequest{
						RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n1"), Addr: []byte("n1:raft")},
						Term:      n1.raft.CurrentTerm(), PrevLogEntry: from - 1,
					}
					var before raft.Log
					if from > 1 {
						if err := n1.storage.logs.GetLog(from-1, &before); err != nil {
							t.Fatal(err)
						}
					}
					req.PrevLogTerm = before.Term
					for index := from; index <= last-1; index++ {
						entry := new(raft.Log)
						if err := n1.storage.logs.GetLog(index, entry); err != nil {
							t.Fatal(err)
						}
						req.Entries = append(req.Entries, entry)
					}
					sent := len(req.Entries)
					var resp raft.AppendEntriesResponse
					if err := n1.transport.AppendEntries("n2", n2.transport.LocalAddr(), req, &resp); err != nil || !resp.Success {
						t.Errorf("entries from %d on: answered %+v, %v", from, &resp, err)
					}
					if len(req.Entries) != sent || req.PrevLogEntry != from-1 {
						t.Errorf("the leader's own request was changed to %d entries after %d", len(req.Entries), req.PrevLogEntry)
					}
				}
				c.apply(n1, createAPI("c"))
				c.until("n2 follows", caughtUp)
			})
		})
	}
}
