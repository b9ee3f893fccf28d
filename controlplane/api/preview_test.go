package api_test

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// validated returns the same change with validate_only.
func validated(req proto.Message) proto.Message {
	only := proto.Clone(req)
	m := only.ProtoReflect()
	m.Set(m.Descriptor().Fields().ByName("validate_only"), protoreflect.ValueOfBool(true))
	return only
}

// changes are a change of every kind, each possible after those before it.
func changes() []proto.Message {
	return []proto.Message{
		&fifev1.CreateApiRequest{ApiId: "other", Api: &fifev1.Api{Hosts: []string{"h"}}},
		&fifev1.UpdateApiRequest{Api: &fifev1.Api{Name: "apis/other", Hosts: []string{"i"}}},
		&fifev1.PutRouteRequest{Parent: "apis/other", Route: mockRoute("GET", "/x", 200)},
		&fifev1.DeleteRouteRequest{Parent: "apis/other", Method: "GET", Path: "/x"},
		&fifev1.ImportRoutesRequest{Parent: "apis/other", Document: openAPI("/y", "/z")},
		&fifev1.ImportRoutesRequest{Parent: "apis/new", Document: openAPI("/y"), AllowMissing: true},
		&fifev1.EditRoutesRequest{
			Parent: "apis/other", PutRoutes: []*fifev1.Route{mockRoute("GET", "/x", 200), mockRoute("GET", "/y", 200)},
			Api: &fifev1.Api{Annotations: map[string]string{"owner": "team"}}, UpdateMask: mask("annotations"),
		},
		&fifev1.EditRoutesRequest{Parent: "apis/other", DeleteRoutes: []*fifev1.RouteKey{{Method: "GET", Path: "/y"}}},
		&fifev1.CreateDeploymentRequest{
			Parent: "apis/other", StageId: "s", Stage: &fifev1.Stage{Variables: map[string]string{"v": "1"}}, StageMask: mask("variables"),
		},
		&fifev1.CreateDeploymentRequest{
			Parent: "apis/other", StageId: "s", StageMask: mask("canary"),
			Stage: &fifev1.Stage{Canary: &fifev1.Canary{Percent: 10, VariableOverrides: map[string]string{"v": "2"}}},
		},
		&fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: "apis/other/stages/s"}, UpdateMask: mask("canary")},
		&fifev1.DeleteApiRequest{Name: "apis/other", Force: true},
		&fifev1.DeleteApiRequest{Name: "apis/new"},
		&fifev1.PutRouteRequest{Parent: demo, Route: mockRoute("GET", "/b", 500)},
		&fifev1.PutRouteRequest{Parent: demo, Route: mockRoute("GET", "/c", 200)},
		&fifev1.DeleteRouteRequest{Parent: demo, Method: "GET", Path: "/a"},
		&fifev1.CreateDeploymentRequest{Parent: demo},
		&fifev1.CreateStageRequest{Parent: demo, StageId: "test", Stage: &fifev1.Stage{Deployment: first}},
		&fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: prod, Description: "d"}, UpdateMask: mask("description")},
		&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Deployment: "apis/demo/deployments/2", Percent: 25}},
		&fifev1.UpdateCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: 50}, UpdateMask: mask("percent")},
		&fifev1.PromoteCanaryRequest{Name: prod},
		&fifev1.RollbackStageRequest{Name: prod},
		&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: 5}},
		&fifev1.AbortCanaryRequest{Name: prod},
		&fifev1.CreateDeploymentRequest{Parent: demo, StageId: "prod"},
		&fifev1.DeleteStageRequest{Name: "apis/demo/stages/test"},
		&fifev1.CreateDeploymentRequest{Parent: demo},
		&fifev1.DeleteDeploymentRequest{Name: "apis/demo/deployments/4"},
	}
}

// movesPromotion reports whether a method needs a promotion that stays open: see
// TestPromotionMethods.
func movesPromotion(m protoreflect.MethodDescriptor) bool {
	return m.Name() == "AbortPromotion" || m.Name() == "ResumePromotion"
}

