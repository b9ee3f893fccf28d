package api_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// refusedCall is a call that the rules refuse as things stand.
type refusedCall struct {
	req  proto.Message
	want refusal
}

func meta(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

// refuses makes each call and sees that it is refused and changes nothing.
func (b *bench) refuses(calls ...refusedCall) {
	b.t.Helper()
	before := b.holdings()
	for _, c := range calls {
		wantRefusal(b.t, fmt.Sprintf("%T", c.req), b.call(b.t.Context(), "n1", c.req), c.want)
	}
	if after := b.holdings(); after != before {
		b.t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

// takes makes each call and fails the test unless it is carried out.
func (b *bench) takes(calls ...proto.Message) {
	b.t.Helper()
	for _, req := range calls {
		if err := b.call(b.t.Context(), "n1", req); err != nil {
			b.t.Fatalf("%T: %v", req, err)
		}
	}
}

func TestNotFound(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		missing := func(name string) refusal {
			return refusal{codes.NotFound, "RESOURCE_NOT_FOUND", meta("resource", name)}
		}
		const api, deployment, stage = "apis/none", "apis/demo/deployments/9", "apis/demo/stages/none"
		noAPI, noDeployment, noStage := missing(api), missing(deployment), missing(stage)
		b.refuses(
			refusedCall{&fifev1.GetApiRequest{Name: api}, noAPI},
			refusedCall{&fifev1.UpdateApiRequest{Api: &fifev1.Api{Name: api}}, noAPI},
			refusedCall{&fifev1.DeleteApiRequest{Name: api}, noAPI},
			refusedCall{&fifev1.PutRouteRequest{Parent: api, Route: mockRoute("GET", "/", 200)}, noAPI},
			refusedCall{&fifev1.ListRoutesRequest{Parent: api}, noAPI},
			refusedCall{&fifev1.DeleteRouteRequest{Parent: api, Method: "GET", Path: "/"}, noAPI},
			refusedCall{&fifev1.DeleteRouteRequest{Parent: demo, Method: "PUT", Path: "/a"}, missing("route PUT /a of apis/demo")},
			refusedCall{&fifev1.PutRouteRequest{Parent: demo, Route: &fifev1.Route{Method: "PUT", Path: "/a", Etag: "3"}}, missing("route PUT /a of apis/demo")},
			refusedCall{&fifev1.CreateDeploymentRequest{Parent: api}, noAPI},
			refusedCall{&fifev1.ListDeploymentsRequest{Parent: api}, noAPI},
			refusedCall{&fifev1.GetDeploymentRequest{Name: deployment}, noDeployment},
			refusedCall{&fifev1.ListDeploymentRoutesRequest{Parent: deployment}, noDeployment},
			refusedCall{&fifev1.DeleteDeploymentRequest{Name: deployment}, noDeployment},
			refusedCall{&fifev1.CreateStageRequest{Parent: api, StageId: "s", Stage: &fifev1.Stage{Deployment: "apis/none/deployments/1"}}, noAPI},
			refusedCall{&fifev1.CreateStageRequest{Parent: demo, StageId: "s", Stage: &fifev1.Stage{Deployment: deployment}}, noDeployment},
			refusedCall{&fifev1.GetStageRequest{Name: stage}, noStage},
			refusedCall{&fifev1.ListStagesRequest{Parent: api}, noAPI},
			refusedCall{&fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: stage}, UpdateMask: mask("description")}, noStage},
			refusedCall{&fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: prod, Deployment: deployment}, UpdateMask: mask("deployment")}, noDeployment},
			refusedCall{&fifev1.DeleteStageRequest{Name: stage}, noStage},
			refusedCall{&fifev1.StartCanaryRequest{Name: stage, Canary: &fifev1.Canary{}}, noStage},
			refusedCall{&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Deployment: deployment}}, noDeployment},
			refusedCall{&fifev1.UpdateCanaryRequest{Name: stage, Canary: &fifev1.Canary{}, UpdateMask: mask("percent")}, noStage},
			refusedCall{&fifev1.AbortCanaryRequest{Name: stage}, noStage},
			refusedCall{&fifev1.PromoteCanaryRequest{Name: stage}, noStage},
			refusedCall{&fifev1.RollbackStageRequest{Name: stage}, noStage},
			refusedCall{&fifev1.ListStageRevisionsRequest{Parent: stage}, noStage},
			refusedCall{&fifev1.ExplainSplitRequest{Name: stage, Key: "k"}, noStage},
			refusedCall{&fifev1.ListAgentsRequest{Node: "n9"}, missing("members/n9")},
			refusedCall{&fifev1.PromoteMemberRequest{Name: "members/n9", Applied: b.see("n1").GetApplied()}, missing("members/n9")},
			refusedCall{&fifev1.RemoveMemberRequest{Name: "members/n9"}, missing("members/n9")},
			refusedCall{&fifev1.TransferLeadershipRequest{Name: "members/n9"}, missing("members/n9")},
		)
		_, err := drain(b.nodes["n1"].fleet.WaitForVersion(t.Context(), &fifev1.WaitForVersionRequest{
			Version: &fifev1.Version{Epoch: 1, Index: 1}, Node: "n9",
		}))
		wantRefusal(t, "WaitForVersion", err, missing("members/n9"))
	})
}

