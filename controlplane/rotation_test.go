package controlplane_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fifegateway/fife/controlplane/bubbletest"
	"github.com/fifegateway/fife/controlplane/controlplanetest"
	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/identity/enroll"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// follower is an agent as far as its certificate goes.
type follower struct {
	holder *identity.Holder
	began  atomic.Int32 // streams that were begun
}

// join lets an agent join and keeps its stream open until ctx ends.
func (c *secured) join(ctx context.Context, admin *grpc.ClientConn, name string) *follower {
	c.t.Helper()
	token := c.token(admin, &fifev1.CreateTokenRequest{Role: fifev1.TokenRole_TOKEN_ROLE_AGENT})
	credential, _, err := c.joiner(token, "agent/"+name).Join(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	f := &follower{holder: identity.NewHolder(credential)}
	c.follow(ctx, f)
	return f
}

func (c *secured) follow(ctx context.Context, f *follower) {
	var mu sync.Mutex
	var end context.CancelFunc
	go enroll.Keeper{
		Holder: f.holder, Addresses: c.addresses(), Logger: slog.New(slog.DiscardHandler), Dial: c.network.Host("agent").Dial,
		Moved: func() {
			mu.Lock()
			defer mu.Unlock()
			if end != nil {
				end()
			}
		},
	}.Run(ctx)
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			stream, cancel := context.WithCancel(ctx)
			mu.Lock()
			end = cancel
			mu.Unlock()
			node := c.names()[i%len(c.names())]
			_ = c.stream(stream, node, f) // it is opened anew
			cancel()
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
}

// stream holds one stream of an agent that does as it is told.
func (c *secured) stream(ctx context.Context, node string, f *follower) error {
	conn := c.dial(node, identity.ClientConfig(f.holder))
	defer conn.Close() //nolint:errcheck // it has nothing left to say
	s, err := discoveryv1.NewDiscoveryServiceClient(conn).Stream(ctx)
	if err != nil {
		return err
	}
	bundle := enroll.Bundle{Holder: f.holder}
	hello := &discoveryv1.Hello{AgentId: f.holder.Current().Identity.Name, Roots: bundle.Roots()}
	_ = s.Send(&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Hello{Hello: hello}}) // Recv says why it fails
	_ = s.Send(&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Renew{Renew: &discoveryv1.Renew{Sequence: 1}}})
	for first := true; ; first = false {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		if first {
			f.began.Add(1)
		}
		if t := m.GetTrust(); t != nil {
			_ = bundle.Believe(t.GetRoots(), t.GetIssuing(), t.GetRenewWithin().AsDuration()) // the answer tells
			_ = s.Send(&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Trusting{
				Trusting: &discoveryv1.Trusting{Roots: bundle.Roots()},
			}})
		}
	}
}

// names returns the nodes that run or have run.
func (c *secured) names() (names []string) {
	for _, name := range []string{"n1", "n2", "n3"} {
		if c.dirs[name] != "" {
			names = append(names, name)
		}
	}
	return names
}

func (c *secured) addresses() (out []string) {
	for _, name := range c.names() {
		out = append(out, controlplanetest.GRPC(name))
	}
	return out
}

// grow adds two nodes, and waits until all vote.
func (c *secured) grow(admin *grpc.ClientConn) {
	c.t.Helper()
	for _, name := range []string{"n2", "n3"} {
		c.start(name, c.token(admin, &fifev1.CreateTokenRequest{Role: fifev1.TokenRole_TOKEN_ROLE_SERVER, Pattern: name}))
	}
	c.until("all vote", func() error {
		resp, err := fifev1.NewClusterServiceClient(admin).ListMembers(c.t.Context(), &fifev1.ListMembersRequest{})
		if err == nil && (len(resp.GetMembers()) != 3 || slices.ContainsFunc(resp.GetMembers(), func(m *fifev1.Member) bool { return !m.GetVoter() })) {
			err = errors.New("not yet")
		}
		return err
	})
}

