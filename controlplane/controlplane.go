// Package controlplane is one node of Fife's control plane, put together: the
// replicated store, the operators' services, the agents' streams and an admin
// port. A change goes
//
//	RPC -> command -> Raft log -> store.State -> every agent's stream
//
// and only the agents' answers come back. See the packages api, store, discovery
// and, for the rules of a release, release.
package controlplane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/fifegateway/fife/controlplane/api"
	"github.com/fifegateway/fife/controlplane/discovery"
	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/rollout"
	"github.com/fifegateway/fife/controlplane/signin"
	"github.com/fifegateway/fife/controlplane/store"
)

// Config says how a node is run. Name, DataDir, GRPCListen and RaftListen are
// required, and so is one of Bootstrap, Single and Join when DataDir is empty.
type Config struct {
	Name    string // unique in the cluster, kept for ever: a DNS label
	DataDir string

	GRPCListen    string // host:port for operators, agents and the other nodes
	GRPCAdvertise string // where others reach GRPCListen; empty if they are the same
	RaftListen    string // host:port for replication
	RaftAdvertise string // where others reach RaftListen; empty if they are the same
	AdminListen   string // host:port for metrics and health; empty for none
	HTTPListen    string // host:port for the management API of Amazon API Gateway; empty for none

	// HTTPNames are names and addresses by which clients know HTTPListen, besides those
	// of HTTPListen and GRPCAdvertise, for the certificate that it shows.
	HTTPNames []string

	Bootstrap bool     // found a cluster of this one node; DataDir must be empty
	Epoch     uint64   // of a cluster that is founded; agents of a lost one follow a higher epoch only; 0 means 1
	Join      []string // gRPC addresses of members, for a node whose DataDir is empty
	Single    bool     // found a cluster of this one node if DataDir is empty, else go on with it

	// Security is how the node and those it talks to prove who they are; nil means
	// plaintext: whoever reaches the ports decides where traffic goes.
	Security *Security

	// Limits are how much each caller may ask of this node; without Security there are
	// none, as nobody is known. The zero value is no limits.
	Limits api.Limits

	// Audit says how much of the audit is kept while this node leads. What is zero is
	// 90 days and 32 MiB of entries of changes.
	Audit store.AuditLimits

	// ForgetAgentsAfter is how long an agent that holds no stream stays on the
	// record; 0 means an hour.
	ForgetAgentsAfter time.Duration

	// Sealer seals and opens the secrets of stages on a node without Security; nil means
	// that such a node refuses them. With Security the cluster's key does.
	Sealer *identity.Sealer

	NoReflection bool // whether the API is not described to those who ask, such as grpcurl

	Logger   *slog.Logger
	Registry *prometheus.Registry
	Build    string

	// Fatal ends the process because going on would be unsafe, for example when
	// the disk fails; nil means to log the reason and exit with status 1.
	Fatal   func(error)
	Network Network        // nil means TCP
	Storage *store.Storage // nil means DataDir; otherwise DataDir is not used
}

// Network is how a node reaches the others. Tests run whole clusters in memory
// behind it.
type Network interface {
	Listen(address string) (net.Listener, error)
	Dial(ctx context.Context, address string) (net.Conn, error)
	// RaftTransport returns a transport that listens on one address and tells the
	// others another one. It talks to those only whom the gate lets in.
	RaftTransport(listen, advertise string, gate RaftGate, logger *slog.Logger) (raft.Transport, error)
}

// Node is one node, not yet running.
type Node struct {
	config Config
	people *signin.Verifier // nil if nobody can sign in
}

// A node that is told to stop is gone within five seconds: an orchestrator that
// waits longer is rare, one that kills earlier is not.
const (
	handOverTimeout = time.Second     // for another node to take leadership
	drainTimeout    = 2 * time.Second // for calls under way to end
)

// What a connection may have of memory, of which there are as many as agents. What
// they say is short.
const (
	window     = 64 << 10 // of flow control, of what others may have under way to this node
	readBuffer = 4 << 10
)

// What a connection may ask of this node. Another node has all the calls that it
// passes on to the leader under way on one, an agent has one stream; what is over
// maxStreams waits at the caller's end.
const (
	maxStreams = 1000
	maxHeaders = 16 << 10 // bytes of a call's headers
)

// maxReport is the most bytes of one message of another node: the largest is its
// report on 100,000 agents.
const maxReport = 64 << 20

