package store

import (
	"context"
	"io"

	"github.com/hashicorp/raft"
)

// lateSnapshots is a transport that keeps late snapshots from Raft. A leader that
// gets no answer in time sends its snapshot again; when the first one turns up
// after all, from the buffers of a node that was paused, Raft installs it over
// whatever has come since: the state goes back, and with it go entries that this
// node has promised to keep and a majority may rely on.
type lateSnapshots struct {
	raft.Transport
	logs  raft.LogStore // that Raft itself reads
	inbox chan raft.RPC
}

func keepLateSnapshots(t raft.Transport, logs raft.LogStore) *lateSnapshots {
	return &lateSnapshots{Transport: t, logs: logs, inbox: make(chan raft.RPC)}
}

// Consumer returns what Raft is to answer.
func (t *lateSnapshots) Consumer() <-chan raft.RPC { return t.inbox }

// RequestPreVote passes the call on. Every transport of this program has it.
func (t *lateSnapshots) RequestPreVote(
	id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse,
) error {
	return t.Transport.(raft.WithPreVote).RequestPreVote(id, target, args, resp)
}

// run passes requests on until ctx ends.
func (t *lateSnapshots) run(ctx context.Context, r *raft.Raft) {
	for {
		var rpc raft.RPC
		select {
		case rpc = <-t.Transport.Consumer():
		case <-ctx.Done():
			return
		}
		if req, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok {
			if late, have := t.check(r, req); late {
				if rpc.Reader != nil {
					_, _ = io.Copy(io.Discard, rpc.Reader) // the next request follows it
				}
				rpc.Respond(&raft.InstallSnapshotResponse{Term: req.Term, Success: have}, nil)
				continue
			}
		}
		select {
		case t.inbox <- rpc:
		case <-ctx.Done():
			return
		}
	}
}

// check reports whether a snapshot is late, and whether the leader may go on after
// its last entry. One whose last entry is in the log here is late, and so is one that
// ends at or before what has been applied here: that is committed, and so the same at
// the leader, whatever follows it here.
func (t *lateSnapshots) check(r *raft.Raft, req *raft.InstallSnapshotRequest) (late, have bool) {
	if r.State() == raft.Leader || req.Term != r.CurrentTerm() {
		return false, false // Raft's to decide
	}
	_ = r.VerifyLeader().Error() // it does not lead; but now it has done what it was asked before
	var entry raft.Log
	if t.logs.GetLog(req.LastLogIndex, &entry) == nil && entry.Term == req.LastLogTerm {
		return true, true
	}
	return req.LastLogIndex <= max(r.CommitIndex(), r.AppliedIndex()), false
}
