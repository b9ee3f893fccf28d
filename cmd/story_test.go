// Package cmd_test tells stories of Fife on its real binaries: every file of
// testdata is one.
package cmd_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// binaries are what the stories run, besides curl.
var binaries = []string{
	"github.com/fifegateway/fife/cmd/fife",
	"github.com/fifegateway/fife/cmd/fife-controlplane",
	"github.com/fifegateway/fife/cmd/fife-agent",
	"github.com/fullstorydev/grpcurl/cmd/grpcurl",
}

func TestStories(t *testing.T) { play(t, "testdata", nil) }

// play plays the stories of a directory, with setup, if any, to be done before each.
func play(t *testing.T, dir string, setup func(*testscript.Env)) {
	t.Helper()
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", append([]string{"build", "-o", bin + "/"}, binaries...)...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the binaries: %v\n%s", err, out)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
			if setup != nil {
				setup(env)
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"ports":    cmdPorts,
			"await":    cmdAwait,
			"lambda":   cmdLambda,
			"answers":  cmdAnswers,
			"settles":  cmdSettles,
			"voters":   cmdVoters,
			"leads":    cmdLeads,
			"token":    cmdToken,
			"issuer":   cmdIssuer,
			"person":   cmdPerson,
			"split":    cmdSplit,
			"same":     cmdSame,
			"load":     cmdLoad,
			"unload":   cmdUnload,
			"poison":   cmdPoison,
			"take":     cmdTake,
			"upstream": cmdUpstream,
		},
	})
}

// patience is how long a story waits for what has to happen.
const patience = 30 * time.Second

// retry calls f until it succeeds, and fails the story when patience is over.
func retry(ts *testscript.TestScript, what string, f func() error) {
	deadline := time.After(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			ts.Fatalf("%s: not within %v: %v", what, patience, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// cmdAwait runs a command until it succeeds: await CMD ARG...
func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: await CMD ARG...")
	}
	retry(ts, fmt.Sprint(args), func() error { return ts.Exec(args[0], args[1:]...) })
}

// cmdVoters waits until a cluster has so many voters: voters ADDRESS COUNT
func cmdVoters(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: voters ADDRESS COUNT")
	}
	retry(ts, "voters", func() error {
		if err := ts.Exec("fife", "--server", args[0], "cluster", "members", "-o", "json"); err != nil {
			return err
		}
		voters := strings.Count(strings.ReplaceAll(ts.ReadFile("stdout"), " ", ""), `"voter":true`)
		if strconv.Itoa(voters) != args[1] {
			return fmt.Errorf("%d voters", voters)
		}
		return nil
	})
}

// cmdToken makes a join token and puts it into a variable: token ADDRESS VAR FLAG...
func cmdToken(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: token ADDRESS VAR FLAG...")
	}
	retry(ts, "token", func() error {
		return ts.Exec("fife", append([]string{"--server", args[0], "token", "create"}, args[2:]...)...)
	})
	ts.Setenv(args[1], strings.TrimSpace(ts.ReadFile("stdout")))
}

// cmdLeads waits until a node knows who leads, or that nobody does:
// leads ADDRESS NODE|none
func cmdLeads(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: leads ADDRESS NODE|none")
	}
	retry(ts, "leader", func() error {
		if err := ts.Exec("fife", "--server", args[0], "cluster", "members", "-o", "json"); err != nil {
			return err
		}
		var list struct {
			Members []struct {
				Name   string
				Leader bool
			}
		}
		if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &list); err != nil {
			return err
		}
		leader := "none"
		for _, m := range list.Members {
			if m.Leader {
				leader = strings.TrimPrefix(m.Name, "members/")
			}
		}
		if leader != args[1] {
			return fmt.Errorf("it is %s", leader)
		}
		return nil
	})
}
