package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/raft"
)

// Storage is where Raft keeps its log, its vote and its snapshots. Whoever opens
// it closes it, after the Store.
type Storage struct {
	logs      raft.LogStore
	stable    raft.StableStore
	snapshots raft.SnapshotStore
	identity  *identityFile
	dir       string // empty in memory
	close     func() error
}

// retainSnapshots is how many snapshots are kept, so that a damaged newest one
// is not the end; the log reaches back behind the oldest (see raftConfig).
const retainSnapshots = 3

// OpenDisk opens the storage in a directory, which is made if it is missing. The
// error wraps ErrLocked if another process has it open.
func OpenDisk(dir string, logger *slog.Logger) (*Storage, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	identity, err := openIdentity(dir)
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	w, err := openLog(filepath.Join(dir, "wal"), logger.With("part", "wal"))
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	closeAll := func() error { return errors.Join(closeLog(w), unlock()) }
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, retainSnapshots,
		raftLogger(logger.With("part", "snapshots")))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open snapshots in %s: %w", dir, err), closeAll())
	}
	checked := checkedSnapshots{SnapshotStore: snapshots, dir: filepath.Join(dir, "snapshots"), logger: logger.With("part", "snapshots")}
	return &Storage{
		logs: checkedLogs{w}, stable: &voteStore{StableStore: w}, snapshots: checked,
		identity: identity, dir: dir, close: closeAll,
	}, nil
}

// OpenUsedDisk opens a directory that holds a node's past. The error wraps
// ErrNewDisk, and nothing is written, if it holds none.
func OpenUsedDisk(dir string, logger *slog.Logger) (*Storage, error) {
	if _, err := os.Stat(identityPath(dir)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNewDisk)
	}
	return OpenDisk(dir, logger)
}

// Close releases the storage.
func (s *Storage) Close() error { return s.close() }

// Used reports whether the storage belongs to a cluster.
func (s *Storage) Used() (bool, error) {
	used, err := raft.HasExistingState(s.logs, s.stable, s.snapshots)
	if err != nil {
		return false, fmt.Errorf("look for existing state: %w", err)
	}
	return used || s.ClusterID() != "", nil
}

// ClusterID returns the identity of the cluster that the storage belongs to; empty
// until it has founded or joined one.
func (s *Storage) ClusterID() string { return s.identity.get().ClusterID }

// JoinCluster records the cluster that has taken the node in. Until then the node
// must not talk Raft to anybody: a node that has lost its disk would be taken for
// what it was, and its vote with it.
func (s *Storage) JoinCluster(id string) error { return s.identity.learn(id) }

// free returns how many bytes can still be written; ok is false in memory.
func (s *Storage) free() (bytes uint64, ok bool, err error) {
	if s.dir == "" {
		return 0, false, nil
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(s.dir, &st); err != nil {
		return 0, false, fmt.Errorf("measure free disk space: %w", err)
	}
	return st.Bavail * uint64(st.Bsize), true, nil
}
