package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// TestWhatGoesInComesOut: every field that a caller can set is kept as it was set.
func TestWhatGoesInComesOut(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		c, ctx := b.nodes["n1"], t.Context()
		api := &fifev1.Api{
			Description: "naïve", Hosts: []string{"a.example", "b.example"},
			DefaultTimeout: durationpb.New(1500 * time.Millisecond), BinaryMediaTypes: []string{"image/png", "*/*"},
		}
		must(c.apis.CreateApi(ctx, &fifev1.CreateApiRequest{ApiId: "demo", Api: api}))(t)
		got := must(c.apis.GetApi(ctx, &fifev1.GetApiRequest{Name: demo}))(t).GetApi()
		if got.GetName() != demo || got.GetCreateTime() == nil || got.GetUpdateTime() == nil || got.GetEtag() == "" {
			t.Errorf("got %v", got)
		}
		got.Name, got.CreateTime, got.UpdateTime, got.Etag = "", nil, nil, ""
		if !proto.Equal(got, api) {
			t.Errorf("got %v, want %v", got, api)
		}

		lambda := func(function, qualifier string) *fifev1.Integration {
			return &fifev1.Integration{Kind: &fifev1.Integration_Lambda{Lambda: &fifev1.LambdaIntegration{Function: function, Qualifier: qualifier}}}
		}
		routes := []*fifev1.Route{
			{Method: "ANY", Path: "/", Timeout: durationpb.New(50 * time.Millisecond), Integration: lambda("f", "$LATEST")},
			{Method: "GET", Path: "/{a}/{b+}", Timeout: durationpb.New(29 * time.Second), Integration: &fifev1.Integration{
				Kind: &fifev1.Integration_Http{Http: &fifev1.HttpIntegration{Uri: "http://h/{a}/{b+}?q=${stageVariables.q}", Method: "POST"}},
			}},
			{Method: "PUT", Path: "/mock", Integration: &fifev1.Integration{Kind: &fifev1.Integration_Mock{Mock: &fifev1.MockIntegration{
				Status: 418, Headers: map[string]string{"x": "y"}, Body: "b",
			}}}},
			{Method: "PUT", Path: "/unfinished"},
		}
		for _, r := range routes {
			r := proto.CloneOf(r)
			if len(r.GetPath()) > 1 {
				r.Path += "/" // a trailing slash is dropped
			}
			must(c.apis.PutRoute(ctx, &fifev1.PutRouteRequest{Parent: demo, Route: r}))(t)
		}
		sorted := []*fifev1.Route{routes[0], routes[2], routes[3], routes[1]}
		for i, r := range must(c.apis.ListRoutes(ctx, &fifev1.ListRoutesRequest{Parent: demo}))(t).GetRoutes() {
			if r.GetEtag() == "" {
				t.Errorf("%v has no etag", r)
			}
			if r.Etag = ""; !proto.Equal(r, sorted[i]) {
				t.Errorf("got %v, want %v", r, sorted[i])
			}
		}
		must(c.apis.DeleteRoute(ctx, &fifev1.DeleteRouteRequest{Parent: demo, Method: "PUT", Path: "/unfinished/"}))(t)

		d := must(c.deployments.CreateDeployment(ctx, &fifev1.CreateDeploymentRequest{Parent: demo, Description: "one"}))(t).GetDeployment()
		if d.GetName() != first || d.GetDescription() != "one" || d.GetRouteCount() != 3 || len(d.GetDigest()) != 64 ||
			!proto.Equal(d.GetDefaultTimeout(), api.GetDefaultTimeout()) || len(d.GetBinaryMediaTypes()) != 2 || d.GetCreateTime() == nil {
			t.Errorf("got %v", d)
		}
		if read := must(c.deployments.GetDeployment(ctx, &fifev1.GetDeploymentRequest{Name: first}))(t).GetDeployment(); !proto.Equal(read, d) {
			t.Errorf("made %v, read %v", d, read)
		}
		for _, r := range must(c.deployments.ListDeploymentRoutes(ctx, &fifev1.ListDeploymentRoutesRequest{Parent: first}))(t).GetRoutes() {
			if r.GetEtag() != "" {
				t.Errorf("a frozen route has an etag: %v", r)
			}
		}
	})
}