// TestValidateOnly: every change can be tried. That changes nothing, and says what
// the change then answers, but for what only doing it decides.
func TestValidateOnly(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		for name, m := range methods() {
			if mutates(m) && !movesPromotion(m) && !slices.ContainsFunc(changes(), func(c proto.Message) bool { return c.ProtoReflect().Descriptor().FullName() == name }) {
				t.Errorf("%s is not tried here", m.Name())
			}
		}
		for _, req := range changes() {
			before, applied := b.holdings(), b.see("n1").GetApplied()
			tried, err := b.ask(t.Context(), "n1", validated(req))
			if err != nil {
				t.Fatalf("%T: trying it: %v", req, err)
			}
			if after := b.holdings(); after != before || !proto.Equal(b.see("n1").GetApplied(), applied) {
				t.Fatalf("%T: trying it changed\n%s to\n%s", req, before, after)
			}
			done, err := b.ask(t.Context(), "n1", req)
			if err != nil {
				t.Fatalf("%T: doing it: %v", req, err)
			}
			if got, want := lasting(tried), lasting(done); got != want {
				t.Errorf("%T: trying it said\n%s\ndoing it\n%s", req, got, want)
			}
		}
	})
}

// lasting writes a response without what differs from one attempt to the next:
// times, the version, etags that are the entry's index, a canary's salt, and the
// preview, which only trying it has.
func lasting(resp proto.Message) string {
	m := proto.Clone(resp)
	switch r := m.(type) {
	case *fifev1.CreateApiResponse:
		r.Version, r.Api.Etag, r.Api.CreateTime, r.Api.UpdateTime = nil, "", nil, nil
	case *fifev1.UpdateApiResponse:
		r.Version, r.Api.Etag, r.Api.UpdateTime = nil, "", nil
	case *fifev1.DeleteApiResponse:
		r.Version = nil
	case *fifev1.PutRouteResponse:
		r.Version, r.Route.Etag = nil, ""
	case *fifev1.EditRoutesResponse:
		r.Version, r.Api.Etag, r.Api.UpdateTime = nil, "", nil
	case *fifev1.DeleteRouteResponse:
		r.Version = nil
	case *fifev1.ImportRoutesResponse:
		r.Version, r.Api.Etag, r.Api.CreateTime, r.Api.UpdateTime = nil, "", nil, nil
	case *fifev1.CreateDeploymentResponse:
		r.Version, r.Preview, r.Deployment.Etag, r.Deployment.CreateTime = nil, nil, "", nil
		r.Stage = lastingStage(r.Stage)
	case *fifev1.DeleteDeploymentResponse:
		r.Version = nil
	case *fifev1.CreateStageResponse:
		r.Version, r.Stage = nil, lastingStage(r.Stage)
	case *fifev1.UpdateStageResponse:
		r.Version, r.Preview, r.Stage = nil, nil, lastingStage(r.Stage)
	case *fifev1.DeleteStageResponse:
		r.Version = nil
	case *fifev1.StartCanaryResponse:
		r.Version, r.Preview, r.Stage = nil, nil, lastingStage(r.Stage)
	case *fifev1.UpdateCanaryResponse:
		r.Version, r.Preview, r.Stage = nil, nil, lastingStage(r.Stage)
	case *fifev1.AbortCanaryResponse:
		r.Version, r.Preview, r.Stage = nil, nil, lastingStage(r.Stage)
	case *fifev1.PromoteCanaryResponse:
		r.Version, r.Preview, r.Stage = nil, nil, lastingStage(r.Stage)
	case *fifev1.RollbackStageResponse:
		r.Version, r.Preview, r.Stage = nil, nil, lastingStage(r.Stage)
	}
	return fmt.Sprint(m)
}

func lastingStage(s *fifev1.Stage) *fifev1.Stage {
	if s != nil {
		s.Etag, s.CreateTime, s.UpdateTime = "", nil, nil
		if s.Canary != nil {
			s.Canary.Salt, s.Canary.StartTime = 0, nil
		}
	}
	return s
}