func TestAlreadyExists(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		b.takes(
			&fifev1.CreateApiRequest{ApiId: "other", Api: &fifev1.Api{Hosts: []string{"h"}}},
			&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: 10}},
		)
		taken := func(name string) refusal {
			return refusal{codes.AlreadyExists, "RESOURCE_EXISTS", meta("resource", name)}
		}
		b.refuses(
			refusedCall{&fifev1.CreateApiRequest{ApiId: "demo"}, taken(demo)},
			refusedCall{&fifev1.CreateApiRequest{ApiId: "new", Api: &fifev1.Api{Hosts: []string{"h"}}}, taken("host h of apis/other")},
			refusedCall{&fifev1.UpdateApiRequest{Api: &fifev1.Api{Name: demo, Hosts: []string{"h"}}}, taken("host h of apis/other")},
			refusedCall{&fifev1.CreateStageRequest{Parent: demo, StageId: "prod", Stage: &fifev1.Stage{Deployment: first}}, taken(prod)},
			refusedCall{
				&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: 20}},
				refusal{codes.AlreadyExists, "CANARY_EXISTS", meta("resource", prod)},
			},
			refusedCall{
				&fifev1.JoinClusterRequest{NodeId: "n9", RaftAddress: "n1:7401", GrpcAddress: "n9:7400"},
				refusal{codes.AlreadyExists, "RESOURCE_EXISTS", meta("resource", "members/n1")},
			},
		)
	})
}