// until waits until f succeeds.
func (c *secured) until(what string, f func() error) {
	c.t.Helper()
	var err error
	for range 120 {
		if err = f(); err == nil {
			return
		}
		<-time.After(time.Second)
	}
	c.t.Fatalf("not within two minutes: %s: %v", what, err)
}

// start of a rotation: the root is made by whoever asks.
func rotate(ctx context.Context, conn *grpc.ClientConn) (identity.Authority, error) {
	client := fifev1.NewAuthorityServiceClient(conn)
	prepared, err := client.PrepareRotation(ctx, &fifev1.PrepareRotationRequest{})
	if err != nil {
		return identity.Authority{}, err
	}
	root, err := identity.NewRoot(prepared.GetCluster())
	if err != nil {
		return root, err
	}
	req := &fifev1.StartRotationRequest{Root: root.Certificate.Raw, Keys: prepared.GetKeys()}
	for _, key := range req.GetKeys() {
		public, err := identity.RequestedKey(key.GetCsr())
		if err != nil {
			return root, err
		}
		cert, err := root.CertifyIntermediate(prepared.GetCluster(), identity.Class(key.GetClass()), public)
		if err != nil {
			return root, err
		}
		key.Certificate = cert.Raw
	}
	_, err = client.StartRotation(ctx, req)
	return root, err
}

// authority returns whom the cluster trusts.
func (c *secured) authority(conn *grpc.ClientConn) *fifev1.Authority {
	c.t.Helper()
	var a *fifev1.Authority
	c.until("an answer on the authority", func() error {
		resp, err := fifev1.NewAuthorityServiceClient(conn).GetAuthority(c.t.Context(), &fifev1.GetAuthorityRequest{}, grpc.WaitForReady(true))
		a = resp.GetAuthority()
		return err
	})
	return a
}

// pending waits until exactly these keep a rotation from its next step.
func (c *secured) pending(conn *grpc.ClientConn, want ...string) {
	c.t.Helper()
	c.until("pending "+strings.Join(want, " "), func() error {
		var names []string
		for _, h := range c.authority(conn).GetPending() {
			names = append(names, h.GetName())
		}
		if !slices.Equal(names, want) {
			return errors.New("pending are " + strings.Join(names, " "))
		}
		return nil
	})
}

// refused checks that a step names whom it would cut off.
func refused(t *testing.T, err error, names ...string) {
	t.Helper()
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("not refused: %v", err)
	}
	for _, name := range names {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%v; want it to name %s", err, name)
		}
	}
}

// node returns the credential that a node has on its disk.
func (c *secured) node(name string) *identity.Credential {
	c.t.Helper()
	h, err := identity.OpenHolder(filepath.Join(c.dirs[name], "node.pem"))
	if err != nil {
		c.t.Fatal(err)
	}
	return h.Current()
}

