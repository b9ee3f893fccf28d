package api_test

import (
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// TestRepeatedRequests: a change of any kind that is repeated under its request
// id, through whichever node, gets the first answer and is not done twice.
func TestRepeatedRequests(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.stock()
		for i, change := range changes() {
			req := proto.Clone(change)
			m := req.ProtoReflect()
			m.Set(m.Descriptor().Fields().ByName("request_id"), stringValue(string(rune('a'+i))))
			first, err := b.ask(t.Context(), "n1", req)
			if err != nil {
				t.Fatalf("%T: %v", req, err)
			}
			before := b.holdings()
			for _, node := range []string{"n2", "n3", "n1"} {
				again, err := b.ask(t.Context(), node, req)
				if err != nil || !proto.Equal(again, first) {
					t.Errorf("%T: first\n%v\nthen, through %s,\n%v, %v", req, first, node, again, err)
				}
			}
			if after := b.holdings(); after != before {
				t.Errorf("%T: the repeats changed\n%s to\n%s", req, before, after)
			}
		}
	})
}

// TestRepeatedRefusals: a refusal is an answer too, and is repeated even though
// the call would pass by now.
func TestRepeatedRefusals(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.stock()
		abort := &fifev1.AbortCanaryRequest{Name: prod, RequestId: "r"}
		noCanary := refusal{codes.FailedPrecondition, "NO_CANARY", meta("resource", prod)}
		b.refuses(refusedCall{abort, noCanary})
		b.takes(&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{}})
		b.refuses(refusedCall{abort, noCanary})
		wantRefusal(t, "through another node", b.call(t.Context(), "n2", abort), noCanary)
	})
}

// TestReusedRequestIDs: an id that was used for another call, of this method or
// another, is refused.
func TestReusedRequestIDs(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.stock()
		b.takes(&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: 10}, RequestId: "r"})
		reused := refusal{codes.InvalidArgument, "REQUEST_ID_REUSED", meta("request_id", "r")}
		b.refuses(
			refusedCall{&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: 11}, RequestId: "r"}, reused},
			refusedCall{&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: 10}, Etag: "1", RequestId: "r"}, reused},
			refusedCall{&fifev1.AbortCanaryRequest{Name: prod, RequestId: "r"}, reused},
			refusedCall{&fifev1.PromoteCanaryRequest{Name: prod, RequestId: "r"}, reused},
		)
		wantRefusal(t, "through another node", b.call(t.Context(), "n3", &fifev1.AbortCanaryRequest{Name: prod, RequestId: "r"}), reused)
	})
}

// TestConcurrentRepeats: the same call through all nodes at once is done once, and
// all get the one answer.
func TestConcurrentRepeats(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.stock()
		answers := make(chan proto.Message, 30)
		var callers sync.WaitGroup
		for i := range 30 {
			node := []string{"n1", "n2", "n3"}[i%3]
			callers.Go(func() {
				resp, err := b.nodes[node].deployments.CreateDeployment(t.Context(),
					&fifev1.CreateDeploymentRequest{Parent: demo, StageId: "prod", RequestId: "once"})
				if err != nil {
					t.Error(err)
				}
				answers <- resp
			})
		}
		callers.Wait()
		first := <-answers
		for range 29 {
			if again := <-answers; !proto.Equal(first, again) {
				t.Errorf("one got\n%v\nanother\n%v", first, again)
			}
		}
		all := must(b.nodes["n1"].deployments.ListDeployments(t.Context(), &fifev1.ListDeploymentsRequest{Parent: demo}))(t)
		if n := len(all.GetDeployments()); n != 2 {
			t.Errorf("%d deployments were made, the stock's included", n)
		}
	})
}
