package store

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Limits of a write to the log or the vote.
const (
	slowWrite = time.Second      // is logged
	hungWrite = 10 * time.Second // ends the process
	hungSteps = 10               // in which it is counted
)

// watchdog watches the writes of a node's log and vote, and ends the process when
// one fails or hangs: Raft would go on leading without ever committing again
// (hashicorp/raft#503), and after an error that was reported for a write which
// lands all the same, its log cannot be continued. A process that is gone is a
// fault that the others can deal with, and that a restart may heal.
type watchdog struct {
	logger *slog.Logger
	fatal  func(error) // does not return, except in tests
}

// write runs one write under watch.
func (w watchdog) write(what string, f func() error) error {
	begin := time.Now()
	slow := time.AfterFunc(slowWrite, func() {
		w.logger.Warn("a write to disk is slow", "what", what, "since", slowWrite)
	})
	landed := expect(hungSteps, func() {
		w.fatal(fmt.Errorf("write %s: no answer from the disk for %v", what, hungWrite))
	})
	err := f()
	slow.Stop()
	landed()
	if err != nil {
		w.fatal(fmt.Errorf("write %s, after %v: %w", what, time.Since(begin).Round(time.Millisecond), err))
	}
	return err
}

// expect calls late unless it is stopped within so many steps. A process that is
// stopped, or whose machine is, for however long, has missed one step: the disk had no
// chance to answer it.
func expect(steps int, late func()) (stop func()) {
	var (
		mu    sync.Mutex
		over  bool
		timer *time.Timer
	)
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(hungWrite/hungSteps, func() {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return
		}
		if steps--; steps == 0 {
			late()
			return
		}
		timer.Reset(hungWrite / hungSteps)
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		timer.Stop()
	}
}

// watchedLogs is a log under watch.
type watchedLogs struct {
	raft.LogStore
	dog watchdog
}

func (l watchedLogs) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

func (l watchedLogs) StoreLogs(logs []*raft.Log) error {
	return l.dog.write("log", func() error { return l.LogStore.StoreLogs(logs) })
}

// GetLog reads an entry. One that is damaged ends the process: this node cannot say
// any more what it has promised to keep.
func (l watchedLogs) GetLog(index uint64, log *raft.Log) error {
	err := l.LogStore.GetLog(index, log)
	if errors.Is(err, ErrDamagedLog) {
		err = fmt.Errorf("read entry %d: %w", index, err)
		l.dog.fatal(err)
	}
	return err
}

func (l watchedLogs) DeleteRange(first, last uint64) error {
	return l.dog.write("log truncation", func() error { return l.LogStore.DeleteRange(first, last) })
}

// IsMonotonic passes on whether the log must not have holes, which Raft has to
// know before it installs a snapshot.
func (l watchedLogs) IsMonotonic() bool { return isMonotonic(l.LogStore) }

// watchedStable is a stable store under watch.
type watchedStable struct {
	raft.StableStore
	dog watchdog
}

func (s watchedStable) Set(key, value []byte) error {
	return s.dog.write("vote", func() error { return s.StableStore.Set(key, value) })
}

func (s watchedStable) SetUint64(key []byte, value uint64) error {
	return s.dog.write("term", func() error { return s.StableStore.SetUint64(key, value) })
}
