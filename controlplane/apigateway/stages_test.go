package apigateway_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

const (
	get, post, put, patchIt, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete

	bad, missing, taken = "BadRequestException", "NotFoundException", "ConflictException"
)

func stageShape(deployment, more string) string {
	return fmt.Sprintf(`{"deploymentId": %q, "stageName": "dev", "cacheClusterEnabled": false, "cacheClusterStatus": "NOT_AVAILABLE",
		"methodSettings": {}, "tracingEnabled": false, "createdDate": "*", "lastUpdatedDate": "*"%s}`, deployment, more)
}

func canaryShape(deployment string, percent float64, overrides string) string {
	if overrides != "" {
		overrides = `"stageVariableOverrides": ` + overrides + ", "
	}
	return fmt.Sprintf(`, "canarySettings": {"deploymentId": %q, "percentTraffic": %v, %s"useStageCache": false}`, deployment, percent, overrides)
}

// TestCanaryDeployment: a deployment with canarySettings goes to the canary and leaves
// the stage's own; each refusal is the service's, to the letter.
func TestCanaryDeployment(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, clients []*client) {
		c := clients[0]
		path, _ := c.mockAPI("one")
		const invalid = "Invalid deployment content specified."
		canary := object{"percentTraffic": 50, "stageVariableOverrides": object{"testVar": "canary"}}
		for _, stage := range []string{"null", ""} {
			body := object{"canarySettings": canary}
			if stage == "" {
				body["stageName"] = ""
			}
			c.refused(400, bad, invalid+"Non null and non empty stageName must be provided for canary deployment. Provided value is "+stage,
				post, path+"/deployments", body)
		}
		c.refused(400, bad, invalid+"Stage none must already be created before making a canary release deployment",
			post, path+"/deployments", object{"stageName": "none", "canarySettings": canary})
		if got := c.do(200, get, path+"/deployments", nil); len(got["item"].([]any)) != 0 {
			t.Errorf("refused deployments were made: %v", got)
		}

		first := c.deployed(path, object{"stageName": "dev", "variables": object{"testVar": "default"}})
		if first != "000001" {
			t.Errorf("the first deployment is %s", first)
		}
		second := c.deployed(path, object{"stageName": "dev", "canarySettings": canary})
		c.equal("stage", c.do(200, get, path+"/stages/dev", nil),
			stageShape(first, `, "variables": {"testVar": "default"}`+canaryShape(second, 50, `{"testVar": "canary"}`)))
		c.refused(400, bad, invalid+"Non canary deployment not supported on stage dev because Canary is enabled. Provide CanarySettings in deploymentInput.",
			post, path+"/deployments", object{"stageName": "dev"})
		third := c.deployed(path, object{"stageName": "dev", "canarySettings": object{}})
		c.equal("stage after a canary with defaults", c.do(200, get, path+"/stages/dev", nil),
			stageShape(first, `, "variables": {"testVar": "default"}`+canaryShape(third, 0, "")))
	})
}

// TestPromotionByPatch: three patches promote, merge the variables and leave the canary at
// 0 %, as the operators' API shows too, until it is removed.
func TestPromotionByPatch(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, clients []*client) {
		c := clients[0]
		path, _ := c.mockAPI("one")
		stage := path + "/stages/dev"
		first := c.deployed(path, object{"stageName": "dev", "variables": object{"testVar": "test", "testVar2": "test2"}})
		copies := []op{
			{Op: "copy", From: "/canarySettings/deploymentId", Path: "/deploymentId"},
			{Op: "copy", From: "/canarySettings/stageVariableOverrides", Path: "/variables"},
		}
		variables := `, "variables": {"testVar": "test", "testVar2": "test2"}`
		c.refused(400, bad, "Promotion not available. Canary does not exist.", patchIt, stage, patches(copies...))
		c.refused(400, bad, "Invalid copy operation with path: /canarySettings/stageVariableOverrides and from /variables. "+
			"Valid copy:path are [/deploymentId, /variables] and valid copy:from are [/canarySettings/deploymentId, /canarySettings/stageVariableOverrides]",
			patchIt, stage, patches(op{Op: "copy", Path: "/canarySettings/stageVariableOverrides", From: "/variables"}))
		c.equal("untouched", c.do(200, get, stage, nil), stageShape(first, variables))

		promote := append([]op{{Op: "replace", Path: "/canarySettings/percentTraffic", Value: "0.0"}}, copies...)
		c.equal("promotion without a canary", c.do(200, patchIt, stage, patches(promote...)),
			stageShape(first, variables+canaryShape(first, 0, "")))
		second := c.deployed(path, object{"stageName": "dev", "canarySettings": object{
			"percentTraffic": 50, "stageVariableOverrides": object{"testVar": "override"},
		}})
		before := must(c.native.GetStage(t.Context(), &fifev1.GetStageRequest{Name: native(path, "dev")}))(t).GetStage()
		merged := `, "variables": {"testVar": "override", "testVar2": "test2"}`
		c.equal("promotion", c.do(200, patchIt, stage, patches(promote...)),
			stageShape(second, merged+canaryShape(second, 0, `{"testVar": "override"}`)))
		after := must(c.native.GetStage(t.Context(), &fifev1.GetStageRequest{Name: native(path, "dev")}))(t).GetStage()
		if after.GetRevision() != before.GetRevision()+1 || after.GetCanary().GetPercent() != 0 ||
			after.GetDeployment() != "apis/"+path[len("/restapis/"):]+"/deployments/2" || after.GetCanary().GetSalt() != before.GetCanary().GetSalt() {
			t.Errorf("the operators' API shows\n%v after\n%v", after, before)
		}
		c.equal("without the canary", c.do(200, patchIt, stage, patches(op{Op: "remove", Path: "/canarySettings"})),
			stageShape(second, merged))
	})
}

