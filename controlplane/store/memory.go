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
	return &Storage{
		logs: &memoryLogs{}, stable: &voteStore{StableStore: raft.NewInmemStore()}, snapshots: &memorySnapshots{},
		identity: &identityFile{}, close: func() error { return nil },
	}
}

// memoryLogs is a log in memory that takes no holes, like that on disk. It is safe
// for concurrent use.
type memoryLogs struct {
	mu   sync.Mutex
	logs []*raft.Log // in order
}

var _ raft.MonotonicLogStore = (*memoryLogs)(nil)

// IsMonotonic makes Raft clear the log when it installs a snapshot.
func (*memoryLogs) IsMonotonic() bool { return true }

// FirstIndex returns the index of the oldest entry; 0 if there is none.
func (l *memoryLogs) FirstIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.logs) == 0 {
		return 0, nil
	}
	return l.logs[0].Index, nil
}

// LastIndex returns the index of the newest entry; 0 if there is none.
func (l *memoryLogs) LastIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.logs) == 0 {
		return 0, nil
	}
	return l.logs[len(l.logs)-1].Index, nil
}

// GetLog copies an entry.
func (l *memoryLogs) GetLog(index uint64, log *raft.Log) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.logs) == 0 || index < l.logs[0].Index || index > l.logs[len(l.logs)-1].Index {
		return raft.ErrLogNotFound
	}
	*log = *l.logs[index-l.logs[0].Index]
	return nil
}

// StoreLog appends an entry.
func (l *memoryLogs) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs appends entries that follow the last one.
func (l *memoryLogs) StoreLogs(logs []*raft.Log) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, log := range logs {
		if n := len(l.logs); n > 0 && log.Index != l.logs[n-1].Index+1 {
			return fmt.Errorf("entry %d does not follow entry %d", log.Index, l.logs[n-1].Index)
		}
		l.logs = append(l.logs, log)
	}
	return nil
}

// DeleteRange removes the entries from one index to another.
func (l *memoryLogs) DeleteRange(first, last uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.logs = slices.DeleteFunc(l.logs, func(log *raft.Log) bool { return log.Index >= first && log.Index <= last })
	return nil
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