func TestStagesComeOut(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		c, ctx := b.nodes["n1"], t.Context()
		for i, split := range []*fifev1.SplitPolicy{
			nil,
			{AllowOverride: true},
			{StickyKey: &fifev1.StickyKey{Source: &fifev1.StickyKey_Header{Header: "x-user"}}},
			{StickyKey: &fifev1.StickyKey{Source: &fifev1.StickyKey_Cookie{Cookie: "c"}}, AllowOverride: true},
			{StickyKey: &fifev1.StickyKey{Source: &fifev1.StickyKey_QueryParameter{QueryParameter: "q"}}},
			{StickyKey: &fifev1.StickyKey{Source: &fifev1.StickyKey_ClientIp{ClientIp: true}}},
		} {
			stage := &fifev1.Stage{
				Description: "d", Deployment: first, Variables: map[string]string{"a": "1"}, Split: split, ExposeHeaders: i%2 == 0,
				StalePolicy: fifev1.StalePolicy(1 + i%2), ConsistentClients: i%2 == 1, Waves: waves[:i%4],
				Throttle: []*fifev1.Throttle{
					nil, {RateLimit: 0.29}, {RateLimit: 1e6, BurstLimit: 7, ConcurrencyLimit: 9}, {ConcurrencyLimit: 1e6},
				}[i%4],
			}
			made := must(c.stages.CreateStage(ctx, &fifev1.CreateStageRequest{Parent: demo, StageId: fmt.Sprint("s", i), Stage: stage}))(t).GetStage()
			got := must(c.stages.GetStage(ctx, &fifev1.GetStageRequest{Name: made.GetName()}))(t).GetStage()
			if !proto.Equal(got, made) || got.GetName() != fmt.Sprintf("apis/demo/stages/s%d", i) || got.GetRevision() != 1 || got.GetEtag() == "" ||
				got.GetCreateTime() == nil || got.GetUpdateTime() == nil {
				t.Errorf("made %v, got %v", made, got)
			}
			got.Name, got.Revision, got.Etag, got.CreateTime, got.UpdateTime = "", 0, "", nil, nil
			if !proto.Equal(got, stage) {
				t.Errorf("got %v, want %v", got, stage)
			}
		}
		started := must(c.stages.StartCanary(ctx, &fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{
			Percent: 33.3333, VariableOverrides: map[string]string{"b": "2"}, Salt: 7,
		}}))(t).GetStage().GetCanary()
		if started.GetDeployment() != first || started.GetPercent() != 33.3333 || started.GetVariableOverrides()["b"] != "2" ||
			started.GetSalt() == 7 || started.GetSalt() == 0 || started.GetStartTime() == nil {
			t.Errorf("got %v: the salt is not the caller's to choose", started)
		}
		changed := must(c.stages.UpdateCanary(ctx, &fifev1.UpdateCanaryRequest{
			Name: prod, Canary: &fifev1.Canary{Percent: 100}, UpdateMask: mask("percent"),
		}))(t).GetStage().GetCanary()
		if changed.GetSalt() != started.GetSalt() || changed.GetPercent() != 100 || changed.GetVariableOverrides()["b"] != "2" {
			t.Errorf("got %v", changed)
		}
		replaced := must(c.stages.StartCanary(ctx, &fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{}, Replace: true}))(t).GetStage().GetCanary()
		if replaced.GetSalt() == started.GetSalt() {
			t.Error("two canaries have the same salt")
		}
	})
}

// TestOverrideKeyStaysHidden: whoever reads a stage cannot sign overrides, and
// whoever writes back what was read does not open them to everybody.
func TestOverrideKeyStaysHidden(t *testing.T) {
	const secret = "0123456789abcdef-secret"
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		c, ctx := b.nodes["n1"], t.Context()
		set := must(c.stages.UpdateStage(ctx, &fifev1.UpdateStageRequest{
			Stage:      &fifev1.Stage{Name: prod, Split: &fifev1.SplitPolicy{AllowOverride: true, OverrideKey: secret}},
			UpdateMask: mask("split"),
		}))(t).GetStage()
		if !set.GetSplit().GetOverrideKeySet() {
			t.Errorf("got %v", set)
		}
		if strings.Contains(fmt.Sprint(set)+b.holdings(), secret) {
			t.Error("the key can be read")
		}
		read := must(c.stages.GetStage(ctx, &fifev1.GetStageRequest{Name: prod}))(t).GetStage()
		read.Description = "edited"
		resp, err := c.stages.UpdateStage(ctx, &fifev1.UpdateStageRequest{Stage: read})
		if err == nil && !resp.GetStage().GetSplit().GetOverrideKeySet() {
			t.Error("what was read was written back, and now anybody may choose a variant")
		}
	})
}

func TestExplainSplit(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		c, ctx := b.nodes["n1"], t.Context()
		ask := &fifev1.ExplainSplitRequest{Name: prod, Key: "user"}
		if got := must(c.stages.ExplainSplit(ctx, ask))(t); got.GetVariant() != "base" || got.GetDeployment() != first || got.GetThreshold() != 0 {
			t.Errorf("without a canary: %v", got)
		}
		b.takes(
			&fifev1.CreateDeploymentRequest{Parent: demo},
			&fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: prod, Split: &fifev1.SplitPolicy{
				StickyKey: &fifev1.StickyKey{Source: &fifev1.StickyKey_Header{Header: "x-user"}},
			}}, UpdateMask: mask("split")},
			&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Deployment: "apis/demo/deployments/2", Percent: 100}},
		)
		salt := must(c.stages.GetStage(ctx, &fifev1.GetStageRequest{Name: prod}))(t).GetStage().GetCanary().GetSalt()
		got := must(c.stages.ExplainSplit(ctx, ask))(t)
		if got.GetVariant() != "canary" || got.GetDeployment() != "apis/demo/deployments/2" || got.GetThreshold() != 1_000_000 ||
			got.GetSalt() != salt || !strings.Contains(got.GetExplanation(), "is below the canary's threshold") {
			t.Errorf("at 100 %%: %v", got)
		}
	})
}
