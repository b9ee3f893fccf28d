package api_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// elsewhere are the reasons that a cluster in memory cannot give; status_test.go
// makes them of the errors that stand for them.
var elsewhere = map[fifev1.ErrorReason]string{
	fifev1.ErrorReason_ERROR_REASON_UNSPECIFIED:        "never sent",
	fifev1.ErrorReason_ERROR_REASON_INTERNAL:           "a bug",
	fifev1.ErrorReason_ERROR_REASON_DISK_FULL:          "there is no disk",
	fifev1.ErrorReason_ERROR_REASON_NOT_SUPPORTED:      "all nodes run this build",
	fifev1.ErrorReason_ERROR_REASON_UNAUTHENTICATED:    "it speaks plaintext",
	fifev1.ErrorReason_ERROR_REASON_PERMISSION_DENIED:  "it speaks plaintext",
	fifev1.ErrorReason_ERROR_REASON_IMPORT_SUPERSEDED:  "takes two imports whose entries meet: see testdata/import.txt of store",
	fifev1.ErrorReason_ERROR_REASON_JOIN_REFUSED:       "it speaks plaintext",
	fifev1.ErrorReason_ERROR_REASON_ISSUER_UNAVAILABLE: "it speaks plaintext",
	fifev1.ErrorReason_ERROR_REASON_LAST_ADMIN:         "see the store's testdata/access.txt",
	fifev1.ErrorReason_ERROR_REASON_SAME_PROMOTER:      "see the store's testdata/promoter.txt",
	fifev1.ErrorReason_ERROR_REASON_PROMOTION_NEEDED:   "see the store's testdata/promoter.txt",
	fifev1.ErrorReason_ERROR_REASON_RATE_LIMITED:       "it speaks plaintext",
	fifev1.ErrorReason_ERROR_REASON_TOO_MANY_STREAMS:   "it speaks plaintext",
	fifev1.ErrorReason_ERROR_REASON_ROTATION_OPEN:      "it speaks plaintext",
	fifev1.ErrorReason_ERROR_REASON_NO_ROTATION:        "it speaks plaintext",
	fifev1.ErrorReason_ERROR_REASON_WOULD_CUT_OFF:      "it speaks plaintext",
	fifev1.ErrorReason_ERROR_REASON_OTHER_KEY:          "all its nodes have one key: see TestRestoreWithAnotherKey",
	fifev1.ErrorReason_ERROR_REASON_CANCELED:           "the caller's own library is faster",
	fifev1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED:  "the caller's own library is faster",
}

