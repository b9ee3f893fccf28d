//go:build linux

package chaos_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestRollingRestart stops one node after the other in good order and starts it
// again, under load. No write may fail, though some have to be repeated.
func TestRollingRestart(t *testing.T) {
	needTime(t)
	c := startCluster(t, loopback(t))
	l := newLedger(t, c, "rolling")
	stop, _ := l.start(t.Context(), writers, 0)
	defer stop()
	l.awaitWrite(t, patience)
	var ends []time.Duration
	for range *cycles {
		for _, n := range c.nodes {
			begin := time.Now()
			n.signal(syscall.SIGTERM)
			state, err := n.end(patience)
			if err != nil {
				t.Fatal(err)
			}
			ends = append(ends, since(begin))
			if !state.Success() {
				t.Fatalf("%s ended with %v", n.name, state)
			}
			if err := n.start(); err != nil {
				t.Fatal(err)
			}
			n.awaitReady(t)
		}
	}
	gap := l.standstill()
	stop()
	settle(t, c, l)
	t.Logf("%d restarts of each node, 0 losses; writes stood still for %v at most, a node took %v to end; %v",
		*cycles, gap, ends, l)
	if n := l.failed.Load(); n > 0 {
		t.Fatalf("%d writes have failed", n)
	}
}

// awaitReady waits until the node says that it has caught up.
func (n *node) awaitReady(t *testing.T) {
	t.Helper()
	await(t, 2*time.Minute, n.name+" is ready", func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.ip+":"+adminPort+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close() //nolint:errcheck // its status is enough
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("it answers %s", resp.Status)
		}
		return nil
	})
}

// TestStartWithLongLog measures how long nodes take to start after a crash when
// their logs hold 100,000 entries.
func TestStartWithLongLog(t *testing.T) {
	needTime(t)
	const entries, many = 100_000, 64
	c := startCluster(t, loopback(t))
	l := newLedger(t, c, "long")
	begin := time.Now()
	_, wait := l.start(t.Context(), many, entries/many)
	wait()
	written := since(begin)
	leader := c.awaitLeader(t)
	v, err := leader.view(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.awaitSame(t)

	follower := c.others(leader)[0]
	if err := follower.kill(); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	if err := follower.start(); err != nil {
		t.Fatal(err)
	}
	follower.awaitReady(t)
	one := since(begin)

	for _, n := range c.nodes {
		if err := n.kill(); err != nil {
			t.Fatal(err)
		}
	}
	begin = time.Now()
	if err := c.startDown(); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		n.awaitReady(t)
	}
	all := since(begin)
	settle(t, c, l)
	t.Logf("log up to index %d, %d MiB, written in %v: a follower was ready %v after its start, all three after %v; %v",
		v.GetApplied().GetIndex(), size(t, leader.dir)>>20, written, one, all, l)
}

// size returns how many bytes the files of a directory have.
func size(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		bytes += info.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}
