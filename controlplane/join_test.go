package controlplane_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/fifegateway/fife/controlplane"
	"github.com/fifegateway/fife/controlplane/bubbletest"
	"github.com/fifegateway/fife/controlplane/controlplanetest"
	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/identity/enroll"
	"github.com/fifegateway/fife/controlplane/store"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// secured is a cluster in memory whose gRPC ports speak TLS. It lives in a bubble.
type secured struct {
	t       *testing.T
	network *controlplanetest.Network
	dirs    map[string]string
	disks   map[string]*store.Storage
	stops   map[string]func()
}

func startSecured(t *testing.T) *secured {
	c := &secured{t, controlplanetest.NewNetwork(), map[string]string{}, map[string]*store.Storage{}, map[string]func(){}}
	c.start("n1", "")
	t.Cleanup(func() {
		for _, stop := range c.stops {
			stop()
		}
		<-time.After(time.Minute) // for the calls that a stopped Raft leaves behind
	})
	return c
}

// start starts a node, for the first time or again: n1 founds, others join with a
// token.
func (c *secured) start(name, token string) {
	c.t.Helper()
	if c.dirs[name] == "" {
		c.dirs[name], c.disks[name] = c.t.TempDir(), store.NewMemory()
	}
	config := controlplane.Config{
		Name: name, DataDir: c.dirs[name], Storage: c.disks[name], Network: c.network.Host(name),
		GRPCListen: controlplanetest.GRPC(name), RaftListen: name + ":7401",
		Security: &controlplane.Security{JoinToken: token},
		Logger:   slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Build: "test",
	}
	if token != "" {
		config.Join = []string{controlplanetest.GRPC("n1")}
	}
	if used, _ := c.disks[name].Used(); !used {
		if config.Bootstrap = name == "n1"; !config.Bootstrap {
			config.Join = []string{controlplanetest.GRPC("n1")}
		}
	}
	node, err := controlplane.New(config)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- node.Run(ctx) }()
	c.stops[name] = func() {
		stop()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			c.t.Errorf("node %s: %v", name, err)
		}
		delete(c.stops, name)
	}
}

