package api_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/fifegateway/fife/controlplane/bubbletest"
	"github.com/fifegateway/fife/controlplane/controlplanetest"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// clients are the services of one node.
type clients struct {
	grpc.ClientConnInterface
	apis        fifev1.ApiServiceClient
	deployments fifev1.DeploymentServiceClient
	stages      fifev1.StageServiceClient
	fleet       fifev1.FleetServiceClient
	cluster     fifev1.ClusterServiceClient
}

func newClients(conn grpc.ClientConnInterface) clients {
	return clients{
		conn, fifev1.NewApiServiceClient(conn), fifev1.NewDeploymentServiceClient(conn),
		fifev1.NewStageServiceClient(conn), fifev1.NewFleetServiceClient(conn), fifev1.NewClusterServiceClient(conn),
	}
}

// bench is a cluster in a bubble of its own, with clients of its nodes n1, n2 ...
type bench struct {
	*controlplanetest.Cluster
	t     *testing.T
	nodes map[string]clients
}

// inBubble runs a test on a cluster of n nodes once all of them vote.
func inBubble(t *testing.T, n int, test func(*testing.T, *bench)) {
	t.Helper()
	bubbletest.Test(t, func(t *testing.T) {
		b := &bench{controlplanetest.Start(t, n), t, map[string]clients{}}
		for i := range n {
			name := fmt.Sprintf("n%d", i+1)
			b.nodes[name] = newClients(b.Conn(name))
		}
		for name := range b.nodes {
			b.until(name+" knows all voters and a leader", func() bool {
				resp, err := b.nodes[name].cluster.ListMembers(t.Context(), &fifev1.ListMembersRequest{})
				voters := slices.DeleteFunc(resp.GetMembers(), func(m *fifev1.Member) bool { return !m.GetVoter() })
				return err == nil && len(voters) == n && b.leader(name) != ""
			})
		}
		test(t, b)
	})
}

// until waits for a condition.
func (b *bench) until(what string, ok func() bool) {
	b.t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	b.t.Fatalf("waited 30 s until %s", what)
}

// see returns the cluster as one node sees it.
func (b *bench) see(node string) *fifev1.Cluster {
	b.t.Helper()
	return must(b.nodes[node].cluster.GetCluster(b.t.Context(), &fifev1.GetClusterRequest{}))(b.t).GetCluster()
}

func (b *bench) leader(asSeenBy string) string { return b.see(asSeenBy).GetLeader() }

// follower returns a node that does not lead.
func (b *bench) follower() string {
	if leader := b.leader("n1"); leader != "n1" {
		return "n1"
	}
	return "n2"
}

// must fails the test if a call has.
func must[T any](resp T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
}

func second[T any](_ T, err error) error { return err }

// refusal is the error that a call is to end with.
type refusal struct {
	code     codes.Code
	reason   string
	metadata map[string]string // all that is expected; nil for any
}

// wantRefusal fails the test unless err has exactly one ErrorInfo, of Fife's
// domain, with what is wanted in it.
func wantRefusal(t testing.TB, what string, err error, want refusal) {
	t.Helper()
	var infos []*errdetails.ErrorInfo
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			infos = append(infos, info)
		}
	}
	switch {
	case status.Code(err) != want.code:
		t.Errorf("%s: got %v, want %v", what, err, want.code)
	case len(infos) != 1:
		t.Errorf("%s: %d ErrorInfos with %v", what, len(infos), err)
	case infos[0].GetDomain() != "fife" || infos[0].GetReason() != want.reason:
		t.Errorf("%s: got %v, want reason %s of fife", what, infos[0], want.reason)
	case want.metadata != nil && fmt.Sprint(infos[0].GetMetadata()) != fmt.Sprint(want.metadata):
		t.Errorf("%s: got metadata %v, want %v", what, infos[0].GetMetadata(), want.metadata)
	}
}

// badFields returns the fields that err finds fault with.
func badFields(t testing.TB, what string, err error) []string {
	t.Helper()
	wantRefusal(t, what, err, refusal{codes.InvalidArgument, "INVALID_FIELD", nil})
	var fields []string
	for _, d := range status.Convert(err).Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				fields = append(fields, v.GetField())
				if v.GetDescription() == "" {
					t.Errorf("%s: nothing is said about %s", what, v.GetField())
				}
			}
		}
	}
	return fields
}

// holdings writes all that a cluster holds, as its node n1 answers.
func (b *bench) holdings() string {
	b.t.Helper()
	var out strings.Builder
	c, ctx := b.nodes["n1"], b.t.Context()
	add := func(m proto.Message) { fmt.Fprintln(&out, m) }
	apis := must(c.apis.ListApis(ctx, &fifev1.ListApisRequest{}))(b.t)
	add(apis)
	for _, a := range apis.GetApis() {
		add(must(c.apis.ListRoutes(ctx, &fifev1.ListRoutesRequest{Parent: a.GetName()}))(b.t))
		deployments := must(c.deployments.ListDeployments(ctx, &fifev1.ListDeploymentsRequest{Parent: a.GetName()}))(b.t)
		add(deployments)
		for _, d := range deployments.GetDeployments() {
			add(must(c.deployments.ListDeploymentRoutes(ctx, &fifev1.ListDeploymentRoutesRequest{Parent: d.GetName()}))(b.t))
		}
	}
	stages := must(c.stages.ListStages(ctx, &fifev1.ListStagesRequest{Parent: "apis/-"}))(b.t)
	add(stages)
	for _, s := range stages.GetStages() {
		add(must(c.stages.ListStageRevisions(ctx, &fifev1.ListStageRevisionsRequest{Parent: s.GetName()}))(b.t))
	}
	fmt.Fprintln(&out, b.see("n1").GetVersion())
	return out.String()
}

func mockRoute(method, path string, status int32) *fifev1.Route {
	return &fifev1.Route{Method: method, Path: path, Integration: &fifev1.Integration{
		Kind: &fifev1.Integration_Mock{Mock: &fifev1.MockIntegration{Status: status}},
	}}
}

const demo, prod, first = "apis/demo", "apis/demo/stages/prod", "apis/demo/deployments/1"

// stock makes API demo with routes GET /a and GET /b, deployment 1 of them, and
// stage prod, which serves it.
func (b *bench) stock() {
	b.t.Helper()
	c, ctx := b.nodes["n1"], b.t.Context()
	must(c.apis.CreateApi(ctx, &fifev1.CreateApiRequest{ApiId: "demo"}))(b.t)
	for _, path := range []string{"/a", "/b"} {
		must(c.apis.PutRoute(ctx, &fifev1.PutRouteRequest{Parent: demo, Route: mockRoute("GET", path, 200)}))(b.t)
	}
	must(c.deployments.CreateDeployment(ctx, &fifev1.CreateDeploymentRequest{Parent: demo, StageId: "prod"}))(b.t)
}

// drain reads a stream to its end and returns its messages and what ended it.
func drain[T any](stream grpc.ServerStreamingClient[T], err error) (messages []*T, end error) {
	for err == nil {
		var m *T
		if m, err = stream.Recv(); err == nil {
			messages = append(messages, m)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return messages, err
}
