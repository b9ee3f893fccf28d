package store

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// fsm holds the present state and moves it on as Raft says. Raft calls it from
// one goroutine; anybody may load the state at any time.
type fsm struct {
	state atomic.Pointer[State]
	fatal func(error)

	// installs counts snapshots restored since the last entry was applied.
	installs int
}

var _ raft.BatchingFSM = (*fsm)(nil)

// maxInstalls is how many snapshots in a row, with no entry between them, say that
// this node is in a loop in which it is sent a snapshot, finds no log to follow
// it, and asks for the next (hashicorp/raft#697). A restart ends it.
const maxInstalls = 5

// newFSM returns an empty machine. What would be fatal panics until fatal is set.
func newFSM() *fsm {
	f := &fsm{fatal: func(err error) { panic(err) }}
	f.state.Store(newState())
	return f
}

// publish makes next the present state and wakes those who wait on the former
// one. Nothing waits for them: a slow reader finds the newest state when it
// comes back.
func (f *fsm) publish(next *State) {
	old := f.state.Swap(next)
	close(old.superseded)
	if old.rerouted != next.rerouted {
		close(old.rerouted)
	}
}

// ApplyBatch applies entries of the log in order. The whole batch is one swap and
// one wake-up. The response to a command is its Outcome.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	f.installs = 0
	responses := make([]any, len(logs))
	before := f.state.Load()
	state := before
	for i, log := range logs {
		if log.Type != raft.LogCommand {
			continue
		}
		var cmd storev1.Command
		if err := proto.Unmarshal(log.Data, &cmd); err != nil {
			panic(fmt.Sprintf("apply index %d: the entry is damaged: %v", log.Index, err))
		}
		state, responses[i] = applyEntry(state, log, &cmd)
	}
	if state != before {
		f.publish(state)
	}
	return responses
}

// applyEntry applies a command of the log and puts it in the audit.
func applyEntry(s *State, log *raft.Log, cmd *storev1.Command) (*State, any) {
	next, outcome := s.apply(log.Index, cmd)
	next.audit(s, log.Term, cmd, outcome)
	return next, outcome
}

// Apply applies one entry.
func (f *fsm) Apply(log *raft.Log) any { return f.ApplyBatch([]*raft.Log{log})[0] }

// Snapshot returns the present state for writing.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) { return snapshot{f.state.Load()}, nil }

// Restore makes the state in a snapshot the present one. On an error the present
// one stays.
func (f *fsm) Restore(in io.ReadCloser) error {
	state, err := readSnapshot(in)
	if err != nil {
		_ = in.Close() // the read error says more
		return err
	}
	if err := in.Close(); err != nil {
		return fmt.Errorf("close snapshot: %w", err)
	}
	f.publish(state)
	if f.installs++; f.installs >= maxInstalls {
		f.fatal(fmt.Errorf("%d snapshots were installed and no entry applied after any", f.installs))
	}
	return nil
}