// TestRotation takes the root of three nodes, an agent and a user through all steps.
func TestRotation(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		c := startSecured(t)
		admin := c.admin()
		c.grow(admin)
		edge := c.join(ctx, admin, "edge")
		left := c.token(admin, &fifev1.CreateTokenRequest{Role: fifev1.TokenRole_TOKEN_ROLE_AGENT, Uses: 2})
		client := fifev1.NewAuthorityServiceClient(admin)
		before := edge.holder.Current()

		if _, err := client.SwitchRotation(ctx, &fifev1.SwitchRotationRequest{}); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("switch before anything: %v", err)
		}
		root, err := rotate(ctx, admin)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rotate(ctx, admin); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("another rotation: %v", err)
		}
		if _, err := client.RetireRoot(ctx, &fifev1.RetireRootRequest{}); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("retire before switch: %v", err)
		}
		c.pending(admin)
		if roots := edge.holder.Current().Trust.Roots; len(roots) != 2 || !edge.holder.Current().Leaf().Equal(before.Leaf()) {
			t.Errorf("the agent believes %d roots", len(roots))
		}
		if _, err := client.SwitchRotation(ctx, &fifev1.SwitchRotationRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.AbortRotation(ctx, &fifev1.AbortRotationRequest{}); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("abort after switch: %v", err)
		}
		c.pending(admin, "user/admin")
		if now := edge.holder.Current(); !now.Root().Equal(root.Certificate) {
			t.Error("the agent's certificate is by the old root")
		}
		if n := edge.began.Load(); n != 2 {
			t.Errorf("the agent has had %d streams, want 2", n)
		}
		// Who joins now still knows the servers by the old root.
		if _, _, err := c.joiner(left, "agent/between").Join(ctx); err != nil {
			t.Errorf("join with a token that was made before: %v", err)
		}
		_, err = client.RetireRoot(ctx, &fifev1.RetireRootRequest{})
		refused(t, err, "user/admin")
		if err := renewUser(ctx, c, admin); err != nil {
			t.Fatal(err)
		}
		renewed := c.admin()
		c.pending(renewed)
		if _, err := fifev1.NewAuthorityServiceClient(renewed).RetireRoot(ctx, &fifev1.RetireRootRequest{}); err != nil {
			t.Fatal(err)
		}
		c.until("the old root is dropped", func() error {
			if a := c.authority(renewed); a.GetPhase() != 0 || len(a.GetRoots()) != 1 || !bytes.Equal(a.GetRoots()[0].GetCertificate(), root.Certificate.Raw) {
				return errors.New(a.String())
			}
			return nil
		})
		for _, name := range c.names() {
			c.until(name+" believes the new root alone", func() error {
				if now := c.node(name); len(now.Trust.Roots) != 1 || !now.Root().Equal(root.Certificate) {
					return errors.New("it does not")
				}
				return nil
			})
		}
		c.until("the agent believes the new root alone", func() error {
			if roots := edge.holder.Current().Trust.Roots; len(roots) != 1 || !roots[0].Equal(root.Certificate) {
				return errors.New("it does not")
			}
			return nil
		})
		if n := edge.began.Load(); n != 2 {
			t.Errorf("the agent has had %d streams at the end, want 2", n)
		}
		// The connection that stood all the time, and one by the old certificate.
		if _, err := client.GetAuthority(ctx, &fifev1.GetAuthorityRequest{}); status.Code(err) != codes.Unauthenticated {
			t.Errorf("an old certificate on an old connection: %v", err)
		}
		old := *before
		old.Trust.Roots = []*x509.Certificate{root.Certificate}
		if _, err := c.open("n2", identity.NewHolder(&old)); status.Code(err) != codes.Unavailable {
			t.Errorf("an old certificate: %v", err)
		}
		if _, err := c.open("n2", identity.NewHolder(before)); status.Code(err) != codes.Unavailable {
			t.Errorf("an agent that was away: %v", err)
		}
		// It joins anew, with a token that names the new root.
		if _, _, err := c.joiner(left, "agent/late").Join(withTimeout(ctx, t, time.Minute)); err == nil {
			t.Error("joined with a token that names the old root")
		}
		if a := c.join(ctx, renewed, "late"); !a.holder.Current().Root().Equal(root.Certificate) {
			t.Error("joined under another root")
		}
	})
}

func withTimeout(ctx context.Context, t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(ctx, d)
	t.Cleanup(cancel)
	return ctx
}

// renewUser renews the first user's certificate in its file.
func renewUser(ctx context.Context, c *secured, conn *grpc.ClientConn) error {
	h, err := identity.OpenHolder(filepath.Join(c.dirs["n1"], "admin.pem"))
	if err != nil {
		return err
	}
	_, err = enroll.Renew(ctx, conn, h)
	return err
}

