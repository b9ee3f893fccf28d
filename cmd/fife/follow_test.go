package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// promoting is the plain stage with promotion 9 in a state.
func promoting(state fifev1.Promotion_State) *fifev1.Stage {
	s := plainStage()
	s.Promotion = &fifev1.Promotion{Number: 9, State: state, CreateTime: at(8)}
	return s
}

// inWaves makes the promotion one in three waves.
func inWaves(s *fifev1.Stage, reached int32, reason string) *fifev1.Stage {
	s.Waves = make([]*fifev1.Wave, 3)
	for i := range s.Waves {
		s.Waves[i] = &fifev1.Wave{Selection: &fifev1.Wave_Percent{Percent: float64(10 * (i + 1))}}
	}
	s.Promotion.Mode, s.Promotion.WavesReached, s.Promotion.Reason = fifev1.SyncMode_SYNC_MODE_WAVES, reached, reason
	return s
}

// completed is a timed promotion that left one agent behind.
func completed() *fifev1.Stage {
	s := promoting(fifev1.Promotion_STATE_COMPLETE)
	s.Promotion.Mode = fifev1.SyncMode_SYNC_MODE_TIMED
	s.Promotion.Committed, s.Promotion.EndTime = &fifev1.Version{Epoch: 1, Index: 11}, at(9)
	s.Promotion.Report = &fifev1.PromotionReport{Agents: 3, Prepared: 2, Fenced: []string{"edge-3"}, Stale: []string{"edge-3"},
		Window: durationpb.New(1500 * time.Microsecond), ClockError: durationpb.New(700 * time.Microsecond)}
	return s
}

func seen(s *fifev1.Stage, index uint64) *fifev1.WatchStageResponse {
	return &fifev1.WatchStageResponse{Stage: s, Version: &fifev1.Version{Epoch: 1, Index: index}}
}

func opening(t *testing.T, watch answer) *fake {
	f := demo(t)
	f.on("StageService/PromoteCanary", reply(&fifev1.PromoteCanaryResponse{
		Stage: promoting(fifev1.Promotion_STATE_PREPARING), Version: &fifev1.Version{Epoch: 1, Index: 9}}))
	f.on("StageService/WatchStage", watch)
	return f
}

func TestFollowPromotion(t *testing.T) {
	const (
		preparing, committed = "promotion 9 is preparing\n", "promotion 9 is committed\n"
		follow               = "\n  follow it with: fife canary watch demo/plain, or end it with: fife canary abort-promotion demo/plain\n"
	)
	prepared := seen(promoting(fifev1.Promotion_STATE_PREPARING), 9)
	aborted := promoting(fifev1.Promotion_STATE_ABORTED)
	aborted.Promotion.Reason = "edge-2 refused it"
	newer := promoting(fifev1.Promotion_STATE_PREPARING)
	newer.Promotion.Number = 12
	for name, c := range map[string]struct {
		watch answer
		flags string
		code  int
		out   string // a part of it
		err   string
	}{
		"to the end": {
			watch: hang(prepared, prepared, seen(promoting(fifev1.Promotion_STATE_COMMITTED), 11), seen(completed(), 12)),
			out: "prepared     2 of 3 agents\nfenced       edge-3\nstale        edge-3\nrefused      none\n" +
				"window       1.5ms\nclock error  700µs\n",
			err: preparing + committed + "promotion 9 is complete\n",
		},
		"an older state of a lagging node is nothing": {
			watch: hang(seen(aborted, 8), seen(plainStage(), 9), seen(completed(), 12)),
			err:   "promotion 9 is complete\n",
		},
		"aborted": {
			watch: hang(prepared, seen(aborted, 10)),
			code:  exitEnded,
			out:   "state      aborted\n",
			err:   preparing + "promotion 9 is aborted: edge-2 refused it\nfife: promotion 9 of demo/plain was aborted: edge-2 refused it\n  all agents route as before it\n",
		},
		"halted in waves": {
			watch: hang(seen(inWaves(promoting(fifev1.Promotion_STATE_ROLLING), 1, ""), 10), seen(inWaves(promoting(fifev1.Promotion_STATE_HALTED), 2, "edge-2 refused it"), 11)),
			code:  exitEnded,
			err: "promotion 9 is rolling, 1 of 3 waves reached\npromotion 9 is halted, 2 of 3 waves reached: edge-2 refused it\n" +
				"fife: promotion 9 of demo/plain has halted: edge-2 refused it\n" +
				"  go on with: fife canary resume demo/plain, or end it with: fife canary abort-promotion demo/plain\n",
		},
		"the node restarts": {
			watch: inTurn(refuse(status.Error(codes.Unavailable, "closing"), prepared), reply(prepared), hang(seen(completed(), 12))),
			err: preparing + "the control plane does not answer; trying again\n" + preparing +
				"the control plane does not answer; trying again\npromotion 9 is complete\n",
		},
		"the stage is deleted": {
			watch: refuse(fifeError(codes.NotFound, "RESOURCE_NOT_FOUND", "gone", nil), prepared),
			code:  exitEnded,
			err:   preparing + "fife: stage demo/plain was deleted, and promotion 9 ended with it\n",
		},
		"another one was opened": {
			watch: hang(seen(newer, 12)),
			code:  exitUnknown,
			err:   "fife: promotion 9 of demo/plain ended unseen, and another was opened since\n  see how it ended with: fife stage history demo/plain\n",
		},
		"time is up": {
			watch: hang(prepared),
			flags: " --wait --wait-timeout 500ms",
			code:  exitWaitTimeout,
			err:   preparing + "fife: timed out after 500ms; promotion 9 of demo/plain goes on" + follow,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := fife(t, opening(t, c.watch).address, strings.Fields("canary promote demo/plain --sync"+c.flags)...)
			if r.code != c.code || r.err != c.err || !strings.Contains(r.out, c.out) {
				t.Errorf("exit %d, want %d\nout:\n%s\nwant in it:\n%s\nerr:\n%s\nwant:\n%s", r.code, c.code, r.out, c.out, r.err, c.err)
			}
		})
	}
}