// TestValidateOnlyRefuses: what would be refused is refused, and not remembered
// under its request id.
func TestValidateOnlyRefuses(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		b.refuses(
			refusedCall{&fifev1.AbortCanaryRequest{Name: prod, ValidateOnly: true, RequestId: "r"}, refusal{codes.FailedPrecondition, "NO_CANARY", nil}},
			refusedCall{&fifev1.DeleteApiRequest{Name: demo, ValidateOnly: true}, refusal{codes.FailedPrecondition, "API_IN_USE", nil}},
			refusedCall{&fifev1.DeleteStageRequest{Name: prod, Etag: "999", ValidateOnly: true}, refusal{codes.Aborted, "STALE_ETAG", nil}},
		)
		b.takes(
			&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: 5}, ValidateOnly: true, RequestId: "r"},
			&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: 5}, RequestId: "r"},
		)
	})
}

// TestPreviews: a preview says which share of requests another deployment would
// answer, and which routes the base would gain, lose and change.
func TestPreviews(t *testing.T) {
	const two = "apis/demo/deployments/2"
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		b.takes(
			&fifev1.PutRouteRequest{Parent: demo, Route: mockRoute("GET", "/b", 500)},
			&fifev1.PutRouteRequest{Parent: demo, Route: mockRoute("GET", "/c", 200)},
			&fifev1.DeleteRouteRequest{Parent: demo, Method: "GET", Path: "/a"},
			&fifev1.CreateDeploymentRequest{Parent: demo},
		)
		canary := &fifev1.Canary{Deployment: two, Percent: 12.5}
		diff := &fifev1.StagePreview{RoutesAdded: []string{"GET /c"}, RoutesRemoved: []string{"GET /a"}, RoutesChanged: []string{"GET /b"}}
		moved := func(percent float64, p *fifev1.StagePreview) *fifev1.StagePreview {
			p = proto.CloneOf(p)
			p.MovedPercent = percent
			return p
		}
		none := &fifev1.StagePreview{}
		preview := func(what string, req proto.Message, want *fifev1.StagePreview) {
			t.Helper()
			resp, err := b.ask(t.Context(), "n1", validated(req))
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if got := resp.(interface{ GetPreview() *fifev1.StagePreview }).GetPreview(); !proto.Equal(got, want) {
				t.Errorf("%s: got %v, want %v", what, got, want)
			}
		}
		preview("a canary", &fifev1.StartCanaryRequest{Name: prod, Canary: canary}, moved(12.5, none))
		preview("a canary of the base", &fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: 50}}, none)
		preview("another base", &fifev1.UpdateStageRequest{
			Stage: &fifev1.Stage{Name: prod, Deployment: two}, UpdateMask: mask("deployment"),
		}, moved(100, diff))
		preview("a deployment", &fifev1.CreateDeploymentRequest{Parent: demo, StageId: "prod"}, moved(100, diff))
		preview("a deployment on no stage", &fifev1.CreateDeploymentRequest{Parent: demo}, nil)
		preview("a deployment on a new stage", &fifev1.CreateDeploymentRequest{Parent: demo, StageId: "new"},
			&fifev1.StagePreview{MovedPercent: 100, RoutesAdded: []string{"GET /b", "GET /c"}})

		b.takes(&fifev1.StartCanaryRequest{Name: prod, Canary: canary})
		preview("a larger share", &fifev1.UpdateCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: 50}, UpdateMask: mask("percent")}, moved(37.5, none))
		preview("a deployment to the canary", &fifev1.CreateDeploymentRequest{Parent: demo, StageId: "prod"}, moved(12.5, none))
		preview("an end", &fifev1.AbortCanaryRequest{Name: prod}, moved(12.5, none))
		preview("a promotion", &fifev1.PromoteCanaryRequest{Name: prod}, moved(87.5, diff))
		b.takes(&fifev1.PromoteCanaryRequest{Name: prod})
		preview("a rollback", &fifev1.RollbackStageRequest{Name: prod}, moved(100, &fifev1.StagePreview{
			RoutesAdded: []string{"GET /a"}, RoutesRemoved: []string{"GET /c"}, RoutesChanged: []string{"GET /b"},
		}))
		resp := must(b.nodes["n1"].stages.RollbackStage(t.Context(), &fifev1.RollbackStageRequest{Name: prod}))(t)
		if resp.GetPreview() != nil {
			t.Errorf("a change that is made has a preview: %v", resp.GetPreview())
		}
	})
}