// TestRotationWithLeadersThatDie: whoever leads goes on with the step that another has
// made, and who was away for a step is waited for by name.
func TestRotationWithLeadersThatDie(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		c := startSecured(t)
		c.grow(c.admin())
		h, err := identity.OpenHolder(filepath.Join(c.dirs["n1"], "admin.pem"))
		if err != nil {
			t.Fatal(err)
		}
		admin := c.dial("n2", identity.ClientConfig(h))
		client := fifev1.NewAuthorityServiceClient(admin)
		root, err := rotate(ctx, admin)
		if err != nil {
			t.Fatal(err)
		}
		c.stops["n1"]() // it leads
		c.pending(admin, "server/n1")
		_, err = client.SwitchRotation(ctx, &fifev1.SwitchRotationRequest{})
		refused(t, err, "server/n1")
		c.start("n1", "")
		c.pending(admin)
		if _, err := client.SwitchRotation(ctx, &fifev1.SwitchRotationRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := enroll.Renew(ctx, admin, h); err != nil {
			t.Fatal(err)
		}
		admin = c.dial("n2", identity.ClientConfig(h))
		c.pending(admin)
		// A server goes down as the servers begin to renew: the old root stays until it
		// is back, whoever leads.
		leader := ""
		c.until("a leader", func() error {
			resp, err := fifev1.NewClusterServiceClient(admin).GetCluster(ctx, &fifev1.GetClusterRequest{})
			if leader = resp.GetCluster().GetLeader(); err == nil && leader == "" {
				err = errors.New("there is none")
			}
			return err
		})
		at := c.names()[slices.IndexFunc(c.names(), func(name string) bool { return name != leader })]
		admin = c.dial(at, identity.ClientConfig(h))
		client = fifev1.NewAuthorityServiceClient(admin)
		if _, err := client.RetireRoot(ctx, &fifev1.RetireRootRequest{}); err != nil {
			t.Fatal(err)
		}
		c.stops[leader]()
		<-time.After(time.Minute)
		if a := c.authority(admin); a.GetPhase() != fifev1.RotationPhase_ROTATION_PHASE_RETIRE || len(a.GetRoots()) != 2 {
			t.Fatalf("with %s away: %v", leader, a)
		}
		c.pending(admin, "server/"+leader)
		c.start(leader, "")
		c.until("the old root is dropped", func() error {
			if a := c.authority(admin); a.GetPhase() != 0 {
				return errors.New(a.String())
			}
			return nil
		})
		if !c.node(leader).Root().Equal(root.Certificate) {
			t.Errorf("%s has a certificate by the old root", leader)
		}
	})
}