// New checks a configuration. It starts nothing and touches nothing.
func New(c Config) (*Node, error) {
	var v release.Violations
	release.CheckNodeID(&v, "name", c.Name)
	if err := v.Err(); err != nil {
		return nil, err
	}
	if c.DataDir == "" && c.Storage == nil {
		return nil, errors.New("no data directory is set")
	}
	if (c.Bootstrap || c.Single) && len(c.Join) > 0 {
		return nil, errors.New("a node either founds a cluster or joins one, not both")
	}
	var err error
	var people *signin.Verifier
	if c.GRPCAdvertise, err = advertised("grpc", c.GRPCListen, c.GRPCAdvertise); err != nil {
		return nil, err
	}
	if c.RaftAdvertise, err = advertised("raft", c.RaftListen, c.RaftAdvertise); err != nil {
		return nil, err
	}
	if c.Security != nil && (c.Security.CACert == "") != (c.Security.CAKey == "") {
		return nil, errors.New("the certificate of a CA and its key go together: set both or neither")
	}
	if c.Security != nil && c.DataDir == "" {
		return nil, errors.New("a node that proves who it is needs a data directory for its credential")
	}
	if c.Security != nil && c.Security.SignIn != nil {
		signIn := *c.Security.SignIn
		signIn.Logger = c.Logger
		if people, err = signin.New(signIn); err != nil {
			return nil, fmt.Errorf("sign in by OpenID Connect: %w", err)
		}
	}
	if c.ForgetAgentsAfter == 0 {
		c.ForgetAgentsAfter = time.Hour
	}
	if c.Audit.Retention == 0 {
		c.Audit.Retention = 90 * 24 * time.Hour
	}
	if c.Audit.MaxBytes == 0 {
		c.Audit.MaxBytes = 32 << 20
	}
	if err := c.Limits.Check(); err != nil {
		return nil, err
	}
	if c.Audit.Retention < 0 {
		return nil, fmt.Errorf("audit retention %v must not be negative", c.Audit.Retention)
	}
	if c.Network == nil {
		c.Network = tcpNetwork{}
	}
	if c.Fatal == nil {
		c.Fatal = func(err error) {
			c.Logger.Error("cannot go on", "error", err)
			os.Exit(1)
		}
	}
	return &Node{config: c, people: people}, nil
}

// advertised returns the address that others are told, which must name a host.
func advertised(what, listen, advertise string) (string, error) {
	if _, _, err := net.SplitHostPort(listen); err != nil {
		return "", fmt.Errorf("%s listen address %q must be host:port", what, listen)
	}
	if advertise == "" {
		advertise = listen
	}
	host, _, err := net.SplitHostPort(advertise)
	if err != nil {
		return "", fmt.Errorf("%s advertise address %q must be host:port", what, advertise)
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		return "", fmt.Errorf("others cannot reach %q: set a %s advertise address that names a host", advertise, what)
	}
	return advertise, nil
}

// Run runs the node until ctx ends, and then hands leadership over, ends the
// agents' streams and stops. It returns nil after an orderly end.
func (n *Node) Run(ctx context.Context) (err error) {
	c := n.config
	cleanup := func(what string, f func() error) {
		if e := f(); e != nil {
			err = errors.Join(err, fmt.Errorf("close %s: %w", what, e))
		}
	}
	storage := c.Storage
	if storage == nil {
		if storage, err = store.OpenDisk(c.DataDir, c.Logger); err != nil {
			return err
		}
		defer cleanup("storage", storage.Close)
	}
	bootstrap, err := n.founds(storage)
	if err != nil {
		return err
	}
	secrets, err := n.secure(ctx, bootstrap)
	if err != nil {
		if ctx.Err() != nil {
			return nil // it was still joining
		}
		return err
	}
	gate := RaftGate{ClusterID: storage.ClusterID, secrets: secrets}
	transport, err := c.Network.RaftTransport(c.RaftListen, c.RaftAdvertise, gate, c.Logger)
	if err != nil {
		return fmt.Errorf("listen for raft: %w", err)
	}
	if closer, ok := transport.(raft.WithClose); ok {
		defer cleanup("raft transport", closer.Close)
	}
	listener, err := c.Network.Listen(c.GRPCListen)
	if err != nil {
		return fmt.Errorf("listen for grpc: %w", err)
	}
	defer listener.Close() //nolint:errcheck // the server has closed it, except after an early error
	s, err := store.Open(store.Config{
		NodeID: c.Name, GRPCAddress: c.GRPCAdvertise, Transport: transport,
		Storage: storage, Bootstrap: bootstrap, Epoch: c.Epoch, Audit: c.Audit, Fatal: c.Fatal, Logger: c.Logger,
	})
	if err != nil {
		return err
	}
	defer cleanup("store", s.Close)
	secrets.opened(s)
	guard := api.NewClusterGuard(storage.ClusterID)
	peers := api.NewPeers(append(guard.DialOptions(),
		grpc.WithTransportCredentials(secrets.clientCredentials()),
		grpc.WithContextDialer(c.Network.Dial),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReport)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		// A node that is back is to be found at once: there are few, and all matter.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
	)...)
	defer cleanup("connections to other nodes", peers.Close)
	return n.serve(ctx, s, secrets, guard, newMembership(c, storage, s, peers), listener)
}

// founds reports whether the node is to found a cluster. It refuses a start that
// would found a second one, or none.
func (n *Node) founds(storage *store.Storage) (bool, error) {
	c := n.config
	used, err := storage.Used()
	switch {
	case err != nil:
		return false, err
	case used && c.Bootstrap:
		return false, fmt.Errorf("%s: %w: start without bootstrap", c.DataDir, store.ErrUsed)
	case !used && !c.Bootstrap && !c.Single && len(c.Join) == 0:
		return false, fmt.Errorf("%s is empty: found a cluster with bootstrap, or name a member to join", c.DataDir)
	}
	return c.Bootstrap || (c.Single && !used), nil
}

