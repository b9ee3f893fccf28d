package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Limits of what one cluster keeps. They bound a state's size, and with it the
// time that a snapshot or a start takes.
const (
	MaxAPIs        = 1000 // per cluster
	MaxStages      = 100  // per API
	MaxDeployments = 1000 // per API; delete old ones
	MaxAgents      = 100_000
	MaxImports     = 8 // under way at a time, with routes of up to release.MaxDeployment each
	MaxBindings    = 10_000
	MaxUserTokens  = 10_000 // those that have expired go first
	MaxAccessKeys  = 10_000 // likewise
)

// ErrDiskFull says that this node's disk is too full to take changes.
var ErrDiskFull = errors.New("the leader's disk is nearly full")

const (
	// minFree is the room that a change must leave: for the log's next segments
	// and a snapshot. A log that meets a full disk cannot be continued.
	minFree = 128 << 20
	// freeFor is how long one measurement of the free space is good for.
	freeFor = time.Second
)

// diskGauge knows whether the disk has room for changes. It is safe for
// concurrent use.
type diskGauge struct {
	free func() (bytes uint64, ok bool, err error) // see Storage.free

	mu       sync.Mutex
	measured time.Time
	err      error
}

// check returns an error that wraps ErrDiskFull if there is no room.
func (g *diskGauge) check() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); now.Sub(g.measured) > freeFor {
		g.measured, g.err = now, g.measure()
	}
	return g.err
}

func (g *diskGauge) measure() error {
	free, ok, err := g.free()
	switch {
	case err != nil || !ok:
		return err
	case free < minFree:
		return fmt.Errorf("%w: %d MiB are free, %d MiB are needed", ErrDiskFull, free>>20, minFree>>20)
	}
	return nil
}

// watchDisk hands leadership over when this node's disk becomes too full, so that
// changes go on with a leader that has room. It does so once each time.
func (s *Store) watchDisk(ctx context.Context) {
	if _, ok, _ := s.config.Storage.free(); !ok {
		return // in memory
	}
	full := false
	for {
		err := s.disk.check()
		if err != nil && !full && s.IsLeader() {
			s.config.Logger.Error("no room for changes; handing leadership over", "error", err)
			s.HandOver(enqueueTimeout)
		}
		full = err != nil && s.IsLeader()
		select {
		case <-time.After(freeFor):
		case <-ctx.Done():
			return
		}
	}
}

// Counts returns how many objects of each kind the state holds.
func (s *State) Counts() map[string]int {
	return map[string]int{
		"apis":        s.apis.Len(),
		"routes":      s.routes.Len(),
		"deployments": s.deployments.Len(),
		"stages":      s.stages.Len(),
		"request_ids": s.outcomes.byID.Len(),
		"changes":     s.changes.entries.len(),
		"nodes":       s.nodes.Len(),
		"agents":      s.agents.Len(),
		"imports":     s.staged.Len(),
	}
}

// Limits returns the most objects that the state may hold, of the kinds that are
// limited as a whole.
func Limits() map[string]int {
	return map[string]int{"apis": MaxAPIs, "agents": MaxAgents, "imports": MaxImports, "request_ids": outcomeLimit, "changes": changeLimit}
}
