package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fifegateway/fife/controlplane"
	"github.com/fifegateway/fife/controlplane/bubbletest"
	"github.com/fifegateway/fife/controlplane/controlplanetest"
	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/identity/enroll"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// bearer shows a token with every call.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (b bearer) RequireTransportSecurity() bool { return true }

// user returns a connection of a user by a certificate.
func (c *secured) user(node, name string) *grpc.ClientConn {
	c.t.Helper()
	credential, err := controlplane.IssueByRoot(c.dirs["n1"], "", "", "user/"+name, 24*time.Hour)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.dial(node, identity.ClientConfig(identity.NewHolder(credential)))
}

// bearerOf returns a connection of whoever shows a token.
func (c *secured) bearerOf(node, token string) *grpc.ClientConn {
	c.t.Helper()
	h, err := identity.OpenHolder(filepath.Join(c.dirs["n1"], "node.pem"))
	if err != nil {
		c.t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+controlplanetest.GRPC(node), grpc.WithPerRPCCredentials(bearer(token)),
		grpc.WithTransportCredentials(credentials.NewTLS(identity.AnonymousConfig(h.Current().Trust.Roots))),
		grpc.WithContextDialer(c.network.Host("client").Dial))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// done fails the test if a call has failed, and returns its response.
func done[T any](resp T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
}

// stock makes API demo with stage prod.
func (c *secured) stock(admin *grpc.ClientConn) {
	c.t.Helper()
	ctx := c.t.Context()
	done(fifev1.NewApiServiceClient(admin).CreateApi(ctx, &fifev1.CreateApiRequest{ApiId: "demo"}))(c.t)
	done(fifev1.NewApiServiceClient(admin).PutRoute(ctx, &fifev1.PutRouteRequest{Parent: "apis/demo", Route: &fifev1.Route{
		Method: "GET", Path: "/", Integration: &fifev1.Integration{Kind: &fifev1.Integration_Mock{Mock: &fifev1.MockIntegration{}}},
	}}))(c.t)
	done(fifev1.NewDeploymentServiceClient(admin).CreateDeployment(ctx, &fifev1.CreateDeploymentRequest{Parent: "apis/demo", StageId: "prod"}))(c.t)
}

// watch opens a stream that follows stage prod, and returns how it ends once it is
// underway.
func (c *secured) watch(conn *grpc.ClientConn) (end <-chan error) {
	c.t.Helper()
	stream := done(fifev1.NewStageServiceClient(conn).WatchStage(c.t.Context(), &fifev1.WatchStageRequest{Name: "apis/demo/stages/prod"}))(c.t)
	done(stream.Recv())(c.t)
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := stream.Recv(); err != nil {
				ended <- err
				return
			}
		}
	}()
	return ended
}

// wait opens a stream that waits for a version which no agent has.
func (c *secured) wait(conn *grpc.ClientConn) (end <-chan error) {
	c.t.Helper()
	stream := done(fifev1.NewFleetServiceClient(conn).WaitForVersion(c.t.Context(), &fifev1.WaitForVersionRequest{
		Version: &fifev1.Version{Epoch: 9}, Node: "n2", Follow: true,
	}))(c.t)
	done(stream.Recv())(c.t)
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := stream.Recv(); err != nil {
				ended <- err
				return
			}
		}
	}()
	return ended
}

