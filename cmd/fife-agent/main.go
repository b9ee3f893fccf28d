// Command fife-agent runs one edge agent of Fife.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/fifegateway/fife/agent"
	"github.com/fifegateway/fife/agent/proxy"
	"github.com/fifegateway/fife/cmd/daemon"
	"github.com/fifegateway/fife/controlplane/identity/enroll"
)

func main() { os.Exit(daemon.Main(newCommand())) }

const long = `fife-agent runs one edge agent: it keeps a copy of what the control plane
holds and routes every HTTP request by it.

The copy is also kept in --state-dir, so that the agent serves without a control
plane, and after a restart without one.`

func newCommand() *cobra.Command {
	var c agent.Config
	var trusted, allowed []string
	var accessLog string
	var credential credentialFlags
	cmd := daemon.Command("fife-agent", "Run an edge agent", long,
		func(ctx context.Context, logger *slog.Logger) error {
			c.Logger = logger
			c.Build = daemon.Build()
			c.Registry = prometheus.NewRegistry()
			c.Registry.MustRegister(collectors.NewGoCollector(),
				collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
			var err error
			if c.TrustedProxies, err = prefixes("trusted-proxy", trusted); err != nil {
				return daemon.Usage(err)
			}
			if c.AllowUpstream, err = prefixes("allow-upstream", allowed); err != nil {
				return daemon.Usage(err)
			}
			if c.AccessLog, err = openAccessLog(accessLog); err != nil {
				return daemon.Usage(err)
			}
			if c.StateDir == "" {
				return daemon.Usage(errors.New("--state-dir is required"))
			}
			holder, err := credential.open(ctx, c)
			if err != nil {
				return err
			}
			if holder != nil {
				c.Trust = enroll.Bundle{Holder: holder}
			}
			c.DialOptions = []grpc.DialOption{grpc.WithTransportCredentials(clientCredentials(holder))}
			if c.Listen, err = listen(c.AdminListen != ""); err != nil {
				return err
			}
			a, err := agent.New(c)
			if err != nil {
				return err
			}
			if holder != nil {
				go enroll.Keeper{ // ends with ctx
					Holder: holder, Addresses: c.ControlPlane, Logger: logger, Moved: a.Reconnect,
				}.Run(ctx)
			}
			return a.Run(ctx)
		})
	f := cmd.Flags()
	hostname, _ := os.Hostname() // without one, --id has to be given
	f.StringVar(&c.ID, "id", hostname, "id of this agent, unique in the fleet and kept over restarts")
	f.StringToStringVar(&c.Labels, "label", nil, "labels for operators, KEY=VALUE")
	f.StringSliceVar(&c.ControlPlane, "control-plane", []string{"127.0.0.1:7400"}, "gRPC addresses of control-plane nodes")
	f.StringSliceVar(&c.APIs, "api", nil, "ids of the APIs to serve; none means all")
	f.StringVar(&c.HTTPListen, "http-listen", "127.0.0.1:8080", "address for requests, HTTP/1.1 and HTTP/2 (h2c)")
	f.StringVar(&c.TLSCert, "tls-cert", "", "PEM file of a certificate chain, or directory of NAME.crt and NAME.key: --http-listen then takes TLS only")
	f.StringVar(&c.TLSKey, "tls-key", "", "PEM file of the key of --tls-cert")
	f.StringVar(&c.AdminListen, "admin-listen", "127.0.0.1:8081", "address for /metrics, /healthz and /readyz; empty for none")
	f.StringVar(&c.StateDir, "state-dir", "", "directory of the last good table")
	f.StringVar(&c.StateKey, "state-key", "", "file of the 32 bytes that seal the table, made if there is none; by default state.key in --state-dir")
	credential.add(f)
	f.StringVar(&c.DefaultAPI, "default-api", "", "API of requests whose Host names none; by default the only one there is")
	f.BoolVar(&c.ExposeHeaders, "expose-headers", false, "say on every response what routed it, whatever its stage says")
	f.StringVar(&c.LambdaEndpoint, "lambda-endpoint", "", "Lambda-compatible URL for all functions; by default AWS")
	f.StringToStringVar(&c.LambdaEndpoints, "lambda-function-endpoint", nil,
		"URL of a runtime interface emulator for one function, ARN=URL or NAME=URL")
	f.StringSliceVar(&trusted, "trusted-proxy", nil, "networks of peers whose X-Forwarded-* headers are believed, in CIDR form")
	f.StringSliceVar(&allowed, "allow-upstream", nil,
		"networks, in CIDR form, that upstreams may be in although they are link-local or the agent's own")
	f.Int64Var(&c.MaxBody, "max-body", 0, "most bytes of a request's body; 0 means 10 MiB")
	f.IntVar(&c.MaxPerAddress, "max-connections-per-address", 0, "most connections of one IPv4 address, or of one IPv6 /64; 0 means any number")
	f.DurationVar(&c.Drain, "drain", proxy.DefaultDrain, "time for requests under way when the agent stops")
	f.StringVar(&accessLog, "access-log", "-", "file that gets a line of JSON for requests; - for standard output, empty for none")
	f.Float64Var(&c.AccessLogShare, "access-log-share", 0.01, "share of the requests that get a line, 0 to 1; answers of 500 and above always do")
	return cmd
}

// listen returns how the agent gets its listeners: from whoever started it, if sockets
// were passed, the one for requests first and then that for the admin address; and for
// what was not passed from the system.
func listen(admin bool) (func(string) (net.Listener, error), error) {
	passed, err := daemon.Sockets(os.Getenv, os.Getpid())
	if err != nil {
		return nil, err
	}
	if len(passed) > 2 || len(passed) > 1 && !admin {
		return nil, fmt.Errorf("%d sockets were passed: want one for requests and one for --admin-listen, if that is set", len(passed))
	}
	return func(address string) (net.Listener, error) {
		if len(passed) == 0 {
			return net.Listen("tcp", address)
		}
		l := passed[0]
		passed = passed[1:]
		return l, nil
	}, nil
}

// openAccessLog opens the file for appending. It stays open until the process ends.
func openAccessLog(path string) (io.Writer, error) {
	switch path {
	case "":
		return nil, nil
	case "-":
		return os.Stdout, nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("--access-log: %w", err)
	}
	return f, nil
}

func prefixes(flag string, texts []string) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		p, err := netip.ParsePrefix(t)
		if err != nil {
			return nil, fmt.Errorf("--%s: %q must be a network such as 10.0.0.0/8: %w", flag, t, err)
		}
		out[i] = p
	}
	return out, nil
}
