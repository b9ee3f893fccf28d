package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func at(minute int) *timestamppb.Timestamp {
	return timestamppb.New(time.Date(2026, 3, 4, 19, minute, 0, 0, time.UTC))
}

func demoAPI() *fifev1.Api {
	return &fifev1.Api{
		Name: "apis/demo", Description: "a demo", Hosts: []string{"demo.example.com", "demo.example.org"},
		DefaultTimeout: durationpb.New(5 * time.Second), BinaryMediaTypes: []string{"image/png"},
		CreateTime: at(1), UpdateTime: at(2), Etag: "a1", RouteCount: 3,
	}
}

func demoStage() *fifev1.Stage {
	return &fifev1.Stage{
		Name: "apis/demo/stages/canary", Description: "first", Deployment: "apis/demo/deployments/1",
		Variables: map[string]string{"size": "2", "color": "blue"}, SecretVariables: map[string]string{"token": ""},
		Canary: &fifev1.Canary{
			Deployment: "apis/demo/deployments/2", Percent: 12.5,
			VariableOverrides: map[string]string{"color": "green"}, SecretOverrides: map[string]string{"token": ""}, Salt: 7, StartTime: at(5),
			Authors: []string{"user:ann", "user:bob"},
		},
		Split: &fifev1.SplitPolicy{
			StickyKey:     &fifev1.StickyKey{Source: &fifev1.StickyKey_Header{Header: "X-User"}},
			AllowOverride: true, OverrideKeySet: true,
		},
		RequireOtherPromoter: true, ExposeHeaders: true, Throttle: &fifev1.Throttle{RateLimit: 10, BurstLimit: 20, ConcurrencyLimit: 5}, Revision: 4, Etag: "s4", CreateTime: at(3), UpdateTime: at(5),
	}
}

func plainStage() *fifev1.Stage {
	return &fifev1.Stage{
		Name: "apis/demo/stages/plain", Deployment: "apis/demo/deployments/1", Revision: 1, Etag: "p1", CreateTime: at(3), UpdateTime: at(3),
	}
}

func demoRoutes() []*fifev1.Route {
	return []*fifev1.Route{
		{Method: "GET", Path: "/a/{id}", Etag: "r1", Timeout: durationpb.New(time.Second), Integration: &fifev1.Integration{
			Kind: &fifev1.Integration_Http{Http: &fifev1.HttpIntegration{Uri: "http://up/{id}", Method: "POST"}}}},
		{Method: "GET", Path: "/b", Etag: "r2", Integration: &fifev1.Integration{
			Kind: &fifev1.Integration_Lambda{Lambda: &fifev1.LambdaIntegration{Function: "hello", Qualifier: "live"}}}},
		{Method: "ANY", Path: "/c", Etag: "r3", Integration: &fifev1.Integration{
			Kind: &fifev1.Integration_Mock{Mock: &fifev1.MockIntegration{}}}},
		{Method: "GET", Path: "/d", Etag: "r4"},
	}
}

func demoAgents() []*fifev1.Agent {
	return []*fifev1.Agent{
		{Name: "agents/edge-1", Node: "n1", Address: "10.0.0.1:5000", Labels: map[string]string{"zone": "b", "rack": "7"},
			ConnectTime: at(1), Applied: &fifev1.Version{Epoch: 1, Index: 7}, AppliedTime: at(6), Build: "v0.1.0", Lease: durationpb.New(7300 * time.Millisecond)},
		{Name: "agents/edge-2", Node: "n2", Address: "10.0.0.2:5000", ConnectTime: at(2),
			LastNack:    &fifev1.Nack{Version: &fifev1.Version{Epoch: 1, Index: 9}, Reason: "digest\x1b[31m differs\n", Time: at(7)},
			LeaseDenied: "it has not applied version 1.8"},
		{Name: "agents/edge-3", Absent: true, Labels: map[string]string{"zone": "c"}},
	}
}

