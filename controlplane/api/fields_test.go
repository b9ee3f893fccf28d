package api_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// badCall is a call with bad fields.
type badCall struct {
	what   string
	req    proto.Message
	fields string // the bad ones, sorted, with a blank between
}

func mask(paths ...string) *fieldmaskpb.FieldMask { return &fieldmaskpb.FieldMask{Paths: paths} }

func seconds(n int64) *durationpb.Duration { return &durationpb.Duration{Seconds: n} }

func fields(names ...string) string { return strings.Join(names, " ") }

var badNames = []string{"", "demo", "apis/", "apis/Demo", "apis/a/b", "apis/-", "apis/demo/"}

var badStageNames = []string{
	"", "prod", demo, "apis/demo/stages/", "apis/demo/stages/a b", "apis/Demo/stages/prod", "apis/demo/deployments/1", "apis/demo/stages/prod/x",
}

var badDeploymentNames = []string{
	"", demo, prod, "apis/demo/deployments/", "apis/demo/deployments/0", "apis/demo/deployments/-1",
	"apis/demo/deployments/x", "apis/Demo/deployments/1", "apis/demo/deployments/18446744073709551616",
}

// badCalls returns calls of every method with every kind of bad input.
func badCalls() []badCall {
	var calls []badCall
	add := func(what, fields string, req proto.Message) { calls = append(calls, badCall{what, req, fields}) }

	// Names and ids.
	for _, id := range []string{"", "-", "Demo", "a/b", strings.Repeat("a", 64)} {
		add("id "+id, "api_id", &fifev1.CreateApiRequest{ApiId: id})
	}
	for _, n := range badNames {
		add(n, "name", &fifev1.GetApiRequest{Name: n})
		add(n, "name", &fifev1.DeleteApiRequest{Name: n})
		add(n, "api.name", &fifev1.UpdateApiRequest{Api: &fifev1.Api{Name: n}})
		add(n, "parent", &fifev1.PutRouteRequest{Parent: n, Route: mockRoute("GET", "/", 200)})
		add(n, "parent", &fifev1.ListRoutesRequest{Parent: n})
		add(n, "parent", &fifev1.DeleteRouteRequest{Parent: n, Method: "GET", Path: "/"})
		add(n, "parent", &fifev1.CreateDeploymentRequest{Parent: n})
		add(n, "parent", &fifev1.ListDeploymentsRequest{Parent: n})
		if n != "apis/-" {
			add(n, "parent", &fifev1.ListStagesRequest{Parent: n})
		}
	}
	for _, n := range badDeploymentNames {
		add(n, "name", &fifev1.GetDeploymentRequest{Name: n})
		add(n, "name", &fifev1.DeleteDeploymentRequest{Name: n})
		add(n, "parent", &fifev1.ListDeploymentRoutesRequest{Parent: n})
		if n != "" {
			add(n, "canary.deployment", &fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Deployment: n}})
		}
	}
	for _, n := range badStageNames {
		add(n, "name", &fifev1.GetStageRequest{Name: n})
		add(n, "name", &fifev1.DeleteStageRequest{Name: n})
		add(n, "stage.name", &fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: n}, UpdateMask: mask("description")})
		add(n, "name", &fifev1.StartCanaryRequest{Name: n, Canary: &fifev1.Canary{}})
		add(n, "name", &fifev1.UpdateCanaryRequest{Name: n, Canary: &fifev1.Canary{}, UpdateMask: mask("percent")})
		add(n, "name", &fifev1.AbortCanaryRequest{Name: n})
		add(n, "name", &fifev1.PromoteCanaryRequest{Name: n})
		add(n, "name", &fifev1.RollbackStageRequest{Name: n})
		add(n, "parent", &fifev1.ListStageRevisionsRequest{Parent: n})
		add(n, "name", &fifev1.ExplainSplitRequest{Name: n, Key: "k"})
	}
	for _, id := range []string{"", "a b", "a/b", strings.Repeat("s", 65)} {
		add("id "+id, "stage_id", &fifev1.CreateStageRequest{Parent: demo, StageId: id, Stage: &fifev1.Stage{Deployment: first}})
	}
	add("stage of no id", "stage_id", &fifev1.CreateDeploymentRequest{Parent: demo, StageId: "a b"})
	for _, n := range []string{"", "n1", "members/", "members/N1", "members/a/b"} {
		add(n, "name", &fifev1.PromoteMemberRequest{Name: n})
		add(n, "name", &fifev1.RemoveMemberRequest{Name: n})
		if n != "" {
			add(n, "name", &fifev1.TransferLeadershipRequest{Name: n})
		}
	}

	// What every change or list has.
	for _, id := range []string{"a b", "ü", "\x7f", strings.Repeat("r", 65)} {
		add("request id", "request_id", &fifev1.CreateApiRequest{ApiId: "new", RequestId: id})
		add("request id", "request_id", &fifev1.PromoteCanaryRequest{Name: prod, RequestId: id, ValidateOnly: true})
	}
	for _, etag := range []string{"x", "0", "-1", "01x", "18446744073709551616"} {
		add(etag, "etag", &fifev1.DeleteApiRequest{Name: demo, Etag: etag})
		add(etag, "api.etag", &fifev1.UpdateApiRequest{Api: &fifev1.Api{Name: demo, Etag: etag}})
		route := mockRoute("GET", "/", 200)
		route.Etag = etag
		add(etag, "route.etag", &fifev1.PutRouteRequest{Parent: demo, Route: route})
		add(etag, "etag", &fifev1.DeleteRouteRequest{Parent: demo, Method: "GET", Path: "/", Etag: etag})
		add(etag, "etag", &fifev1.CreateDeploymentRequest{Parent: demo, StageId: "prod", Etag: etag})
		add(etag, "etag", &fifev1.DeleteDeploymentRequest{Name: first, Etag: etag})
		add(etag, "stage.etag", &fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: prod, Etag: etag}, UpdateMask: mask("description")})
		add(etag, "etag", &fifev1.DeleteStageRequest{Name: prod, Etag: etag})
		add(etag, "etag", &fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{}, Etag: etag})
		add(etag, "etag", &fifev1.UpdateCanaryRequest{Name: prod, Canary: &fifev1.Canary{}, UpdateMask: mask("percent"), Etag: etag})
		add(etag, "etag", &fifev1.AbortCanaryRequest{Name: prod, Etag: etag})
		add(etag, "etag", &fifev1.PromoteCanaryRequest{Name: prod, Etag: etag})
		add(etag, "etag", &fifev1.RollbackStageRequest{Name: prod, Etag: etag})
	}
	for _, paths := range [][]string{{"name"}, {"hosts", "nope"}, {"*", "hosts"}} {
		add(fmt.Sprint(paths), "update_mask", &fifev1.UpdateApiRequest{Api: &fifev1.Api{Name: demo}, UpdateMask: mask(paths...)})
	}
	add("promotion", "update_mask", &fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: prod}, UpdateMask: mask("promotion")})
	add("a route as a field", "update_mask", &fifev1.EditRoutesRequest{Parent: demo, UpdateMask: mask("routes")})
	add("base", "stage_mask", &fifev1.CreateDeploymentRequest{Parent: demo, StageId: "prod", StageMask: mask("deployment")})
	add("no stage", "stage_id", &fifev1.CreateDeploymentRequest{Parent: demo, StageMask: mask("variables")})
	add("no canary", "stage.canary", &fifev1.CreateDeploymentRequest{Parent: demo, StageId: "prod", StageMask: mask("canary")})
	add("canary and base", "target", &fifev1.CreateDeploymentRequest{
		Parent: demo, StageId: "prod", StageMask: mask("canary"), Stage: &fifev1.Stage{Canary: &fifev1.Canary{}},
		Target: fifev1.DeploymentTarget_DEPLOYMENT_TARGET_BASE,
	})
	add("an older deployment", "stage", &fifev1.CreateDeploymentRequest{
		Parent: demo, StageId: "prod", StageMask: mask("canary"), Stage: &fifev1.Stage{Canary: &fifev1.Canary{Deployment: first}},
	})
	for what, notes := range map[string]map[string]string{"bad key": {"a b": ""}, "long value": {"a": strings.Repeat("x", 200<<10)}} {
		add(what, "api.annotations", &fifev1.CreateApiRequest{ApiId: "new", Api: &fifev1.Api{Annotations: notes}})
		add(what, "stage.annotations", &fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: prod, Annotations: notes}, UpdateMask: mask("annotations")})
		annotated := mockRoute("GET", "/a", 200)
		annotated.Annotations = notes
		add(what, "route.annotations", &fifev1.PutRouteRequest{Parent: demo, Route: annotated})
		add(what, "put_routes[0].annotations", &fifev1.EditRoutesRequest{Parent: demo, PutRoutes: []*fifev1.Route{annotated}})
	}
	add("edited routes", "delete_routes[0].etag delete_routes[0].method put_routes[0].path", &fifev1.EditRoutesRequest{
		Parent: demo, DeleteRoutes: []*fifev1.RouteKey{{Method: "TRACE", Path: "/", Etag: "x"}}, PutRoutes: []*fifev1.Route{mockRoute("GET", "a", 200)},
	})
	add("salt", "update_mask", &fifev1.UpdateCanaryRequest{Name: prod, Canary: &fifev1.Canary{}, UpdateMask: mask("salt")})

	// APIs and routes.
	api := func(what, fields string, a *fifev1.Api) {
		add(what, fields, &fifev1.CreateApiRequest{ApiId: "new", Api: a})
		with := proto.CloneOf(a)
		with.Name = demo
		add(what, fields, &fifev1.UpdateApiRequest{Api: with})
	}
	api("description", "api.description", &fifev1.Api{Description: strings.Repeat("x", 1025)})
	api("host", "api.hosts", &fifev1.Api{Hosts: []string{"UPPER"}})
	api("binary", "api.binary_media_types", &fifev1.Api{BinaryMediaTypes: []string{"image"}})
	route := func(what, fields string, r *fifev1.Route) {
		add(what, fields, &fifev1.PutRouteRequest{Parent: demo, Route: r})
	}
	for _, d := range []*durationpb.Duration{
		{}, seconds(-1), seconds(30), {Nanos: 1}, {Seconds: 1, Nanos: -1}, {Nanos: 2_000_000_000}, seconds(math.MaxInt64), seconds(9_300_000_000),
	} {
		api(d.String(), "api.default_timeout", &fifev1.Api{DefaultTimeout: d})
		r := mockRoute("GET", "/", 200)
		r.Timeout = d
		route(d.String(), "route.timeout", r)
	}
	add("no route", "route.method route.path", &fifev1.PutRouteRequest{Parent: demo})
	route("method", "route.method", mockRoute("get", "/", 200))
	for _, path := range []string{"", "a", "/a//b", "/%41", "/{a}/{a}", "/{a+}/b", "/" + strings.Repeat("p", 1024)} {
		route(path, "route.path", mockRoute("GET", path, 200))
		add(path, "path", &fifev1.DeleteRouteRequest{Parent: demo, Method: "GET", Path: path})
	}
	add("method", "method", &fifev1.DeleteRouteRequest{Parent: demo, Method: "TRACE", Path: "/"})
	integration := func(what, fields string, i *fifev1.Integration) {
		route(what, fields, &fifev1.Route{Method: "GET", Path: "/", Integration: i})
	}
	integration("no kind", "route.integration", &fifev1.Integration{})
	integration("empty http", "route.integration.http.uri", &fifev1.Integration{Kind: &fifev1.Integration_Http{}})
	integration("http method", "route.integration.http.method", &fifev1.Integration{
		Kind: &fifev1.Integration_Http{Http: &fifev1.HttpIntegration{Uri: "http://h", Method: "CONNECT"}},
	})
	integration("function", "route.integration.lambda.function", &fifev1.Integration{
		Kind: &fifev1.Integration_Lambda{Lambda: &fifev1.LambdaIntegration{}},
	})
	integration("qualifier", "route.integration.lambda.qualifier", &fifev1.Integration{
		Kind: &fifev1.Integration_Lambda{Lambda: &fifev1.LambdaIntegration{Function: "f", Qualifier: "a b"}},
	})
	integration("mock", "route.integration.mock.body route.integration.mock.headers route.integration.mock.status", &fifev1.Integration{
		Kind: &fifev1.Integration_Mock{Mock: &fifev1.MockIntegration{
			Status: 1, Headers: map[string]string{"a b": ""}, Body: strings.Repeat("b", 64<<10+1),
		}},
	})

	// Deployments.
	add("description", "description", &fifev1.CreateDeploymentRequest{Parent: demo, Description: strings.Repeat("x", 1025)})
	add("target", "target", &fifev1.CreateDeploymentRequest{Parent: demo, StageId: "prod", Target: 3})
	add("target of no stage", "stage_id", &fifev1.CreateDeploymentRequest{Parent: demo, Target: fifev1.DeploymentTarget_DEPLOYMENT_TARGET_BASE})
	add("etag of no stage", "stage_id", &fifev1.CreateDeploymentRequest{Parent: demo, Etag: "1"})

	// Stages and canaries.
	stage := func(what, fields string, s *fifev1.Stage) {
		s.Deployment = cmpOr(s.GetDeployment(), first)
		add(what, fields, &fifev1.CreateStageRequest{Parent: demo, StageId: "new", Stage: s})
		with := proto.CloneOf(s)
		with.Name = prod
		add(what, fields, &fifev1.UpdateStageRequest{Stage: with})
	}
	add("no stage", "stage.deployment", &fifev1.CreateStageRequest{Parent: demo, StageId: "new"})
	add("no deployment", "stage.deployment", &fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: prod}, UpdateMask: mask("deployment")})
	add("no deployment", "stage.deployment", &fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: prod}})
	add("no stage to update", "stage.name", &fifev1.UpdateStageRequest{UpdateMask: mask("description")})
	stage("another API's", "stage.deployment", &fifev1.Stage{Deployment: "apis/other/deployments/1"})
	stage("description", "stage.description", &fifev1.Stage{Description: strings.Repeat("x", 1025)})
	stage("variable name", "stage.variables", &fifev1.Stage{Variables: map[string]string{"a-b": "v"}})
	split := func(what, fields string, s *fifev1.SplitPolicy) { stage(what, fields, &fifev1.Stage{Split: s}) }
	for name, limits := range map[string]*fifev1.Throttle{
		"rate_limit": {RateLimit: math.NaN()}, "burst_limit": {BurstLimit: 5}, "concurrency_limit": {ConcurrencyLimit: -1},
	} {
		stage(name, "stage.throttle."+name, &fifev1.Stage{Throttle: limits})
	}
	stage("all limits", fields("stage.throttle.burst_limit", "stage.throttle.concurrency_limit", "stage.throttle.rate_limit"),
		&fifev1.Stage{Throttle: &fifev1.Throttle{RateLimit: -1, BurstLimit: -1, ConcurrencyLimit: -1}})
	split("no source", "stage.split.sticky_key", &fifev1.SplitPolicy{StickyKey: &fifev1.StickyKey{}})
	split("header", "stage.split.sticky_key", &fifev1.SplitPolicy{StickyKey: &fifev1.StickyKey{Source: &fifev1.StickyKey_Header{Header: "a b"}}})
	split("cookie", "stage.split.sticky_key", &fifev1.SplitPolicy{StickyKey: &fifev1.StickyKey{Source: &fifev1.StickyKey_Cookie{}}})
	split("query", "stage.split.sticky_key", &fifev1.SplitPolicy{StickyKey: &fifev1.StickyKey{Source: &fifev1.StickyKey_QueryParameter{QueryParameter: "a="}}})
	split("client ip", "stage.split.sticky_key.client_ip", &fifev1.SplitPolicy{StickyKey: &fifev1.StickyKey{Source: &fifev1.StickyKey_ClientIp{}}})
	split("key too short", "stage.split.override_key", &fifev1.SplitPolicy{AllowOverride: true, OverrideKey: "short"})
	split("key for nothing", "stage.split.override_key", &fifev1.SplitPolicy{OverrideKey: "0123456789abcdef"})
	add("no canary", "canary", &fifev1.StartCanaryRequest{Name: prod})
	add("no canary", "canary", &fifev1.UpdateCanaryRequest{Name: prod, UpdateMask: mask("percent")})
	add("no deployment", "canary.deployment", &fifev1.UpdateCanaryRequest{Name: prod, Canary: &fifev1.Canary{}, UpdateMask: mask("deployment")})
	add("no deployment", "canary.deployment", &fifev1.UpdateCanaryRequest{Name: prod, Canary: &fifev1.Canary{}})
	for _, p := range []float64{-0.0001, 100.0001, math.NaN(), math.Inf(1), math.Inf(-1)} {
		add(fmt.Sprint(p), "canary.percent", &fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: p}})
		add(fmt.Sprint(p), "canary.percent", &fifev1.UpdateCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: p}, UpdateMask: mask("percent")})
	}
	add("override", "canary.variable_overrides", &fifev1.StartCanaryRequest{
		Name: prod, Canary: &fifev1.Canary{VariableOverrides: map[string]string{"a": ""}},
	})
	for _, k := range []string{"", strings.Repeat("k", 4097)} {
		add("key", "key", &fifev1.ExplainSplitRequest{Name: prod, Key: k})
	}

	// Members.
	for _, a := range []string{"", "host", ":7400", "0.0.0.0:7400", "[::]:7400", "host:", "host:0"} {
		add(a, "raft_address", &fifev1.JoinClusterRequest{NodeId: "n9", RaftAddress: a, GrpcAddress: "n9:7400"})
		add(a, "grpc_address", &fifev1.JoinClusterRequest{NodeId: "n9", RaftAddress: "n9:7401", GrpcAddress: a})
	}
	add("nothing", "grpc_address node_id raft_address", &fifev1.JoinClusterRequest{})

	// All at once.
	add("all at once", fields("api.binary_media_types", "api.default_timeout", "api.description", "api.hosts", "api_id", "request_id"),
		&fifev1.CreateApiRequest{ApiId: "A", RequestId: " ", Api: &fifev1.Api{
			Description: strings.Repeat("x", 1025), Hosts: []string{""}, DefaultTimeout: seconds(30), BinaryMediaTypes: []string{"x"},
		}})
	add("all at once", fields("canary.deployment", "canary.percent", "canary.variable_overrides", "etag", "name", "request_id"),
		&fifev1.StartCanaryRequest{Name: "x", Etag: "x", RequestId: " ", Canary: &fifev1.Canary{
			Deployment: "x", Percent: -1, VariableOverrides: map[string]string{"": "v"},
		}})
	return calls
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// TestBadFields: every bad field is named, and nothing reaches the log but that the
// call was refused.
func TestBadFields(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		before, logged := b.holdings(), b.logged()
		for _, call := range badCalls() {
			what := fmt.Sprintf("%T %.60s", call.req, call.what)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			got := badFields(t, what, b.call(ctx, "n1", call.req))
			cancel()
			if after := b.logged(); after != logged {
				t.Errorf("%s: it reached the log", what)
				logged = after
			}
			if want := strings.Fields(call.fields); !slices.Equal(slices.Compact(got), want) {
				t.Errorf("%s: found fault with %v, want %v", what, got, want)
			}
		}
		if after := b.holdings(); after != before {
			t.Errorf("before\n%s\nafter\n%s", before, after)
		}
	})
}

// logged returns how many changes the audit of n1 has seen.
func (b *bench) logged() uint64 {
	b.t.Helper()
	return must(fifev1.NewAuditServiceClient(b.nodes["n1"]).VerifyAudit(b.t.Context(), &fifev1.VerifyAuditRequest{}))(b.t).GetChains()[0].GetLast()
}