func native(path, stage string) string {
	return "apis/" + strings.TrimPrefix(path, "/restapis/") + "/stages/" + stage
}

func must[T any](resp T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
}

// TestStagePatches: what each patch does, and what those are refused with that do
// nothing. A list of which one is refused changes nothing.
func TestStagePatches(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, clients []*client) {
		c := clients[0]
		path, _ := c.mockAPI("one")
		stage := path + "/stages/dev"
		first := c.deployed(path, object{})
		second := c.deployed(path, object{})
		c.equal("created", c.do(201, post, path+"/stages", object{
			"stageName": "dev", "deploymentId": first, "description": "dev stage", "variables": object{"testVar": "default"},
			"tags": object{"owner": "team"},
			"canarySettings": object{
				"deploymentId": second, "percentTraffic": 50, "stageVariableOverrides": object{"testVar": "canary", "other": "x"},
			},
		}), stageShape(first, `, "description": "dev stage", "tags": {"owner": "team"}, "variables": {"testVar": "default"}`+
			canaryShape(second, 50, `{"testVar": "canary", "other": "x"}`)))
		for _, tt := range []struct {
			what, want string
			ops        []op
		}{
			{"removes one override", stageShape(first, `, "description": "dev stage", "tags": {"owner": "team"}, "variables": {"testVar": "default"}`+
				canaryShape(second, 50, `{"testVar": "canary"}`)), []op{{Op: "remove", Path: "/canarySettings/stageVariableOverrides/other"}}},
			{"sets several at once", stageShape(second, `, "description": "d", "tags": {"owner": "team"}, "variables": {"a": "1"}`+
				canaryShape(first, 12.5, `{"testVar": "new"}`)), []op{
				{Op: "replace", Path: "/variables/a", Value: "1"},
				{Op: "remove", Path: "/variables/testVar"},
				{Op: "replace", Path: "/description", Value: "d"},
				{Op: "replace", Path: "/deploymentId", Value: second},
				{Op: "replace", Path: "/canarySettings/deploymentId", Value: first},
				{Op: "replace", Path: "/canarySettings/percentTraffic", Value: "12.5"},
				{Op: "replace", Path: "/canarySettings/stageVariableOverrides/testVar", Value: "new"},
				{Op: "replace", Path: "/cacheClusterEnabled", Value: "false"},
				{Op: "replace", Path: "/tracingEnabled", Value: "false"},
			}},
			{"removes the canary and makes one with defaults", stageShape(second, `, "description": "d", "tags": {"owner": "team"}, "variables": {"a": "1"}`+
				canaryShape(second, 30, "")), []op{
				{Op: "remove", Path: "/canarySettings"}, {Op: "replace", Path: "/canarySettings/percentTraffic", Value: "30"},
			}},
			{"has a canary of another deployment", stageShape(second, `, "description": "d", "tags": {"owner": "team"}, "variables": {"a": "1"}`+
				canaryShape(first, 0, "")), []op{
				{Op: "remove", Path: "/canarySettings"}, {Op: "replace", Path: "/canarySettings/deploymentId", Value: first},
			}},
		} {
			c.equal(tt.what, c.do(200, patchIt, stage, patches(tt.ops...)), tt.want)
			c.equal(tt.what+", read", c.do(200, get, stage, nil), tt.want)
		}

		before := c.do(200, get, stage, nil)
		for _, tt := range []struct {
			op      op
			message string
		}{
			{op{Op: "replace", Path: "/deploymentId", Value: "deploy"}, "Deployment id does not exist"},
			{op{Op: "replace", Path: "/deploymentId", Value: "000099"}, "Deployment id does not exist"},
			{op{Op: "replace", Path: "/canarySettings/deploymentId", Value: "deploy"}, "Deployment id does not exist"},
			{op{Op: "replace", Path: "/canarySettings/deploymentId", Value: "000099"}, "Deployment id does not exist"},
			{op{Op: "add", Path: "/canarySettings/deploymentId", Value: second}, "Invalid add operation with path: /canarySettings/deploymentId"},
			{op{Op: "remove", Path: "/canarySettings/stageVariableOverrides"},
				"Cannot remove method setting canarySettings/stageVariableOverrides because there is no method setting for this method "},
			{op{Op: "remove", Path: "/canarySettings/badPath"}, "Cannot remove method setting canarySettings/badPath because there is no method setting for this method "},
			{op{Op: "replace", Path: "/canarySettings", Value: "x"}, "Invalid method setting path: /canarySettings. Must be one of: " + stagePathsText},
			{op{Op: "replace", Path: "/canarySettings/badPath", Value: "x"}, "Invalid method setting path: /canarySettings/badPath. Must be one of: " + stagePathsText},
			{op{Op: "replace", Path: "/canarySettings/percentTraffic", Value: "100.1"}, "Invalid canary percentTraffic specified: 100.1. It must be between 0.0 and 100.0"},
			{op{Op: "replace", Path: "/canarySettings/percentTraffic", Value: "NaN"}, "Invalid canary percentTraffic specified: NaN. It must be between 0.0 and 100.0"},
			{op{Op: "replace", Path: "/cacheClusterEnabled", Value: "true"}, "Fife does not support cacheClusterEnabled"},
			{op{Op: "replace", Path: "/~1pets/GET/throttling/rateLimit", Value: "5"}, "Fife does not support throttling by method; " +
				"throttle the stage by /*/*/throttling/rateLimit and /*/*/throttling/burstLimit"},
			{op{Op: "replace", Path: "/*/*/throttling/rateLimit", Value: "0"},
				"Invalid throttling rate limit specified: 0. It must be more than 0 requests per second; remove /*/* for no limit"},
			{op{Op: "replace", Path: "/*/*/throttling/burstLimit", Value: "1.5"},
				"Invalid throttling burst limit specified: 1.5. It must be a number of requests of 1 or more"},
			{op{Op: "remove", Path: "/*/*"}, "Cannot remove method setting */* because there is no method setting for this method "},
			{op{Op: "replace", Path: "/~1pets/GET/logging/loglevel", Value: "INFO"}, "Fife does not support method settings other than throttling"},
			{op{Op: "replace", Path: "deploymentId", Value: first}, "Invalid patch path deploymentId"},
			{op{Op: "replace", Path: "/variables/~2", Value: "x"}, "Invalid patch path /variables/~2"},
			{op{Op: "replace", Path: "/variables/~", Value: "x"}, "Invalid patch path /variables/~"},
			{op{Op: "increment", Path: "/deploymentId"}, "Invalid patch operation specified. Must be one of: [add, remove, replace, move, copy, test]"},
			{op{Op: "replace", Path: "/variables/a~1b", Value: "x"},
				`the request has bad fields: stage.variables: name "a/b" must have 1 to 64 letters, digits and underscores`},
		} {
			c.refused(400, bad, tt.message, patchIt, stage, patches(op{Op: "replace", Path: "/description", Value: "half done"}, tt.op))
		}
		if after := c.do(200, get, stage, nil); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("refused patches changed\n%v to\n%v", before, after)
		}
	})
}

