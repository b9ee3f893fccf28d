//go:build linux

package chaos_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestResumedLeaderServesNoStaleRead stops a leader's process, lets the others
// elect another and acknowledge a write, and asks the old one as it wakes up: it
// still believes that it leads.
func TestResumedLeaderServesNoStaleRead(t *testing.T) {
	c := startCluster(t, loopback(t))
	prepare(t, c, "resumed")
	const readers = 200
	var answered, refused int64
	for i := range *histories {
		leader := c.awaitLeader(t)
		through := c.others(leader)[0]
		stage := fmt.Sprint("s", i)
		write(t, through, "resumed", call{move: create, stage: stage, base: base{deployment: 1, value: 1}})
		leader.signal(syscall.SIGSTOP)
		acknowledged := write(t, through, "resumed", call{move: update, stage: stage, base: base{deployment: 2, value: 2}})

		var fresh, stale, failed atomic.Int64
		var wg sync.WaitGroup
		for range readers {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				a, err := leader.do(ctx, "resumed", call{move: get, stage: stage}, "")
				switch {
				case err != nil || a.unknown:
					failed.Add(1)
				case a.view == acknowledged:
					fresh.Add(1)
				default:
					stale.Add(1)
				}
			})
		}
		pause(t.Context(), 300*time.Millisecond) // until the calls wait in the process's sockets
		leader.signal(syscall.SIGCONT)
		wg.Wait()
		answered += fresh.Load()
		refused += failed.Load()
		if n := stale.Load(); n > 0 {
			t.Fatalf("cycle %d: %d of %d reads answered what was before %+v", i+1, n, readers, acknowledged)
		}
	}
	t.Logf("%d cycles: %d reads answered, none stale, %d without an answer", *histories, answered, refused)
	if answered == 0 {
		t.Fatal("no read was answered, which shows nothing")
	}
}

// write makes a change through a node, however often it has to be repeated.
func write(t *testing.T, n *node, api string, c call) view {
	t.Helper()
	id := rand.Text()
	var done answer
	await(t, patience, describe(c, done), func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, hastyTimeout)
		defer cancel()
		a, err := n.do(ctx, api, c, id)
		switch {
		case err == nil && a.unknown:
			err = errors.New("outcome unknown")
		case err == nil && a.refusal != "":
			t.Fatalf("%s", describe(c, a))
		}
		done = a
		return err
	})
	return done.view
}
