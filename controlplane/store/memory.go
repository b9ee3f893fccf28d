package store

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// NewMemory returns storage that lasts as long as the process. It outlives a
// Store that is closed, so that tests can restart a node.
func NewMemory() *Storage {
	s := raft.NewInmemStore()
	return &Storage{
		logs: memoryLogs{s}, stable: &voteStore{StableStore: s}, snapshots: &memorySnapshots{},
		identity: &identityFile{}, close: func() error { return nil },
	}
}

// memoryLogs is a log in memory that takes no holes, like that on disk.
type memoryLogs struct{ *raft.InmemStore }

var _ raft.MonotonicLogStore = memoryLogs{}

// IsMonotonic makes Raft clear the log when it installs a snapshot.
func (memoryLogs) IsMonotonic() bool { return true }

// StoreLog appends an entry.
func (l memoryLogs) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs appends entries that follow the last one.
func (l memoryLogs) StoreLogs(logs []*raft.Log) error {
	last, err := l.LastIndex()
	if err != nil {
		return err
	}
	for _, log := range logs {
		if last != 0 && log.Index != last+1 {
			return fmt.Errorf("entry %d does not follow entry %d", log.Index, last)
		}
		last = log.Index
	}
	return l.InmemStore.StoreLogs(logs)
}

// memorySnapshots keeps snapshots in memory. Like a disk's, and unlike those of
// Raft's own store in memory, a snapshot is there once it is whole, and can be
// sent while the next is written.
type memorySnapshots struct {
	mu   sync.Mutex
	kept []memorySnapshot // newest first
}

type memorySnapshot struct {
	meta raft.SnapshotMeta
	data []byte
}

var _ raft.SnapshotStore = (*memorySnapshots)(nil)

// Create begins a snapshot. Nobody sees it before it is closed.
func (m *memorySnapshots) Create(
	version raft.SnapshotVersion, index, term uint64,
	configuration raft.Configuration, configurationIndex uint64, _ raft.Transport,
) (raft.SnapshotSink, error) {
	return &memorySink{store: m, meta: raft.SnapshotMeta{
		Version: version, ID: fmt.Sprintf("%d-%d", term, index), Index: index, Term: term,
		Configuration: configuration, ConfigurationIndex: configurationIndex,
	}}, nil
}

// List returns the snapshots kept, the newest first.
func (m *memorySnapshots) List() ([]*raft.SnapshotMeta, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var metas []*raft.SnapshotMeta
	for _, s := range m.kept {
		metas = append(metas, &s.meta)
	}
	return metas, nil
}

// Open returns a snapshot's contents.
func (m *memorySnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.kept, func(s memorySnapshot) bool { return s.meta.ID == id })
	if i < 0 {
		return nil, nil, fmt.Errorf("no snapshot %s", id)
	}
	s := m.kept[i]
	return &s.meta, io.NopCloser(bytes.NewReader(s.data)), nil
}

type memorySink struct {
	bytes.Buffer
	store *memorySnapshots
	meta  raft.SnapshotMeta
}

// ID returns the snapshot's id.
func (s *memorySink) ID() string { return s.meta.ID }

// Cancel forgets the snapshot.
func (s *memorySink) Cancel() error { return nil }

// Close makes the snapshot the newest one.
func (s *memorySink) Close() error {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.meta.Size = int64(s.Len())
	kept := append([]memorySnapshot{{s.meta, s.Bytes()}}, s.store.kept...)
	s.store.kept = kept[:min(len(kept), retainSnapshots)]
	return nil
}