// TestStaleEtags: every change that takes an etag refuses one that is not the
// current one, and names that.
func TestStaleEtags(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		b.takes(&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: 10}})
		c, ctx := b.nodes["n1"], t.Context()
		api := must(c.apis.GetApi(ctx, &fifev1.GetApiRequest{Name: demo}))(t).GetApi().GetEtag()
		route := must(c.apis.ListRoutes(ctx, &fifev1.ListRoutesRequest{Parent: demo}))(t).GetRoutes()[0].GetEtag()
		deployment := must(c.deployments.GetDeployment(ctx, &fifev1.GetDeploymentRequest{Name: first}))(t).GetDeployment().GetEtag()
		stage := func() string {
			return must(c.stages.GetStage(ctx, &fifev1.GetStageRequest{Name: prod}))(t).GetStage().GetEtag()
		}
		stale := func(resource, etag string) refusal {
			return refusal{codes.Aborted, "STALE_ETAG", meta("resource", resource, "etag", etag)}
		}
		aRoute := mockRoute("GET", "/a", 200)
		aRoute.Etag = "999"
		ofAPI, ofRoute, ofStage := stale(demo, api), stale("route GET /a of apis/demo", route), stale(prod, stage())
		b.refuses(
			refusedCall{&fifev1.UpdateApiRequest{Api: &fifev1.Api{Name: demo, Etag: "999"}}, ofAPI},
			refusedCall{&fifev1.DeleteApiRequest{Name: demo, Etag: "999"}, ofAPI},
			refusedCall{&fifev1.PutRouteRequest{Parent: demo, Route: aRoute}, ofRoute},
			refusedCall{&fifev1.DeleteRouteRequest{Parent: demo, Method: "GET", Path: "/a", Etag: "999"}, ofRoute},
			refusedCall{&fifev1.DeleteDeploymentRequest{Name: first, Etag: "999"}, stale(first, deployment)},
			refusedCall{&fifev1.CreateDeploymentRequest{Parent: demo, StageId: "prod", Etag: "999"}, ofStage},
			refusedCall{&fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: prod, Etag: "999"}, UpdateMask: mask("description")}, ofStage},
			refusedCall{&fifev1.DeleteStageRequest{Name: prod, Etag: "999"}, ofStage},
			refusedCall{&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{}, Replace: true, Etag: "999"}, ofStage},
			refusedCall{&fifev1.UpdateCanaryRequest{Name: prod, Canary: &fifev1.Canary{}, UpdateMask: mask("percent"), Etag: "999"}, ofStage},
			refusedCall{&fifev1.AbortCanaryRequest{Name: prod, Etag: "999"}, ofStage},
			refusedCall{&fifev1.PromoteCanaryRequest{Name: prod, Etag: "999"}, ofStage},
			refusedCall{&fifev1.RollbackStageRequest{Name: prod, Etag: "999"}, ofStage},
		)
		err := b.call(ctx, "n1", &fifev1.PromoteCanaryRequest{Name: prod, Etag: "999"})
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("its etag is now %q, the request says \"999\"", stage())) {
			t.Errorf("the message names no current etag: %v", err)
		}
		// The current ones pass.
		aRoute.Etag = route
		b.takes(&fifev1.PutRouteRequest{Parent: demo, Route: aRoute})
		for _, change := range []func(etag string) proto.Message{
			func(etag string) proto.Message {
				return &fifev1.CreateDeploymentRequest{Parent: demo, StageId: "prod", Etag: etag}
			},
			func(etag string) proto.Message {
				return &fifev1.UpdateCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: 1}, UpdateMask: mask("percent"), Etag: etag}
			},
			func(etag string) proto.Message { return &fifev1.PromoteCanaryRequest{Name: prod, Etag: etag} },
			func(etag string) proto.Message { return &fifev1.RollbackStageRequest{Name: prod, Etag: etag} },
			func(etag string) proto.Message {
				return &fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{}, Etag: etag}
			},
			func(etag string) proto.Message { return &fifev1.AbortCanaryRequest{Name: prod, Etag: etag} },
			func(etag string) proto.Message {
				return &fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: prod, Etag: etag}, UpdateMask: mask("description")}
			},
			func(etag string) proto.Message { return &fifev1.DeleteStageRequest{Name: prod, Etag: etag} },
		} {
			b.takes(change(stage()))
		}
		b.takes(
			&fifev1.DeleteDeploymentRequest{Name: first, Etag: deployment},
			&fifev1.UpdateApiRequest{Api: &fifev1.Api{Name: demo, Etag: api}},
		)
	})
}

