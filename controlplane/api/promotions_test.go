package api_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// waves are of every kind.
var waves = []*fifev1.Wave{
	{Selection: &fifev1.Wave_OnePerLabel{OnePerLabel: "region"}, Dwell: durationpb.New(time.Hour)},
	{Selection: &fifev1.Wave_Labels{Labels: &fifev1.AgentLabels{Labels: map[string]string{"tier": "canary"}}}},
	{Selection: &fifev1.Wave_Percent{Percent: 12.5}, Dwell: durationpb.New(time.Second)},
}

// roll opens a promotion on prod that stays in its first wave for an hour.
func (b *bench) roll() {
	b.t.Helper()
	b.takes(
		&fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: prod, Waves: waves}, UpdateMask: mask("waves")},
		&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: 10}},
		&fifev1.PromoteCanaryRequest{Name: prod},
	)
	<-time.After(time.Second)
}

// TestPromotionMethods: a promotion that stays open is seen, tried to be ended, and
// ended, through any node.
func TestPromotionMethods(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.stock()
		b.roll()
		follower := b.follower()
		watch, err := b.nodes[follower].stages.WatchStage(t.Context(), &fifev1.WatchStageRequest{Name: prod})
		if err != nil {
			t.Fatal(err)
		}
		state := func() fifev1.Promotion_State {
			t.Helper()
			return must(watch.Recv())(t).GetStage().GetPromotion().GetState()
		}
		if got := state(); got != fifev1.Promotion_STATE_ROLLING {
			t.Errorf("the promotion is %v", got)
		}
		begin := time.Now()
		if got := state(); got != fifev1.Promotion_STATE_ROLLING || time.Since(begin) != 15*time.Second {
			t.Errorf("after %v: %v", time.Since(begin), got)
		}
		before := b.holdings()
		b.takes(&fifev1.AbortPromotionRequest{Name: prod, ValidateOnly: true})
		if after := b.holdings(); after != before {
			t.Errorf("trying it changed\n%s to\n%s", before, after)
		}
		wantRefusal(t, "resuming what has not halted", b.call(t.Context(), follower, &fifev1.ResumePromotionRequest{Name: prod}),
			refusal{codes.FailedPrecondition, "NO_PROMOTION", nil})
		resp, err := b.ask(t.Context(), follower, &fifev1.AbortPromotionRequest{Name: prod})
		if err != nil {
			t.Fatal(err)
		}
		got := resp.(*fifev1.AbortPromotionResponse).GetStage()
		if p := got.GetPromotion(); p.GetState() != fifev1.Promotion_STATE_ABORTED || p.GetReason() == "" || p.GetEndTime() == nil || got.GetCanary() == nil {
			t.Errorf("aborted: %v", got)
		}
		if got := state(); got != fifev1.Promotion_STATE_ABORTED {
			t.Errorf("the watch sees %v", got)
		}
		if got := must(b.nodes["n1"].stages.GetStage(t.Context(), &fifev1.GetStageRequest{Name: prod}))(t).GetStage(); len(got.GetWaves()) != 3 || !proto.Equal(got.GetWaves()[2], waves[2]) {
			t.Errorf("the waves are %v", got.GetWaves())
		}

		// Break glass says so in the history.
		b.takes(&fifev1.PromoteCanaryRequest{Name: prod, BreakGlass: true})
		revisions := must(b.nodes["n1"].stages.ListStageRevisions(t.Context(), &fifev1.ListStageRevisionsRequest{Parent: prod}))(t).GetRevisions()
		if r := revisions[0]; r.GetMethod() != "PromoteCanary" || r.GetNote() == "" {
			t.Errorf("the history says %v", r)
		}
	})
}

// TestSyncWithoutAgents: nobody has to be waited for.
func TestSyncWithoutAgents(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.stock()
		b.takes(
			&fifev1.PutRouteRequest{Parent: demo, Route: mockRoute("GET", "/new", 200)},
			&fifev1.CreateDeploymentRequest{Parent: demo},
			&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Deployment: "apis/demo/deployments/2", Percent: 10}},
			&fifev1.PromoteCanaryRequest{Name: prod, Sync: &fifev1.SyncOptions{}},
		)
		watch, err := b.nodes["n1"].stages.WatchStage(t.Context(), &fifev1.WatchStageRequest{Name: prod})
		if err != nil {
			t.Fatal(err)
		}
		for {
			s := must(watch.Recv())(t).GetStage()
			p := s.GetPromotion()
			if p.GetState() != fifev1.Promotion_STATE_COMPLETE {
				continue
			}
			if s.GetDeployment() != "apis/demo/deployments/2" || s.GetCanary() != nil || p.GetReport().GetAgents() != 0 ||
				p.GetCommitted().GetEpoch() != 1 || p.GetCommitted().GetIndex() <= p.GetNumber() {
				t.Errorf("complete: %v", s)
			}
			return
		}
	})
}

func TestSyncOptions(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		for _, o := range []*fifev1.SyncOptions{
			{Mode: fifev1.SyncMode_SYNC_MODE_WAVES}, {OnTimeout: 9}, {PrepareTimeout: durationpb.New(time.Millisecond)},
			{PrepareTimeout: durationpb.New(time.Hour)},
		} {
			wantRefusal(t, o.String(), b.call(t.Context(), "n1", &fifev1.PromoteCanaryRequest{Name: prod, Sync: o}),
				refusal{codes.InvalidArgument, "INVALID_FIELD", nil})
		}
		wantRefusal(t, "sync and break glass",
			b.call(t.Context(), "n1", &fifev1.PromoteCanaryRequest{Name: prod, BreakGlass: true, Sync: &fifev1.SyncOptions{}}),
			refusal{codes.InvalidArgument, "INVALID_FIELD", nil})
		for _, w := range []*fifev1.Wave{{}, {Selection: &fifev1.Wave_Percent{Percent: 101}}, {Selection: waves[0].Selection, Dwell: durationpb.New(48 * time.Hour)}} {
			wantRefusal(t, w.String(), b.call(t.Context(), "n1",
				&fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: prod, Waves: []*fifev1.Wave{w}}, UpdateMask: mask("waves")}),
				refusal{codes.InvalidArgument, "INVALID_FIELD", nil})
		}
	})
}