func (c *secured) dial(node string, config *tls.Config) *grpc.ClientConn {
	conn, err := grpc.NewClient("passthrough:///"+controlplanetest.GRPC(node), grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithContextDialer(c.network.Host("client").Dial))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// admin returns a connection of the first user, once there is one.
func (c *secured) admin() *grpc.ClientConn {
	path := filepath.Join(c.dirs["n1"], "admin.pem")
	for {
		if _, err := os.Stat(filepath.Join(c.dirs["n1"], "node.pem")); err == nil {
			break
		}
		<-time.After(time.Second)
	}
	h, err := identity.OpenHolder(path)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.dial("n1", identity.ClientConfig(h))
}

// token makes a join token, once the cluster can.
func (c *secured) token(admin *grpc.ClientConn, req *fifev1.CreateTokenRequest) string {
	c.t.Helper()
	for {
		resp, err := fifev1.NewTokenServiceClient(admin).CreateToken(c.t.Context(), req, grpc.WaitForReady(true))
		if err == nil {
			return resp.GetText()
		}
		if code := status.Code(err); code != codes.FailedPrecondition && code != codes.Unavailable {
			c.t.Fatal(err)
		}
		<-time.After(time.Second)
	}
}

func (c *secured) joiner(token, name string) enroll.Joiner {
	return enroll.Joiner{
		Addresses: []string{controlplanetest.GRPC("n1")}, Token: token, Name: name,
		Logger: slog.New(slog.DiscardHandler), Dial: c.network.Host("agent").Dial,
	}
}

// TestRacingJoins: of fifty who join at the same time with a token that is good for
// one use exactly one wins, and of those who then wait for the same name none.
func TestRacingJoins(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startSecured(t)
		admin := c.admin()
		token := c.token(admin, &fifev1.CreateTokenRequest{Role: fifev1.TokenRole_TOKEN_ROLE_AGENT, Uses: 1})
		var won, lost atomic.Int32
		var racing sync.WaitGroup
		for i := range 50 {
			racing.Go(func() {
				_, key, err := c.joiner(token, fmt.Sprintf("agent/edge-%d", i)).Join(t.Context())
				switch {
				case err == nil && len(key) == 0:
					won.Add(1)
				case errors.Is(err, enroll.ErrRefused):
					lost.Add(1)
				default:
					t.Errorf("edge-%d: %d bytes of a key, %v", i, len(key), err)
				}
			})
		}
		racing.Wait()
		if won.Load() != 1 || lost.Load() != 49 {
			t.Errorf("%d won, %d lost", won.Load(), lost.Load())
		}
		if _, _, err := c.joiner(token, "agent/late").Join(t.Context()); !errors.Is(err, enroll.ErrRefused) {
			t.Errorf("a used-up token: %v", err)
		}
		// A call that is repeated because its answer was lost is the same use.
		again := c.token(admin, &fifev1.CreateTokenRequest{Role: fifev1.TokenRole_TOKEN_ROLE_AGENT})
		parsed, err := identity.ParseJoinToken(again)
		if err != nil {
			t.Fatal(err)
		}
		key, err := identity.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		csr, err := identity.NewRequest(key)
		if err != nil {
			t.Fatal(err)
		}
		nobody := fifev1.NewJoinServiceClient(c.dial("n1", identity.PinnedConfig(parsed.Pin, func(identity.Trust) {})))
		req := &fifev1.IssueCertificateRequest{Token: again, Name: "agent/twice", Csr: csr, RequestId: rand.Text()}
		for range 2 {
			if _, err := nobody.IssueCertificate(t.Context(), req); err != nil {
				t.Error(err)
			}
		}
		req.RequestId = rand.Text()
		if _, err := nobody.IssueCertificate(t.Context(), req); status.Code(err) != codes.PermissionDenied {
			t.Errorf("another use: %v", err)
		}
		if _, err := nobody.IssueCertificate(t.Context(), &fifev1.IssueCertificateRequest{Csr: csr}); status.Code(err) != codes.Unauthenticated {
			t.Errorf("nobody renews: %v", err)
		}
	})
}

// open opens an agent's stream and returns it once it has got its first frame.
func (c *secured) open(node string, h *identity.Holder) (discoveryv1.DiscoveryService_StreamClient, error) {
	s, err := discoveryv1.NewDiscoveryServiceClient(c.dial(node, identity.ClientConfig(h))).Stream(c.t.Context())
	if err != nil {
		return nil, err
	}
	hello := &discoveryv1.Hello{AgentId: h.Current().Identity.Name}
	_ = s.Send(&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Hello{Hello: hello}}) // Recv says why it fails
	_, err = s.Recv()
	return s, err
}

