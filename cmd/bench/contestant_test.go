//go:build linux

package bench_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

// contestant is a cluster under measurement. Its leader is written to.
type contestant interface {
	// write makes the n-th write, to the object n modulo stages, and returns the
	// revision of the cluster that holds it, once it is committed. It is safe for
	// concurrent use.
	write(ctx context.Context, n int) (revision uint64, err error)
	// follow opens a connection to a node, on which it is told of every write, and
	// returns once it stands. Node 0 is the leader. The connection ends with ctx.
	follow(ctx context.Context, node int, name string) (<-chan sighting, error)
	// restart starts a cluster of one node again, after its processes were killed,
	// and returns once it takes writes.
	restart(ctx context.Context) error
	processes() []*process
	// close kills the processes, and closes the connections, if there are any left.
	close()
}

// stages is how many objects are written to, and distinct ones at that by as many
// concurrent writers.
const stages = 64

// sighting is a revision that a follower has been told of.
type sighting struct {
	revision uint64
	at       time.Time
}

// system is what makes contestants.
type system struct {
	name string
	// start founds a cluster in an empty directory and gives it what is written to.
	start func(ctx context.Context, dir string, nodes int) (contestant, error)
}

// etcdPackage is Debian's package of an etcd server.
const etcdPackage = "etcd-server"

// systems returns who takes part: etcd does if it is installed.
func systems() []system {
	all := []system{{fife, startFife}}
	if _, err := exec.LookPath(*etcd); err == nil {
		all = append(all, system{"etcd", startEtcd})
	}
	return all
}

const fife = "fife"

// enter starts a contestant with a directory of its own. Both are gone once leave
// is called, which has to be done before the next one's turn.
func enter(t *testing.T, s system, nodes int) (c contestant, leave func()) {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), s.name+"-")
	if err != nil {
		t.Fatal(err)
	}
	c, err = s.start(t.Context(), dir, nodes)
	if err != nil {
		t.Fatalf("start %s with %d nodes: %v", s.name, nodes, err)
	}
	t.Cleanup(c.close)
	return c, func() {
		c.close()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}
}

// fill makes writes with a crowd of writers.
func fill(ctx context.Context, c contestant, writes int) error {
	g, ctx := errgroup.WithContext(ctx)
	for w := range crowd {
		g.Go(func() error {
			for n := w; n < writes; n += crowd {
				if _, err := c.write(ctx, n); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// directories returns one for each node.
func directories(dir string, nodes int) []string {
	names := make([]string, nodes)
	for i := range names {
		names[i] = filepath.Join(dir, fmt.Sprintf("n%d", i+1))
	}
	return names
}

// dialOptions make a connection that soon notices that a node is back.
func dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{
			BaseDelay: 5 * time.Millisecond, Multiplier: 1, MaxDelay: 5 * time.Millisecond,
		}, MinConnectTimeout: time.Second}),
	}
}
