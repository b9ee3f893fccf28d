package store

import (
	"errors"
	"math"
	"strconv"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// anchoredLogs is a log that still answers for the last entry of the newest snapshot
// when it holds that entry no more. Raft asks for the term of the entry before those
// that a leader sends; it knows the snapshot's, and yet looks in the log alone. A node
// whose log begins behind its snapshot with entries that no other node has, which it
// was sent by a leader that fell, would agree with no leader on anything, and be sent
// snapshots for ever: older ones than its own, which take it back, as long as they are
// installed.
type anchoredLogs struct {
	raft.LogStore
	raft atomic.Pointer[raft.Raft] // nil until it runs
}

// anchor is the type of an entry of which no more is known than index and term.
// It is none of Raft's, and is never stored: a leader that is about to delete the log
// before a backup that it has restored may read one as an entry to send, and the
// follower that took it would go on without what was restored.
const anchor raft.LogType = math.MaxUint8

// errAnchor says that a leader has sent what it does not have. It sends its snapshot
// once it has deleted its log.
var errAnchor = errors.New("the entry is an anchor: a snapshot has to take its place")

// StoreLog writes an entry, as StoreLogs does.
func (l *anchoredLogs) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs writes entries, or none if one is an anchor.
func (l *anchoredLogs) StoreLogs(entries []*raft.Log) error {
	for _, entry := range entries {
		if entry.Type == anchor {
			return errAnchor
		}
	}
	if len(entries) > 0 {
		if err := l.dropStale(entries[0].Index); err != nil {
			return err
		}
	}
	return l.LogStore.StoreLogs(entries)
}

// dropStale deletes a log that ends before the newest snapshot if the entry that comes
// next is the one behind that. Raft deletes it when it has installed a snapshot; a node
// that was killed in between still has it, and a log takes no holes.
func (l *anchoredLogs) dropStale(next uint64) error {
	r := l.raft.Load()
	last, err := l.LastIndex()
	if err != nil || r == nil || last == 0 || last+1 >= next {
		return err
	}
	if snapshot, _ := lastSnapshot(r); snapshot+1 != next {
		return nil
	}
	first, err := l.FirstIndex()
	if err != nil {
		return err
	}
	return l.DeleteRange(first, last)
}

// GetLog reads an entry, or an anchor in place of the one at the end of the newest
// snapshot.
func (l *anchoredLogs) GetLog(index uint64, entry *raft.Log) error {
	err := l.LogStore.GetLog(index, entry)
	r := l.raft.Load()
	// The first entry is never asked for as the one before others, but to be sent.
	if !errors.Is(err, raft.ErrLogNotFound) || r == nil || index <= 1 {
		return err
	}
	if last, term := lastSnapshot(r); index == last {
		*entry = raft.Log{Index: last, Term: term, Type: anchor}
		return nil
	}
	return err
}

// IsMonotonic passes on whether the log must not have holes.
func (l *anchoredLogs) IsMonotonic() bool { return isMonotonic(l.LogStore) }

// lastSnapshot returns what Raft's newest snapshot ends with; 0 if there is none.
func lastSnapshot(r *raft.Raft) (index, term uint64) {
	stats := r.Stats()
	number := func(key string) uint64 {
		n, _ := strconv.ParseUint(stats[key], 10, 64) // Raft has made it of a uint64
		return n
	}
	return number("last_snapshot_index"), number("last_snapshot_term")
}
