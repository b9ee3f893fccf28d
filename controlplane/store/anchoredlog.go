package store

import (
	"errors"
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

// GetLog reads an entry. Of the one at the end of the newest snapshot it may know no
// more than index and term.
func (l *anchoredLogs) GetLog(index uint64, entry *raft.Log) error {
	err := l.LogStore.GetLog(index, entry)
	r := l.raft.Load()
	// The first entry is never asked for as the one before others, but to be sent.
	if !errors.Is(err, raft.ErrLogNotFound) || r == nil || index <= 1 {
		return err
	}
	if last, term := lastSnapshot(r); index == last {
		*entry = raft.Log{Index: last, Term: term, Type: raft.LogNoop}
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
