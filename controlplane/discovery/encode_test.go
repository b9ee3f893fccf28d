package discovery_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// TestResources: agents get all that they route by, as it was set.
func TestResources(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		ctx := t.Context()
		must(b.apis().CreateApi(ctx, &fifev1.CreateApiRequest{ApiId: "demo", Api: &fifev1.Api{
			Description: "not for agents", Hosts: []string{"a.example", "b.example"},
			DefaultTimeout: durationpb.New(1500 * time.Millisecond), BinaryMediaTypes: []string{"image/png"},
		}}))(t)
		for _, r := range []*fifev1.Route{
			{Method: "GET", Path: "/h/{id}", Timeout: durationpb.New(time.Second), Integration: &fifev1.Integration{
				Kind: &fifev1.Integration_Http{Http: &fifev1.HttpIntegration{Uri: "http://${stageVariables.h}/{id}", Method: "POST"}},
			}},
			{Method: "ANY", Path: "/l", Integration: &fifev1.Integration{
				Kind: &fifev1.Integration_Lambda{Lambda: &fifev1.LambdaIntegration{Function: "f", Qualifier: "$LATEST"}},
			}},
			{Method: "PUT", Path: "/m", Integration: &fifev1.Integration{
				Kind: &fifev1.Integration_Mock{Mock: &fifev1.MockIntegration{Headers: map[string]string{"x": "y"}, Body: "b"}},
			}},
		} {
			must(b.apis().PutRoute(ctx, &fifev1.PutRouteRequest{Parent: "apis/demo", Route: r}))(t)
		}
		b.deploy("demo")
		key := "0123456789abcdef"
		must(b.stages().UpdateStage(ctx, &fifev1.UpdateStageRequest{Stage: &fifev1.Stage{
			Name: "apis/demo/stages/prod", Description: "not for agents", Deployment: "apis/demo/deployments/1",
			Variables: map[string]string{"h": "one"}, ExposeHeaders: true,
			Throttle: &fifev1.Throttle{RateLimit: 2.5, ConcurrencyLimit: 50},
			Split: &fifev1.SplitPolicy{
				AllowOverride: true, OverrideKey: key,
				StickyKey: &fifev1.StickyKey{Source: &fifev1.StickyKey_Cookie{Cookie: "c"}},
			},
		}}))(t)
		canary := must(b.stages().StartCanary(ctx, &fifev1.StartCanaryRequest{Name: "apis/demo/stages/prod", Canary: &fifev1.Canary{
			Percent: 12.5, VariableOverrides: map[string]string{"h": "two"},
		}}))(t).GetStage().GetCanary()

		a := b.connect("n1", "a", nil)
		a.take()
		want := map[string]*discoveryv1.Resource{
			"apis/demo": {Body: &discoveryv1.Resource_Api{Api: &discoveryv1.Api{Hosts: []string{"a.example", "b.example"}}}},
			"apis/demo/deployments/1": {Body: &discoveryv1.Resource_Deployment{Deployment: &discoveryv1.Deployment{
				DefaultTimeout: durationpb.New(1500 * time.Millisecond), BinaryMediaTypes: []string{"image/png"},
				Routes: []*discoveryv1.Route{
					{Method: "GET", Path: "/h/{id}", Timeout: durationpb.New(time.Second), Integration: &discoveryv1.Route_Http{
						Http: &discoveryv1.HttpIntegration{Uri: "http://${stageVariables.h}/{id}", Method: "POST"},
					}},
					{Method: "ANY", Path: "/l", Integration: &discoveryv1.Route_Lambda{
						Lambda: &discoveryv1.LambdaIntegration{Function: "f", Qualifier: "$LATEST"},
					}},
					{Method: "PUT", Path: "/m", Integration: &discoveryv1.Route_Mock{
						Mock: &discoveryv1.MockIntegration{Status: 200, Headers: map[string]string{"x": "y"}, Body: "b"},
					}},
				},
			}}},
			"apis/demo/stages/prod": {Body: &discoveryv1.Resource_Stage{Stage: &discoveryv1.Stage{
				Deployment: 1, Variables: map[string]string{"h": "one"}, AllowOverride: true, OverrideKey: key, ExposeHeaders: true,
				StickyKey: &discoveryv1.StickyKey{Source: &discoveryv1.StickyKey_Cookie{Cookie: "c"}},
				// The burst that the operator left out is what comes in a second.
				Throttle: &discoveryv1.Throttle{MillirequestsPerSecond: 2500, Burst: 3, Concurrency: 50},
				Canary: &discoveryv1.Canary{
					Deployment: 1, PartsPerMillion: 125_000, VariableOverrides: map[string]string{"h": "two"}, Salt: canary.GetSalt(),
				},
			}}},
		}
		if len(a.holds) != len(want) {
			t.Errorf("the agent holds %s", a.names())
		}
		for name, r := range a.holds {
			if r.GetName() != name || r.GetRevision() == 0 {
				t.Errorf("%s is called %s, revision %d", name, r.GetName(), r.GetRevision())
			}
			bare := proto.CloneOf(r)
			bare.Name, bare.Revision = "", 0
			if !proto.Equal(bare, want[name]) {
				t.Errorf("%s: got\n%v\nwant\n%v", name, bare, want[name])
			}
		}
	})
}

