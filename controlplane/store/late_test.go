package store

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"
)

// TestLateSnapshot: a snapshot that turns up after the log has gone on, as one
// does that a paused node finds in its buffers, is not installed over what has
// come since. With check answering false for all, n2 goes back to the snapshot
// and its log is cleared.
func TestLateSnapshot(t *testing.T) {
	for name, compact := range map[string]bool{"in the log": false, "before the log": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
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
				if compact {
					if err := n2.storage.logs.DeleteRange(1, meta.Index); err != nil {
						t.Fatal(err)
					}
				}
				last := n2.raft.LastIndex()

				var resp raft.InstallSnapshotResponse
				err = n1.transport.InstallSnapshot("n2", n2.transport.LocalAddr(), &raft.InstallSnapshotRequest{
					SnapshotVersion: meta.Version, Term: n1.raft.CurrentTerm(), Leader: []byte(n1.transport.LocalAddr()),
					RPCHeader:    raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n1"), Addr: []byte("n1:raft")},
					LastLogIndex: meta.Index, LastLogTerm: meta.Term, Size: int64(len(data)),
					Configuration: raft.EncodeConfiguration(meta.Configuration), ConfigurationIndex: meta.ConfigurationIndex,
				}, &resp, bytes.NewReader(data))
				if err != nil || resp.Success == compact {
					t.Errorf("the late snapshot was answered %+v, %v", resp, err)
				}
				if !caughtUp() || n2.raft.LastIndex() != last {
					t.Errorf("n2 is at %v of %v, its log at %d of %d", n2.State().Applied(), n1.State().Applied(), n2.raft.LastIndex(), last)
				}
				if kept, err := n2.storage.logs.LastIndex(); err != nil || kept != last {
					t.Errorf("the log ends at %d, %v; it ended at %d", kept, err, last)
				}
				c.apply(n1, createAPI("c"))
				c.until("n2 follows", caughtUp)
			})
		})
	}
}
