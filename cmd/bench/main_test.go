//go:build linux

// Package bench_test measures the control plane on its real binary, one process
// per node, with this test as the client: commits, how far followers lag, the
// start after a crash and the memory that agents take. Where etcd is installed,
// it goes through the same in the same run, turn by turn.
//
// Nothing here fails because a machine is slow: a goal that is missed is printed
// as missed. Plain `go test` only tries every measurement with tiny counts; with
// -bench.run they are taken, and -v shows them.
package bench_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var (
	measured   = flag.Bool("bench.run", false, "take the measurements; without it each is only tried, with tiny counts")
	manyTurns  = flag.Int("bench.rounds", 9, "how often each contestant has its turn")
	binary     = flag.String("bench.binary", "", "fife-controlplane to measure; empty builds it")
	etcd       = flag.String("bench.etcd", "etcd", "etcd server to measure beside it")
	onlyAgents = flag.Int("bench.agents", 0, "the one size of fleet to measure; 0 means all")
	pin        = flag.String("bench.pin", "", "processor that servers are to keep to; empty for any")

	// What this binary is started with to be a server itself, see fanout_servers_test.go.
	served        = flag.String("bench.serve", "", "peer to run instead of any test")
	servedListen  = flag.String("bench.listen", "", "address of -bench.serve for agents")
	servedControl = flag.String("bench.control", "", "address of -bench.serve for HTTP")
)

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	if *served != "" {
		return 1, serve(*served, *servedListen, *servedControl)
	}
	if *binary == "" {
		dir, err := os.MkdirTemp("", "fife-bench-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir) //nolint:errcheck // nothing depends on it
		*binary = filepath.Join(dir, "fife-controlplane")
		build := exec.Command("go", "build", "-o", *binary,
			"github.com/fifegateway/fife/cmd/fife-controlplane")
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build fife-controlplane: %w\n%s", err, out)
		}
	}
	return m.Run(), nil
}

// scale says how much is done.
type scale struct {
	rounds  int
	warmUp  int           // writes before those that count: they fill every stage's history
	phase   time.Duration // of writing, with one number of writers
	lags    int           // writes that are waited for on a follower
	entries int           // of the log that a node starts with
	streams int           // idle agents on one node
	settle  time.Duration // until the memory of idle streams is read

	fleets       []int // numbers of agents that a change is fanned out to
	fanoutRounds int
	updates      int // of each round
}

// size returns the scale of this run.
func size() scale {
	if *measured {
		return scale{
			rounds: *manyTurns, warmUp: 100 * stages, phase: 2 * time.Second,
			lags: 1000, entries: 100_000, streams: 1000, settle: 5 * time.Second,
			fleets: []int{1000, 5000, 10_000}, fanoutRounds: 3, updates: 15,
		}
	}
	return scale{
		rounds: 1, warmUp: stages, phase: 50 * time.Millisecond,
		lags: 20, entries: 500, streams: 20, settle: 100 * time.Millisecond,
		fleets: []int{20}, fanoutRounds: 1, updates: 2,
	}
}

// begin starts a test. Measurements take turns; those that are only tried need not.
func begin(t *testing.T) {
	if !*measured {
		t.Parallel()
	}
}

// crowd is how many writers there are when there is more than one.
const crowd = 64
