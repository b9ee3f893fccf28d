package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// Storage is where Raft keeps its log, its vote and its snapshots. Whoever opens
// it closes it, after the Store.
type Storage struct {
	Logs      raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore
	close     func() error
}

// retainSnapshots is how many snapshots are kept, so that a damaged newest one
// is not the end; the log reaches back behind the oldest (see raftConfig).
const retainSnapshots = 3

// OpenDisk opens the storage in a directory, which is made if it is missing.
func OpenDisk(dir string, logger *slog.Logger) (*Storage, error) {
	logs := filepath.Join(dir, "wal")
	if err := os.MkdirAll(logs, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	w, err := wal.Open(logs, wal.WithLogger(raftLogger(logger.With("part", "wal"))))
	if err != nil {
		return nil, fmt.Errorf("open log in %s: %w", logs, err)
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, retainSnapshots,
		raftLogger(logger.With("part", "snapshots")))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open snapshots in %s: %w", dir, err), w.Close())
	}
	return &Storage{Logs: w, Stable: w, Snapshots: snapshots, close: w.Close}, nil
}

// NewMemory returns storage that lasts as long as the process. It outlives a
// Store that is closed, so that tests can restart a node.
func NewMemory() *Storage {
	s := raft.NewInmemStore()
	return &Storage{Logs: s, Stable: s, Snapshots: raft.NewInmemSnapshotStore(), close: func() error { return nil }}
}

// Close releases the storage.
func (s *Storage) Close() error { return s.close() }

// Used reports whether the storage holds a node's past.
func (s *Storage) Used() (bool, error) {
	used, err := raft.HasExistingState(s.Logs, s.Stable, s.Snapshots)
	if err != nil {
		return false, fmt.Errorf("look for existing state: %w", err)
	}
	return used, nil
}