// stagePathsText is the service's own, with its missing commas.
const stagePathsText = "[/deploymentId, /description, /cacheClusterEnabled, /cacheClusterSize, /clientCertificateId, /accessLogSettings, " +
	"/accessLogSettings/destinationArn, /accessLogSettings/format, /{resourcePath}/{httpMethod}/metrics/enabled, " +
	"/{resourcePath}/{httpMethod}/logging/dataTrace, /{resourcePath}/{httpMethod}/logging/loglevel, " +
	"/{resourcePath}/{httpMethod}/throttling/burstLimit/{resourcePath}/{httpMethod}/throttling/rateLimit/{resourcePath}/{httpMethod}/caching/ttlInSeconds, " +
	"/{resourcePath}/{httpMethod}/caching/enabled, /{resourcePath}/{httpMethod}/caching/dataEncrypted, " +
	"/{resourcePath}/{httpMethod}/caching/requireAuthorizationForCacheControl, " +
	"/{resourcePath}/{httpMethod}/caching/unauthorizedCacheControlHeaderStrategy, /*/*/metrics/enabled, /*/*/logging/dataTrace, " +
	"/*/*/logging/loglevel, /*/*/throttling/burstLimit /*/*/throttling/rateLimit /*/*/caching/ttlInSeconds, /*/*/caching/enabled, " +
	"/*/*/caching/dataEncrypted, /*/*/caching/requireAuthorizationForCacheControl, " +
	"/*/*/caching/unauthorizedCacheControlHeaderStrategy, /variables/{variable_name}, /tracingEnabled]"

