package agent_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fifegateway/fife/agent"
)

// running is an agent without a control plane: it has no table, so it answers
// every request that no route serves it.
type running struct {
	http, admin string
	stop        func() error
}

func config(t *testing.T) agent.Config {
	return agent.Config{
		ID: "edge", ControlPlane: []string{"127.0.0.1:1"}, StateDir: t.TempDir(),
		HTTPListen: "127.0.0.1:0", AdminListen: "127.0.0.1:0",
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
		DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())},
	}
}

func run(t *testing.T, c agent.Config) running {
	t.Helper()
	addresses := make(chan string, 2)
	c.Listen = func(address string) (net.Listener, error) {
		l, err := net.Listen("tcp", address)
		if err == nil {
			addresses <- l.Addr().String()
		}
		return l, err
	}
	a, err := agent.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	r := running{http: <-addresses, admin: <-addresses}
	r.stop = func() error { cancel(); return <-done }
	t.Cleanup(cancel)
	return r
}

// TestProtocols: one port takes HTTP/1.1 and HTTP/2, with TLS and without.
func TestProtocols(t *testing.T) {
	certFile, keyFile, roots := certificate(t)
	for name, test := range map[string]struct {
		scheme    string
		protocols func(*http.Protocols)
		proto     string
	}{
		"HTTP/1.1":       {"http", func(p *http.Protocols) { p.SetHTTP1(true) }, "HTTP/1.1"},
		"h2c":            {"http", func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }, "HTTP/2.0"},
		"HTTP/1.1 + TLS": {"https", func(p *http.Protocols) { p.SetHTTP1(true) }, "HTTP/1.1"},
		"HTTP/2 + TLS":   {"https", func(p *http.Protocols) { p.SetHTTP2(true) }, "HTTP/2.0"},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			if test.scheme == "https" {
				c.TLSCert, c.TLSKey = certFile, keyFile
			}
			r := run(t, c)
			transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{RootCAs: roots}}
			test.protocols(transport.Protocols)
			defer transport.CloseIdleConnections()
			resp, err := (&http.Client{Transport: transport}).Get(test.scheme + "://" + r.http + "/prod/hello")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close() //nolint:errcheck // it was only read
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusForbidden || resp.Proto != test.proto {
				t.Errorf("%s %s %s, %v", resp.Proto, resp.Status, body, err)
			}
			transport.CloseIdleConnections()
			if err := r.stop(); err != nil {
				t.Errorf("the agent ended with %v", err)
			}
		})
	}
}

func TestAdmin(t *testing.T) {
	r := run(t, config(t))
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"/healthz": {200, "ok"},
		"/readyz":  {503, "no table yet"},
		"/metrics": {200, "fife_agent_connected 0"},
		"/":        {404, "not found"},
	} {
		resp, err := http.Get("http://" + r.admin + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != want.status || !strings.Contains(string(body), want.text) {
			t.Errorf("%s: %s %q, %v", path, resp.Status, body, err)
		}
	}
	if err := r.stop(); err != nil {
		t.Errorf("the agent ended with %v", err)
	}
}

func TestBadConfigs(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*agent.Config)
		want   string
	}{
		"no address":        {func(c *agent.Config) { c.HTTPListen = "" }, "no address to listen on"},
		"no id":             {func(c *agent.Config) { c.ID = "" }, "agent id"},
		"no control plane":  {func(c *agent.Config) { c.ControlPlane = nil }, "address"},
		"cert without key":  {func(c *agent.Config) { c.TLSCert = "cert.pem" }, "go together"},
		"bad lambda url":    {func(c *agent.Config) { c.LambdaEndpoint = "ftp://x" }, "ftp://x"},
		"bad default limit": {func(c *agent.Config) { c.MaxBody = -1 }, "MaxBody"},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			test.change(&c)
			if _, err := agent.New(c); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want it to say %q", err, test.want)
			}
		})
	}
	c := config(t)
	c.TLSCert, c.TLSKey = "missing.pem", "missing.pem"
	a, err := agent.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "load TLS certificate") {
		t.Errorf("a missing certificate: %v", err)
	}
}

// certificate writes a self-signed certificate for 127.0.0.1 and its key.
func certificate(t *testing.T) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for path, data := range map[string][]byte{
		certFile: certPEM,
		keyFile:  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return certFile, keyFile, roots
}