// TestRotationLeavesBehind: with force a rotation goes on without those who are away,
// who then are refused until they join anew.
func TestRotationLeavesBehind(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		c := startSecured(t)
		admin := c.admin()
		c.grow(admin)
		away, leave := context.WithCancel(ctx)
		edge := c.join(away, admin, "edge")
		c.until("the agent is connected", func() error {
			if edge.began.Load() == 0 {
				return errors.New("it is not")
			}
			return nil
		})
		<-time.After(5 * time.Second) // for its place on the record
		leave()
		c.stops["n3"]()
		client := fifev1.NewAuthorityServiceClient(admin)
		if _, err := rotate(ctx, admin); err != nil {
			t.Fatal(err)
		}
		c.pending(admin, "server/n3")
		if unknown := c.authority(admin).GetUnknown(); len(unknown) == 0 || unknown[0].GetName() != "agent/edge" {
			t.Errorf("unknown are %v", unknown)
		}
		if _, err := client.SwitchRotation(ctx, &fifev1.SwitchRotationRequest{Force: true}); err != nil {
			t.Fatal(err)
		}
		_, err := client.RetireRoot(ctx, &fifev1.RetireRootRequest{})
		refused(t, err, "agent/edge", "server/n3", "user/admin")
		if err := renewUser(ctx, c, admin); err != nil {
			t.Fatal(err)
		}
		admin = c.admin()
		client = fifev1.NewAuthorityServiceClient(admin)
		for range 2 { // for the servers' certificates, and then without the one that is away
			if _, err := client.RetireRoot(ctx, &fifev1.RetireRootRequest{Force: true}); err != nil {
				t.Fatal(err)
			}
			<-time.After(10 * time.Second)
		}
		if a := c.authority(admin); a.GetPhase() != 0 {
			t.Fatalf("%v", a)
		}
		c.follow(ctx, edge)
		c.start("n3", "")
		<-time.After(time.Minute)
		if n := edge.began.Load(); n != 1 {
			t.Errorf("the agent that was left behind has had %d streams", n)
		}
		if a := c.authority(admin); a.GetHolders() > 4 {
			t.Errorf("%d holders are seen", a.GetHolders())
		}
		// The node is revoked and gets its credential as a new one does; its disk stays.
		c.stops["n3"]()
		if err := os.Remove(filepath.Join(c.dirs["n3"], "node.pem")); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"server/n3", "agent/edge"} {
			if _, err := fifev1.NewCertificateServiceClient(admin).RevokeCertificate(ctx, &fifev1.RevokeCertificateRequest{Name: name}); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(5 * time.Second)
		c.start("n3", c.token(admin, &fifev1.CreateTokenRequest{Role: fifev1.TokenRole_TOKEN_ROLE_SERVER, Pattern: "n3"}))
		back := c.join(ctx, admin, "edge")
		c.until("both are back", func() error {
			a := c.authority(admin)
			resp, err := fifev1.NewFleetServiceClient(admin).ListAgents(ctx, &fifev1.ListAgentsRequest{})
			if err == nil && (back.began.Load() == 0 || len(resp.GetUnreachableNodes()) > 0 || a.GetPhase() != 0) {
				err = errors.New("they are not")
			}
			return err
		})
	})
}

// TestKeyRotation: the key that the servers share is replaced once all of them have
// the next one, also if a node was away and the leader dies; what it has sealed is
// sealed anew, and it is forgotten.
func TestKeyRotation(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		c := startSecured(t)
		c.grow(c.admin())
		h, err := identity.OpenHolder(filepath.Join(c.dirs["n1"], "admin.pem"))
		if err != nil {
			t.Fatal(err)
		}
		admin := c.dial("n2", identity.ClientConfig(h))
		keys := func(name string) []byte {
			data, err := os.ReadFile(filepath.Join(c.dirs[name], "cluster.key"))
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
		old := keys("n1")
		c.stops["n3"]()
		<-time.After(5 * time.Second)
		begun, err := fifev1.NewAuthorityServiceClient(admin).RotateClusterKey(ctx, &fifev1.RotateClusterKeyRequest{})
		if err != nil {
			t.Fatal(err)
		}
		again, err := fifev1.NewAuthorityServiceClient(admin).RotateClusterKey(ctx, &fifev1.RotateClusterKeyRequest{})
		if err != nil || again.GetKey() != begun.GetKey() {
			t.Errorf("repeated: %v, %v", again, err)
		}
		<-time.After(30 * time.Second)
		if a := c.authority(admin); !slices.Equal(a.GetKeyPending(), []string{"n3"}) || a.GetNextKey() != begun.GetKey() || a.GetKey() != identity.KeyID(old) {
			t.Fatalf("with n3 away: %v", a)
		}
		// What is sealed by now is so with the old key, which n3 has.
		if !bytes.HasPrefix(keys("n1"), old) {
			t.Error("the new key seals before all have it")
		}
		c.start("n3", "")
		c.stops["n1"]() // it leads, and has made the key
		c.until("n3 has the key", func() error {
			if pending := c.authority(admin).GetKeyPending(); !slices.Equal(pending, []string{"n1"}) {
				return errors.New(strings.Join(pending, " "))
			}
			return nil
		})
		c.start("n1", "")
		var changed time.Time
		c.until("the key is settled", func() error {
			a := c.authority(admin)
			if a.GetKey() == begun.GetKey() && changed.IsZero() {
				changed = time.Now()
			}
			if a.GetKey() != begun.GetKey() || len(a.GetKeyPending()) > 0 {
				return errors.New(a.String())
			}
			return nil
		})
		if took := time.Since(changed); took < 15*time.Second {
			t.Errorf("the old key was gone after %v, and what it has sealed a moment ago may still come", took)
		}
		for _, name := range c.names() {
			if k := keys(name); len(k) != identity.KeySize || identity.KeyID(k) != begun.GetKey() {
				t.Errorf("%s has %d bytes of keys", name, len(k))
			}
		}
		// The authorities' keys are sealed with it, and so can be used.
		c.join(ctx, admin, "edge")
		if _, err := rotate(ctx, admin); err != nil {
			t.Error(err)
		}
	})
}