// demoAuthority is one while agents and users get certificates by a new root.
func demoAuthority() *fifev1.Authority {
	return &fifev1.Authority{
		Cluster: "acme", Phase: fifev1.RotationPhase_ROTATION_PHASE_SWITCH, StartTime: at(8), Holders: 5, JoinTokens: 2,
		Roots: []*fifev1.Root{
			{Certificate: []byte("old"), Fingerprint: "0123456789abcdef0123456789abcdef", ExpireTime: at(10)},
			{Certificate: []byte("new"), Fingerprint: "fedcba9876543210fedcba9876543210", ExpireTime: at(20), Next: true},
		},
		Pending: []*fifev1.Holder{
			{Name: "agent/edge-3", Wants: "it is not connected"},
			{Name: "user/ann", Wants: "its certificate is by the old root: fife certificate renew"},
		},
		Unknown: []*fifev1.Holder{{Name: "user/bob", Wants: "it has not been seen"}},
		Key:     "0123456789abcdef", NextKey: "89abcdef01234567", KeyPending: []string{"n3"},
	}
}

// demo is a control plane that holds the objects above.
func demo(t *testing.T) *fake {
	f := newFake(t)
	version := &fifev1.Version{Epoch: 1, Index: 9}
	preview := &fifev1.StagePreview{MovedPercent: 50, RoutesAdded: []string{"GET /new"}, RoutesRemoved: []string{"GET /old"}, RoutesChanged: []string{"GET /both"}}
	deployment := &fifev1.Deployment{
		Name: "apis/demo/deployments/2", Description: "second", CreateTime: at(4), Digest: "0123456789abcdef0123456789abcdef",
		RouteCount: 4, DefaultTimeout: durationpb.New(5 * time.Second), BinaryMediaTypes: []string{"image/png"}, Etag: "d2",
	}
	warnings := []string{"GET /b: stage variable region is unset"}
	for method, m := range map[string]proto.Message{
		"ApiService/CreateApi":   &fifev1.CreateApiResponse{Api: demoAPI(), Version: version},
		"ApiService/GetApi":      &fifev1.GetApiResponse{Api: demoAPI()},
		"ApiService/UpdateApi":   &fifev1.UpdateApiResponse{Api: demoAPI(), Version: version},
		"ApiService/DeleteApi":   &fifev1.DeleteApiResponse{Version: version},
		"ApiService/PutRoute":    &fifev1.PutRouteResponse{Route: demoRoutes()[0], Version: version},
		"ApiService/ListRoutes":  &fifev1.ListRoutesResponse{Routes: demoRoutes()},
		"ApiService/DeleteRoute": &fifev1.DeleteRouteResponse{Version: version},
		"ApiService/ImportRoutes": &fifev1.ImportRoutesResponse{
			Api: demoAPI(), Version: version, Added: 102, Removed: 1, Changed: 1, Unchanged: 7, RoutesAdded: []string{"GET /new", "ANY /{proxy+}"},
			RoutesRemoved: []string{"GET /old"}, RoutesChanged: []string{"PUT /both"}, Warnings: []string{"/security: is ignored: Fife does not authorize requests"}},
		"ApiService/ExportRoutes":                &fifev1.ExportRoutesResponse{Document: []byte(`{"openapi": "3.0.1", "paths": {"/{proxy+}": {"get": {"x-amazon-apigateway-integration": {"uri": "http://h?a&b"}}}}}` + "\n")},
		"DeploymentService/CreateDeployment":     &fifev1.CreateDeploymentResponse{Deployment: deployment, Stage: demoStage(), Warnings: warnings, Version: version, Preview: preview},
		"DeploymentService/GetDeployment":        &fifev1.GetDeploymentResponse{Deployment: deployment},
		"DeploymentService/ListDeployments":      &fifev1.ListDeploymentsResponse{Deployments: []*fifev1.Deployment{deployment}},
		"DeploymentService/ListDeploymentRoutes": &fifev1.ListDeploymentRoutesResponse{Routes: demoRoutes()},
		"DeploymentService/DeleteDeployment":     &fifev1.DeleteDeploymentResponse{Version: version},
		"StageService/CreateStage":               &fifev1.CreateStageResponse{Stage: plainStage(), Warnings: warnings, Version: version},
		"StageService/GetStage":                  &fifev1.GetStageResponse{Stage: demoStage()},
		"StageService/ListStages":                &fifev1.ListStagesResponse{Stages: []*fifev1.Stage{demoStage(), plainStage()}},
		"StageService/UpdateStage":               &fifev1.UpdateStageResponse{Stage: demoStage(), Warnings: warnings, Version: version, Preview: preview},
		"StageService/DeleteStage":               &fifev1.DeleteStageResponse{Version: version},
		"StageService/StartCanary":               &fifev1.StartCanaryResponse{Stage: demoStage(), Warnings: warnings, Version: version, Preview: preview},
		"StageService/UpdateCanary":              &fifev1.UpdateCanaryResponse{Stage: demoStage(), Version: version, Preview: preview},
		"StageService/AbortCanary":               &fifev1.AbortCanaryResponse{Stage: plainStage(), Version: version, Preview: preview},
		"StageService/PromoteCanary":             &fifev1.PromoteCanaryResponse{Stage: plainStage(), Version: version, Preview: preview},
		"StageService/RollbackStage":             &fifev1.RollbackStageResponse{Stage: demoStage(), Version: version, Preview: preview},
		"StageService/ExplainSplit": &fifev1.ExplainSplitResponse{
			Variant: "canary", Deployment: "apis/demo/deployments/2", Bucket: 1234, Threshold: 125000, Salt: 7, Explanation: "bucket 1234 is below 125000"},
		"StageService/ListStageRevisions": &fifev1.ListStageRevisionsResponse{Revisions: []*fifev1.StageRevision{
			{Revision: 4, CreateTime: at(5), Actor: "user:cid", Method: "PromoteCanary", Note: "canary of user:ann, user:bob",
				Before: &fifev1.StageConfig{Deployment: "apis/demo/deployments/1", Canary: demoStage().GetCanary()},
				After:  &fifev1.StageConfig{Deployment: "apis/demo/deployments/2", Variables: map[string]string{"color": "green"}}},
			{Revision: 3, CreateTime: at(4), Actor: "anonymous", Method: "UpdateCanary",
				Before: &fifev1.StageConfig{Deployment: "apis/demo/deployments/1", Canary: &fifev1.Canary{Deployment: "apis/demo/deployments/2", Percent: 12.5}},
				After:  &fifev1.StageConfig{Deployment: "apis/demo/deployments/1", Canary: demoStage().GetCanary()}},
			{Revision: 2, CreateTime: at(4), Actor: "anonymous", Method: "StartCanary",
				After: &fifev1.StageConfig{Deployment: "apis/demo/deployments/1", Canary: demoStage().GetCanary()}},
		}},
		"StageService/AbortPromotion":  &fifev1.AbortPromotionResponse{Stage: promoting(fifev1.Promotion_STATE_ABORTED), Version: version},
		"StageService/ResumePromotion": &fifev1.ResumePromotionResponse{Stage: promoting(fifev1.Promotion_STATE_ROLLING), Version: version},
		"AccessService/ListBindings": &fifev1.ListBindingsResponse{Bindings: []*fifev1.Binding{
			{Subject: "group:web", Role: "promoter", Api: "*", Stage: "*"}, {Subject: "user:ann", Role: "deployer", Api: "demo", Stage: "test*"},
		}},
		"AccessService/CreateUserToken": &fifev1.CreateUserTokenResponse{Token: &fifev1.UserToken{Name: "userTokens/ab12cd34ef56"}, Bearer: "fife_ab12cd34ef56.s"},
		"AccessService/ListUserTokens": &fifev1.ListUserTokensResponse{Tokens: []*fifev1.UserToken{
			{Name: "userTokens/ab12cd34ef56", User: "ci", CreateTime: at(1), ExpireTime: at(50), LastUseTime: at(2)},
			{Name: "userTokens/bc12cd34ef56", User: "ann\x1b[31m", CreateTime: at(1), ExpireTime: at(50)},
		}},
		"CertificateService/ListCertificates": &fifev1.ListCertificatesResponse{Certificates: []*fifev1.Certificate{
			{Name: "certificates/0123456789abcdef", User: "ann", CreateTime: at(1), ExpireTime: at(50), Creator: "user:admin", Revoked: true},
			{Name: "certificates/1123456789abcdef", User: "bob", CreateTime: at(2), ExpireTime: at(51), Creator: "user:admin"},
		}},
		"AccessService/WhoAmI": &fifev1.WhoAmIResponse{Subject: "user:ann", Groups: []string{"web"}, Bindings: []*fifev1.Binding{
			{Subject: "user:ann", Role: "deployer", Api: "demo", Stage: "test*"},
		}},
		"FleetService/GetAgent":             &fifev1.GetAgentResponse{Agent: demoAgents()[0]},
		"FleetService/ListAgents":           &fifev1.ListAgentsResponse{Agents: demoAgents(), UnreachableNodes: []string{"n3"}},
		"FleetService/WaitForVersion":       &fifev1.WaitForVersionResponse{Total: 2, Applied: 1, Laggards: []string{"edge-2"}, Refused: demoAgents()[1:2]},
		"ClusterService/GetCluster":         &fifev1.GetClusterResponse{Cluster: &fifev1.Cluster{ClusterId: "c-1", Node: "n2", Leader: "n1", Version: version, Build: "v0.1.0", Agents: 1}},
		"AuthorityService/GetAuthority":     &fifev1.GetAuthorityResponse{Authority: demoAuthority()},
		"AuthorityService/RotateClusterKey": &fifev1.RotateClusterKeyResponse{Key: "89abcdef01234567"},
		"ClusterService/ListMembers": &fifev1.ListMembersResponse{Members: []*fifev1.Member{
			{Name: "members/n1", RaftAddress: "10.1.0.1:7401", GrpcAddress: "10.1.0.1:7400", Voter: true, Leader: true},
			{Name: "members/n2", RaftAddress: "10.1.0.2:7401"},
		}},
	} {
		f.on(method, reply(m))
	}
	// A listing of two pages.
	f.on("ApiService/ListApis", pagesOf(
		&fifev1.ListApisResponse{Apis: []*fifev1.Api{demoAPI()}, NextPageToken: "2"},
		&fifev1.ListApisResponse{Apis: []*fifev1.Api{{Name: "apis/other"}}}))
	return f
}

