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
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync/atomic"
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
	StateDir     string            // where the last good table is kept, sealed
	StateKey     string            // file of the key that seals it, made if there is none; empty for one in StateDir

	HTTPListen  string // host:port for requests, HTTP/1.1 and HTTP/2
	TLSCert     string // PEM file of the certificate chain for HTTPListen, or a directory; empty for no TLS
	TLSKey      string // PEM file of its key; empty if TLSCert is a directory of NAME.crt and NAME.key
	AdminListen string // host:port for metrics and health; empty for none

	DefaultAPI      string            // API of requests whose host names none
	ExposeHeaders   bool              // say on every response what routed it
	LambdaEndpoint  string            // Lambda-compatible URL; empty means AWS
	LambdaEndpoints map[string]string // URLs of single functions, by ARN or name
	TrustedProxies  []netip.Prefix    // peers whose forwarding headers are believed
	AllowUpstream   []netip.Prefix    // link-local or own addresses that upstreams may have
	MaxBody         int64             // bytes of a request's body; 0 means the default
	MaxPerAddress   int               // connections of one IPv4 address or IPv6 /64; 0 means any number
	Drain           time.Duration     // for requests under way when the agent stops; 0 means the default
	AccessLog       io.Writer         // gets JSON lines; nil for none
	AccessLogShare  float64           // of the requests that get a line, 0 to 1

	Logger   *slog.Logger
	Registry *prometheus.Registry
	Build    string

	// DialOptions are those of the connections to the control plane; they must
	// say how these are secured.
	DialOptions []grpc.DialOption
	// Trust keeps whom to believe on these connections; nil without TLS.
	Trust discovery.Trust
	// Listen opens listeners; nil means TCP.
	Listen func(address string) (net.Listener, error)
}

// Agent is one agent, not yet running.
type Agent struct {
	config Config
	client *discovery.Client
	proxy  *proxy.Proxy
	own    atomic.Pointer[[]netip.AddrPort]
}

// headerTimeout is for the head of a request to the admin address.
const headerTimeout = 10 * time.Second

// New checks a configuration and loads the last good table from the disk. It
// starts nothing.
func New(c Config) (*Agent, error) {
	if c.HTTPListen == "" {
		return nil, errors.New("no address to listen on for requests is set")
	}
	if info, err := os.Stat(c.TLSCert); (c.TLSCert == "") != (c.TLSKey == "") && (err != nil || !info.IsDir()) {
		return nil, errors.New("a TLS certificate and its key go together: set both or neither, or a directory of both")
	}
	if c.Listen == nil {
		c.Listen = func(address string) (net.Listener, error) { return net.Listen("tcp", address) }
	}
	client, err := discovery.New(discovery.Config{
		AgentID: c.ID, Labels: c.Labels, Addresses: c.ControlPlane, APIs: c.APIs, Dir: c.StateDir, KeyFile: c.StateKey, Build: c.Build,
		DialOptions: c.DialOptions, Trust: c.Trust, Logger: c.Logger, Registerer: c.Registry,
	})
	if err != nil {
		return nil, err
	}
	a := &Agent{config: c, client: client}
	a.proxy, err = proxy.New(proxy.Config{
		Table: client.Table, Lease: client.Lease, DefaultAPI: c.DefaultAPI, ExposeHeaders: c.ExposeHeaders,
		LambdaEndpoint: c.LambdaEndpoint, LambdaEndpoints: c.LambdaEndpoints,
		TrustedProxies: c.TrustedProxies, AllowUpstream: c.AllowUpstream, Own: a.listening,
		MaxBody: c.MaxBody, MaxPerAddress: c.MaxPerAddress, Drain: c.Drain,
		AccessLog: c.AccessLog, AccessLogShare: c.AccessLogShare,
		Logger: c.Logger, Registerer: c.Registry,
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// listening returns where the agent listens, once it does.
func (a *Agent) listening() []netip.AddrPort {
	if own := a.own.Load(); own != nil {
		return *own
	}
	return nil
}

// Reconnect opens the stream from the control plane anew, with the certificate of now.
func (a *Agent) Reconnect() { a.client.Reconnect() }

// Run serves until ctx ends, lets the requests under way finish for a while, and
// returns nil after an orderly end.
func (a *Agent) Run(ctx context.Context) error {
	var secure *tls.Config
	var certs *certificates
	if a.config.TLSCert != "" {
		var err error
		if certs, err = loadCertificates(a.config.TLSCert, a.config.TLSKey); err != nil {
			return fmt.Errorf("load TLS certificate: %w", err)
		}
		secure = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certs.get}
	}
	listener, err := a.config.Listen(a.config.HTTPListen)
	if err != nil {
		return fmt.Errorf("listen for requests: %w", err)
	}
	listeners := []net.Listener{listener}
	if a.config.AdminListen != "" {
		admin, err := a.config.Listen(a.config.AdminListen)
		if err != nil {
			return errors.Join(fmt.Errorf("listen for admin: %w", err), listener.Close())
		}
		listeners = append(listeners, admin)
	}
	a.own.Store(addresses(listeners))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.client.Run(ctx) })
	group.Go(func() error {
		defer a.proxy.Close()
		return a.proxy.Serve(ctx, listener, secure)
	})
	if len(listeners) > 1 {
		server := &http.Server{Handler: a.adminHandler(), ReadHeaderTimeout: headerTimeout}
		group.Go(func() error { return serveAdmin(ctx, server, listeners[1]) })
	}
	if certs != nil {
		group.Go(func() error { return certs.watch(ctx, a.config.Logger) })
	}
	a.config.Logger.Info("agent started", "id", a.config.ID, "http", listener.Addr(), "version", a.client.Table().Version())
	return group.Wait()
}

func addresses(listeners []net.Listener) *[]netip.AddrPort {
	var out []netip.AddrPort
	for _, l := range listeners {
		if t, ok := l.Addr().(*net.TCPAddr); ok {
			out = append(out, t.AddrPort())
		}
	}
	return &out
}
