//go:build linux

package edge_test

import (
	"context"
	"testing"
)

// agent is a fife-agent with the settings that it has by itself, but that another can
// take over its address.
type agent struct {
	*process
	http, admin string
	dir         string // of its last good table
}

// startAgent starts an agent of an own process, behind a command such as taskset if
// one is given, and returns once it routes by what the control plane has.
func startAgent(t *testing.T, id string, c *controlPlane, behind []string, flags ...string) *agent {
	t.Helper()
	a := &agent{http: freePort(t), admin: freePort(t), dir: t.TempDir()}
	command := append(append([]string{}, behind...), *agentBinary, "--id", id, "--control-plane", c.address,
		"--state-dir", a.dir, "--http-listen", a.http, "--admin-listen", a.admin, "--plaintext")
	a.process = start(t, id, append(command, flags...)...)
	awaitPort(t, a.http, a.process)
	a.awaitTable(t.Context(), t, id, c)
	return a
}

func (a *agent) awaitTable(ctx context.Context, t *testing.T, id string, c *controlPlane) {
	t.Helper()
	if err := await(ctx, "apply the table", func() error { return c.hasAcked(id, 1) }, a.process); err != nil {
		t.Fatal(err)
	}
}