// TestFollowPrintsFinalStage: a script reads one document, the stage in the end.
func TestFollowPrintsFinalStage(t *testing.T) {
	r := fife(t, opening(t, hang(seen(completed(), 12))).address, "canary", "promote", "demo/plain", "--sync", "-o", "json")
	var stage struct{ Promotion struct{ State string } }
	if err := json.Unmarshal([]byte(r.out), &stage); err != nil || stage.Promotion.State != "STATE_COMPLETE" || r.code != exitOK {
		t.Errorf("exit %d, %v:\n%s", r.code, err, r.out)
	}
}

func TestFollowInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f := opening(t, func(ctx context.Context, _ proto.Message, _ func(proto.Message) error) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	r := fifeWith(ctx, t, streams{}, f.address, "canary", "promote", "demo/plain", "--sync")
	r.want(t, exitFailed, "", "fife: interrupted; promotion 9 of demo/plain goes on\n"+
		"  follow it with: fife canary watch demo/plain, or end it with: fife canary abort-promotion demo/plain\n")
	for _, call := range f.take() {
		if call.method == "StageService/AbortPromotion" {
			t.Error("the promotion was aborted")
		}
	}
}

// TestStatusWatch: the screen never scrolls, and an interrupt is a good end.
func TestStatusWatch(t *testing.T) {
	for _, height := range []int{0, 5} {
		f := demo(t)
		f.on("StageService/ListStages", reply(&fifev1.ListStagesResponse{Stages: []*fifev1.Stage{promoting(fifev1.Promotion_STATE_PREPARING)}}))
		ctx, cancel := context.WithCancel(t.Context())
		looks := 0
		cluster := reply(&fifev1.GetClusterResponse{Cluster: &fifev1.Cluster{ClusterId: "c-1"}})
		f.on("ClusterService/GetCluster", func(ctx context.Context, m proto.Message, send func(proto.Message) error) error {
			if looks++; looks == 3 {
				cancel()
			}
			return cluster(ctx, m, send)
		})
		s := streams{}
		if height > 0 {
			s.height = func() int { return height }
		}
		r := fifeWith(ctx, t, s, f.address, "status", "--watch", "--interval", "100ms")
		cancel()
		if r.code != exitOK || strings.Count(r.out, "c-1") != 2 {
			t.Errorf("exit %d, want 0 after two looks:\n%s%s", r.code, r.out, r.err)
		}
		if height > 0 && strings.Count(r.out, "\n") != 2*(height-1) {
			t.Errorf("two looks at a terminal of %d lines broke %d", height, strings.Count(r.out, "\n"))
		}
		if height == 0 && !strings.Contains(r.out, "demo/plain  9       preparing") {
			t.Errorf("the open promotion is missing:\n%s", r.out)
		}
	}
}