// TestRenewal: certificates are renewed at two thirds of their life, by agents also
// after they have expired while the control plane was away, but not by those who were
// revoked meanwhile. Nothing else is given to a certificate that has expired.
func TestRenewal(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startSecured(t)
		admin := c.admin()
		token := c.token(admin, &fifev1.CreateTokenRequest{Role: fifev1.TokenRole_TOKEN_ROLE_AGENT, Uses: 2})
		join := func(name string) *identity.Holder {
			credential, _, err := c.joiner(token, "agent/"+name).Join(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return identity.NewHolder(credential)
		}
		kept, lost := join("kept"), join("lost")
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		keeper := func(h *identity.Holder) enroll.Keeper {
			return enroll.Keeper{
				Holder: h, Addresses: []string{controlplanetest.GRPC("n1")}, Logger: slog.New(slog.DiscardHandler),
				Dial: c.network.Host("agent").Dial,
			}
		}
		go keeper(kept).Run(ctx)

		first := kept.Current().Leaf()
		c.stops["n1"]() // a simulated day of heartbeats takes long
		<-time.After(15 * time.Hour)
		c.start("n1", "")
		<-time.After(time.Minute)
		if !kept.Current().Leaf().Equal(first) {
			t.Error("renewed after 15 of 24 hours")
		}
		<-time.After(70 * time.Minute)
		second := kept.Current().Leaf()
		if second.Equal(first) {
			t.Error("not renewed after two thirds of 24 hours")
		}

		// The control plane is away for two days.
		c.stops["n1"]()
		<-time.After(48 * time.Hour)
		if !time.Now().After(second.NotAfter) || !kept.Current().Leaf().Equal(second) {
			t.Fatal("the certificate has not expired")
		}
		c.start("n1", "")
		_, err := fifev1.NewCertificateServiceClient(admin).RevokeCertificate(t.Context(),
			&fifev1.RevokeCertificateRequest{Name: "agent/lost"}, grpc.WaitForReady(true))
		for status.Code(err) == codes.Unavailable {
			<-time.After(time.Second)
			_, err = fifev1.NewCertificateServiceClient(admin).RevokeCertificate(t.Context(),
				&fifev1.RevokeCertificateRequest{Name: "agent/lost"}, grpc.WaitForReady(true))
		}
		if err != nil {
			t.Fatal(err)
		}
		expired := identity.NewHolder(lost.Current())
		if _, err := c.open("n1", expired); err == nil {
			t.Error("an expired, revoked agent has got a stream")
		}
		<-time.After(time.Minute)
		if !time.Now().Before(kept.Current().Leaf().NotAfter) {
			t.Error("the expired certificate was not renewed")
		}
		if _, err := c.open("n1", kept); err != nil {
			t.Errorf("the agent that has renewed gets no stream: %v", err)
		}
		go keeper(lost).Run(ctx)
		<-time.After(time.Minute)
		if time.Now().Before(lost.Current().Leaf().NotAfter) {
			t.Error("a revoked certificate was renewed")
		}
	})
}

// TestRevokedElsewhere: the leader renews no certificate that was revoked, though the node
// that passes the call on has not heard of it; one that was given since is renewed.
func TestRevokedElsewhere(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startSecured(t)
		admin := c.admin()
		c.token(admin, &fifev1.CreateTokenRequest{Role: fifev1.TokenRole_TOKEN_ROLE_AGENT}) // there is a leader
		node := c.node("n1")
		csr, err := identity.NewRequest(node.Key)
		if err != nil {
			t.Fatal(err)
		}
		leader := fifev1.NewJoinServiceClient(c.dial("n1", identity.ClientConfig(identity.NewHolder(node))))
		// As a node passes it on that lets the caller pass.
		renew := func(name string, said ...string) error {
			said = append(said, "fife-forwarded-by", "n2", "fife-caller", "spiffe://"+node.Identity.Cluster+"/"+name)
			_, err := leader.IssueCertificate(metadata.AppendToOutgoingContext(t.Context(), said...), &fifev1.IssueCertificateRequest{Csr: csr})
			return err
		}
		for _, name := range []string{"agent/edge", "user/ann", "server/n2"} {
			given := []string{"fife-caller-issued", time.Now().UTC().Format(time.RFC3339), "fife-caller-lasts", "1h0m0s"}
			if err := renew(name, given...); err != nil {
				t.Errorf("%s renews: %v", name, err)
			}
			<-time.After(time.Minute)
			_, err := fifev1.NewCertificateServiceClient(admin).RevokeCertificate(t.Context(), &fifev1.RevokeCertificateRequest{Name: name})
			if err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Second)
			given[1] = time.Now().UTC().Format(time.RFC3339)
			if err := renew(name, given...); status.Code(err) != codes.FailedPrecondition {
				t.Errorf("%s renews, a second after it was revoked: %v", name, err)
			}
			<-time.After(time.Minute)
			if err := renew(name, given...); err != nil {
				t.Errorf("%s renews what it was given since: %v", name, err)
			}
			given[1] = time.Now().Add(-2 * time.Minute).UTC().Format(time.RFC3339)
			if err := renew(name, given...); status.Code(err) != codes.Unauthenticated {
				t.Errorf("%s renews what was revoked: %v", name, err)
			}
			if err := renew(name); status.Code(err) != codes.Unauthenticated {
				t.Errorf("%s renews what was not shown: %v", name, err)
			}
			given[1] = "yesterday"
			if err := renew(name, given...); err == nil {
				t.Errorf("%s renews what was issued %s", name, given[1])
			}
		}
	})
}