// TestConcurrentPatches: patch lists that meet on one stage, by way of different nodes,
// are carried out one after the other, each as a whole.
func TestConcurrentPatches(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, clients []*client) {
		c := clients[0]
		path, _ := c.mockAPI("one")
		c.deployed(path, object{"stageName": "dev"})
		var all sync.WaitGroup
		const writers = 12
		statuses := make([]int, writers)
		for i := range writers {
			all.Go(func() {
				mark := fmt.Sprint(i)
				statuses[i], _, _ = clients[i%3].send(patchIt, path+"/stages/dev", patches(
					op{Op: "replace", Path: "/variables/a", Value: mark},
					op{Op: "replace", Path: "/variables/by" + mark, Value: mark},
					op{Op: "replace", Path: "/canarySettings/percentTraffic", Value: mark},
					op{Op: "replace", Path: "/description", Value: mark},
				))
			})
		}
		all.Wait()
		won := 0
		revisions := must(c.native.ListStageRevisions(t.Context(), &fifev1.ListStageRevisionsRequest{Parent: native(path, "dev")}))(t).GetRevisions()
		for i, status := range statuses {
			switch status {
			case http.StatusOK:
				won++
			case http.StatusConflict:
				for _, r := range revisions {
					if r.GetAfter().GetVariables()["a"] == fmt.Sprint(i) {
						t.Errorf("patch %d was refused and carried out", i)
					}
				}
			default:
				t.Errorf("patch %d: %d", i, status)
			}
		}
		if won == 0 || len(revisions) != won+1 {
			t.Errorf("%d patches won and left %d revisions", won, len(revisions))
		}
		last := revisions[0].GetAfter()
		if len(last.GetVariables()) != won+1 {
			t.Errorf("%d patches won and left %v", won, last.GetVariables())
		}
		for _, r := range revisions[:won] {
			if a := r.GetAfter(); fmt.Sprint(a.GetCanary().GetPercent()) != a.GetVariables()["a"] {
				t.Errorf("a patch is half done: %v", a)
			}
		}
	})
}

// TestDeleteDeployment: what a stage, its canary or its history needs stays.
func TestDeleteDeployment(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, clients []*client) {
		c := clients[0]
		path, _ := c.mockAPI("one")
		first := c.deployed(path, object{"stageName": "dev", "description": "first"})
		second := c.deployed(path, object{"stageName": "dev", "canarySettings": object{"percentTraffic": 1}})
		for _, id := range []string{first, second} {
			c.refused(400, bad, "Active stages pointing to this deployment must be moved or deleted", del, path+"/deployments/"+id, nil)
		}
		c.do(200, patchIt, path+"/stages/dev", patches(op{Op: "replace", Path: "/deploymentId", Value: second}))
		c.refused(400, bad, "The history of stage dev, which can be rolled back to this deployment, must be deleted with the stage first",
			del, path+"/deployments/"+first, nil)
		c.equal("deployment", c.do(200, get, path+"/deployments/"+first+"?embed=apisummary", nil),
			`{"id": "000001", "description": "first", "createdDate": "*", "apiSummary": {"/": {"GET": {"authorizationType": "NONE", "apiKeyRequired": false}}}}`)
		c.refused(400, bad, "Fife does not support a change of a deployment, not even of its description",
			patchIt, path+"/deployments/"+first, patches(op{Op: "replace", Path: "/description", Value: "new"}))
		c.do(202, del, path+"/stages/dev", nil)
		c.do(202, del, path+"/deployments/"+first, nil)
		c.refused(404, missing, "Invalid Deployment identifier specified", get, path+"/deployments/"+first, nil)
		c.refused(404, missing, "Invalid stage identifier specified", get, path+"/stages/dev", nil)
		c.refused(404, missing, "Invalid stage identifier specified", del, path+"/stages/dev", nil)
		third := c.deployed(path, object{"stageName": "dev"})
		c.refused(409, taken, "Stage already exists", post, path+"/stages", object{"stageName": "dev", "deploymentId": third})
		c.do(202, del, path, nil)
		c.refused(404, missing, "Invalid API identifier specified 000000000000:"+path[len("/restapis/"):], get, path, nil)
	})
}