// TestEveryReason makes a cluster give every reason there is.
func TestEveryReason(t *testing.T) {
	given := map[string]bool{}
	give := func(what string, err error, want refusal) {
		t.Helper()
		wantRefusal(t, what, err, want)
		for _, d := range status.Convert(err).Details() {
			if info, ok := d.(*errdetails.ErrorInfo); ok {
				given[info.GetReason()] = true
			}
		}
	}
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.stock()
		b.takes(
			&fifev1.CreateApiRequest{ApiId: "empty"},
			&fifev1.CreateApiRequest{ApiId: "half", RequestId: "r"},
			&fifev1.PutRouteRequest{Parent: "apis/half", Route: &fifev1.Route{Method: "GET", Path: "/x"}},
			&fifev1.DeleteStageRequest{Name: prod},
			&fifev1.CreateDeploymentRequest{Parent: demo, StageId: "prod"},
			&fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: prod, Variables: map[string]string{"v": "1"}}, UpdateMask: mask("variables")},
		)
		large := &fifev1.EditRoutesRequest{Parent: demo}
		for c := range rune(10) {
			r := mockRoute("GET", "/large"+string('a'+c), 200)
			r.GetIntegration().GetMock().Body = strings.Repeat("v", 60<<10)
			large.PutRoutes = append(large.PutRoutes, r)
		}
		many := map[string]string{}
		for c := range rune(100) {
			many["a"+strings.Repeat("a", int(c)%50)+string('a'+c/50)] = "v"
		}
		in := []refusedCall{
			{&fifev1.GetApiRequest{}, refusal{codes.InvalidArgument, "INVALID_FIELD", nil}},
			{large, refusal{codes.InvalidArgument, "PROPOSAL_TOO_LARGE", nil}},
			{&fifev1.CreateApiRequest{ApiId: "x", RequestId: "r"}, refusal{codes.InvalidArgument, "REQUEST_ID_REUSED", nil}},
			{&fifev1.GetApiRequest{Name: "apis/none"}, refusal{codes.NotFound, "RESOURCE_NOT_FOUND", nil}},
			{&fifev1.CreateApiRequest{ApiId: "demo"}, refusal{codes.AlreadyExists, "RESOURCE_EXISTS", nil}},
			{&fifev1.DeleteStageRequest{Name: prod, Etag: "9"}, refusal{codes.Aborted, "STALE_ETAG", nil}},
			{&fifev1.PromoteCanaryRequest{Name: prod}, refusal{codes.FailedPrecondition, "NO_CANARY", nil}},
			{&fifev1.CreateDeploymentRequest{Parent: "apis/empty"}, refusal{codes.FailedPrecondition, "API_EMPTY", nil}},
			{&fifev1.CreateDeploymentRequest{Parent: "apis/half"}, refusal{codes.FailedPrecondition, "ROUTE_INCOMPLETE", nil}},
			{&fifev1.DeleteDeploymentRequest{Name: "apis/demo/deployments/2"}, refusal{codes.FailedPrecondition, "DEPLOYMENT_IN_USE", nil}},
			{&fifev1.DeleteApiRequest{Name: demo}, refusal{codes.FailedPrecondition, "API_IN_USE", nil}},
			{&fifev1.RollbackStageRequest{Name: prod, ToRevision: 9}, refusal{codes.FailedPrecondition, "NO_HISTORY", nil}},
			{
				&fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: prod, RequireOtherPromoter: true}, UpdateMask: mask("require_other_promoter")},
				refusal{codes.FailedPrecondition, "CALLERS_UNKNOWN", meta("resource", prod)},
			},
			{&fifev1.PromoteMemberRequest{Name: "members/n1"}, refusal{codes.FailedPrecondition, "NOT_CAUGHT_UP", nil}},
			{
				&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{VariableOverrides: many}},
				refusal{codes.ResourceExhausted, "LIMIT_REACHED", nil},
			},
			{&fifev1.GetStateHashRequest{Checkpoint: &fifev1.Version{Epoch: 1, Index: 1}}, refusal{codes.FailedPrecondition, "NO_CHECKPOINT", nil}},
		}
		for _, c := range in {
			give(string(c.req.ProtoReflect().Descriptor().Name()), b.call(t.Context(), "n1", c.req), c.want)
		}
		_, err := fifev1.NewAccessKeyServiceClient(b.Conn("n1")).CreateAccessKey(t.Context(),
			&fifev1.CreateAccessKeyRequest{User: "ci", Ttl: durationpb.New(time.Hour)})
		give("an access key in plaintext", err, refusal{codes.FailedPrecondition, "NO_CLUSTER_KEY", nil})
		b.takes(&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{}})
		give("a second canary", b.call(t.Context(), "n1", &fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{}}),
			refusal{codes.AlreadyExists, "CANARY_EXISTS", nil})

		stranger := metadata.AppendToOutgoingContext(t.Context(), "fife-cluster", "another")
		give("another cluster's node", b.call(stranger, "n1", &fifev1.ListMembersRequest{}),
			refusal{codes.FailedPrecondition, "OTHER_CLUSTER", nil})

		leader, follower := b.leader("n1"), b.follower()
		give("a restore over something", b.restore(leader, []byte("x")), refusal{codes.FailedPrecondition, "NOT_EMPTY", nil})
		give("a restore at a follower", b.restore(follower, []byte("x")),
			refusal{codes.Unavailable, "NO_LEADER", meta("leader", leader+":7400")})

		// A leader that is cut off, asked under no request id.
		b.Isolate(leader)
		put := &fifev1.PutRouteRequest{Parent: demo, Route: mockRoute("GET", "/lost", 200)}
		give("a change at a leader that is cut off", b.call(t.Context(), leader, put), refusal{codes.Unknown, "OUTCOME_UNKNOWN", nil})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		give("a change at a node that is cut off", b.call(ctx, leader, proto.CloneOf(put)), refusal{codes.Unavailable, "NO_LEADER", nil})
		if took := time.Since(begin); took < 9*time.Second || took > 12*time.Second {
			t.Errorf("the node looked %v for a leader", took)
		}
		b.Heal(leader)
		<-time.After(5 * time.Second)
		for _, name := range []string{"n2", "n3"} {
			b.StopNode(name)
		}
		<-time.After(5 * time.Second)
		give("a change without a majority", b.call(ctx, "n1", put), refusal{codes.Unavailable, "NO_LEADER", nil})
	})
	inBubble(t, 1, func(t *testing.T, b *bench) {
		give("no backup", b.restore("n1", []byte("x")), refusal{codes.InvalidArgument, "BAD_BACKUP", nil})
		give("the last voter", b.call(t.Context(), "n1", &fifev1.RemoveMemberRequest{Name: "members/n1"}),
			refusal{codes.FailedPrecondition, "QUORUM_AT_RISK", nil})
		b.stock()
		give("an abort of nothing", b.call(t.Context(), "n1", &fifev1.AbortPromotionRequest{Name: prod}),
			refusal{codes.FailedPrecondition, "NO_PROMOTION", meta("resource", prod)})
		b.roll()
		give("a change beside a promotion", b.call(t.Context(), "n1", &fifev1.PromoteCanaryRequest{Name: prod}),
			refusal{codes.FailedPrecondition, "PROMOTION_OPEN", nil})
	})
	for number, name := range fifev1.ErrorReason_name {
		reason := strings.TrimPrefix(name, "ERROR_REASON_")
		if _, not := elsewhere[fifev1.ErrorReason(number)]; not == given[reason] {
			t.Errorf("%s: given %v", reason, given[reason])
		}
		delete(given, reason)
	}
	if len(given) > 0 {
		t.Errorf("these reasons are not declared: %v", given)
	}
}

func (b *bench) restore(node string, data []byte) error {
	b.t.Helper()
	stream := must(b.nodes[node].cluster.RestoreCluster(b.t.Context()))(b.t)
	_ = stream.Send(&fifev1.RestoreClusterRequest{Data: data}) // the answer says more
	return second(stream.CloseAndRecv())
}
