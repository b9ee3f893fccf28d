package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
)

// cutOffLog makes a log whose last segment is sealed without its list knowing, as a
// kill between the two leaves it, and returns its last index.
func cutOffLog(t *testing.T, dir string) uint64 {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w, err := wal.Open(dir, wal.WithSegmentSize(16<<10))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.SetUint64([]byte("CurrentTerm"), 7), w.Set(lastVote, []byte("vote"))); err != nil {
		t.Fatal(err)
	}
	segments := func() int {
		found, err := filepath.Glob(filepath.Join(dir, "*.wal"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	last := uint64(0)
	for segments() < 3 {
		last++
		if err := w.StoreLog(&raft.Log{Index: last, Term: 7, Data: bytes.Repeat([]byte{byte(last)}, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var list metadb.BoltMetaDB
	state, err := list.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	full := state.Segments[1]
	last = full.MaxIndex
	full.SealTime, full.MaxIndex, full.IndexStart = time.Time{}, 0, 0
	state.Segments = append(state.Segments[:1:1], full)
	if err := errors.Join(list.CommitState(state), list.Close()); err != nil {
		t.Fatal(err)
	}
	return last
}

// TestLogCutOffBetweenSegments: without the mending the first write ends in "segment
// is sealed", whatever is done.
func TestLogCutOffBetweenSegments(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wal")
	last := cutOffLog(t, dir)
	next := &raft.Log{Index: last + 1, Term: 7, Data: []byte("next")}
	w, err := wal.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.StoreLog(next); err == nil || err.Error() != "segment is sealed" {
		t.Errorf("a log that was cut off between segments took a write: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	for i := range 2 { // the second time there is nothing to mend
		w, err = openLog(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := sameLog(w, last+uint64(i)); err != nil {
			t.Error(err)
		}
		next.Index = last + 1 + uint64(i)
		if err := errors.Join(w.StoreLog(next), w.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCloseWaitsForTheNextSegment: a log is never left cut off by being closed.
func TestCloseWaitsForTheNextSegment(t *testing.T) {
	dir := t.TempDir()
	index := uint64(0)
	for range 200 { // each of which may fill a segment with its last write
		w, err := wal.Open(dir, wal.WithSegmentSize(4<<10))
		if err != nil {
			t.Fatal(err)
		}
		index++
		if err := w.StoreLog(&raft.Log{Index: index, Term: 1, Data: make([]byte, 1000)}); err != nil {
			t.Fatalf("entry %d: %v", index, err)
		}
		if err := closeLog(w); err != nil {
			t.Fatal(err)
		}
	}
}

// sameLog reports what is missing of what cutOffLog has written.
func sameLog(w *wal.WAL, last uint64) error {
	term, err := w.GetUint64([]byte("CurrentTerm"))
	vote, err2 := w.Get(lastVote)
	has, err3 := w.LastIndex()
	if err := errors.Join(err, err2, err3); err != nil || term != 7 || string(vote) != "vote" || has != last {
		return fmt.Errorf("term %d, vote %q, last index %d of %d: %w", term, vote, has, last, err)
	}
	for i := uint64(1); i < last; i++ {
		var entry raft.Log
		if err := w.GetLog(i, &entry); err != nil || entry.Term != 7 || entry.Data[0] != byte(i) {
			return fmt.Errorf("entry %d: %+v, %w", i, entry, err)
		}
	}
	return nil
}

// TestLogCutOffWhileSealing: a seal of which the end is missing is taken off, with the
// entries that were written with it and never acknowledged.
func TestLogCutOffWhileSealing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wal")
	last := cutOffLog(t, dir)
	found, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	data, err := os.ReadFile(found[1])
	if err != nil {
		t.Fatal(err)
	}
	written := bytes.TrimRight(data, "\x00")
	clear(written[len(written)-12:])
	if err := os.WriteFile(found[1], data, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		w, err := openLog(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := sameLog(w, last-1+uint64(i)); err != nil {
			t.Error(err)
		}
		next := &raft.Log{Index: last + uint64(i), Term: 7, Data: []byte{byte(last) + byte(i)}}
		if err := errors.Join(w.StoreLog(next), closeLog(w)); err != nil {
			t.Fatal(err)
		}
	}
}