// TestKeyRotationKeepsSecrets: a key that a stage's secret is sealed with stays to open
// it, until nothing is sealed with it any more; what is set from then on is sealed with
// the new one.
func TestKeyRotationKeepsSecrets(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		c := startSecured(t)
		c.grow(c.admin())
		h, err := identity.OpenHolder(filepath.Join(c.dirs["n1"], "admin.pem"))
		if err != nil {
			t.Fatal(err)
		}
		admin := c.dial("n2", identity.ClientConfig(h))
		stages := fifev1.NewStageServiceClient(admin)
		keys := func(name string) (ids []string) {
			data, err := os.ReadFile(filepath.Join(c.dirs[name], "cluster.key"))
			if err != nil {
				t.Fatal(err)
			}
			for key := range slices.Chunk(data, identity.KeySize) {
				ids = append(ids, identity.KeyID(key))
			}
			return ids
		}
		old := keys("n1")[0]
		if _, err := fifev1.NewApiServiceClient(admin).CreateApi(ctx, &fifev1.CreateApiRequest{ApiId: "demo"}); err != nil {
			t.Fatal(err)
		}
		if _, err := fifev1.NewApiServiceClient(admin).PutRoute(ctx, &fifev1.PutRouteRequest{Parent: "apis/demo", Route: &fifev1.Route{
			Method: "GET", Path: "/", Integration: &fifev1.Integration{Kind: &fifev1.Integration_Mock{Mock: &fifev1.MockIntegration{}}},
		}}); err != nil {
			t.Fatal(err)
		}
		if _, err := fifev1.NewDeploymentServiceClient(admin).CreateDeployment(ctx, &fifev1.CreateDeploymentRequest{Parent: "apis/demo"}); err != nil {
			t.Fatal(err)
		}
		create := func(id string) {
			t.Helper()
			if _, err := stages.CreateStage(ctx, &fifev1.CreateStageRequest{Parent: "apis/demo", StageId: id, Stage: &fifev1.Stage{
				Deployment: "apis/demo/deployments/1", SecretVariables: map[string]string{"token": "hush"},
			}}); err != nil {
				t.Fatal(err)
			}
		}
		create("before")
		begun, err := fifev1.NewAuthorityServiceClient(admin).RotateClusterKey(ctx, &fifev1.RotateClusterKeyRequest{})
		if err != nil {
			t.Fatal(err)
		}
		have := func(what string, want ...string) {
			t.Helper()
			c.until(what, func() error {
				for _, name := range c.names() {
					if ids := keys(name); !slices.Equal(ids, want) {
						return fmt.Errorf("%s has %v, want %v", name, ids, want)
					}
				}
				return nil
			})
		}
		have("the new key seals and the old one opens", begun.GetKey(), old)
		<-time.After(time.Minute)
		have("the old one stays", begun.GetKey(), old)
		create("after")
		if _, err := stages.DeleteStage(ctx, &fifev1.DeleteStageRequest{Name: "apis/demo/stages/before"}); err != nil {
			t.Fatal(err)
		}
		have("nothing is sealed with the old one", begun.GetKey())
	})
}
