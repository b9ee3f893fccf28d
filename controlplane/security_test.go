package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/fifegateway/fife/controlplane/identity"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// secureNode is a node of its own that speaks TLS on sockets of loopback.
type secureNode struct {
	dir, grpc, raft, http string
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // it is to be free
	return l.Addr().String()
}

// startSecure founds a cluster of one node, with some settings, and waits until it is
// ready.
func startSecure(t testing.TB, settings ...func(*Config)) secureNode {
	t.Helper()
	n := secureNode{t.TempDir(), freeAddress(t), freeAddress(t), freeAddress(t)}
	config := Config{
		Name: "n1", DataDir: n.dir, GRPCListen: n.grpc, RaftListen: n.raft, HTTPListen: n.http, Bootstrap: true, Security: &Security{},
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Build: "test",
	}
	for _, set := range settings {
		set(&config)
	}
	node, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- node.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	limit, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for limit.Err() == nil {
		if _, err := os.Stat(filepath.Join(n.dir, nodeFile)); err == nil {
			break
		}
		select {
		case err := <-done:
			t.Fatal(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	conn := n.dial(t, identity.ClientConfig(n.holder(t, "user/"+AdminName)))
	_, err = fifev1.NewClusterServiceClient(conn).SyncCluster(limit, &fifev1.SyncClusterRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatalf("the node does not get ready: %v", err)
	}
	return n
}

// holder returns a holder of a new credential that the node's own root has issued.
func (n secureNode) holder(t testing.TB, name string) *identity.Holder {
	t.Helper()
	c, err := IssueByRoot(n.dir, "", "", name, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return identity.NewHolder(c)
}

func (n secureNode) dial(t testing.TB, config *tls.Config) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+n.grpc, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (n secureNode) trust(t testing.TB) (cluster string, root *x509.Certificate) {
	t.Helper()
	h, err := identity.OpenHolder(filepath.Join(n.dir, nodeFile))
	if err != nil {
		t.Fatal(err)
	}
	return h.Current().Trust.Cluster, h.Current().Trust.Roots[0]
}

// stranger returns a holder of a name of the same cluster, by another root, that
// believes the node all the same.
func (n secureNode) stranger(t testing.TB, class identity.Class, name string) *identity.Holder {
	t.Helper()
	cluster, root := n.trust(t)
	other, err := identity.NewRoot(cluster)
	if err != nil {
		t.Fatal(err)
	}
	c, err := issueByRoot(other, identity.Identity{Cluster: cluster, Class: class, Name: name}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c.Trust.Roots = []*x509.Certificate{root}
	return identity.NewHolder(c)
}

// TestFoundedTrust: what founding leaves on the disk is for its owner alone, and says
// who it is of.
func TestFoundedTrust(t *testing.T) {
	n := startSecure(t)
	for _, file := range []string{nodeFile, adminFile, caDir + "/" + rootKey} {
		info, err := os.Stat(filepath.Join(n.dir, file))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	admin, err := identity.OpenHolder(filepath.Join(n.dir, adminFile))
	if err != nil {
		t.Fatal(err)
	}
	if id := admin.Current().Identity; id.Class != identity.User || id.Name != AdminName {
		t.Errorf("the admin's credential is of %s", id)
	}
	_, err = fifev1.NewApiServiceClient(n.dial(t, identity.ClientConfig(admin))).
		CreateApi(t.Context(), &fifev1.CreateApiRequest{ApiId: "demo"})
	if err != nil {
		t.Error(err)
	}
}

// TestCallersOfGRPC: who may call what on the gRPC port by the class of the
// certificate alone.
func TestCallersOfGRPC(t *testing.T) {
	n := startSecure(t)
	cluster, root := n.trust(t)
	nobody := identity.PinnedConfig(identity.Pin(cluster, root), func(identity.Trust) {})
	type call func(context.Context, *grpc.ClientConn) error
	user := func(ctx context.Context, c *grpc.ClientConn) error {
		_, err := fifev1.NewApiServiceClient(c).ListApis(ctx, &fifev1.ListApisRequest{})
		return err
	}
	node := func(ctx context.Context, c *grpc.ClientConn) error {
		_, err := fifev1.NewNodeServiceClient(c).ReportAgents(ctx, &fifev1.ReportAgentsRequest{})
		return err
	}
	health := func(ctx context.Context, c *grpc.ClientConn) error {
		_, err := grpc_health_v1.NewHealthClient(c).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		return err
	}
	stream := func(id string) call {
		return func(ctx context.Context, c *grpc.ClientConn) error {
			s, err := discoveryv1.NewDiscoveryServiceClient(c).Stream(ctx)
			if err == nil {
				hello := &discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Hello{Hello: &discoveryv1.Hello{AgentId: id}}}
				_ = s.Send(hello) // Recv says why it fails
				_, err = s.Recv()
			}
			return err
		}
	}
	join := func(node string) call {
		return func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := fifev1.NewClusterServiceClient(c).PromoteMember(ctx, &fifev1.PromoteMemberRequest{Name: "members/" + node})
			if status.Code(err) == codes.FailedPrecondition {
				return nil // it is allowed to ask, and is behind
			}
			return err
		}
	}
	// A user says that it is a node that passes on the call of another.
	posing := func(ctx context.Context, c *grpc.ClientConn) error {
		return node(metadata.AppendToOutgoingContext(ctx, "fife-forwarded-by", "n1", "fife-caller", "spiffe://"+cluster+"/server/n1"), c)
	}
	for name, test := range map[string]struct {
		config *tls.Config
		call   call
		want   codes.Code
	}{
		"user":                          {identity.ClientConfig(n.holder(t, "user/admin")), user, codes.OK},
		"user without a role":           {identity.ClientConfig(n.holder(t, "user/u")), user, codes.PermissionDenied},
		"user as a node":                {identity.ClientConfig(n.holder(t, "user/u")), node, codes.PermissionDenied},
		"user as a node that forwards":  {identity.ClientConfig(n.holder(t, "user/u")), posing, codes.PermissionDenied},
		"user as an agent":              {identity.ClientConfig(n.holder(t, "user/a1")), stream("a1"), codes.PermissionDenied},
		"agent":                         {identity.ClientConfig(n.holder(t, "agent/a1")), stream("a1"), codes.OK},
		"agent as another":              {identity.ClientConfig(n.holder(t, "agent/a1")), stream("a2"), codes.PermissionDenied},
		"agent as a user":               {identity.ClientConfig(n.holder(t, "agent/a1")), user, codes.PermissionDenied},
		"agent as a node":               {identity.ClientConfig(n.holder(t, "agent/a1")), node, codes.PermissionDenied},
		"server":                        {identity.ClientConfig(n.holder(t, "server/n2")), node, codes.OK},
		"server as an agent":            {identity.ClientConfig(n.holder(t, "server/n2")), stream("n2"), codes.PermissionDenied},
		"server for itself":             {identity.ClientConfig(n.holder(t, "server/n1")), join("n1"), codes.OK},
		"server for another":            {identity.ClientConfig(n.holder(t, "server/n2")), join("n1"), codes.PermissionDenied},
		"nobody":                        {nobody, user, codes.Unauthenticated},
		"nobody as an agent":            {nobody, stream("a1"), codes.Unauthenticated},
		"nobody asks for health":        {nobody, health, codes.OK},
		"user of another CA":            {identity.ClientConfig(n.stranger(t, identity.User, "u")), user, codes.Unavailable},
		"another CA asks for health":    {identity.ClientConfig(n.stranger(t, identity.User, "u")), health, codes.Unavailable},
		"reflection without a name":     {nobody, reflectCall, codes.Unauthenticated},
		"user who asks for reflections": {identity.ClientConfig(n.holder(t, "user/u")), reflectCall, codes.OK},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := test.call(ctx, n.dial(t, test.config)); status.Code(err) != test.want {
				t.Errorf("%v; want %v", err, test.want)
			}
		})
	}
}

// TestRaftPort: no byte of what follows the handshake is read from anybody but the
// servers of the configuration. Each caller sends what would be a greeting and a
// frame; the port closes the connection, and none but a member gets an answer.
func TestRaftPort(t *testing.T) {
	n := startSecure(t)
	cluster, root := n.trust(t)
	expired, err := IssueByRoot(n.dir, "", "", "server/n1", -time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := identity.NewRoot("elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	other, err := issueByRoot(foreign, identity.Identity{Cluster: "elsewhere", Class: identity.Server, Name: "n1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	other.Trust = identity.Trust{Cluster: cluster, Roots: []*x509.Certificate{root}}
	for name, test := range map[string]struct {
		config *tls.Config
		ok     bool
	}{
		"member":              {identity.ClientConfig(n.holder(t, "server/n1")), true},
		"server, no member":   {identity.ClientConfig(n.holder(t, "server/n2")), false},
		"agent":               {identity.ClientConfig(n.holder(t, "agent/n1")), false},
		"user":                {identity.ClientConfig(n.holder(t, "user/n1")), false},
		"another CA":          {identity.ClientConfig(n.stranger(t, identity.Server, "n1")), false},
		"another cluster":     {identity.ClientConfig(identity.NewHolder(other)), false},
		"expired":             {identity.ClientConfig(identity.NewHolder(expired)), false},
		"nobody":              {identity.PinnedConfig(identity.Pin(cluster, root), func(identity.Trust) {}), false},
		"nobody in the clear": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := greetRaft(t, n, test.config)
			if ok := err == nil && len(answer) > 0; ok != test.ok {
				t.Errorf("answer %q, %v", answer, err)
			}
		})
	}
}

// greetRaft says what a node of the cluster would say first, an AppendEntries that is
// a heartbeat of an old term, and returns the first byte of the answer.
func greetRaft(t *testing.T, n secureNode, config *tls.Config) ([]byte, error) {
	t.Helper()
	conn, err := net.Dial("tcp", n.raft)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the answer is what counts
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if config != nil {
		secure := tls.Client(conn, config)
		if err := secure.Handshake(); err != nil {
			return nil, err
		}
		conn = secure
	}
	var id struct {
		ClusterID string `json:"cluster_id"`
	}
	readJSON(t, filepath.Join(n.dir, "identity.json"), &id)
	// 0 is raft's AppendEntries; an empty map is a request of term 0.
	if _, err := io.WriteString(conn, raftGreeting+id.ClusterID+"\n\x00\x80"); err != nil {
		return nil, err
	}
	answer := make([]byte, 1)
	read, err := io.ReadFull(conn, answer)
	return answer[:read], err
}

// TestNobodyTooEarly: a node whose store is not open does not know whom to let in.
func TestNobodyTooEarly(t *testing.T) {
	s := &secrets{}
	if err := s.admitsToRaft(identity.Peer{Identity: identity.Identity{Cluster: "c", Class: identity.Server, Name: "n1"}}); !errors.Is(err, errNotOpen) {
		t.Errorf("before the store is open: %v", err)
	}
}

// TestNoCredential: a node does not fall back to plaintext, nor take another's
// credential.
func TestNoCredential(t *testing.T) {
	founded := startSecure(t)
	start := func(dir, name string) error {
		node, err := New(Config{
			Name: name, DataDir: dir, GRPCListen: freeAddress(t), RaftListen: freeAddress(t), Join: []string{founded.grpc},
			Security: &Security{}, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
		})
		if err != nil {
			t.Fatal(err)
		}
		return node.Run(t.Context())
	}
	if err := start(t.TempDir(), "n2"); !errors.Is(err, ErrNoCredential) {
		t.Errorf("without a credential: %v", err)
	}
	dir := t.TempDir()
	if _, err := identity.CreateHolder(filepath.Join(dir, nodeFile), founded.holder(t, "server/n3").Current()); err != nil {
		t.Fatal(err)
	}
	if err := start(dir, "n2"); err == nil || !strings.Contains(err.Error(), "not of server/n2") {
		t.Errorf("with another's credential: %v", err)
	}
}

// TestGivenCA: a cluster can be founded with a CA that is there, which may say how the
// cluster is called.
func TestGivenCA(t *testing.T) {
	root, err := identity.NewRoot("given")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := root.PEM()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := [2]string{filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")}
	for i, data := range [][]byte{cert, key} {
		if err := os.WriteFile(files[i], data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n, err := New(Config{
		Name: "n1", DataDir: t.TempDir(), GRPCListen: freeAddress(t), RaftListen: freeAddress(t), Bootstrap: true,
		Security: &Security{CACert: files[0], CAKey: files[1]}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := n.secure(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if c := s.holder.Current(); c.Identity.Cluster != "given" || !c.Trust.Roots[0].Equal(root.Certificate) {
		t.Errorf("founded %s", c.Identity)
	}
	if _, err := os.Stat(filepath.Join(n.config.DataDir, caDir)); err == nil {
		t.Error("the given key was copied")
	}
}

// TestHandshakesGiveWay: the oldest handshakes are closed when there are too many of
// one source, and those that are over do not count.
func TestHandshakesGiveWay(t *testing.T) {
	h := newHandshakes()
	conns := make([]*fakeConn, maxHandshakesOfSource+10)
	for i := range conns {
		conns[i] = &fakeConn{from: "192.0.2.1:" + fmt.Sprint(i+1)}
		h.begin(conns[i])
	}
	elsewhere := &fakeConn{from: "192.0.2.2:1"}
	end := h.begin(elsewhere)
	for i, c := range conns {
		if want := i < 10; c.closed != want {
			t.Errorf("connection %d: closed %v, want %v", i, c.closed, want)
		}
	}
	if elsewhere.closed {
		t.Error("another source has paid")
	}
	end()
	end()
	if n := h.all.Len(); n != maxHandshakesOfSource || len(h.bySource) != 1 {
		t.Errorf("%d handshakes of %d sources are left", n, len(h.bySource))
	}
	for i := range maxHandshakes {
		h.begin(&fakeConn{from: fmt.Sprintf("10.0.%d.%d:1", i/256, i%256)})
	}
	if n := h.all.Len(); n != maxHandshakes || !conns[len(conns)-1].closed {
		t.Errorf("%d handshakes of all sources", n)
	}
}

type fakeConn struct {
	net.Conn
	from   string
	closed bool
}

func (c *fakeConn) Close() error { c.closed = true; return nil }

func (c *fakeConn) RemoteAddr() net.Addr { return advertisedAddr(c.from) }

// halfOpen is how many connections TestHalfOpen opens: make half-open opens 20,000.
var halfOpen = flag.Int("half-open", 4*maxHandshakesOfSource, "half-open handshakes in TestHalfOpen")

// TestHalfOpen: connections that never finish their handshake, on both ports and from
// the address of the admin itself, hold up nobody.
func TestHalfOpen(t *testing.T) {
	n := startSecure(t)
	conn := n.dial(t, identity.ClientConfig(n.holder(t, "user/admin")))
	var open []net.Conn
	for range *halfOpen / 2 {
		for _, address := range []string{n.grpc, n.raft} {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			if open = append(open, c); len(open) > 8*maxHandshakesOfSource {
				_ = open[0].Close() // the node has long closed its end; a process has only so many descriptors
				open = open[1:]
			}
			_, _ = io.WriteString(c, "\x16\x03\x01") // the beginning of a ClientHello; it may be closed already
		}
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := fifev1.NewApiServiceClient(conn).CreateApi(ctx, &fifev1.CreateApiRequest{ApiId: "demo"}); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	t.Logf("with %d half-open handshakes a new admin's first call took %v", *halfOpen, took)
	if took > time.Second {
		t.Errorf("a new admin's call took %v", took)
	}
}

func reflectCall(ctx context.Context, c *grpc.ClientConn) error {
	s, err := grpc_reflection_v1.NewServerReflectionClient(c).ServerReflectionInfo(ctx)
	if err != nil {
		return err
	}
	_ = s.Send(&grpc_reflection_v1.ServerReflectionRequest{ // Recv says why it fails
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	})
	_, err = s.Recv()
	return err
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}
