//go:build linux

// Package chaos_test breaks clusters of real control-plane processes and checks
// that they keep their word: histories of concurrent calls are linearizable, and
// what was acknowledged is never lost.
//
// Plain `go test` kills and stops processes on loopback addresses, and as root takes
// agents through some promotions while the network breaks. With -chaos.faults, and
// as root, networks and disks break in all other ways too. All that needs root is
// inside namespaces that end with the test.
package chaos_test

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
	histories  = flag.Int("chaos.histories", 5, "histories to record and check, by each test that does so")
	length     = flag.Int("chaos.seconds", 8, "length of one history in seconds")
	cycles     = flag.Int("chaos.cycles", 5, "how often each fault of a disk is repeated")
	faults     = flag.Bool("chaos.faults", false, "run all faults; those of networks and disks need root")
	binary     = flag.String("chaos.binary", "", "fife-controlplane to break; empty builds it")
	agent      = flag.String("chaos.agent", "", "fife-agent to break; empty builds it")
	agents     = flag.Int("chaos.agents", 4, "agents that promotions have to reach")
	promotions = flag.Int("chaos.promotions", 0, "canaries to open and promote while agents and nodes fail; 0 means for 25 s")
	seed       = flag.Uint64("chaos.seed", uint64(time.Now().UnixNano()), "seed of what is broken and called when")
)

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		code = 1
	}
	os.Exit(code)
}

// run builds the binary and runs the tests, those that need namespaces in a
// process of their own.
func run(m *testing.M) (int, error) {
	if inSandbox() {
		if err := furnishSandbox(); err != nil {
			return 0, err
		}
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "fife-chaos-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // nothing depends on it
	for name, path := range map[string]*string{"fife-controlplane": binary, "fife-agent": agent} {
		if *path != "" {
			continue
		}
		*path = filepath.Join(dir, name)
		build := exec.Command("go", "build", "-o", *path, "github.com/fifegateway/fife/cmd/"+name)
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	if *faults && os.Geteuid() == 0 || canSandbox() {
		return runInSandbox(dir)
	}
	return m.Run(), nil
}

// needTime skips a test that takes long, unless it was asked for.
func needTime(t *testing.T) {
	t.Helper()
	if !*faults {
		t.Skip("takes long: run with -chaos.faults")
	}
}

// need skips a test that this machine cannot run, and says what is missing.
func need(t *testing.T, tools ...string) {
	t.Helper()
	needTime(t)
	needSandbox(t, tools...)
}

// needSandbox skips a test unless namespaces and tools are to be had.
func needSandbox(t *testing.T, tools ...string) {
	t.Helper()
	if !inSandbox() {
		t.Skip("breaks networks or disks: run as root, where namespaces can be made")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: apt-get install -y %s", tool, packages[tool])
		}
	}
}

// packages are Debian's packages of the tools that faults are made with.
var packages = map[string]string{
	"fsfreeze":  "util-linux",
	"ip":        "iproute2",
	"mkfs.ext4": "e2fsprogs",
	"mount":     "mount",
	"nft":       "nftables",
	"strace":    "strace",
	"umount":    "mount",
}
