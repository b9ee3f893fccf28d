// Package agent is one edge agent, put together: the stream from the control
// plane, the table it leads to, and the data path that serves from it.
//
// A change goes
//
//	frame -> discovery -> route.Table -> one pointer swap -> ACK
//
// and a request goes
//
//	HTTP -> proxy -> Table.Lookup, Pick, Match -> upstream
//
// The two meet only in the pointer: no request waits for the control plane, and
// without one the agent serves on, also after a restart.
package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/fifegateway/fife/agent/discovery"
	"github.com/fifegateway/fife/agent/proxy"
)

// Config says how an agent is run. ID, ControlPlane, HTTPListen and StateDir are
// required.
type Config struct {
	ID           string            // unique in the fleet and kept over restarts
	Labels       map[string]string // for operators
	ControlPlane []string          // gRPC addresses of control-plane nodes
	APIs         []string          // ids of the APIs to serve; empty means all
	StateDir     string            // where the last good table is kept

	HTTPListen  string // host:port for requests, HTTP/1.1 and HTTP/2
	TLSCert     string // PEM file of the certificate chain for HTTPListen; empty for no TLS
	TLSKey      string // PEM file of its key
	AdminListen string // host:port for metrics and health; empty for none

	DefaultAPI      string            // API of requests whose host names none
	ExposeHeaders   bool              // say on every response what routed it
	LambdaEndpoint  string            // Lambda-compatible URL; empty means AWS
	LambdaEndpoints map[string]string // URLs of single functions, by ARN or name
	TrustedProxies  []netip.Prefix    // peers whose forwarding headers are believed
	AllowLinkLocal  []netip.Prefix    // link-local addresses that upstreams may have
	MaxBody         int64             // bytes of a request's body; 0 means the default

	Logger   *slog.Logger
	Registry *prometheus.Registry
	Build    string

	// DialOptions are those of the connections to the control plane; they must
	// say how these are secured.
	DialOptions []grpc.DialOption
	// Listen opens listeners; nil means TCP.
	Listen func(address string) (net.Listener, error)
}

// Agent is one agent, not yet running.
type Agent struct {
	config Config
	client *discovery.Client
	proxy  *proxy.Proxy
}

const (
	drainTimeout  = 10 * time.Second // for requests under way when the agent stops
	headerTimeout = 10 * time.Second // for a request's head
	idleTimeout   = 2 * time.Minute  // for a connection without a request
	maxHeader     = 32 << 10
)

// New checks a configuration and loads the last good table from the disk. It
// starts nothing.
func New(c Config) (*Agent, error) {
	if c.HTTPListen == "" {
		return nil, errors.New("no address to listen on for requests is set")
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return nil, errors.New("a TLS certificate and its key go together: set both or neither")
	}
	if c.Listen == nil {
		c.Listen = func(address string) (net.Listener, error) { return net.Listen("tcp", address) }
	}
	client, err := discovery.New(discovery.Config{
		AgentID: c.ID, Labels: c.Labels, Addresses: c.ControlPlane, APIs: c.APIs, Dir: c.StateDir, Build: c.Build,
		DialOptions: c.DialOptions, Logger: c.Logger, Registerer: c.Registry,
	})
	if err != nil {
		return nil, err
	}
	p, err := proxy.New(proxy.Config{
		Table: client.Table, DefaultAPI: c.DefaultAPI, ExposeHeaders: c.ExposeHeaders,
		LambdaEndpoint: c.LambdaEndpoint, LambdaEndpoints: c.LambdaEndpoints,
		TrustedProxies: c.TrustedProxies, AllowLinkLocal: c.AllowLinkLocal, MaxBody: c.MaxBody,
		Logger: c.Logger, Registerer: c.Registry,
	})
	if err != nil {
		return nil, err
	}
	return &Agent{config: c, client: client, proxy: p}, nil
}

// Run serves until ctx ends, lets the requests under way finish for a while, and
// returns nil after an orderly end.
func (a *Agent) Run(ctx context.Context) error {
	listener, err := a.listen()
	if err != nil {
		return fmt.Errorf("listen for requests: %w", err)
	}
	var admin net.Listener
	if a.config.AdminListen != "" {
		if admin, err = a.config.Listen(a.config.AdminListen); err != nil {
			return errors.Join(fmt.Errorf("listen for admin: %w", err), listener.Close())
		}
	}
	server := &http.Server{
		Handler:           a.proxy,
		Protocols:         protocols(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(a.config.Logger.Handler(), slog.LevelDebug), // clients' faults
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.client.Run(ctx) })
	group.Go(func() error { return serve(ctx, server, listener, drainTimeout) })
	if admin != nil {
		adminServer := &http.Server{Handler: a.adminHandler(), ReadHeaderTimeout: headerTimeout}
		group.Go(func() error { return serve(ctx, adminServer, admin, 0) })
	}
	a.config.Logger.Info("agent started", "id", a.config.ID, "http", listener.Addr(), "version", a.client.Table().Version())
	return group.Wait()
}

// listen opens the listener for requests, which takes TLS if a certificate is set.
func (a *Agent) listen() (net.Listener, error) {
	if a.config.TLSCert == "" {
		return a.config.Listen(a.config.HTTPListen)
	}
	certificate, err := tls.LoadX509KeyPair(a.config.TLSCert, a.config.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("load TLS certificate: %w", err)
	}
	l, err := a.config.Listen(a.config.HTTPListen)
	if err != nil {
		return nil, err
	}
	return tls.NewListener(l, &tls.Config{
		Certificates: []tls.Certificate{certificate},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2", "http/1.1"},
	}), nil
}

// protocols returns HTTP/1.1 and HTTP/2. With TLS the client chooses by ALPN,
// without it HTTP/2 is told by its preface (RFC 9113, section 3.3).
func protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// serve serves until ctx ends and then lets requests finish for the given time.
func serve(ctx context.Context, server *http.Server, listener net.Listener, drain time.Duration) error {
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		drainCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		if err := server.Shutdown(drainCtx); err != nil {
			_ = server.Close() // what is still open had its time
		}
		stopped <- nil
	})
	err := server.Serve(listener)
	if !errors.Is(err, http.ErrServerClosed) {
		stop()
		return fmt.Errorf("serve http: %w", err)
	}
	return <-stopped
}
