package apigateway_test

import (
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/apigateway"
	"github.com/aws/aws-sdk-go-v2/service/apigateway/types"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// TestSDK plays a canary release with Amazon's own client, on a node that does not lead.
func TestSDK(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, clients []*client) {
		c, ctx := clients[2], t.Context()
		sdk := apigateway.New(apigateway.Options{
			Region: "eu-west-1", BaseEndpoint: aws.String("http://" + c.node + ":7403"), HTTPClient: c.http,
			Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
		})
		api := must(sdk.CreateRestApi(ctx, &apigateway.CreateRestApiInput{Name: aws.String("demo")}))(t)
		if api.CreatedDate == nil || api.CreatedDate.IsZero() {
			t.Errorf("created at %v", api.CreatedDate)
		}
		root := must(sdk.GetResources(ctx, &apigateway.GetResourcesInput{RestApiId: api.Id}))(t).Items[0]
		resource := must(sdk.CreateResource(ctx, &apigateway.CreateResourceInput{
			RestApiId: api.Id, ParentId: root.Id, PathPart: aws.String("canary-demo"),
		}))(t)
		must(sdk.PutMethod(ctx, &apigateway.PutMethodInput{
			RestApiId: api.Id, ResourceId: resource.Id, HttpMethod: aws.String("GET"), AuthorizationType: aws.String("NONE"),
		}))(t)
		must(sdk.PutIntegration(ctx, &apigateway.PutIntegrationInput{
			RestApiId: api.Id, ResourceId: resource.Id, HttpMethod: aws.String("GET"), Type: types.IntegrationTypeAwsProxy,
			IntegrationHttpMethod: aws.String("POST"), Uri: aws.String(lambdaURI),
		}))(t)
		stage := aws.String("prod")
		first := must(sdk.CreateDeployment(ctx, &apigateway.CreateDeploymentInput{RestApiId: api.Id, StageName: stage}))(t)
		second := must(sdk.CreateDeployment(ctx, &apigateway.CreateDeploymentInput{
			RestApiId: api.Id, StageName: stage,
			CanarySettings: &types.DeploymentCanarySettings{PercentTraffic: 50, StageVariableOverrides: map[string]string{"v": "2"}},
		}))(t)
		_, err := sdk.CreateDeployment(ctx, &apigateway.CreateDeploymentInput{RestApiId: api.Id, StageName: stage})
		var refused *types.BadRequestException
		if !errors.As(err, &refused) || refused.ErrorMessage() != "Invalid deployment content specified.Non canary deployment not supported on stage prod "+
			"because Canary is enabled. Provide CanarySettings in deploymentInput." {
			t.Errorf("a deployment beside a canary: %v", err)
		}
		got := must(sdk.GetStage(ctx, &apigateway.GetStageInput{RestApiId: api.Id, StageName: stage}))(t)
		if *got.DeploymentId != *first.Id || *got.CanarySettings.DeploymentId != *second.Id || got.CanarySettings.PercentTraffic != 50 {
			t.Errorf("stage %v with canary %v", *got.DeploymentId, got.CanarySettings)
		}
		promoted := must(sdk.UpdateStage(ctx, &apigateway.UpdateStageInput{RestApiId: api.Id, StageName: stage, PatchOperations: []types.PatchOperation{
			{Op: types.OpReplace, Path: aws.String("/canarySettings/percentTraffic"), Value: aws.String("0.0")},
			{Op: types.OpCopy, From: aws.String("/canarySettings/stageVariableOverrides"), Path: aws.String("/variables")},
			{Op: types.OpCopy, From: aws.String("/canarySettings/deploymentId"), Path: aws.String("/deploymentId")},
		}}))(t)
		if *promoted.DeploymentId != *second.Id || promoted.Variables["v"] != "2" || promoted.CanarySettings == nil {
			t.Errorf("promoted to %v %v", *promoted.DeploymentId, promoted.Variables)
		}
		s := must(clients[0].native.GetStage(ctx, &fifev1.GetStageRequest{Name: "apis/" + *api.Id + "/stages/prod"}))(t).GetStage()
		if s.GetDeployment() != "apis/"+*api.Id+"/deployments/2" || s.GetCanary().GetPercent() != 0 {
			t.Errorf("the operators' API shows %v", s)
		}
		must(sdk.TagResource(ctx, &apigateway.TagResourceInput{
			ResourceArn: aws.String("arn:aws:apigateway:eu-west-1::/restapis/" + *api.Id), Tags: map[string]string{"a": "1"},
		}))(t)
		tags := must(sdk.GetTags(ctx, &apigateway.GetTagsInput{ResourceArn: aws.String("arn:aws:apigateway:eu-west-1::/restapis/" + *api.Id)}))(t)
		if tags.Tags["a"] != "1" {
			t.Errorf("tags %v", tags.Tags)
		}
		must(sdk.DeleteRestApi(ctx, &apigateway.DeleteRestApiInput{RestApiId: api.Id}))(t)
		_, err = sdk.GetRestApi(ctx, &apigateway.GetRestApiInput{RestApiId: api.Id})
		var gone *types.NotFoundException
		if !errors.As(err, &gone) {
			t.Errorf("a deleted API: %v", err)
		}
	})
}
