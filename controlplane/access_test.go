package controlplane

import (
	"context"
	"crypto"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/fifegateway/fife/controlplane/api"
	"github.com/fifegateway/fife/controlplane/identity"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// as returns a connection of a user.
func (n secureNode) as(t testing.TB, user string) *grpc.ClientConn {
	t.Helper()
	return n.dial(t, identity.ClientConfig(n.holder(t, "user/"+user)))
}

// grant gives a role for everything to users.
func (n secureNode) grant(t testing.TB, role string, users ...string) {
	t.Helper()
	admin := fifev1.NewAccessServiceClient(n.as(t, AdminName))
	for _, u := range users {
		_, err := admin.CreateBinding(t.Context(), &fifev1.CreateBindingRequest{
			Binding: &fifev1.Binding{Subject: "user:" + u, Role: role, Api: "*", Stage: "*"},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// stock makes API demo and stage prod of it.
func (n secureNode) stock(t testing.TB) {
	t.Helper()
	admin := n.as(t, AdminName)
	for _, call := range []func(context.Context) error{
		func(ctx context.Context) error {
			_, err := fifev1.NewApiServiceClient(admin).CreateApi(ctx, &fifev1.CreateApiRequest{ApiId: "demo"})
			return err
		},
		func(ctx context.Context) error {
			_, err := fifev1.NewApiServiceClient(admin).PutRoute(ctx, &fifev1.PutRouteRequest{Parent: "apis/demo", Route: &fifev1.Route{
				Method: "GET", Path: "/", Integration: &fifev1.Integration{Kind: &fifev1.Integration_Mock{Mock: &fifev1.MockIntegration{}}},
			}})
			return err
		},
		func(ctx context.Context) error {
			_, err := fifev1.NewDeploymentServiceClient(admin).CreateDeployment(ctx, &fifev1.CreateDeploymentRequest{Parent: "apis/demo", StageId: "prod"})
			return err
		},
	} {
		if err := call(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// refusedWith fails the test unless err is of a code and gives a reason, and returns
// what else it says.
func refusedWith(t *testing.T, what string, err error, code codes.Code, reason string) *errdetails.ErrorInfo {
	t.Helper()
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && status.Code(err) == code && info.GetReason() == reason {
			return info
		}
	}
	t.Fatalf("%s: got %v, want %v and %s", what, err, code, reason)
	return nil
}

const prod = "apis/demo/stages/prod"

// TestFourEyes: on a node that knows its callers, who has started a canary cannot
// promote it, and who deploys can neither set more of a stage by that nor make one.
func TestFourEyes(t *testing.T) {
	n := startSecure(t)
	n.stock(t)
	n.grant(t, "operator", "ann", "bob")
	n.grant(t, "deployer", "dep")
	ann, bob := fifev1.NewStageServiceClient(n.as(t, "ann")), fifev1.NewStageServiceClient(n.as(t, "bob"))
	update := func(on bool) *fifev1.UpdateStageRequest {
		return &fifev1.UpdateStageRequest{
			Stage:      &fifev1.Stage{Name: prod, RequireOtherPromoter: on},
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"require_other_promoter"}},
		}
	}
	if _, err := ann.UpdateStage(t.Context(), update(true)); err != nil {
		t.Fatal(err)
	}
	started, err := ann.StartCanary(t.Context(), &fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: 10}})
	if err != nil {
		t.Fatal(err)
	}
	if authors := started.GetStage().GetCanary().GetAuthors(); len(authors) != 1 || authors[0] != "user:ann" {
		t.Errorf("the canary's authors are %v", authors)
	}
	_, err = ann.PromoteCanary(t.Context(), &fifev1.PromoteCanaryRequest{Name: prod})
	info := refusedWith(t, "the author promotes", err, codes.PermissionDenied, "SAME_PROMOTER")
	if m := info.GetMetadata(); m["subject"] != "user:ann" || m["authors"] != "user:ann" || m["resource"] != prod {
		t.Errorf("the refusal says %v", m)
	}
	_, err = ann.PromoteCanary(t.Context(), &fifev1.PromoteCanaryRequest{Name: prod, ValidateOnly: true})
	refusedWith(t, "the author tries to", err, codes.PermissionDenied, "SAME_PROMOTER")
	_, err = ann.UpdateStage(t.Context(), update(false))
	refusedWith(t, "the author takes the rule away", err, codes.PermissionDenied, "PERMISSION_DENIED")
	_, err = ann.UpdateStage(t.Context(), &fifev1.UpdateStageRequest{
		Stage:      &fifev1.Stage{Name: prod, Variables: map[string]string{"v": "1"}},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"variables"}},
	})
	refusedWith(t, "the author changes the base", err, codes.FailedPrecondition, "PROMOTION_NEEDED")
	if _, err := ann.UpdateStage(t.Context(), &fifev1.UpdateStageRequest{
		Stage: &fifev1.Stage{Name: prod, Deployment: "apis/demo/deployments/1"},
	}); err != nil {
		t.Errorf("an update of all fields: %v", err)
	}
	promoted, err := bob.PromoteCanary(t.Context(), &fifev1.PromoteCanaryRequest{Name: prod})
	if err != nil || !promoted.GetStage().GetRequireOtherPromoter() {
		t.Errorf("somebody else promotes: %v, %v", promoted, err)
	}
	history, err := bob.ListStageRevisions(t.Context(), &fifev1.ListStageRevisionsRequest{Parent: prod, PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	if r := history.GetRevisions()[0]; r.GetActor() != "user:bob" || r.GetNote() != "canary of user:ann" {
		t.Errorf("the history says %v", r)
	}

	dep := fifev1.NewDeploymentServiceClient(n.as(t, "dep"))
	deploy := &fifev1.CreateDeploymentRequest{
		Parent: "apis/demo", StageId: "prod",
		Stage:     &fifev1.Stage{Canary: &fifev1.Canary{Percent: 1}, Variables: map[string]string{"v": "2"}},
		StageMask: &fieldmaskpb.FieldMask{Paths: []string{"canary", "variables"}},
	}
	_, err = dep.CreateDeployment(t.Context(), deploy)
	refusedWith(t, "who deploys sets variables", err, codes.PermissionDenied, "PERMISSION_DENIED")
	canary := proto.CloneOf(deploy)
	canary.StageMask.Paths = []string{"canary"}
	if _, err := dep.CreateDeployment(t.Context(), canary); err != nil {
		t.Errorf("who deploys opens a canary: %v", err)
	}
	_, err = dep.CreateDeployment(t.Context(), &fifev1.CreateDeploymentRequest{Parent: "apis/demo", StageId: "new"})
	info = refusedWith(t, "who deploys makes a stage", err, codes.PermissionDenied, "PERMISSION_DENIED")
	if p := info.GetMetadata()["permission"]; p != "stages.manage" {
		t.Errorf("the permission that is missing is %s", p)
	}
}

// TestRateLimits: a user who calls too often is told when to try again, and so is who
// guesses tokens; nobody else is held up, and streams are counted apart.
func TestRateLimits(t *testing.T) {
	n := startSecure(t, func(c *Config) {
		c.Limits = api.Limits{
			Users:     api.Limit{Rate: 0.1, Burst: 5, Streams: 1},
			Addresses: api.Limit{Rate: 0.1, Burst: 3},
		}
	})
	cluster, root := n.trust(t)
	whoAmI := func(conn *grpc.ClientConn) error {
		_, err := fifev1.NewAccessServiceClient(conn).WhoAmI(t.Context(), &fifev1.WhoAmIRequest{})
		return err
	}
	ann := n.as(t, "ann")
	for i := range 5 {
		if err := whoAmI(ann); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	err := whoAmI(n.as(t, "ann")) // another connection
	if info := refusedWith(t, "a call too many", err, codes.ResourceExhausted, "RATE_LIMITED"); info.GetMetadata()["caller"] != "user/ann" {
		t.Errorf("the refusal says %v", info)
	}
	retry := time.Duration(0)
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			retry = r.GetRetryDelay().AsDuration()
		}
	}
	if retry <= 0 || retry > 10*time.Second {
		t.Errorf("it says to try again in %v", retry)
	}
	if err := whoAmI(n.as(t, "bob")); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	watch := func(conn *grpc.ClientConn) error {
		stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
		if err != nil {
			return err
		}
		if err := stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	}
	if err := watch(ann); err != nil {
		t.Errorf("a stream: %v", err)
	}
	refusedWith(t, "a second stream", watch(ann), codes.ResourceExhausted, "TOO_MANY_STREAMS")
	nobody := n.dial(t, identity.PinnedConfig(identity.Pin(cluster, root), func(identity.Trust) {}))
	for range 3 {
		refusedWith(t, "nobody", whoAmI(nobody), codes.Unauthenticated, "UNAUTHENTICATED")
	}
	refusedWith(t, "nobody, too often", whoAmI(nobody), codes.ResourceExhausted, "RATE_LIMITED")
	if err := whoAmI(n.as(t, "cid")); err != nil {
		t.Errorf("somebody who is known, from the same address: %v", err)
	}
	for range 5 {
		if _, err := grpc_health_v1.NewHealthClient(nobody).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
			t.Errorf("a load balancer's question: %v", err)
		}
	}
}

// TestUserCertificates: an admin gives a user a certificate for a key that the user
// has; it is on the record, ends when it was to, is renewed by the user for no longer than
// that, and is void once it was revoked.
func TestUserCertificates(t *testing.T) {
	n := startSecure(t)
	admin := fifev1.NewCertificateServiceClient(n.as(t, AdminName))
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := identity.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	req := &fifev1.CreateCertificateRequest{User: "ann", Csr: csr, Ttl: durationpb.New(time.Hour), RequestId: "r1"}
	_, err = fifev1.NewCertificateServiceClient(n.as(t, "ann")).CreateCertificate(t.Context(), req)
	refusedWith(t, "a user gives itself one", err, codes.PermissionDenied, "PERMISSION_DENIED")
	dry := proto.CloneOf(req)
	dry.ValidateOnly = true
	resp, err := admin.CreateCertificate(t.Context(), dry)
	for deadline := time.Now().Add(30 * time.Second); status.Code(err) == codes.FailedPrecondition && time.Now().Before(deadline); {
		<-time.After(50 * time.Millisecond) // the cluster has no authority yet
		resp, err = admin.CreateCertificate(t.Context(), dry)
	}
	if err != nil || len(resp.GetChain()) > 0 {
		t.Errorf("a check: %v, %v", resp, err)
	}
	for _, bad := range []*fifev1.CreateCertificateRequest{
		{User: "a/b", Csr: csr, Ttl: req.GetTtl()}, {User: "ann", Csr: []byte("x"), Ttl: req.GetTtl()}, {User: "ann", Csr: csr},
		{User: "ann", Csr: csr, Ttl: durationpb.New(9000 * time.Hour)},
	} {
		_, err := admin.CreateCertificate(t.Context(), bad)
		refusedWith(t, bad.String(), err, codes.InvalidArgument, "INVALID_FIELD")
	}
	for range 2 { // a repeat gets a certificate for the same key
		resp, err := admin.CreateCertificate(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		conn := n.dial(t, identity.ClientConfig(credential(t, key, resp)))
		who, err := fifev1.NewAccessServiceClient(conn).WhoAmI(t.Context(), &fifev1.WhoAmIRequest{})
		if err != nil || who.GetSubject() != "user:ann" {
			t.Errorf("its holder is %v, %v", who, err)
		}
		if left := time.Until(credential(t, key, resp).Current().Leaf().NotAfter); left > time.Hour+time.Minute || left < 55*time.Minute {
			t.Errorf("it lasts %v", left)
		}
		given := credential(t, key, resp)
		renewed, err := fifev1.NewJoinServiceClient(conn).IssueCertificate(t.Context(), &fifev1.IssueCertificateRequest{Csr: csr})
		if err != nil {
			t.Fatal(err)
		}
		if now := credential(t, key, renewed); lasts(now) > lasts(given) || now.Current().Identity != given.Current().Identity {
			t.Errorf("renewed, it lasts %v as %v; it was given for %v", lasts(now), now.Current().Identity, lasts(given))
		}
		if resp.GetCertificate().GetCreator() != "user:admin" {
			t.Errorf("it was made by %s", resp.GetCertificate().GetCreator())
		}
	}
	other := proto.CloneOf(req)
	other.User, other.RequestId = "bob", "r2"
	_, err = admin.CreateCertificate(t.Context(), other)
	refusedWith(t, "the same key for another user", err, codes.AlreadyExists, "RESOURCE_EXISTS")

	if _, err := admin.RevokeCertificate(t.Context(), &fifev1.RevokeCertificateRequest{Name: "user/ann"}); err != nil {
		t.Fatal(err)
	}
	list, err := admin.ListCertificates(t.Context(), &fifev1.ListCertificatesRequest{})
	if err != nil || len(list.GetCertificates()) != 1 || !list.GetCertificates()[0].GetRevoked() {
		t.Errorf("listed are %v, %v", list, err)
	}
	if resp, err := admin.CreateCertificate(t.Context(), req); err == nil {
		t.Errorf("a repeat after the revocation gets %v", resp)
	}
	audit, err := fifev1.NewAuditServiceClient(n.as(t, AdminName)).ListAuditEntries(t.Context(), &fifev1.ListAuditEntriesRequest{
		Resource: list.GetCertificates()[0].GetName(),
	})
	of := func(e *fifev1.AuditEntry) bool { return e.GetActor() == "user:admin" && e.GetAfter()["user"] == "ann" }
	if err != nil || !slices.ContainsFunc(audit.GetEntries(), of) {
		t.Errorf("the audit has %v, %v", audit, err)
	}
}

// lasts returns for how long a certificate is good, from its issue on.
func lasts(h *identity.Holder) time.Duration {
	leaf := h.Current().Leaf()
	return leaf.NotAfter.Sub(leaf.NotBefore)
}

// credential puts a credential together of an answer.
func credential(t *testing.T, key crypto.Signer, resp interface {
	GetChain() [][]byte
	GetRoots() [][]byte
}) *identity.Holder {
	t.Helper()
	parse := func(ders [][]byte) (out []*x509.Certificate) {
		for _, der := range ders {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, c)
		}
		return out
	}
	c, err := identity.NewCredential(key, parse(resp.GetChain()), parse(resp.GetRoots()))
	if err != nil {
		t.Fatal(err)
	}
	return identity.NewHolder(c)
}
