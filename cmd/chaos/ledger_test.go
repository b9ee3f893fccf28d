//go:build linux

package chaos_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// ledger writes to a cluster without pause and remembers what was acknowledged.
// Every writer counts up on routes of its own, so that an acknowledged number
// that is not found again, nor a later one, is a loss.
type ledger struct {
	api     string
	cluster *cluster
	padding string // makes entries large

	mu           sync.Mutex
	acknowledged map[string]int // by path

	last    time.Time     // when the last write was acknowledged
	gap     time.Duration // the longest time between two acknowledgements
	slowest time.Duration // from a write's first attempt to its acknowledgement

	writes   atomic.Int64
	repeated atomic.Int64 // attempts that were not the first
	failed   atomic.Int64 // writes that no attempt got through
}

// writers is how many writers write at the same time, unless a test says otherwise.
const writers = 16

// routesPerWriter is how many routes a writer counts up on, one after the other.
const routesPerWriter = 100

func newLedger(t *testing.T, c *cluster, api string) *ledger {
	t.Helper()
	prepare(t, c, api)
	return &ledger{api: api, cluster: c, acknowledged: map[string]int{}}
}

// start lets writers write until the returned function is called, or each has
// written so many times. wait returns when they have ended.
func (l *ledger) start(ctx context.Context, writers, each int) (stop, wait func()) {
	ctx, cancel := context.WithCancel(ctx)
	l.standstill()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := 1; ctx.Err() == nil && (each == 0 || i <= each); i++ {
				l.write(ctx, w, i)
			}
		})
	}
	stop = func() {
		cancel()
		wg.Wait()
	}
	wait = func() {
		wg.Wait()
		cancel()
	}
	return stop, wait
}

// writeTimeout is how long a writer goes on repeating a write.
const writeTimeout = 30 * time.Second

// write puts the number i on one of a writer's routes, and repeats that through
// one node after the other until it is acknowledged.
func (l *ledger) write(ctx context.Context, writer, i int) {
	path := fmt.Sprintf("/w%d/r%d", writer, i%routesPerWriter)
	l.mu.Lock()
	number := l.acknowledged[path] + 1
	l.mu.Unlock()
	id, begin := rand.Text(), time.Now()
	all, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	for attempt := 0; all.Err() == nil; attempt++ {
		n := l.cluster.nodes[(writer+attempt)%len(l.cluster.nodes)]
		if !n.reachable() {
			pause(all, time.Millisecond)
			continue
		}
		if attempt > 0 {
			l.repeated.Add(1)
		}
		one, done := context.WithTimeout(all, hastyTimeout)
		_, err := n.apis.PutRoute(one, &fifev1.PutRouteRequest{
			Parent: "apis/" + l.api, Route: mockRoute(path, fmt.Sprint(number, " ", l.padding)), RequestId: id,
		})
		done()
		if err == nil {
			l.note(path, number, time.Since(begin))
			return
		}
	}
	if ctx.Err() == nil {
		l.failed.Add(1)
	}
}

func (l *ledger) note(path string, number int, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acknowledged[path] = number
	l.writes.Add(1)
	now := time.Now()
	l.gap, l.last = max(l.gap, now.Sub(l.last)), now
	l.slowest = max(l.slowest, took)
}

// standstill returns the longest time in which no write was acknowledged, since
// it was last called.
func (l *ledger) standstill() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	gap := l.gap
	l.gap, l.last = 0, time.Now()
	return gap.Round(time.Millisecond)
}

// snapshot returns what has been acknowledged by now.
func (l *ledger) snapshot() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.acknowledged)
}

// reset forgets what was acknowledged after a snapshot.
func (l *ledger) reset(acknowledged map[string]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acknowledged = maps.Clone(acknowledged)
}

// read returns the routes' bodies by path, as a node reads them.
func (l *ledger) read(t *testing.T, n *node) (bodies map[string]string) {
	t.Helper()
	await(t, patience, "read through "+n.name, func(ctx context.Context) (err error) {
		bodies, err = l.list(ctx, n)
		return err
	})
	return bodies
}

func (l *ledger) list(ctx context.Context, n *node) (map[string]string, error) {
	bodies, token := map[string]string{}, ""
	for {
		resp, err := n.apis.ListRoutes(ctx, &fifev1.ListRoutesRequest{
			Parent: "apis/" + l.api, PageSize: 50, PageToken: token, // a message has 4 MiB at most
		})
		if err != nil {
			return nil, err
		}
		for _, r := range resp.GetRoutes() {
			bodies[r.GetPath()] = r.GetIntegration().GetMock().GetBody()
		}
		if token = resp.GetNextPageToken(); token == "" {
			return bodies, nil
		}
	}
}

// audit reads through a node and returns how many of the acknowledged writes are
// lost.
func (l *ledger) audit(t *testing.T, n *node, acknowledged map[string]int) (losses int) {
	t.Helper()
	bodies := l.read(t, n)
	for path, number := range acknowledged {
		text, _, _ := strings.Cut(bodies[path], " ")
		found, _ := strconv.Atoi(text) // a route that is missing has had no write
		losses += max(0, number-found)
	}
	return losses
}

// awaitWrite waits until a write that began after now is acknowledged.
func (l *ledger) awaitWrite(t *testing.T, patience time.Duration) {
	t.Helper()
	before := l.writes.Load()
	await(t, patience, "a write", func(context.Context) error {
		if l.writes.Load() <= before+writers { // of which all may have been under way
			return errors.New("no write is acknowledged")
		}
		return nil
	})
}

// String sums up.
func (l *ledger) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d writes acknowledged, %d attempts repeated, %d writes failed, the slowest took %v",
		l.writes.Load(), l.repeated.Load(), l.failed.Load(), l.slowest.Round(time.Millisecond))
}
