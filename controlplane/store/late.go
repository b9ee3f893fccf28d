package store

import (
	"context"
	"io"
	"slices"

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
		switch req := rpc.Command.(type) {
		case *raft.InstallSnapshotRequest:
			if t.isLate(r, req) {
				if rpc.Reader != nil {
					_, _ = io.Copy(io.Discard, rpc.Reader) // the next request follows it
				}
				rpc.Respond(&raft.InstallSnapshotResponse{Term: req.Term, Success: true}, nil)
				continue
			}
		case *raft.AppendEntriesRequest:
			rpc.Command = t.withoutCompacted(r, req)
		}
		select {
		case t.inbox <- rpc:
		case <-ctx.Done():
			return
		}
	}
}

// isLate reports whether this node has all that is in a snapshot, so that the leader may
// go on after its last entry. That is so if this entry is in the log here, or if it
// comes no later than what has been applied here: that is committed, and so the same at
// the leader, whatever follows it here.
func (t *lateSnapshots) isLate(r *raft.Raft, req *raft.InstallSnapshotRequest) bool {
	if r.State() == raft.Leader || req.Term != r.CurrentTerm() {
		return false // Raft's to decide
	}
	_ = r.VerifyLeader().Error() // it does not lead; but now it has done what it was asked before
	var entry raft.Log
	if t.logs.GetLog(req.LastLogIndex, &entry) == nil && entry.Term == req.LastLogTerm {
		return true
	}
	return req.LastLogIndex <= max(r.CommitIndex(), r.AppliedIndex())
}

// withoutCompacted returns a request without the entries that are in this node's newest
// snapshot and in its log no more. They are committed, and so the same at the leader;
// but Raft would look for the one before them, in vain, and answer that it does not have
// it, and the leader would go back further. It gets there when entries have arrived of
// which it believes that they were lost.
func (t *lateSnapshots) withoutCompacted(r *raft.Raft, req *raft.AppendEntriesRequest) *raft.AppendEntriesRequest {
	first, err := t.logs.FirstIndex()
	if err != nil || (req.PrevLogEntry == 0 && len(req.Entries) == 0) {
		return req
	}
	if first == 0 { // the log is empty
		first = r.LastIndex() + 1
	}
	if req.PrevLogEntry+1 >= first {
		return req
	}
	last, term := lastSnapshot(r)
	if req.PrevLogEntry >= last {
		return req
	}
	rest := *req
	rest.PrevLogEntry, rest.PrevLogTerm = last, term
	rest.Entries = slices.DeleteFunc(slices.Clone(req.Entries), func(l *raft.Log) bool { return l.Index <= last })
	return &rest
}