// TestStreamsEnd: a token that is deleted, a role that is taken and a certificate that
// is revoked end the streams that are open on their word, on another node too, at once;
// and those of nobody else.
func TestStreamsEnd(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startSecured(t)
		admin := c.admin()
		server := c.token(admin, &fifev1.CreateTokenRequest{Role: fifev1.TokenRole_TOKEN_ROLE_SERVER, Pattern: "n2"})
		c.start("n2", server)
		c.stock(admin)
		access, ctx := fifev1.NewAccessServiceClient(admin), t.Context()
		grant := func(user, stage string) *fifev1.Binding {
			b := &fifev1.Binding{Subject: "user:" + user, Role: "viewer", Api: "*", Stage: stage}
			done(access.CreateBinding(ctx, &fifev1.CreateBindingRequest{Binding: b}))(t)
			return b
		}
		tokenOf := func(user string, ttl time.Duration) *fifev1.CreateUserTokenResponse {
			return done(access.CreateUserToken(ctx, &fifev1.CreateUserTokenRequest{User: user, Ttl: durationpb.New(ttl)}))(t)
		}
		grant("ci", "*")
		grant("ann", "*")
		bob := grant("bob", "*")
		grant("bob", "other")
		token, short := tokenOf("ci", time.Hour), tokenOf("ci", 10*time.Minute)
		<-time.After(30 * time.Second) // n2 has joined and knows all that
		var open []<-chan error
		for _, conn := range []*grpc.ClientConn{c.bearerOf("n2", token.GetBearer()), c.user("n2", "bob"), c.user("n2", "ann"), c.bearerOf("n2", short.GetBearer())} {
			open = append(open, c.watch(conn))
		}
		waiting := c.wait(c.bearerOf("n2", token.GetBearer()))
		ends := func(what string, end <-chan error, want codes.Code) {
			t.Helper()
			select {
			case err := <-end:
				if status.Code(err) != want {
					t.Errorf("%s: the stream ended with %v, want %v", what, err, want)
				}
			case <-time.After(time.Second):
				t.Errorf("%s: the stream is open a second later", what)
			}
		}
		done(access.DeleteUserToken(ctx, &fifev1.DeleteUserTokenRequest{Name: token.GetToken().GetName()}))(t)
		ends("a deleted token", open[0], codes.Unauthenticated)
		ends("a deleted token that waits for a version", waiting, codes.Unauthenticated)
		done(access.DeleteBinding(ctx, &fifev1.DeleteBindingRequest{Binding: bob}))(t)
		ends("a role that was taken", open[1], codes.PermissionDenied)
		select {
		case err := <-open[2]:
			t.Errorf("the stream of somebody else has ended: %v", err)
		case err := <-open[3]:
			t.Errorf("the stream of another token has ended: %v", err)
		default:
		}
		done(fifev1.NewCertificateServiceClient(admin).RevokeCertificate(ctx, &fifev1.RevokeCertificateRequest{Name: "user/ann"}))(t)
		ends("a revoked certificate", open[2], codes.Unauthenticated)
		began := time.Now()
		if err := <-open[3]; time.Since(began) > 11*time.Minute || status.Code(err) != codes.Unavailable && status.Code(err) != codes.Unauthenticated {
			t.Errorf("the stream of a token of ten minutes has ended %v later: %v", time.Since(began), err)
		}
		if _, err := fifev1.NewApiServiceClient(c.bearerOf("n2", fmt.Sprint(short.GetBearer()))).ListApis(ctx, &fifev1.ListApisRequest{}); status.Code(err) != codes.Unauthenticated {
			t.Errorf("the token has ended: %v", err)
		}
	})
}

// TestRenewalsArePaced: whoever renews again and again is told to wait, and nobody else.
func TestRenewalsArePaced(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startSecured(t)
		token := c.token(c.admin(), &fifev1.CreateTokenRequest{Role: fifev1.TokenRole_TOKEN_ROLE_AGENT, Uses: 2})
		renew := map[string]func() error{}
		for _, name := range []string{"edge", "other"} {
			credential, _, err := c.joiner(token, "agent/"+name).Join(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			h := identity.NewHolder(credential)
			conn := c.dial("n1", identity.ClientConfig(h))
			renew[name] = func() error {
				_, err := enroll.Renew(t.Context(), conn, h)
				return err
			}
		}
		for i := range 10 {
			if err := renew["edge"](); err != nil {
				t.Fatalf("renewal %d: %v", i, err)
			}
		}
		if err := renew["edge"](); status.Code(errors.Unwrap(err)) != codes.ResourceExhausted {
			t.Errorf("one more: %v", err)
		}
		if err := renew["other"](); err != nil {
			t.Errorf("another's: %v", err)
		}
		<-time.After(11 * time.Second)
		if err := renew["edge"](); err != nil {
			t.Errorf("after a pause: %v", err)
		}
	})
}

// TestRemovedNode: whoever has the credential of a node that was taken out is believed
// no more when it says for whom it calls.
func TestRemovedNode(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startSecured(t)
		admin, ctx := c.admin(), t.Context()
		join := func(name string) {
			c.start(name, c.token(admin, &fifev1.CreateTokenRequest{Role: fifev1.TokenRole_TOKEN_ROLE_SERVER, Pattern: name}))
		}
		voters := func(want int) {
			t.Helper()
			for range 120 {
				n := 0
				resp, err := fifev1.NewClusterServiceClient(admin).ListMembers(ctx, &fifev1.ListMembersRequest{})
				for _, m := range resp.GetMembers() {
					if m.GetVoter() {
						n++
					}
				}
				if err == nil && n == want {
					return
				}
				<-time.After(time.Second)
			}
			t.Fatalf("there are not %d voters after two minutes", want)
		}
		join("n2")
		join("n3")
		voters(3)
		h, err := identity.OpenHolder(filepath.Join(c.dirs["n3"], "node.pem"))
		if err != nil {
			t.Fatal(err)
		}
		asAdmin := func() error {
			ctx := metadata.AppendToOutgoingContext(ctx, "fife-forwarded-by", "n3", "fife-caller", "spiffe://"+h.Current().Identity.Cluster+"/user/admin")
			_, err := fifev1.NewApiServiceClient(c.dial("n1", identity.ClientConfig(h))).ListApis(ctx, &fifev1.ListApisRequest{})
			return err
		}
		if err := asAdmin(); err != nil {
			t.Fatalf("a node is not believed: %v", err)
		}
		c.stops["n3"]()
		done(fifev1.NewClusterServiceClient(admin).RemoveMember(ctx, &fifev1.RemoveMemberRequest{Name: "members/n3"}))(t)
		if err := asAdmin(); status.Code(err) != codes.Unauthenticated && status.Code(err) != codes.Unavailable {
			t.Errorf("a node that was taken out calls for the admin: %v", err)
		}
	})
}