// TestTranscripts runs command lines and compares, for each, what was sent to
// the control plane, what was printed, and the exit code.
func TestTranscripts(t *testing.T) {
	for name, lines := range map[string][]string{
		"api": {
			"api create demo --description demo --host demo.example.com --host demo.example.org --binary-media-type image/png --default-timeout 5s",
			"api create demo --dry-run",
			"api create demo -o json",
			"api get demo",
			"api get demo -o json",
			"api get demo -o yaml",
			"api list",
			"api list -o json",
			"api update demo --description new --etag a1",
			"api update demo --host= --default-timeout 0s --binary-media-type */*",
			"api update demo",
			"api delete demo --etag a1 --dry-run",
			"api delete demo",
			"api import demo -f pets.yaml",
			"api import demo -f pets.yaml --merge --create --base-path split --etag a1 --dry-run",
			"api import demo -f pets.yaml -o json",
			"api import demo -f missing.yaml",
			"api import demo -f pets.yaml --base-path both",
			"api import demo",
			"api export demo",
			"api export demo --deployment 2 -o yaml",
			"api export demo --deployment x",
		},
		"access": {
			"access grant user:ann deployer --api demo --stage test*",
			"access grant group:web promoter --request-id r1",
			"access grant user:ann",
			"access revoke user:ann deployer --api demo --stage test*",
			"access list",
			"access list -o json",
			"access token create ci --ttl 720h",
			"access token create ci --request-id r1",
			"access token create",
			"access token list",
			"access token delete ab12cd34ef56",
			"access token delete ab12cd34ef56 --request-id r1",
			"token create --role agent --request-id r1",
			"token delete h2k4m6 --request-id r1",
			"certificate create --user ann",
			"certificate create --user ann --out testdata/access.golden",
			"certificate list",
			"certificate list -o json",
			"certificate revoke user/ann --request-id r1",
			"whoami",
			"whoami -o yaml",
		},
		"route": {
			"route put demo get /a/{id} --http http://up/{id} --http-method post --integration-timeout 1s --etag r1",
			"route put demo GET /b --lambda arn:aws:lambda:eu-west-1:123456789012:function:hello --qualifier live",
			"route put demo ANY /c --mock-status 204 --mock-header a=b,c=d --mock-header e=f --mock-body hi",
			"route put demo GET /a",
			"route put demo GET /a --http http://up --mock-status 200",
			"route put demo GET /a --http http://up --qualifier live",
			"route put demo GET /a --http http://up --mock-body x",
			"route put demo GET a --http http://up",
			"route list demo",
			"route delete demo get /a/{id} --etag r1",
		},
		"deploy": {
			"deploy demo",
			"deploy demo --stage canary --description second --target base --etag s4",
			"deploy demo --stage canary --target canary --dry-run",
			"deploy demo --target base",
			"deploy demo --stage canary --target both",
			"deployment list demo",
			"deployment get demo/2",
			"deployment get demo/2 --routes",
			"deployment get demo/x",
			"deployment delete demo/2 --etag d2",
		},
		"stage": {
			"stage create demo/plain --deployment 1 --var color=blue --var list=a,b=c --sticky cookie:session --expose-headers --description first",
			"stage create demo/plain --deployment 1 --allow-override --override-key-file override.key",
			"stage create demo/plain",
			"stage create demo/plain --deployment 0",
			"stage get demo/canary",
			"stage get demo/canary -o json",
			"stage list",
			"stage list demo",
			"stage update demo/canary --description new --deployment 2 --expose-headers=false",
			"stage update demo/canary --var color=red --unset-var size",
			"stage update demo/canary --sticky none --etag mine",
			"stage update demo/canary --sticky none --override-key-file override.key --dry-run",
			"stage update demo/canary --allow-override=false --override-key-file=",
			"stage update demo/canary --override-key-file short.key",
			"stage update demo/canary --override-key-file missing.key",
			"stage update demo/canary",
			"stage update demo/canary --wave label:region/one --wave region=eu,tier=canary@1h --wave 10%@5m --stale-policy fail-closed --consistent-clients",
			"stage update demo/canary --no-waves --stale-policy serve-stale",
			"stage update demo/canary --no-waves --wave 10%",
			"stage update demo/canary --no-waves=false",
			"stage update demo/canary --wave 0%",
			"stage update demo/canary --wave label:region",
			"stage update demo/canary --wave 10%@25h",
			"stage update demo/canary --stale-policy maybe",
			"stage update demo/canary --require-other-promoter",
			"stage update demo/canary --require-other-promoter=false",
			"stage create demo/plain --deployment 1 --require-other-promoter",
			"stage update demo/canary --rate-limit 100 --burst-limit 200 --concurrency-limit 50",
			"stage get demo/canary",
			"stage update demo/canary --rate-limit 2.5",
			"stage update demo/canary --rate-limit 0",
			"stage update demo/canary --rate-limit -1",
			"stage update demo/canary --burst-limit 5",
			"stage update demo/canary --no-throttle",
			"stage update demo/canary --no-throttle --rate-limit 1",
			"stage create demo/plain --deployment 1 --secret token=token.key",
			"stage create demo/plain --deployment 1 --secret token=missing.key",
			"stage create demo/plain --deployment 1 --secret token=empty.key",
			"stage create demo/plain --deployment 1 --secret token",
			"stage create demo/plain --deployment 1 --secret a=- --secret b=-",
			"stage update demo/canary --secret other=token.key",
			"stage update demo/canary --unset-secret token",
			"stage delete demo/canary",
			"stage history demo/canary",
			"stage rollback demo/canary",
			"stage rollback demo/canary --to 2 --dry-run",
			"stage rollback demo/canary --to 0",
		},
		"canary": {
			"canary start demo/canary --percent 50",
			"canary start demo/canary --percent 12.5% --deployment 2 --override color=green --replace --etag s4",
			"canary start demo/canary --percent 0 --dry-run",
			"canary start demo/canary",
			"canary start demo --percent 50",
			"canary start demo/canary --percent 101",
			"canary start demo/canary --percent NaN",
			"canary start demo/canary --percent 12.34567",
			"canary set demo/canary --percent 100",
			"canary set demo/canary --deployment 3 --etag s4",
			"canary set demo/canary --override size=3 --unset-override color",
			"canary start demo/canary --percent 50 --secret-override token=token.key",
			"canary set demo/canary --secret-override token=token.key",
			"canary set demo/canary --unset-secret-override token",
			"canary set demo/canary",
			"canary promote demo/canary --keep-canary",
			"canary promote demo/canary --dry-run",
			"canary promote demo/canary --break-glass",
			"canary promote demo/canary --sync --mode timed --on-timeout fence --prepare-timeout 1m",
			"canary promote demo/canary --mode timed",
			"canary promote demo/canary --sync --prepare-timeout 11m",
			"canary promote demo/canary --sync --no-wait --wait",
			"canary watch demo/canary",
			"canary abort-promotion demo/canary --etag s4",
			"canary resume demo/canary --no-wait",
			"canary abort demo/canary --etag s4",
		},
		"fleet": {
			"agents",
			"agents --node n1 -o json",
			"agents get edge-1",
			"agents get a/b",
			"cluster members",
			"status",
			"status -o json",
			"status -o yaml",
			"split explain demo/canary --key alice",
			"split explain demo/canary",
		},
		"ca": {
			"ca status",
			"ca status -o json",
			"ca switch",
			"ca switch --force --wait-timeout 0s",
			"ca retire --force",
			"ca export",
			"ca abort",
			"ca rotate-key",
			"ca rotate",
			"ca rotate --ca-cert root.yaml",
			"ca rotate --out a --ca-cert b --ca-key c",
			"certificate renew",
		},
		"usage": {
			"canry",
			"api lst",
			"api get",
			"api get demo other",
			"api get a/b",
			"stage list a b",
			"agents now",
			"canary abort /canary",
			"api list -o xml",
			"api list --timeout 0s",
			"api list --server localhost",
			"api list --server localhost:1,,localhost:2",
			"api list --nothing",
			"api create demo --request-id=",
			"api create demo --request-id a\tb",
			"api create demo --wait --dry-run",
			"api create demo --wait-timeout 1s",
			"api create demo --wait=0%",
			"status --watch --interval 1ms",
			"api create demo --wait --wait-timeout 0s",
			"stage create demo/x --deployment 1 --var color",
			"stage create demo/x --deployment 1 --var a=1 --var a=2",
			"stage create demo/x --deployment 1 --sticky header:",
			"split sign demo/canary",
			"split sign demo/canary --key-file override.key --ttl 1ms",
		},
	} {
		t.Run(name, func(t *testing.T) {
			files := t.TempDir()
			writeFile(t, files, "override.key", "0123456789abcdef\n")
			writeFile(t, files, "pets.yaml", "openapi: 3.1.0\n")
			writeFile(t, files, "token.key", "s3cret\r\n")
			writeFile(t, files, "empty.key", "\n")
			writeFile(t, files, "short.key", "0123456789abcde\n")
			golden(t, name, transcript(t, demo(t), files, lines))
		})
	}
}

