package api

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func (s *stageService) PromoteCanary(
	ctx context.Context, req *fifev1.PromoteCanaryRequest,
) (*fifev1.PromoteCanaryResponse, error) {
	var v release.Violations
	api, stage := parseStage(&v, "name", req.GetName())
	etag := parseEtag(&v, "etag", req.GetEtag())
	cmd := &storev1.Command{Op: &storev1.Command_PromoteCanary{PromoteCanary: &storev1.PromoteCanary{
		Api: api, Stage: stage, KeepCanary: req.GetKeepCanary(), IfRevision: etag, BreakGlass: req.GetBreakGlass(),
	}}}
	if req.GetSync() != nil {
		if req.GetBreakGlass() {
			v.Addf("break_glass", "cannot be set with sync: it waits for nobody")
		}
		options := parseSync(&v, req.GetSync())
		cmd.Op = &storev1.Command_OpenPromotion{OpenPromotion: &storev1.OpenPromotion{
			Api: api, Stage: stage, KeepCanary: req.GetKeepCanary(), IfRevision: etag,
			Mode: uint32(options.Mode), OnTimeout: uint32(options.OnTimeout), PrepareTimeout: durationpb.New(options.PrepareTimeout),
		}}
	}
	done, err := s.change(ctx, v, req, cmd)
	if err != nil {
		return nil, err
	}
	return &fifev1.PromoteCanaryResponse{
		Stage: toStage(done.Stage), Version: toVersion(done.Version), Preview: done.preview(),
	}, nil
}

func parseSync(v *release.Violations, p *fifev1.SyncOptions) release.SyncOptions {
	o := release.SyncOptions{
		Mode: release.SyncVersion, OnTimeout: release.TimeoutAbort, PrepareTimeout: release.DefaultPrepareTimeout,
	}
	switch p.GetMode() {
	case fifev1.SyncMode_SYNC_MODE_UNSPECIFIED, fifev1.SyncMode_SYNC_MODE_VERSION:
	case fifev1.SyncMode_SYNC_MODE_TIMED:
		o.Mode = release.SyncTimed
	default:
		v.Addf("sync.mode", "%v cannot be asked for; use VERSION or TIMED", p.GetMode())
	}
	if n := p.GetOnTimeout(); n < 0 || n > fifev1.TimeoutPolicy_TIMEOUT_POLICY_FENCE {
		v.Addf("sync.on_timeout", "%v is unknown", n)
	} else if n > 0 {
		o.OnTimeout = release.TimeoutPolicy(n)
	}
	if p.GetPrepareTimeout() != nil {
		o.PrepareTimeout = p.GetPrepareTimeout().AsDuration()
	}
	if o.PrepareTimeout < release.MinPrepareTimeout || o.PrepareTimeout > release.MaxPrepareTimeout {
		v.Addf("sync.prepare_timeout", "%v must lie between %v and %v", o.PrepareTimeout, release.MinPrepareTimeout, release.MaxPrepareTimeout)
	}
	return o
}

func (s *stageService) AbortPromotion(
	ctx context.Context, req *fifev1.AbortPromotionRequest,
) (*fifev1.AbortPromotionResponse, error) {
	done, err := s.movePromotion(ctx, req, req.GetName(), req.GetEtag(), store.StepAbort, "an operator aborted it")
	if err != nil {
		return nil, err
	}
	return &fifev1.AbortPromotionResponse{Stage: toStage(done.Stage), Version: toVersion(done.Version)}, nil
}

func (s *stageService) ResumePromotion(
	ctx context.Context, req *fifev1.ResumePromotionRequest,
) (*fifev1.ResumePromotionResponse, error) {
	done, err := s.movePromotion(ctx, req, req.GetName(), req.GetEtag(), store.StepResume, "")
	if err != nil {
		return nil, err
	}
	return &fifev1.ResumePromotionResponse{Stage: toStage(done.Stage), Version: toVersion(done.Version)}, nil
}