func TestFailedPrecondition(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		b.takes(
			&fifev1.CreateApiRequest{ApiId: "empty"},
			&fifev1.CreateApiRequest{ApiId: "half"},
			&fifev1.PutRouteRequest{Parent: "apis/half", Route: &fifev1.Route{Method: "GET", Path: "/x"}},
		)
		failed := func(reason string, pairs ...string) refusal {
			return refusal{codes.FailedPrecondition, reason, meta(pairs...)}
		}
		noCanary := failed("NO_CANARY", "resource", prod)
		b.refuses(
			refusedCall{&fifev1.UpdateCanaryRequest{Name: prod, Canary: &fifev1.Canary{}, UpdateMask: mask("percent")}, noCanary},
			refusedCall{&fifev1.AbortCanaryRequest{Name: prod}, noCanary},
			refusedCall{&fifev1.PromoteCanaryRequest{Name: prod}, noCanary},
			refusedCall{
				&fifev1.CreateDeploymentRequest{Parent: demo, StageId: "prod", Target: fifev1.DeploymentTarget_DEPLOYMENT_TARGET_CANARY},
				noCanary,
			},
			refusedCall{&fifev1.CreateDeploymentRequest{Parent: "apis/empty"}, failed("API_EMPTY", "resource", "apis/empty")},
			refusedCall{
				&fifev1.CreateDeploymentRequest{Parent: "apis/half"},
				failed("ROUTE_INCOMPLETE", "resource", "apis/half", "route", "GET /x"),
			},
			refusedCall{&fifev1.DeleteDeploymentRequest{Name: first}, failed("DEPLOYMENT_IN_USE", "resource", first, "used_by", prod)},
			refusedCall{&fifev1.DeleteApiRequest{Name: demo}, failed("API_IN_USE", "resource", demo, "used_by", prod)},
			refusedCall{&fifev1.RollbackStageRequest{Name: prod}, failed("NO_HISTORY", "resource", prod)},
			refusedCall{&fifev1.RollbackStageRequest{Name: prod, ToRevision: 7}, failed("NO_HISTORY", "resource", prod)},
			refusedCall{&fifev1.PromoteMemberRequest{Name: "members/n1"}, failed("NOT_CAUGHT_UP", "resource", "members/n1")},
			refusedCall{&fifev1.GetStateHashRequest{Checkpoint: &fifev1.Version{Epoch: 1, Index: 1}}, failed("NO_CHECKPOINT")},
			refusedCall{&fifev1.RemoveMemberRequest{Name: "members/n1"}, failed("QUORUM_AT_RISK", "resource", "members/n1")},
		)
	})
}

// TestSiblingVariables: a clash of variables is a bad field, found when the route
// meets the draft.
func TestSiblingVariables(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		b.takes(&fifev1.PutRouteRequest{Parent: demo, Route: mockRoute("GET", "/pets/{id}/toys", 200)})
		err := b.call(t.Context(), "n1", &fifev1.PutRouteRequest{Parent: demo, Route: mockRoute("GET", "/pets/{name}", 200)})
		if got := badFields(t, "clash", err); len(got) != 1 || got[0] != "route.path" {
			t.Errorf("found fault with %v", got)
		}
	})
}

func TestLimits(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		vars := func(prefix string, n int) map[string]string {
			m := map[string]string{}
			for i := range n {
				m[fmt.Sprint(prefix, i)] = "v"
			}
			return m
		}
		b.takes(&fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: prod, Variables: vars("a", 60)}, UpdateMask: mask("variables")})
		large := &fifev1.EditRoutesRequest{Parent: demo}
		for i := range 10 {
			r := mockRoute("GET", fmt.Sprint("/large", i), 200)
			r.GetIntegration().GetMock().Body = strings.Repeat("v", 60<<10)
			large.PutRoutes = append(large.PutRoutes, r)
		}
		trial := proto.CloneOf(large)
		trial.ValidateOnly = true
		reached := refusal{codes.ResourceExhausted, "LIMIT_REACHED", meta("resource", prod, "limit", "100")}
		b.refuses(
			refusedCall{&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{VariableOverrides: vars("b", 41)}}, reached},
			refusedCall{large, refusal{codes.InvalidArgument, "PROPOSAL_TOO_LARGE", nil}},
			refusedCall{
				trial,
				refusal{codes.InvalidArgument, "PROPOSAL_TOO_LARGE", nil},
			},
		)
	})
}
