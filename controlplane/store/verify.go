package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// ErrNoCheckpoint says that this node has no state of the index asked for: it has
// not come to it yet, or a later checkpoint or a snapshot has taken its place.
var ErrNoCheckpoint = errors.New("no checkpoint at that index")

// Checkpoint makes every node keep its state as of one entry of the log, and
// returns that entry's epoch and index. It must be called on the leader.
func (s *Store) Checkpoint(ctx context.Context) (Version, error) {
	cmd := s.command("Checkpoint")
	cmd.Op = &storev1.Command_Checkpoint{Checkpoint: &storev1.Checkpoint{}}
	outcome, err := s.Apply(ctx, cmd)
	if err != nil {
		return Version{}, fmt.Errorf("take checkpoint: %w", err)
	}
	return Version{outcome.Version.Epoch, outcome.Checkpoint}, nil
}

// StateHash returns the hash of this node's state as of a checkpoint: equal on
// all nodes, unless one of them has gone wrong. It waits until the node has come
// to the checkpoint.
func (s *Store) StateHash(ctx context.Context, checkpoint Version) (uint64, error) {
	state, err := s.Reach(ctx, checkpoint)
	if err != nil {
		return 0, fmt.Errorf("hash state: %w", err)
	}
	return state.checkpointHash(checkpoint.Index)
}

func (s *State) checkpointHash(index uint64) (uint64, error) {
	if s.checkpoint == nil || s.checkpoint.index != index {
		return 0, fmt.Errorf("hash state at %d: %w", index, ErrNoCheckpoint)
	}
	h := xxhash.New()
	if err := writeSnapshot(h, s.checkpoint); err != nil {
		return 0, fmt.Errorf("hash state at %d: %w", index, err)
	}
	return h.Sum64(), nil
}
