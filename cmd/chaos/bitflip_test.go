//go:build linux

package chaos_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// flip says which bit of a node's data directory turns over.
type flip struct {
	name  string
	files string // pattern under the data directory; the last match is hit
	where func(r *rand.Rand, data []byte) int
}

// mark begins every value that the test writes, so that it is found in files.
const mark = "flipmark"

var flips = []flip{
	{"a value in the log", "wal/*.wal", func(r *rand.Rand, data []byte) int {
		// After the middle, where no snapshot makes up for it.
		half := len(data)/2 + r.IntN(len(data)/3)
		return half + bytes.Index(data[half:], []byte(mark)) + r.IntN(len(mark))
	}},
	{"anywhere in the log", "wal/*.wal", anywhere},
	{"the last bytes of the log", "wal/*.wal", func(r *rand.Rand, data []byte) int { return len(data) - 1 - r.IntN(2000) }},
	{"the log's list of segments, and the vote", "wal/wal-meta.db", anywhere},
	{"the newest snapshot", "snapshots/*/state.bin", anywhere},
	{"what the newest snapshot is", "snapshots/*/meta.json", anywhere},
	{"the identity", "identity.json", anywhere},
}

func anywhere(r *rand.Rand, data []byte) int { return r.IntN(len(data)) }

// strike turns a bit over, and says which.
func (f flip) strike(r *rand.Rand, dir string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, f.files))
	if err != nil || len(files) == 0 {
		return "", errors.Join(err, fmt.Errorf("%s has no %s", dir, f.files))
	}
	path := slices.Max(files)
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	at := f.where(r, bytes.TrimRight(data, "\x00")) // behind its end a log has only zeros
	bit := r.IntN(8)
	data[at] ^= 1 << bit
	return fmt.Sprintf("bit %d of byte %d of %s", bit, at, filepath.Base(path)), os.WriteFile(path, data, 0o600)
}

// TestBitFlips turns one bit over on the disk of a node that is down. It may
// refuse to start, or mend itself; it may not lead with anything but the truth,
// nor take the others along.
func TestBitFlips(t *testing.T) {
	needTime(t)
	c := startCluster(t, loopback(t))
	l := newLedger(t, c, "flips")
	l.padding = strings.Repeat(mark, 8)
	write := func(each int) {
		_, wait := l.start(t.Context(), writers, each)
		wait()
	}
	write(10_000 / writers)
	began := time.Now()
	await(t, 5*time.Minute, "every node has a snapshot", func(context.Context) error { return c.snapshots() })
	t.Logf("waited %v for snapshots", since(began))
	write(5_000 / writers)
	c.awaitSame(t)
	truth := l.read(t, c.awaitLeader(t))
	saved := c.save(t)

	r := rand.New(rand.NewPCG(*seed, 2))
	for _, f := range flips {
		t.Run(strings.ReplaceAll(f.name, " ", "-"), func(t *testing.T) {
			outcomes := map[string]int{}
			for range *cycles {
				outcomes[c.flipOnce(t, r, f, saved, l, truth)]++
			}
			t.Logf("%d cycles: %v", *cycles, outcomes)
		})
	}
}

// snapshots returns nil once every node has a snapshot.
func (c *cluster) snapshots() error {
	for _, n := range c.nodes {
		if found, err := filepath.Glob(filepath.Join(n.dir, "snapshots", "*-*", "state.bin")); err != nil || len(found) == 0 {
			return errors.Join(err, fmt.Errorf("%s has none", n.name))
		}
	}
	return nil
}

// save stops all nodes and returns copies of their data directories.
func (c *cluster) save(t *testing.T) map[*node]string {
	t.Helper()
	saved := map[*node]string{}
	for _, n := range c.nodes {
		if err := n.kill(); err != nil {
			t.Fatal(err)
		}
		saved[n] = filepath.Join(t.TempDir(), n.name)
		if err := os.Rename(n.dir, saved[n]); err != nil {
			t.Fatal(err)
		}
	}
	return saved
}

// flipOnce starts a cluster from saved directories, of which one has a bit turned
// over, and returns what became of that node.
func (c *cluster) flipOnce(
	t *testing.T, r *rand.Rand, f flip, saved map[*node]string, l *ledger, truth map[string]string,
) string {
	t.Helper()
	for n, dir := range saved {
		if err := errors.Join(n.kill(), os.RemoveAll(n.dir), os.RemoveAll(n.logFile)); err != nil {
			t.Fatal(err)
		}
		if err := command("cp", "-a", dir, n.dir); err != nil {
			t.Fatal(err)
		}
	}
	bad := c.nodes[r.IntN(len(c.nodes))]
	where, err := f.strike(r, bad.dir)
	if err == nil {
		err = c.startDown()
	}
	if err != nil {
		t.Fatal(err)
	}
	led := c.tryToLead(t, bad)
	var found map[string]string
	await(t, patience, where+": read through the leader", func(ctx context.Context) error {
		leader, err := c.leader(ctx)
		if err == nil {
			found, err = l.list(ctx, leader)
		}
		return err
	})
	if !maps.Equal(found, truth) {
		t.Fatalf("%s of %s, which led: %v. The leader tells %s", where, bad.name, led, difference(found, truth))
	}
	for _, n := range c.others(bad) {
		if n.gone() == nil {
			t.Fatalf("%s of %s has ended %s: %s", where, bad.name, n.name, n.lastWords())
		}
	}
	if bad.gone() != nil {
		c.awaitSame(t)
	}
	switch {
	case bad.gone() != nil && led:
		return "mended, and led"
	case bad.gone() != nil:
		return "mended"
	}
	if err := os.Remove(bad.logFile); err != nil { // it may say how the process died
		t.Fatal(err)
	}
	return "refused"
}

// tryToLead makes a node the leader, and reports whether it came to that before
// it ended or patience did.
func (c *cluster) tryToLead(t *testing.T, n *node) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c.awaitLeader(t)
	for pause(ctx, 50*time.Millisecond) && n.gone() != nil {
		leader, err := c.leader(ctx)
		if err == nil && leader == n {
			return true
		}
		one, done := context.WithTimeout(ctx, 2*time.Second)
		_, _ = n.cluster.TransferLeadership(one, &fifev1.TransferLeadershipRequest{Name: "members/" + n.name}) // seen above
		done()
	}
	return false
}

// difference describes the first route that is not as it should be.
func difference(found, truth map[string]string) string {
	for _, path := range slices.Sorted(maps.Keys(truth)) {
		if found[path] != truth[path] {
			return fmt.Sprintf("%q instead of %q on %s", found[path], truth[path], path)
		}
	}
	return fmt.Sprintf("of %d routes instead of %d", len(found), len(truth))
}