// transcript runs command lines. Files are named without their folder, and the
// fake without its port, which vary.
func transcript(t *testing.T, f *fake, files string, lines []string) string {
	t.Helper()
	var text strings.Builder
	for _, line := range lines {
		args := strings.Fields(line)
		if strings.Contains(line, "\t") {
			args = strings.Split(line, " ")
		}
		for i := range args {
			if strings.HasSuffix(args[i], ".key") || strings.HasSuffix(args[i], ".yaml") || strings.HasSuffix(args[i], ".backup") {
				flag, file, named := strings.Cut(args[i], "=")
				if args[i] = filepath.Join(files, args[i]); named {
					args[i] = flag + "=" + filepath.Join(files, file)
				}
			}
		}
		r := fife(t, f.address, args...)
		fmt.Fprintf(&text, "$ fife %s\n", line)
		for _, c := range f.take() {
			fmt.Fprintf(&text, "> %s %s\n", c.method, oneLine(t, c.request))
		}
		text.WriteString(strings.ReplaceAll(r.out+r.err, files+"/", ""))
		fmt.Fprintf(&text, "exit %d\n\n", r.code)
	}
	return strings.ReplaceAll(text.String(), f.address, "127.0.0.1:12345")
}

func writeFile(t *testing.T, folder, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