func (s *stageService) movePromotion(
	ctx context.Context, req changeRequest, name, etag string, step uint32, reason string,
) (changed, error) {
	var v release.Violations
	cmd := &storev1.MovePromotion{IfRevision: parseEtag(&v, "etag", etag), Step: step, Reason: reason}
	cmd.Api, cmd.Stage = parseStage(&v, "name", name)
	return s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_MovePromotion{MovePromotion: cmd}})
}

// watchInterval is the longest time between two messages of WatchStage.
const watchInterval = 15 * time.Second

// WatchStage follows a stage on this node, which begins with what the leader has.
func (s *stageService) WatchStage(
	req *fifev1.WatchStageRequest, stream grpc.ServerStreamingServer[fifev1.WatchStageResponse],
) error {
	var v release.Violations
	api, id := parseStage(&v, "name", req.GetName())
	if err := v.Err(); err != nil {
		return err
	}
	ctx := stream.Context()
	state, err := fresh(ctx, s.store, s.peers)
	if err != nil {
		return err
	}
	interval := time.NewTicker(watchInterval)
	defer interval.Stop()
	var sent uint64 // index of the stage's change sent last
	for due := true; ; {
		stage, ok := state.Stage(api, id)
		if !ok {
			return release.Missing(release.StageName(api, id))
		}
		if due || stage.Index != sent {
			if err := stream.Send(&fifev1.WatchStageResponse{Stage: toStage(stage), Version: toVersion(state.Version())}); err != nil {
				return err
			}
			sent, due = stage.Index, false
		}
		select {
		case <-state.Rerouted():
		case <-interval.C:
			due = true
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		state = s.store.State()
	}
}

func toPromotion(api string, p *release.Promotion) *fifev1.Promotion {
	if p == nil {
		return nil
	}
	out := &fifev1.Promotion{
		Number:       p.Number,
		State:        fifev1.Promotion_State(p.State),
		Mode:         fifev1.SyncMode(p.Mode),
		OnTimeout:    fifev1.TimeoutPolicy(p.OnTimeout),
		CreateTime:   toTime(p.CreateTime),
		Deadline:     toTime(p.Deadline),
		Config:       toConfig(api, p.Config),
		FlipTime:     toTime(p.FlipTime),
		EndTime:      toTime(p.EndTime),
		Reason:       p.Reason,
		Actor:        p.Actor,
		WavesReached: int32(len(p.Waves)),
		Fenced:       p.Fenced != 0,
	}
	if p.Committed != 0 {
		out.Committed = toVersion(store.Version{Epoch: p.Epoch, Index: p.Committed})
		out.Report = &fifev1.PromotionReport{
			Agents: int32(p.Report.Agents), Prepared: int32(p.Report.Prepared),
			Fenced: p.Report.Fenced, Stale: p.Report.Stale, Refused: p.Report.Refused,
			Window: toDuration(p.Report.Window), ClockError: toDuration(p.Report.ClockError),
		}
	}
	return out
}

func toWaves(waves []release.Wave) (out []*fifev1.Wave) {
	for _, w := range waves {
		p := &fifev1.Wave{Dwell: toDuration(w.Dwell)}
		switch {
		case w.OnePerLabel != "":
			p.Selection = &fifev1.Wave_OnePerLabel{OnePerLabel: w.OnePerLabel}
		case len(w.Labels) > 0:
			p.Selection = &fifev1.Wave_Labels{Labels: &fifev1.AgentLabels{Labels: w.Labels}}
		default:
			p.Selection = &fifev1.Wave_Percent{Percent: release.Percent(w.PartsPerMillion)}
		}
		out = append(out, p)
	}
	return out
}

func parseWaves(v *release.Violations, waves []*fifev1.Wave) (out []release.Wave) {
	for _, p := range waves {
		w := release.Wave{Dwell: p.GetDwell().AsDuration()}
		switch selection := p.GetSelection().(type) {
		case *fifev1.Wave_OnePerLabel:
			w.OnePerLabel = selection.OnePerLabel
		case *fifev1.Wave_Labels:
			w.Labels = selection.Labels.GetLabels()
		case *fifev1.Wave_Percent:
			w.PartsPerMillion = release.PartsPerMillion(v, "stage.waves", selection.Percent)
		}
		out = append(out, w)
	}
	release.CheckWaves(v, "stage.waves", out)
	return out
}
