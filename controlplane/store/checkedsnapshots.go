package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/cespare/xxhash/v2"
	"github.com/hashicorp/raft"
)

// checkedSnapshots is Raft's store of snapshots on disk with a checksum of what it
// notes of each: the index and the members that a node begins again with. Raft checks
// the contents of a snapshot, but not that note.
type checkedSnapshots struct {
	raft.SnapshotStore
	dir    string // that holds a directory for each snapshot
	logger *slog.Logger
}

// ErrDamagedSnapshots says that no snapshot on disk can be trusted.
var ErrDamagedSnapshots = errors.New("all snapshots on disk are damaged; remove this node and join under a new name with an empty data directory")

func (c checkedSnapshots) meta(id string) string { return filepath.Join(c.dir, id, "meta.json") }
func (c checkedSnapshots) sum(id string) string  { return filepath.Join(c.dir, id, "meta.sum") }

// check returns why the note of a snapshot cannot be trusted.
func (c checkedSnapshots) check(id string) error {
	data, err := os.ReadFile(c.meta(id))
	if err != nil {
		return err
	}
	want, err := os.ReadFile(c.sum(id))
	if err != nil {
		return err
	}
	if len(want) != 8 || binary.BigEndian.Uint64(want) != xxhash.Sum64(data) {
		return fmt.Errorf("%s is not as it was written", c.meta(id))
	}
	return nil
}

// List returns the snapshots that can be trusted, newest first. The error is
// ErrDamagedSnapshots if there are some, but none of these.
func (c checkedSnapshots) List() ([]*raft.SnapshotMeta, error) {
	all, err := c.SnapshotStore.List()
	if err != nil {
		return nil, err
	}
	var good []*raft.SnapshotMeta
	for _, m := range all {
		if err := c.check(m.ID); err != nil {
			c.logger.Error("snapshot is left out", "snapshot", m.ID, "error", err)
			continue
		}
		good = append(good, m)
	}
	found, err := filepath.Glob(filepath.Join(c.dir, "*-*-*"))
	if err != nil {
		return nil, err
	}
	for _, path := range found {
		if len(good) == 0 && filepath.Ext(path) != ".tmp" {
			return nil, ErrDamagedSnapshots
		}
	}
	return good, nil
}

// Create begins a snapshot.
func (c checkedSnapshots) Create(
	version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, trans raft.Transport,
) (raft.SnapshotSink, error) {
	sink, err := c.SnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		return nil, err
	}
	return &checkedSink{SnapshotSink: sink, store: c}, nil
}

// checkedSink writes the checksum once the snapshot stands. Until then it counts as
// damaged, and the log still holds what is in it.
type checkedSink struct {
	raft.SnapshotSink
	store  checkedSnapshots
	closed bool
}

func (s *checkedSink) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	data, err := os.ReadFile(s.store.meta(s.ID()))
	if err != nil {
		return fmt.Errorf("read back what is noted of a snapshot: %w", err)
	}
	return replaceFile(s.store.sum(s.ID()), binary.BigEndian.AppendUint64(nil, xxhash.Sum64(data)))
}

// Cancel gives the snapshot up.
func (s *checkedSink) Cancel() error {
	s.closed = true
	return s.SnapshotSink.Cancel()
}