// TestSecretsAreOpened: agents get the secrets of the stages that they hold, and hear
// which they are, and nobody gets those of others.
func TestSecretsAreOpened(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		b.createAPI("other")
		serving := b.greet("n1", &discoveryv1.Hello{AgentId: "serving", Apis: []string{"demo"}})
		other := b.greet("n1", &discoveryv1.Hello{AgentId: "other", Apis: []string{"other"}})
		serving.take()
		other.take()
		secret := map[string]string{"s": "hush"}
		must(b.stages().UpdateStage(t.Context(), &fifev1.UpdateStageRequest{
			Stage:      &fifev1.Stage{Name: "apis/demo/stages/prod", Variables: map[string]string{"p": "1"}, SecretVariables: secret},
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"variables", "secret_variables"}},
		}))(t)
		serving.take()
		must(b.stages().StartCanary(t.Context(), &fifev1.StartCanaryRequest{Name: "apis/demo/stages/prod", Canary: &fifev1.Canary{SecretOverrides: secret}}))(t)
		serving.take()
		got := serving.holds["apis/demo/stages/prod"].GetStage()
		if got.GetVariables()["s"] != "hush" || got.GetVariables()["p"] != "1" || len(got.GetSecretVariables()) != 1 ||
			got.GetCanary().GetVariableOverrides()["s"] != "hush" || len(got.GetCanary().GetSecretOverrides()) != 1 {
			t.Errorf("the agent that serves holds %v", got)
		}
		if text := fmt.Sprint(other.holds); strings.Contains(text, "hush") {
			t.Errorf("another agent holds %s", text)
		}
	})
}

func TestStickyKeys(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.createAPI("demo")
		a := b.connect("n1", "a", nil)
		a.take()
		for _, tt := range []struct {
			set  *fifev1.StickyKey
			want *discoveryv1.StickyKey
		}{
			{&fifev1.StickyKey{Source: &fifev1.StickyKey_Header{Header: "x"}}, &discoveryv1.StickyKey{Source: &discoveryv1.StickyKey_Header{Header: "x"}}},
			{&fifev1.StickyKey{Source: &fifev1.StickyKey_Cookie{Cookie: "x"}}, &discoveryv1.StickyKey{Source: &discoveryv1.StickyKey_Cookie{Cookie: "x"}}},
			{
				&fifev1.StickyKey{Source: &fifev1.StickyKey_QueryParameter{QueryParameter: "x"}},
				&discoveryv1.StickyKey{Source: &discoveryv1.StickyKey_QueryParameter{QueryParameter: "x"}},
			},
			{&fifev1.StickyKey{Source: &fifev1.StickyKey_ClientIp{ClientIp: true}}, &discoveryv1.StickyKey{Source: &discoveryv1.StickyKey_ClientIp{ClientIp: true}}},
			{nil, nil},
		} {
			must(b.stages().UpdateStage(t.Context(), &fifev1.UpdateStageRequest{
				Stage:      &fifev1.Stage{Name: "apis/demo/stages/prod", Deployment: "apis/demo/deployments/1", Split: &fifev1.SplitPolicy{StickyKey: tt.set}},
				UpdateMask: nil,
			}))(t)
			a.take()
			if got := a.holds["apis/demo/stages/prod"].GetStage().GetStickyKey(); !proto.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		}
	})
}
