// Command fife-controlplane runs one node of Fife's control plane.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/fifegateway/fife/cmd/daemon"
	"github.com/fifegateway/fife/controlplane"
	"github.com/fifegateway/fife/controlplane/api"
	"github.com/fifegateway/fife/controlplane/signin"
)

func main() { os.Exit(daemon.Main(newCommand())) }

const long = `fife-controlplane runs one node of the control plane.

Found a cluster on one node with --bootstrap, and start the others with
--join and the gRPC address of any member. Both are for an empty data directory:
a node that has been a member starts again with neither. A cluster that is to
stay at one node starts with --single-node, the first time and every other.

All ports but --admin-listen and --http-listen speak mutual TLS 1.3. The node that founds a cluster makes
its CA in --data-dir, and there in admin.pem the credential of the first user, for
fife --cert.`

func newCommand() *cobra.Command {
	var c controlplane.Config
	var security controlplane.Security
	var signIn signin.Config
	var plaintext, described bool
	cmd := daemon.Command("fife-controlplane", "Run a node of the control plane", long,
		func(ctx context.Context, logger *slog.Logger) error {
			c.Logger = logger
			c.Build = daemon.Build()
			c.NoReflection = !described
			c.Registry = prometheus.NewRegistry()
			c.Registry.MustRegister(collectors.NewGoCollector(),
				collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
			if c.DataDir == "" {
				return daemon.Usage(errNoDataDir)
			}
			switch {
			case signIn.Issuer != "":
				security.SignIn = &signIn
			case signIn != (signin.Config{}):
				return daemon.Usage(errors.New("--oidc-client-id, --oidc-audience, --oidc-username-claim, --oidc-groups-claim and --oidc-ca need --oidc-issuer"))
			}
			if plaintext && security.SignIn != nil {
				return daemon.Usage(errors.New("--oidc-issuer does not go with --plaintext, where nobody is asked who they are"))
			}
			if !plaintext {
				c.Security = &security
			} else {
				logger.Warn("plaintext: whoever reaches the ports decides where traffic goes", "grpc", c.GRPCListen, "raft", c.RaftListen)
			}
			node, err := controlplane.New(c)
			if err != nil {
				return daemon.Usage(err)
			}
			go tendMemory(ctx) // ends with ctx
			return node.Run(ctx)
		})
	addNodeFlags(cmd, &c)
	f := cmd.Flags()
	f.BoolVar(&described, "reflection", true, "describe the API to callers that may call it, for grpcurl")
	f.StringVar(&c.AdminListen, "admin-listen", "127.0.0.1:7402", "address for /metrics, /healthz and /readyz; empty for none")
	f.StringVar(&c.HTTPListen, "http-listen", "", "address for the management API of Amazon API Gateway, over HTTPS unless --plaintext; empty for none")
	f.StringSliceVar(&c.HTTPNames, "http-name", nil, "names and addresses by which clients know --http-listen, besides those of it and of --grpc-advertise")
	f.BoolVar(&c.Bootstrap, "bootstrap", false, "found a cluster; needs an empty data directory")
	f.Uint64Var(&c.Epoch, "bootstrap-epoch", 1, "epoch of the cluster that is founded; raise it to take over the agents of a lost one")
	f.BoolVar(&c.Single, "single-node", false, "run a cluster of this one node: found it if the data directory is empty")
	f.DurationVar(&c.ForgetAgentsAfter, "forget-agents-after", time.Hour, "how long an agent that holds no stream is listed as absent")
	f.DurationVar(&c.Audit.Retention, "audit-retention", 90*24*time.Hour, "how long entries of the audit are kept; the leader's flag counts")
	f.Uint64Var(&c.Audit.MaxBytes, "audit-max-bytes", 32<<20, "most bytes of entries of the audit that are kept; of refused calls it is a quarter more")
	f.StringSliceVar(&c.Join, "join", nil, "gRPC addresses of members to join; needs an empty data directory")
	c.Limits = api.DefaultLimits()
	f.Float64Var(&c.Limits.Users.Rate, "user-rate-limit", c.Limits.Users.Rate, "calls a second that this node takes of each user, by certificate or token; 0, with the burst, for no limit")
	f.IntVar(&c.Limits.Users.Burst, "user-burst-limit", c.Limits.Users.Burst, "calls that it takes of each user at once after a quiet time")
	f.IntVar(&c.Limits.Users.Streams, "user-stream-limit", c.Limits.Users.Streams, "streams that each user may have open on this node; 0 for no limit")
	f.Float64Var(&c.Limits.Addresses.Rate, "address-rate-limit", c.Limits.Addresses.Rate, "calls a second from each address by those who show no credential; 0, with the burst, for no limit")
	f.IntVar(&c.Limits.Addresses.Burst, "address-burst-limit", c.Limits.Addresses.Burst, "such calls from each address at once after a quiet time")
	f.BoolVar(&plaintext, "plaintext", false, "serve without TLS and without permissions: whoever reaches the ports decides where traffic goes")
	f.StringVar(&security.CACert, "ca-cert", "", "PEM file of a CA to found the cluster with; by default one is made in --data-dir")
	f.StringVar(&security.CAKey, "ca-key", "", "PEM file of the key of --ca-cert")
	f.StringVar(&security.JoinToken, "join-token", "", "token of fife token create --role server, to --join with; the environment hides it from other users")
	addSignInFlags(cmd, &signIn)
	cmd.AddCommand(newRecoverCommand(), newCertificateCommand())
	return cmd
}

var errNoDataDir = errors.New("--data-dir is required")

// addNodeFlags adds the flags that say who a node is.
func addNodeFlags(cmd *cobra.Command, c *controlplane.Config) {
	f := cmd.Flags()
	hostname, _ := os.Hostname() // without one, --name has to be given
	f.StringVar(&c.Name, "name", hostname, "id of this node, unique in the cluster and kept for ever")
	f.StringVar(&c.DataDir, "data-dir", "", "directory of this node's log and snapshots")
	f.StringVar(&c.GRPCListen, "grpc-listen", "127.0.0.1:7400", "address for operators, agents and the other nodes")
	f.StringVar(&c.GRPCAdvertise, "grpc-advertise", "", "where others reach --grpc-listen, if it names no host")
	f.StringVar(&c.RaftListen, "raft-listen", "127.0.0.1:7401", "address for replication between nodes")
	f.StringVar(&c.RaftAdvertise, "raft-advertise", "", "where others reach --raft-listen, if it names no host")
}

// addSignInFlags adds the flags that say whose word is taken for who people are.
func addSignInFlags(cmd *cobra.Command, c *signin.Config) {
	f := cmd.Flags()
	f.StringVar(&c.Issuer, "oidc-issuer", "", "https URL of an OpenID Connect issuer at which people sign in")
	f.StringVar(&c.ClientID, "oidc-client-id", "", "what the issuer knows Fife's command line as; tokens must be meant for it")
	f.StringVar(&c.Audience, "oidc-audience", "", "another audience whose tokens are taken, such as that of an API's access tokens")
	f.StringVar(&c.UsernameClaim, "oidc-username-claim", "", "claim that names the caller, as oidc:NAME, such as email (default sub)")
	f.StringVar(&c.GroupsClaim, "oidc-groups-claim", "", "claim with the caller's groups, each as group:NAME; empty for none")
	f.StringVar(&c.CA, "oidc-ca", "", "PEM file of the CAs of the issuer's certificate (default the system's)")
}

const recoverLong = `Make this node the only member of its cluster, when the majority of the nodes is lost for
good. It works on --data-dir alone, and refuses to while a node runs on it. What only the
lost nodes had acknowledged is gone. The recovered cluster is a new one, to which their old
disks do not belong: wipe them and let them join under new names.`

func newRecoverCommand() *cobra.Command {
	var c controlplane.Config
	cmd := daemon.Command("recover", "Go on with one node after the majority is lost", recoverLong,
		func(_ context.Context, logger *slog.Logger) error {
			if c.DataDir == "" {
				return daemon.Usage(errNoDataDir)
			}
			c.Logger = logger
			version, err := controlplane.Recover(c)
			if err != nil {
				return err
			}
			logger.Info("recovered: start the node without --bootstrap and --join", "name", c.Name, "version", version)
			return nil
		})
	addNodeFlags(cmd, &c)
	return cmd
}