// TestPreviewNamesHundred: what would be a list of thousands is cut.
func TestPreviewNamesHundred(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.takes(&fifev1.CreateApiRequest{ApiId: "demo"})
		for i := range 120 {
			b.takes(&fifev1.PutRouteRequest{Parent: demo, Route: mockRoute("GET", fmt.Sprintf("/%03d", i), 200)})
		}
		resp := must(b.nodes["n1"].deployments.CreateDeployment(t.Context(),
			&fifev1.CreateDeploymentRequest{Parent: demo, StageId: "prod", ValidateOnly: true}))(t)
		if got := resp.GetPreview().GetRoutesAdded(); len(got) != 100 || got[99] != "GET /099" {
			t.Errorf("%d routes are named: %v", len(got), got)
		}
	})
}

// TestWarnings: whoever deploys a route whose variable is unset is told, for each
// variant that would answer 500.
func TestWarnings(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		b.takes(&fifev1.PutRouteRequest{Parent: demo, Route: &fifev1.Route{Method: "GET", Path: "/v", Integration: &fifev1.Integration{
			Kind: &fifev1.Integration_Http{Http: &fifev1.HttpIntegration{Uri: "http://${stageVariables.host}/"}},
		}}})
		c, ctx := b.nodes["n1"], t.Context()
		const unset = `GET /v uses stage variable "host", which is not set: it will answer 500`
		check := func(what string, got []string, want ...string) {
			t.Helper()
			if !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want %q", what, got, want)
			}
		}
		vars := map[string]string{"host": "h"}
		check("on no stage", must(c.deployments.CreateDeployment(ctx, &fifev1.CreateDeploymentRequest{Parent: demo}))(t).GetWarnings())
		check("a new stage", must(c.stages.CreateStage(ctx, &fifev1.CreateStageRequest{
			Parent: demo, StageId: "new", Stage: &fifev1.Stage{Deployment: "apis/demo/deployments/2"},
		}))(t).GetWarnings(), "base: "+unset)
		check("a canary", must(c.stages.StartCanary(ctx, &fifev1.StartCanaryRequest{
			Name: prod, Canary: &fifev1.Canary{Deployment: "apis/demo/deployments/2"},
		}))(t).GetWarnings(), "canary: "+unset)
		check("an override", must(c.stages.UpdateCanary(ctx, &fifev1.UpdateCanaryRequest{
			Name: prod, Canary: &fifev1.Canary{VariableOverrides: vars}, UpdateMask: mask("variable_overrides"),
		}))(t).GetWarnings())
		check("tried only", must(c.deployments.CreateDeployment(ctx, &fifev1.CreateDeploymentRequest{
			Parent: demo, StageId: "prod", Target: fifev1.DeploymentTarget_DEPLOYMENT_TARGET_BASE, ValidateOnly: true,
		}))(t).GetWarnings(), "base: "+unset)
		check("both", must(c.stages.UpdateCanary(ctx, &fifev1.UpdateCanaryRequest{
			Name: "apis/demo/stages/prod", Canary: &fifev1.Canary{}, UpdateMask: mask("variable_overrides"),
		}))(t).GetWarnings(), "canary: "+unset)
		check("set", must(c.stages.UpdateStage(ctx, &fifev1.UpdateStageRequest{
			Stage: &fifev1.Stage{Name: prod, Variables: vars}, UpdateMask: mask("variables"),
		}))(t).GetWarnings())
	})
}
