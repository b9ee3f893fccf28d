package controlplane_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fifegateway/fife/controlplane/bubbletest"
	"github.com/fifegateway/fife/controlplane/controlplanetest"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// clients are the services behind one connection.
type clients struct {
	apis        fifev1.ApiServiceClient
	deployments fifev1.DeploymentServiceClient
	stages      fifev1.StageServiceClient
	fleet       fifev1.FleetServiceClient
	cluster     fifev1.ClusterServiceClient
}

func connect(conn grpc.ClientConnInterface) clients {
	return clients{
		apis:        fifev1.NewApiServiceClient(conn),
		deployments: fifev1.NewDeploymentServiceClient(conn),
		stages:      fifev1.NewStageServiceClient(conn),
		fleet:       fifev1.NewFleetServiceClient(conn),
		cluster:     fifev1.NewClusterServiceClient(conn),
	}
}

const demoFunction = "arn:aws:lambda:eu-west-1:123456789012:function:api-gateway-stage-variables-get"

func lambdaRoute(version string) *fifev1.Route {
	return &fifev1.Route{Method: "GET", Path: "/canary-demo", Integration: &fifev1.Integration{
		Kind: &fifev1.Integration_Lambda{Lambda: &fifev1.LambdaIntegration{Function: demoFunction + ":" + version}},
	}}
}

// must fails the test unless a call succeeded, and returns its response.
func must[T any](t *testing.T) func(T, error) T {
	return func(resp T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
}

// untilVoters waits until a cluster has n voters.
func untilVoters(t *testing.T, c clients, n int) {
	t.Helper()
	for range 2000 {
		resp, err := c.cluster.ListMembers(t.Context(), &fifev1.ListMembersRequest{})
		voters := 0
		for _, m := range resp.GetMembers() {
			if m.GetVoter() {
				voters++
			}
		}
		if err == nil && voters == n {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatalf("the cluster has not come to %d voters", n)
}

func TestWalkThrough(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		cluster := controlplanetest.Start(t, 3)
		c := connect(cluster.Conn("n3")) // a follower, most of the time: any node answers
		untilVoters(t, c, 3)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()

		must[*fifev1.CreateApiResponse](t)(c.apis.CreateApi(ctx, &fifev1.CreateApiRequest{ApiId: "demo"}))
		must[*fifev1.PutRouteResponse](t)(c.apis.PutRoute(ctx, &fifev1.PutRouteRequest{Parent: "apis/demo", Route: lambdaRoute("1")}))
		first := must[*fifev1.CreateDeploymentResponse](t)(c.deployments.CreateDeployment(ctx,
			&fifev1.CreateDeploymentRequest{Parent: "apis/demo", StageId: "canary"}))
		if got := first.GetStage().GetDeployment(); got != "apis/demo/deployments/1" {
			t.Fatalf("the new stage serves %s", got)
		}
		const stage = "apis/demo/stages/canary"
		must[*fifev1.StartCanaryResponse](t)(c.stages.StartCanary(ctx, &fifev1.StartCanaryRequest{
			Name: stage, Canary: &fifev1.Canary{Percent: 50},
		}))
		must[*fifev1.PutRouteResponse](t)(c.apis.PutRoute(ctx, &fifev1.PutRouteRequest{Parent: "apis/demo", Route: lambdaRoute("2")}))
		second := must[*fifev1.CreateDeploymentResponse](t)(c.deployments.CreateDeployment(ctx,
			&fifev1.CreateDeploymentRequest{Parent: "apis/demo", StageId: "canary"}))
		if s := second.GetStage(); s.GetDeployment() != "apis/demo/deployments/1" ||
			s.GetCanary().GetDeployment() != "apis/demo/deployments/2" || s.GetCanary().GetPercent() != 50 {
			t.Fatalf("after the second deployment the stage is %v", s)
		}
		promoted := must[*fifev1.PromoteCanaryResponse](t)(c.stages.PromoteCanary(ctx, &fifev1.PromoteCanaryRequest{Name: stage}))
		if s := promoted.GetStage(); s.GetDeployment() != "apis/demo/deployments/2" || s.GetCanary() != nil {
			t.Fatalf("after the promotion the stage is %v", s)
		}
		back := must[*fifev1.RollbackStageResponse](t)(c.stages.RollbackStage(ctx, &fifev1.RollbackStageRequest{Name: stage}))
		if got := back.GetStage().GetDeployment(); got != "apis/demo/deployments/1" {
			t.Fatalf("after the rollback the stage serves %s", got)
		}
		_, err := c.stages.PromoteCanary(ctx, &fifev1.PromoteCanaryRequest{Name: stage})
		if status.Code(err) != codes.FailedPrecondition {
			t.Fatalf("promoting without a canary: %v", err)
		}
	})
}
