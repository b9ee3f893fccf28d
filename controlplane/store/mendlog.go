package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
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
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	if err := mendLog(dir, logger); err != nil {
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
func mendLog(dir string, logger *slog.Logger) (err error) {
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
		logger.Warn("the log was cut off while a segment was sealed; taking the seal off", "dir", dir)
		return dropSeal(filepath.Join(dir, segment.FileName(*tail)), int64(indexStart))
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

// frameHeader is how many bytes precede the index with which raft-wal seals a segment.
const frameHeader = 8

// dropSeal takes off a seal that was torn: it is written in one go with the last
// entries, so these were never acknowledged either, and what was is before it.
func dropSeal(path string, indexStart int64) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	begin := indexStart - frameHeader
	torn, err := io.ReadAll(io.NewSectionReader(f, begin, math.MaxInt64-begin))
	if err != nil {
		return err
	}
	torn = bytes.TrimRight(torn, "\x00") // behind it is only room that was reserved
	clear(torn)
	if _, err := f.WriteAt(torn, begin); err != nil {
		return err
	}
	return f.Sync()
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
