package store

import (
	"fmt"
	"testing"

	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

func putRoute(api, path string) *storev1.Command {
	return &storev1.Command{Op: &storev1.Command_PutRoute{PutRoute: &storev1.PutRoute{
		Api: api, Route: EncodeRoute(&release.Route{Method: "GET", Path: path, Integration: release.Mock{Status: 200}}),
	}}}
}

func deploy(api, stage string) *storev1.Command {
	return &storev1.Command{Op: &storev1.Command_CreateDeployment{CreateDeployment: &storev1.CreateDeployment{Api: api, Stage: stage}}}
}

// TestLimits: each limit is reached and not passed, what replaces something does
// not count, and a deletion makes room.
func TestLimits(t *testing.T) {
	for name, tt := range map[string]struct {
		limit    int
		resource string
		add      func(i int) *storev1.Command
		replace  *storev1.Command // may be nil
		remove   *storev1.Command
	}{
		"APIs": {
			MaxAPIs - 1, "the cluster", func(i int) *storev1.Command { return createAPI(fmt.Sprint("x", i)) },
			updateAPI("x1"), &storev1.Command{Op: &storev1.Command_DeleteApi{DeleteApi: &storev1.DeleteApi{Api: "x1"}}},
		},
		"routes": {
			release.MaxRoutes - 1, "apis/a", func(i int) *storev1.Command { return putRoute("a", fmt.Sprint("/x", i)) },
			putRoute("a", "/x1"), &storev1.Command{Op: &storev1.Command_DeleteRoute{DeleteRoute: &storev1.DeleteRoute{Api: "a", Method: "GET", Path: "/x1"}}},
		},
		"deployments": {
			MaxDeployments, "apis/a", func(int) *storev1.Command { return deploy("a", "") },
			nil, &storev1.Command{Op: &storev1.Command_DeleteDeployment{DeleteDeployment: &storev1.DeleteDeployment{Api: "a", Number: 5}}},
		},
		"stages by deploying": {
			MaxStages, "apis/a", func(i int) *storev1.Command { return deploy("a", fmt.Sprint("s", i)) },
			deploy("a", "s1"), &storev1.Command{Op: &storev1.Command_DeleteStage{DeleteStage: &storev1.DeleteStage{Api: "a", Stage: "s1"}}},
		},
		"stages by hand": {
			MaxStages - 1, "apis/a", func(i int) *storev1.Command {
				return &storev1.Command{Op: &storev1.Command_CreateStage{CreateStage: &storev1.CreateStage{
					Api: "a", Stage: fmt.Sprint("s", i), Values: &storev1.StageFields{Deployment: 1},
				}}}
			},
			deploy("a", "first"), &storev1.Command{Op: &storev1.Command_DeleteStage{DeleteStage: &storev1.DeleteStage{Api: "a", Stage: "s1"}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReplica()
			takes := func(what string, cmd *storev1.Command) {
				t.Helper()
				if o := r.apply(t, cmd); o.Refusal != nil {
					t.Fatalf("%s: %v", what, o.Refusal)
				}
			}
			takes("API", createAPI("a"))
			takes("route", putRoute("a", "/"))
			if name == "stages by hand" {
				takes("deployment", deploy("a", "first"))
			}
			for i := range tt.limit {
				takes(fmt.Sprint("number ", i+1), tt.add(i))
			}
			o := r.apply(t, tt.add(tt.limit))
			if o.Refusal == nil || o.Refusal.Reason != release.LimitReached || o.Refusal.Metadata["resource"] != tt.resource {
				t.Errorf("one more: %+v", o)
			}
			if tt.replace != nil {
				takes("a replacement", tt.replace)
			}
			takes("a removal", tt.remove)
			takes("another in its place", tt.add(tt.limit))
			checkState(t, r.state())
		})
	}
}
