package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// A log is kept in segments. raft-wal v0.4.1 seals one when it is full, and then
// records that in its list. A node that is killed in between opens its log again and
// can never write to it: every attempt ends in "segment is sealed". As all nodes fill
// their segments with the same entries, they get there together. So a log in that
// state is written anew when it is opened.

// openLog opens the log in a directory, which it makes if it is missing.
func openLog(dir string, logger *slog.Logger) (*wal.WAL, error) {
	fresh := dir + ".new"
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		// Either nothing is there yet, or all but the last step of a mending is done.
		if err := os.Rename(fresh, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("take the mended log: %w", err)
		}
	}
	if err := errors.Join(os.RemoveAll(fresh), os.RemoveAll(dir+".old"), os.MkdirAll(dir, 0o700)); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	if err := mendLog(dir, fresh, logger); err != nil {
		return nil, fmt.Errorf("mend the log in %s: %w", dir, err)
	}
	w, err := wal.Open(dir, wal.WithLogger(raftLogger(logger)))
	if err != nil {
		return nil, fmt.Errorf("open log in %s: %w", dir, err)
	}
	return w, nil
}

// closeLog closes a log once it has recorded that its last segment is sealed, if it
// is. Closing alone would not wait for that.
func closeLog(w *wal.WAL) error {
	last, err := w.LastIndex()
	if err == nil {
		err = w.DeleteRange(last+1, last+1) // nothing is there; but it waits
	}
	return errors.Join(err, w.Close())
}

// mendLog makes a log able to grow again whose last segment is sealed although the
// list of segments says that it is not.
func mendLog(dir, fresh string, logger *slog.Logger) (err error) {
	var list metadb.BoltMetaDB
	defer func() { err = errors.Join(err, list.Close()) }()
	state, err := list.Load(dir)
	if err != nil || len(state.Segments) == 0 {
		return err
	}
	tail := &state.Segments[len(state.Segments)-1]
	if !tail.SealTime.IsZero() {
		return nil
	}
	filer := segment.NewFiler(dir, walfs.New())
	w, err := filer.RecoverTail(*tail)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was not begun: opening the log does that
	}
	if err != nil {
		return err
	}
	sealed, indexStart, err := w.Sealed()
	last := w.LastIndex()
	if err = errors.Join(err, w.Close()); err != nil || !sealed {
		return err
	}
	tail.SealTime, tail.MaxIndex, tail.IndexStart = time.Now(), last, indexStart
	if readable(filer, *tail) != nil {
		// Its seal is torn: what was acknowledged is there, but not where the seal says.
		logger.Warn("the log was cut off while a segment was sealed; writing it anew", "dir", dir)
		if err := list.Close(); err != nil {
			return err
		}
		return rewriteLog(dir, fresh, logger)
	}
	logger.Warn("the log was cut off between two segments; beginning the next", "dir", dir)
	state.Segments = append(state.Segments, types.SegmentInfo{
		ID: state.NextSegmentID, BaseIndex: last + 1, MinIndex: last + 1,
		SizeLimit: tail.SizeLimit, Codec: tail.Codec, CreateTime: tail.SealTime,
	})
	state.NextSegmentID++
	return list.CommitState(state)
}

// readable returns why not every entry of a sealed segment can be read.
func readable(filer *segment.Filer, info types.SegmentInfo) (err error) {
	r, err := filer.Open(info)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var codec wal.BinaryCodec
	for i := info.MinIndex; i <= info.MaxIndex; i++ {
		entry, err := r.GetLog(i)
		if err != nil {
			return err
		}
		var log raft.Log
		err = codec.Decode(entry.Bs, &log)
		_ = entry.Close() // it only goes back to a pool
		if err != nil || log.Index != i {
			return fmt.Errorf("entry %d is %d: %w", i, log.Index, err)
		}
	}
	return nil
}

// rewriteLog puts a log with the same contents in the place of one. A power cut leaves
// the one, the other, or what openLog finishes.
func rewriteLog(dir, fresh string, logger *slog.Logger) (err error) {
	old, err := wal.Open(dir, wal.WithLogger(raftLogger(logger)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	next, err := wal.Open(fresh, wal.WithLogger(raftLogger(logger)))
	if err != nil {
		return err
	}
	if err := errors.Join(copyLog(old, next), closeLog(next)); err != nil {
		return err
	}
	aside := dir + ".old"
	if err := errors.Join(os.Rename(dir, aside), os.Rename(fresh, dir), syncDir(filepath.Dir(dir))); err != nil {
		return err
	}
	return os.RemoveAll(aside)
}

// stableKeys are all that Raft and this package keep beside the log. Those that hold a
// number are read as bytes too.
var stableKeys = [][]byte{[]byte("CurrentTerm"), lastVoteTerm, lastVoteCandidate, lastVote}

// copyBatch is how many entries are written at a time.
const copyBatch = 256

func copyLog(from, to *wal.WAL) error {
	for _, key := range stableKeys {
		value, err := from.Get(key)
		if err != nil {
			return fmt.Errorf("read %s: %w", key, err)
		}
		if value == nil {
			continue
		}
		if err := to.Set(key, value); err != nil {
			return fmt.Errorf("write %s: %w", key, err)
		}
	}
	first, err := from.FirstIndex()
	if err != nil {
		return err
	}
	last, err := from.LastIndex()
	if err != nil || last == 0 {
		return err
	}
	var batch []*raft.Log
	for i := first; i <= last; i++ {
		entry := new(raft.Log)
		if err := from.GetLog(i, entry); err != nil {
			return fmt.Errorf("read entry %d: %w", i, err)
		}
		if batch = append(batch, entry); len(batch) == copyBatch || i == last {
			if err := to.StoreLogs(batch); err != nil {
				return fmt.Errorf("write entries up to %d: %w", i, err)
			}
			batch = nil
		}
	}
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