// TestMethodSettings: the throttle of all methods is the stage's, and both faces show it.
func TestMethodSettings(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, clients []*client) {
		c := clients[0]
		path, _ := c.mockAPI("one")
		c.do(201, post, path+"/deployments", object{"stageName": "prod"})
		name := "apis/" + path[len("/restapis/"):] + "/stages/prod"
		throttle := func() *fifev1.Throttle {
			t.Helper()
			return must(c.native.GetStage(t.Context(), &fifev1.GetStageRequest{Name: name}))(t).GetStage().GetThrottle()
		}
		settings := func(rate, burst string) string {
			return `{"*/*": {"throttlingRateLimit": ` + rate + `, "throttlingBurstLimit": ` + burst + `, "metricsEnabled": false, "dataTraceEnabled": false,
				"cachingEnabled": false, "cacheTtlInSeconds": 300, "cacheDataEncrypted": false, "requireAuthorizationForCacheControl": true,
				"unauthorizedCacheControlHeaderStrategy": "SUCCEED_WITH_RESPONSE_HEADER"}}`
		}
		got := c.do(200, patchIt, path+"/stages/prod", patches(op{Op: "replace", Path: "/*/*/throttling/rateLimit", Value: "2.5"}))
		c.equal("a rate", got["methodSettings"].(object), settings("2.5", "3"))
		got = c.do(200, patchIt, path+"/stages/prod", patches(op{Op: "replace", Path: "/*/*/throttling/burstLimit", Value: "7"}))
		c.equal("a burst", got["methodSettings"].(object), settings("2.5", "7"))
		if limits := throttle(); limits.GetRateLimit() != 2.5 || limits.GetBurstLimit() != 7 {
			t.Errorf("the native face has %v", limits)
		}
		got = c.do(200, patchIt, path+"/stages/prod", patches(op{Op: "remove", Path: "/*/*"}))
		c.equal("removed", got["methodSettings"].(object), `{}`)
		if limits := throttle(); limits.GetRateLimit() != 0 || limits.GetBurstLimit() != 0 {
			t.Errorf("after its removal the native face has %v", limits)
		}
	})
}

// TestPatchesMeet: of patches of one stage at one time each is done wholly or not at all,
// and none is lost that was answered.
func TestPatchesMeet(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, clients []*client) {
		path, _ := clients[0].mockAPI("one")
		clients[0].do(201, post, path+"/deployments", object{"stageName": "prod"})
		const writers = 6
		done := make(chan int, writers)
		for i := range writers {
			go func() {
				text := string(rune('a' + i))
				status, _, _ := clients[i%3].send(patchIt, path+"/stages/prod", patches(
					op{Op: "replace", Path: "/variables/first", Value: text}, op{Op: "replace", Path: "/variables/second", Value: text},
					op{Op: "replace", Path: "/variables/of_" + text, Value: text}, op{Op: "replace", Path: "/description", Value: text},
				))
				done <- status<<8 | i
			}()
		}
		answered := map[string]bool{}
		for range writers {
			got := <-done
			switch status := got >> 8; status {
			case 200:
				answered["of_"+string(rune('a'+got&0xff))] = true
			case 409:
			default:
				t.Errorf("a patch came to %d", status)
			}
		}
		stage := clients[0].do(200, get, path+"/stages/prod", nil)
		variables := stage["variables"].(object)
		if variables["first"] != variables["second"] || variables["first"] != stage["description"] {
			t.Errorf("a patch was done by halves: %v", stage)
		}
		if len(answered) == 0 || len(variables) != 2+len(answered) {
			t.Errorf("answered were %v, done are %v", answered, variables)
		}
		for name := range answered {
			if variables[name] == nil {
				t.Errorf("%s was answered and is lost: %v", name, variables)
			}
		}
	})
}
