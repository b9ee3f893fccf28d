package cmd_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/fifegateway/fife/controlplane/identity"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// rotated is a control plane of three processes with agents and an operator.
type rotated struct {
	t      *testing.T
	bin    string
	dirs   []string
	grpc   []string
	nodes  []*daemonUnderNoise
	holder *identity.Holder // of user/admin
}

// fife runs a command of the CLI as the operator whose certificate is in a file.
func (r *rotated) fife(cert string, args ...string) (string, error) {
	cmd := exec.CommandContext(r.t.Context(), filepath.Join(r.bin, "fife"),
		append([]string{"--server", strings.Join(r.grpc, ","), "--cert", cert}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// admin is the file of the operator's certificate.
func (r *rotated) admin() string { return filepath.Join(r.dirs[0], "admin.pem") }

func (r *rotated) must(args ...string) string {
	r.t.Helper()
	began := time.Now()
	out, err := r.fife(r.admin(), args...)
	if err != nil {
		r.t.Fatalf("fife %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	r.t.Logf("fife %s: %v\n%s", strings.Join(args, " "), time.Since(began).Round(time.Millisecond), out)
	return out
}

func (r *rotated) dial(node int) *grpc.ClientConn {
	conn, err := grpc.NewClient("passthrough:///"+r.grpc[node],
		grpc.WithTransportCredentials(credentials.NewTLS(identity.ClientConfig(r.holder))))
	if err != nil {
		r.t.Fatal(err)
	}
	return conn
}

// startRotated starts three nodes that speak TLS, and waits until they vote.
func startRotated(t *testing.T) *rotated {
	t.Helper()
	r := &rotated{t: t, bin: t.TempDir()}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", r.bin+"/", "github.com/fifegateway/fife/cmd/fife",
		"github.com/fifegateway/fife/cmd/fife-controlplane", "github.com/fifegateway/fife/cmd/fife-agent")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for i := range 3 {
		r.dirs, r.grpc = append(r.dirs, t.TempDir()), append(r.grpc, freeAddress())
		name, begin := fmt.Sprintf("n%d", i+1), []string{"--bootstrap"}
		if i > 0 {
			begin = []string{"--join", r.grpc[0], "--join-token", r.token("--role", "server", "--pattern", name)}
		}
		r.nodes = append(r.nodes, startUnderNoise(t, filepath.Join(r.bin, "fife-controlplane"), freeAddress(), r.grpc[i:],
			append(begin, "--name", name, "--data-dir", r.dirs[i], "--grpc-listen", r.grpc[i], "--raft-listen", freeAddress())...))
	}
	r.nodes[0].until(t, "all vote", func() error {
		out, err := r.fife(r.admin(), "cluster", "members", "-o", "json")
		if n := strings.Count(out, `"voter": true`); err == nil && n != 3 {
			err = fmt.Errorf("%d vote", n)
		}
		return err
	})
	var err error
	if r.holder, err = identity.OpenHolder(r.admin()); err != nil {
		t.Fatal(err)
	}
	return r
}

// token makes a join token, once the cluster can.
func (r *rotated) token(args ...string) (text string) {
	r.t.Helper()
	r.nodes[0].until(r.t, "a token", func() error {
		out, err := r.fife(r.admin(), append([]string{"token", "create"}, args...)...)
		text = strings.TrimSpace(out)
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	})
	return text
}

// agent starts an agent that joins, and returns it with where it takes requests.
func (r *rotated) agent(id string) (*daemonUnderNoise, string) {
	r.t.Helper()
	traffic := freeAddress()
	return startUnderNoise(r.t, filepath.Join(r.bin, "fife-agent"), freeAddress(), []string{traffic},
		"--id", id, "--state-dir", r.t.TempDir(), "--control-plane", strings.Join(r.grpc, ","), "--http-listen", traffic,
		"--access-log", "", "--join-token", r.token("--role", "agent", "--pattern", id)), traffic
}

// load is what clients have seen.
type load struct {
	requests, changes, ends atomic.Int64

	mu     sync.Mutex
	failed []error
}

func (l *load) fail(what string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.failed) < 10 {
		l.failed = append(l.failed, fmt.Errorf("%s %s: %w", time.Now().Format("15:04:05.000"), what, err))
	}
}

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// drive sends requests through an agent until ctx ends.
func (l *load) drive(ctx context.Context, address string) {
	for pause(ctx, 5*time.Millisecond) {
		if body, err := get(context.WithoutCancel(ctx), "http://"+address+"/prod/hello"); err != nil || body != "hi" {
			l.fail("request at "+address, errors.Join(err, fmt.Errorf("answered %q", body)))
		}
		l.requests.Add(1)
	}
}

// edit changes a draft through a node until ctx ends. A client that has got another
// certificate connects with it.
func (l *load) edit(ctx context.Context, r *rotated, node int) {
	shown, conn := r.holder.Current(), r.dial(node)
	defer func() { _ = conn.Close() }()
	for pause(ctx, 100*time.Millisecond) {
		if now := r.holder.Current(); now != shown {
			_ = conn.Close() // no call is under way
			shown, conn = now, r.dial(node)
		}
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		_, err := fifev1.NewApiServiceClient(conn).PutRoute(call, &fifev1.PutRouteRequest{
			Parent: "apis/demo", Route: &fifev1.Route{Method: "GET", Path: fmt.Sprintf("/node-%d", node+1)},
		})
		cancel()
		l.changes.Add(1)
		if err != nil {
			l.fail(fmt.Sprintf("change at node %d", node+1), err)
		}
	}
}

// watch keeps a stream on a stage open until ctx ends, and counts how often it ends.
func (l *load) watch(ctx context.Context, r *rotated, node int) {
	for {
		conn := r.dial(node)
		stream, err := fifev1.NewStageServiceClient(conn).WatchStage(ctx, &fifev1.WatchStageRequest{Name: "apis/demo/stages/prod"})
		first := true
		for ; err == nil; first = false {
			_, err = stream.Recv()
		}
		_ = conn.Close() // the stream is over
		if ctx.Err() != nil {
			return
		}
		if l.ends.Add(1); first {
			l.fail(fmt.Sprintf("stream of node %d", node+1), err)
			pause(ctx, time.Second)
		}
	}
}

// TestRotationUnderLoad replaces the root of all certificates and the key of the
// servers of three processes, with agents, changes and streams under way: no request
// fails, no stream ends but once, and afterwards what is old is refused.
func TestRotationUnderLoad(t *testing.T) {
	r := startRotated(t)
	r.must("api", "create", "demo")
	r.must("route", "put", "demo", "GET", "/hello", "--mock-status", "200", "--mock-body", "hi")
	r.must("deploy", "demo")
	r.must("stage", "create", "demo/prod", "--deployment", "1")
	var agents []*daemonUnderNoise
	var l load
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var clients sync.WaitGroup
	for i := range 3 {
		agent, address := r.agent(fmt.Sprintf("edge-%d", i+1))
		agents = append(agents, agent)
		agent.until(t, "it serves", func() error { _, err := get(ctx, "http://"+address+"/prod/hello"); return err })
		clients.Go(func() { l.drive(ctx, address) })
		clients.Go(func() { l.edit(ctx, r, i) })
		clients.Go(func() { l.watch(ctx, r, i) })
	}
	old := filepath.Join(t.TempDir(), "old.pem")
	was, err := os.ReadFile(r.admin())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(old, was, 0o600); err != nil {
		t.Fatal(err)
	}
	root := r.node(0).Root()

	r.must("ca", "rotate", "--out", filepath.Join(t.TempDir(), "ca"), "--wait")
	r.must("ca", "switch")
	// The operator is the only one to be told.
	r.nodes[0].until(t, "only user/admin is pending", func() error {
		out, err := r.fife(r.admin(), "ca", "retire")
		if err == nil || !strings.Contains(out, "this would cut off user/admin (") || strings.Contains(out, "edge") {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	r.must("certificate", "renew")
	if _, err := r.holder.Reload(); err != nil {
		t.Fatal(err)
	}
	r.must("ca", "status", "--wait")
	r.must("ca", "retire", "--wait")
	r.must("ca", "rotate-key", "--wait")
	pause(ctx, 2*time.Second) // of load afterwards
	stop()
	clients.Wait()

	for _, err := range l.failed {
		t.Error(err)
	}
	t.Logf("%d requests, %d changes, %d streams of 3 have ended", l.requests.Load(), l.changes.Load(), l.ends.Load())
	if l.requests.Load() < 300 || l.changes.Load() < 30 || l.ends.Load() > 3 {
		t.Error("too little load, or streams have ended more than once")
	}
	for i, agent := range agents {
		log := agent.log.String()
		if n := strings.Count(log, "stream is opened anew"); n != 1 || strings.Contains(log, "no stream to the control plane") {
			t.Errorf("agent %d has opened %d streams anew:\n%s", i+1, n, log)
		}
	}
	for i := range r.nodes {
		if now := r.node(i); now.Root().Equal(root) || len(now.Trust.Roots) != 1 {
			t.Errorf("node %d believes the old root", i+1)
		}
		key, err := os.ReadFile(filepath.Join(r.dirs[i], "cluster.key"))
		if err != nil || len(key) != identity.KeySize {
			t.Errorf("node %d: %d bytes of keys, %v", i+1, len(key), err)
		}
		if log := r.nodes[i].log.String(); strings.Contains(log, "panic") {
			t.Errorf("node %d:\n%s", i+1, log)
		}
	}
	if out, err := r.fife(old, "status"); err == nil {
		t.Errorf("the old certificate is still taken: %s", out)
	}
}

// node returns the credential that a node has on its disk.
func (r *rotated) node(i int) *identity.Credential {
	r.t.Helper()
	h, err := identity.OpenHolder(filepath.Join(r.dirs[i], "node.pem"))
	if err != nil {
		r.t.Fatal(err)
	}
	return h.Current()
}
