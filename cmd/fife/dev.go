package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fifegateway/fife/agent"
	"github.com/fifegateway/fife/controlplane"
	"github.com/fifegateway/fife/controlplane/identity"
)

// dev runs everything in one process: a control plane of one node, one agent and
// a small Lambda-compatible endpoint, all on loopback.
type dev struct {
	grpc, admin, aws  string // of the control plane
	http, agentAdmin  string // of the agent
	dataDir           string
	walkthrough, logs bool
	streams           streams
}

func newDevCommand(c *cli) *cobra.Command {
	d := &dev{streams: c.streams}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a control plane, an agent and a Lambda endpoint in one process",
		Long: `Run a control plane of one node, one agent and a small Lambda-compatible endpoint
in one process, for trying things out. Everything listens on loopback only, and
is gone at the end unless --data-dir says where to keep it.`,
		Example: `  fife dev
  fife dev --walkthrough`,
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.BoolVar(&d.walkthrough, "walkthrough", false, "play the story of a canary release, check every step, and end")
	f.StringVar(&d.dataDir, "data-dir", "", "keep state in `DIR` (default a temporary directory)")
	f.BoolVar(&d.logs, "logs", false, "show the log of the parts")
	f.StringVar(&d.grpc, "grpc-listen", "127.0.0.1:7400", "`ADDRESS` of the control plane")
	f.StringVar(&d.admin, "admin-listen", "127.0.0.1:7402", "`ADDRESS` of the control plane's metrics and health")
	f.StringVar(&d.aws, "apigateway-listen", "127.0.0.1:7403", "`ADDRESS` of the management API of Amazon API Gateway")
	f.StringVar(&d.http, "http-listen", "127.0.0.1:8080", "`ADDRESS` of the agent")
	f.StringVar(&d.agentAdmin, "agent-admin-listen", "127.0.0.1:8081", "`ADDRESS` of the agent's metrics and health")
	return cmd
}

// run runs all parts until ctx ends or the walk-through is over.
func (d *dev) run(ctx context.Context) (err error) {
	for _, address := range []string{d.grpc, d.admin, d.aws, d.http, d.agentAdmin} {
		if err := checkLoopback(address); err != nil {
			return err
		}
	}
	dir := d.dataDir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "fife-dev-"); err != nil {
			return fmt.Errorf("make a directory for the state: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	lambda, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for the Lambda endpoint: %w", err)
	}
	node, edge, err := d.parts(dir, lambda.Addr().String())
	if err != nil {
		return errors.Join(err, lambda.Close())
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return node.Run(groupCtx) })
	group.Go(func() error { return edge.Run(groupCtx) })
	group.Go(func() error { return serveDevLambda(groupCtx, lambda) })
	group.Go(func() error {
		if err := awaitReady(groupCtx, d.admin, d.agentAdmin); err != nil {
			return err
		}
		if d.walkthrough {
			defer stop()
			return newWalkthrough(d).play(groupCtx)
		}
		d.greet()
		return nil
	})
	return group.Wait()
}

func (d *dev) parts(dir, lambda string) (*controlplane.Node, *agent.Agent, error) {
	logger := slog.New(slog.DiscardHandler)
	if d.logs {
		logger = slog.New(slog.NewTextHandler(d.streams.err, nil))
	}
	sealer, err := devSealer(filepath.Join(dir, "secrets.key"))
	if err != nil {
		return nil, nil, err
	}
	node, err := controlplane.New(controlplane.Config{
		Name: "dev", DataDir: filepath.Join(dir, "controlplane"), Single: true,
		GRPCListen: d.grpc, RaftListen: "127.0.0.1:0", AdminListen: d.admin, HTTPListen: d.aws,
		Logger: logger, Registry: prometheus.NewRegistry(), Build: buildVersion(), Sealer: sealer,
	})
	if err != nil {
		return nil, nil, err
	}
	edge, err := agent.New(agent.Config{
		ID: "dev", ControlPlane: []string{d.grpc}, StateDir: filepath.Join(dir, "agent"),
		HTTPListen: d.http, AdminListen: d.agentAdmin, ExposeHeaders: true, LambdaEndpoint: "http://" + lambda,
		Logger: logger, Registry: prometheus.NewRegistry(), Build: buildVersion(),
		DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())},
	})
	return node, edge, err
}

// devSealer returns what seals the secrets of a stage: with the key in a file, which
// is made if there is none.
func devSealer(path string) (*identity.Sealer, error) {
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = identity.NewSealKey()
		err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), identity.WriteSecret(path, key))
	}
	if err != nil {
		return nil, fmt.Errorf("read the key of secrets: %w", err)
	}
	return identity.NewSealer(key)
}

// checkLoopback refuses an address that others could reach: nothing here asks
// who is calling.
func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || (host != "localhost" && (ip == nil || !ip.IsLoopback())) {
		return exitf(exitUsage, "%q must be a loopback address such as 127.0.0.1:7400: fife dev asks nobody who they are", address)
	}
	return nil
}

// awaitReady waits until all admin addresses say that they are ready.
func awaitReady(ctx context.Context, addresses ...string) error {
	for _, address := range addresses {
		for !ready(ctx, address) {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

func ready(ctx context.Context, address string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close() // nothing of it is wanted
	return resp.StatusCode == http.StatusOK
}

// greet says what is running and what to type next.
func (d *dev) greet() {
	server := ""
	if d.grpc != defaultServer {
		server = " --server " + d.grpc
	}
	_, _ = fmt.Fprintf(d.streams.out, `Fife is running. Ctrl-C ends it.

  control plane  %s, metrics and health on http://%s
                 aws --endpoint-url http://%[7]s apigateway ...
  agent          http://%[3]s, metrics and health on http://%[4]s
  Lambda         %[5]s, versions 1 and 2

A canary release, to type in another terminal:

  fife%[6]s api create demo
  fife%[6]s route put demo GET /canary-demo --lambda %[5]s:1
  fife%[6]s deploy demo --stage canary --wait
  curl http://%[3]s/canary/canary-demo
  fife%[6]s canary start demo/canary --percent 50
  fife%[6]s route put demo GET /canary-demo --lambda %[5]s:2
  fife%[6]s deploy demo --stage canary --wait
  curl http://%[3]s/canary/canary-demo       # again and again: v1 and v2
  fife%[6]s canary promote demo/canary --wait
  fife%[6]s stage rollback demo/canary --wait
`, d.grpc, d.admin, d.http, d.agentAdmin, devFunction, server, d.aws) // a closed terminal is the user's choice
}
