//go:build linux

// Package edge_test shows what the agent stands as an edge proxy, on its real
// binary and with raw bytes: a corpus of requests and answers whose oracle is an
// upstream that logs every byte that reached it, the same corpus against other
// proxies, measurements beside them, HTTP/2's conformance, and load that is held.
//
// Plain `go test` runs the corpus, and tries everything else with tiny counts.
// The targets diff-edge, bench-edge, spec-edge and soak of the Makefile set the flags
// that do it in earnest. Nothing here fails because a machine is slow: a goal that
// is missed is printed as missed.
package edge_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	agentBinary = flag.String("edge.binary", "", "fife-agent to test; empty builds it")
	peerDir     = flag.String("edge.peers", "", "directory of peers that are not on the path")
	only        = flag.String("edge.case", "", "regular expression of the corpus cases to run, with all that they saw printed")
	differences = flag.Bool("edge.differences", false, "play the corpus against nginx and HAProxy, and check docs/edge.md")
	update      = flag.Bool("edge.update", false, "write the table of differences into docs/edge.md")
	measured    = flag.Bool("edge.bench", false, "take the measurements; without it each is only tried, with tiny counts")
	rounds      = flag.Int("edge.rounds", 5, "how often each proxy has its turn")
	phase       = flag.Duration("edge.phase", 4*time.Second, "how long one measurement of one proxy takes")
	h2specs     = flag.Bool("edge.h2spec", false, "run h2spec, which is fetched")
	soaked      = flag.Duration("edge.soak", 0, "how long each of the tests that hold load does so; 0 only tries them")
	slow        = flag.Int("edge.slow", 10000, "slow connections that are held during -edge.soak")
	rate        = flag.Int("edge.rate", 2000, "requests per second during -edge.soak")
)

// roleVariable tells a copy of the test that it is to make load, and which, or to be
// an upstream.
const roleVariable = "FIFE_EDGE_ROLE"

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := 0, error(nil)
	switch role := os.Getenv(roleVariable); { // this binary is its own load generator
	case role == "":
		code, err = run(m)
	case role == "upstream":
		err = runBenchUpstream()
	case strings.HasPrefix(role, slowRole):
		err = runSlow(role)
	default:
		err = runLoad(role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "edge:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	if *agentBinary == "" {
		dir, err := os.MkdirTemp("", "fife-edge-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir) //nolint:errcheck // nothing depends on it
		*agentBinary = filepath.Join(dir, "fife-agent")
		build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", *agentBinary,
			"github.com/fifegateway/fife/cmd/fife-agent")
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build fife-agent: %w\n%s", err, out)
		}
	}
	return m.Run(), nil
}