// TestExpiredAgentMayOnlyRenew: the connection of an expired certificate is taken, for
// the one call that helps.
func TestExpiredAgentMayOnlyRenew(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startSecured(t)
		token := c.token(c.admin(), &fifev1.CreateTokenRequest{Role: fifev1.TokenRole_TOKEN_ROLE_AGENT})
		credential, _, err := c.joiner(token, "agent/edge").Join(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h := identity.NewHolder(credential)
		c.stops["n1"]() // a simulated day of heartbeats takes long
		<-time.After(25 * time.Hour)
		c.start("n1", "")
		<-time.After(time.Minute)
		if _, err := c.open("n1", h); status.Code(err) != codes.Unauthenticated {
			t.Errorf("a stream: %v", err)
		}
		if _, err := enroll.Renew(t.Context(), c.dial("n1", identity.ClientConfig(h)), h); err != nil {
			t.Fatal(err)
		}
		if _, err := c.open("n1", h); err != nil {
			t.Errorf("a stream once it is renewed: %v", err)
		}
	})
}

// TestStreamsProveAnew: a stream is ended within the hour, and at once when its caller
// is revoked, on every node.
func TestStreamsProveAnew(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startSecured(t)
		admin := c.admin()
		server := c.token(admin, &fifev1.CreateTokenRequest{Role: fifev1.TokenRole_TOKEN_ROLE_SERVER, Pattern: "n2"})
		token := c.token(admin, &fifev1.CreateTokenRequest{Role: fifev1.TokenRole_TOKEN_ROLE_AGENT})
		credential, _, err := c.joiner(token, "agent/edge").Join(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h := identity.NewHolder(credential)
		open := func(node string) discoveryv1.DiscoveryService_StreamClient {
			for {
				s, err := c.open(node, h)
				if err == nil {
					return s
				}
				if status.Code(err) != codes.Unavailable {
					t.Fatal(err)
				}
				<-time.After(time.Second)
			}
		}
		ends := func(s discoveryv1.DiscoveryService_StreamClient) error {
			for {
				if _, err := s.Recv(); err != nil {
					return err
				}
			}
		}
		began := time.Now()
		if err := ends(open("n1")); status.Code(err) != codes.Unavailable || time.Since(began) > time.Hour || time.Since(began) < 40*time.Minute {
			t.Errorf("ended after %v: %v", time.Since(began), err)
		}
		c.start("n2", server)
		s := open("n2")
		if _, err := fifev1.NewCertificateServiceClient(admin).RevokeCertificate(t.Context(), &fifev1.RevokeCertificateRequest{Name: "agent/edge"}); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		if err := ends(s); status.Code(err) != codes.Unauthenticated || time.Since(began) > time.Second {
			t.Errorf("a revoked agent's stream ended after %v: %v", time.Since(began), err)
		}
		if _, err := c.open("n2", h); err == nil {
			t.Error("a revoked agent has got another stream")
		}
		for _, file := range []string{"node.pem", "cluster.key"} {
			if info, err := os.Stat(filepath.Join(c.dirs["n2"], file)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", file, info, err)
			}
		}
	})
}
