package apigateway_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// TestSecretVariables: this face shows no secret and no name of one, refuses to change
// them, and changes of everything else leave them what they are.
func TestSecretVariables(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, clients []*client) {
		c := clients[0]
		path, _ := c.mockAPI("one")
		stage, name := path+"/stages/dev", native(path, "dev")
		first := c.deployed(path, object{"stageName": "dev", "variables": object{"p": "1"}})
		secret := map[string]string{"token": "hush-hush"}
		must(c.native.UpdateStage(t.Context(), &fifev1.UpdateStageRequest{
			Stage: &fifev1.Stage{Name: name, SecretVariables: secret}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"secret_variables"}},
		}))(t)
		must(c.native.StartCanary(t.Context(), &fifev1.StartCanaryRequest{Name: name, Canary: &fifev1.Canary{Percent: 10, SecretOverrides: secret}}))(t)
		c.equal("stage", c.do(200, get, stage, nil), stageShape(first, `, "variables": {"p": "1"}`+canaryShape(first, 10, "")))

		const message = "Stage variable token is secret: change it by Fife's own API"
		for _, refused := range []op{
			{Op: "replace", Path: "/variables/token", Value: "open"},
			{Op: "remove", Path: "/variables/token"},
			{Op: "replace", Path: "/canarySettings/stageVariableOverrides/token", Value: "open"},
			{Op: "remove", Path: "/canarySettings/stageVariableOverrides/token"},
		} {
			c.refused(400, bad, message, patchIt, stage, patches(op{Op: "replace", Path: "/description", Value: "x"}, refused))
		}
		c.refused(400, bad, "The canary overrides secrets, which cannot be copied: promote it by Fife's own API", patchIt, stage,
			patches(op{Op: "copy", From: "/canarySettings/stageVariableOverrides", Path: "/variables"}))
		for _, body := range []object{
			{"stageName": "dev", "canarySettings": object{}, "variables": object{"token": "open"}},
			{"stageName": "dev", "canarySettings": object{"stageVariableOverrides": object{"token": "open"}}},
		} {
			status, header, text := c.send(post, path+"/deployments", body)
			if status != 400 || header.Get("x-amzn-ErrorType") != bad || strings.Contains(text, "hush") {
				t.Errorf("%v: got %d %s", body, status, text)
			}
		}

		c.do(200, patchIt, stage, patches(
			op{Op: "replace", Path: "/variables/p", Value: "2"},
			op{Op: "replace", Path: "/canarySettings/percentTraffic", Value: "20"},
			op{Op: "replace", Path: "/canarySettings/stageVariableOverrides/o", Value: "3"},
		))
		c.deployed(path, object{"stageName": "dev", "variables": object{"p": "4"}, "canarySettings": object{"percentTraffic": 30}})
		got := must(c.native.GetStage(t.Context(), &fifev1.GetStageRequest{Name: name}))(t).GetStage()
		if _, ok := got.GetSecretVariables()["token"]; !ok || got.GetVariables()["p"] != "4" {
			t.Errorf("the stage is %v", got)
		}
		if _, ok := got.GetCanary().GetSecretOverrides()["token"]; !ok || got.GetCanary().GetPercent() != 30 {
			t.Errorf("the canary is %v", got.GetCanary())
		}
		if text := fmt.Sprint(got, c.do(200, get, stage, nil), c.do(200, get, path+"/stages", nil)); strings.Contains(text, "hush") {
			t.Errorf("the secret is in %s", text)
		}
	})
}