func (n *Node) serve(
	ctx context.Context, s *store.Store, secrets *secrets, guard *api.ClusterGuard, membership *membership,
	listener net.Listener,
) error {
	c := n.config
	sealer := secrets.sealer
	if secrets == nil && c.Sealer != nil {
		sealer = func() (*identity.Sealer, error) { return c.Sealer, nil }
	}
	streams := discovery.New(discovery.Config{
		Store: s, Leader: leaderCalls{membership}, Ready: membership.ready, Logger: c.Logger, Registerer: c.Registry, Sealer: sealer,
	})
	promotions := rollout.New(rollout.Config{
		Store: s, Agents: streams, Conn: membership.peers.Conn, Logger: c.Logger, ForgetAfter: c.ForgetAgentsAfter,
	})
	c.Registry.MustRegister(storeCollector{s})
	auditor := api.NewAuditor(s, membership.peers, c.Logger)
	bearers := secrets.bearers(n.people)
	callers := secrets.callers(bearers)
	interceptors := api.NewInterceptors(
		auditor, callers, secrets.authorizer(), guard, api.NewForwarder(s, membership.peers), c.Logger, c.Registry)
	options := append(interceptors.ServerOptions(),
		// Agents ping when their stream is idle, and so do we, to notice each other's
		// silence. A fixed window saves a ping for every answer of an agent.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.StaticStreamWindowSize(window),
		grpc.StaticConnWindowSize(window),
		grpc.ReadBufferSize(readBuffer),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.Creds(secrets.serverCredentials()),
		discovery.ServerOption(),
	)
	server := grpc.NewServer(options...)
	trust := nodeTrust{secrets, callers, streams.Fleet()}
	services := api.Config{
		Store: s, Fleet: streams.Fleet(), Peers: membership.peers, Key: secrets.clusterKey, Build: c.Build, Logger: c.Logger,
		Bearers: bearers, Sealer: sealer,
	}
	if secrets != nil {
		services.Trust = trust
	}
	api.Register(server, services)
	streams.Register(server)
	promotions.Register(server)
	healthy := health.NewServer()
	healthy.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	grpc_health_v1.RegisterHealthServer(server, healthy)
	if !c.NoReflection {
		reflection.Register(server)
	}
	if err := api.CheckMethods(server.GetServiceInfo()); err != nil {
		return err
	}

	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(listener); err != nil {
			return fmt.Errorf("serve grpc: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		if err := membership.run(groupCtx, healthy, streams); groupCtx.Err() == nil {
			return err
		}
		return nil
	})
	group.Go(func() error {
		streams.Run(groupCtx)
		return nil
	})
	group.Go(func() error {
		promotions.Run(groupCtx)
		return nil
	})
	if secrets != nil {
		group.Go(func() error {
			secrets.keep(groupCtx, membership, trust)
			return nil
		})
		group.Go(func() error {
			secrets.cutOff(groupCtx, callers)
			return nil
		})
	}
	if n.people != nil {
		group.Go(func() error {
			n.people.Run(groupCtx)
			return nil
		})
	}
	group.Go(func() error {
		auditor.Run(groupCtx)
		return nil
	})
	if c.AdminListen != "" {
		group.Go(func() error {
			return n.serveHTTP(groupCtx, "admin", c.AdminListen, nil, adminHandler(c.Registry, s, membership))
		})
	}
	if c.HTTPListen != "" {
		local := api.NewLocal(interceptors)
		api.Register(local, services)
		gateway, tlsConfig := secrets.management(c, auditor, callers, local)
		group.Go(func() error { return n.serveHTTP(groupCtx, "http", c.HTTPListen, tlsConfig, gateway) })
	}
	group.Go(func() error {
		<-groupCtx.Done()
		healthy.Shutdown()
		s.HandOver(handOverTimeout)
		streams.Drain()
		stopServer(server)
		return nil
	})
	c.Logger.Info("node started", "name", c.Name, "grpc", c.GRPCAdvertise, "raft", c.RaftAdvertise)
	return group.Wait()
}

// stopServer lets calls under way end, for a while.
func stopServer(server *grpc.Server) {
	stop := time.AfterFunc(drainTimeout, server.Stop)
	defer stop.Stop()
	server.GracefulStop()
}

// serveHTTP serves one of the node's HTTP ports until ctx ends; without a tlsConfig it
// does so in the clear.
func (n *Node) serveHTTP(ctx context.Context, what, address string, tlsConfig *tls.Config, handler http.Handler) error {
	listener, err := n.config.Network.Listen(address)
	if err != nil {
		return fmt.Errorf("listen for %s: %w", what, err)
	}
	if tlsConfig != nil {
		listener = tls.NewListener(listener, tlsConfig)
	}
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(n.config.Logger.Handler(), slog.LevelDebug),
	}
	drained := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(drained)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close() // of those who would not end
		}
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", what, err)
	}
	<-drained
	return nil
}
