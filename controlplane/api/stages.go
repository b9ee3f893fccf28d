package api

import (
	"context"
	"slices"
	"strconv"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

type stageService struct {
	fifev1.UnimplementedStageServiceServer
	changer
	peers *Peers
}

func (s *stageService) CreateStage(
	ctx context.Context, req *fifev1.CreateStageRequest,
) (*fifev1.CreateStageResponse, error) {
	var v release.Violations
	api := parseAPI(&v, "parent", req.GetParent())
	release.CheckStageID(&v, "stage_id", req.GetStageId())
	values := parseStageValues(&v, api, req.GetStage())
	if req.GetStage().GetDeployment() == "" {
		v.Addf("stage.deployment", "is required: a stage serves a deployment")
	}
	if values.Canary != nil {
		release.CheckVariables(&v, "stage.canary.variable_overrides",
			release.MergeVariables(values.Variables, values.Canary.Overrides)) // together they are what a promotion makes of the stage
	}
	if err := s.sealStage(&v, api, req.GetStageId(), &values, req.GetStage(), true); err != nil {
		return nil, err
	}
	done, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_CreateStage{
		CreateStage: &storev1.CreateStage{Api: api, Stage: req.GetStageId(), Values: store.EncodeStageValues(values)},
	}})
	if err != nil {
		return nil, err
	}
	return &fifev1.CreateStageResponse{
		Stage: toStage(done.Stage), Warnings: done.warnings(), Version: toVersion(done.Version),
	}, nil
}

func (s *stageService) GetStage(ctx context.Context, req *fifev1.GetStageRequest) (*fifev1.GetStageResponse, error) {
	stage, state, err := s.findStage(ctx, nil, req, "name", req.GetName())
	if err != nil {
		return nil, err
	}
	return &fifev1.GetStageResponse{Stage: toStage(stage), Staleness: state.staleness}, nil
}

func (s *stageService) findStage(
	ctx context.Context, v release.Violations, req readRequest, field, name string,
) (*release.Stage, view, error) {
	api, id := parseStage(&v, field, name)
	if err := v.Err(); err != nil {
		return nil, view{}, err
	}
	state, err := s.read(ctx, req)
	if err != nil {
		return nil, view{}, err
	}
	stage, ok := state.Stage(api, id)
	if !ok {
		return nil, view{}, release.Missing(name)
	}
	return stage, state, nil
}

func (s *stageService) ListStages(
	ctx context.Context, req *fifev1.ListStagesRequest,
) (*fifev1.ListStagesResponse, error) {
	var v release.Violations
	start := pageStart(&v, req, 2)
	token := func(stage *release.Stage) []string { return []string{stage.API, stage.ID} }
	if req.GetParent() == "apis/-" {
		if err := v.Err(); err != nil {
			return nil, err
		}
		state, err := s.read(ctx, req)
		if err != nil {
			return nil, err
		}
		stages, next := page(req, visible(ctx, state, access.StagesRead, state.AllStages(start[0], start[1]), resourceOfStage), toStage, token)
		return &fifev1.ListStagesResponse{Stages: stages, NextPageToken: next, Staleness: state.staleness}, nil
	}
	id := parseAPI(&v, "parent", req.GetParent())
	_, state, err := s.findAPI(ctx, v, req, id)
	if err != nil {
		return nil, err
	}
	stages, next := page(req, visible(ctx, state, access.StagesRead, state.Stages(id, start[1]), resourceOfStage), toStage, token)
	return &fifev1.ListStagesResponse{Stages: stages, NextPageToken: next, Staleness: state.staleness}, nil
}

func (s *stageService) UpdateStage(
	ctx context.Context, req *fifev1.UpdateStageRequest,
) (*fifev1.UpdateStageResponse, error) {
	var v release.Violations
	api, id := parseStage(&v, "stage.name", req.GetStage().GetName())
	fields := selectFields(&v, req.GetUpdateMask().GetPaths(), release.StageFields(),
		release.FieldSecretVariables, release.FieldCanary, release.FieldAnnotations, release.FieldOtherPromoter)
	fields = withSecrets(fields, req.GetUpdateMask().GetPaths(), req.GetStage().GetSecretVariables(), release.FieldSecretVariables)
	values := parseStageValues(&v, api, req.GetStage())
	if slices.Contains(fields, release.FieldDeployment) && req.GetStage().GetDeployment() == "" {
		v.Addf("stage.deployment", "is required when update_mask names it: a stage serves a deployment")
	}
	if err := s.sealStage(&v, api, id, &values, req.GetStage(), false); err != nil {
		return nil, err
	}
	done, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_UpdateStage{
		UpdateStage: &storev1.UpdateStage{
			Api: api, Stage: id, Fields: fields,
			Values:     store.EncodeStageValues(values),
			IfRevision: parseEtag(&v, "stage.etag", req.GetStage().GetEtag()),
		},
	}})
	if err != nil {
		return nil, err
	}
	return &fifev1.UpdateStageResponse{
		Stage: toStage(done.Stage), Warnings: done.warnings(), Version: toVersion(done.Version), Preview: done.preview(),
	}, nil
}

func (s *stageService) DeleteStage(
	ctx context.Context, req *fifev1.DeleteStageRequest,
) (*fifev1.DeleteStageResponse, error) {
	var v release.Violations
	cmd := &storev1.DeleteStage{IfRevision: parseEtag(&v, "etag", req.GetEtag())}
	cmd.Api, cmd.Stage = parseStage(&v, "name", req.GetName())
	done, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_DeleteStage{DeleteStage: cmd}})
	if err != nil {
		return nil, err
	}
	return &fifev1.DeleteStageResponse{Version: toVersion(done.Version)}, nil
}

func (s *stageService) RollbackStage(
	ctx context.Context, req *fifev1.RollbackStageRequest,
) (*fifev1.RollbackStageResponse, error) {
	var v release.Violations
	cmd := &storev1.RollbackStage{ToRevision: req.GetToRevision(), IfRevision: parseEtag(&v, "etag", req.GetEtag())}
	cmd.Api, cmd.Stage = parseStage(&v, "name", req.GetName())
	done, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_RollbackStage{RollbackStage: cmd}})
	if err != nil {
		return nil, err
	}
	return &fifev1.RollbackStageResponse{
		Stage: toStage(done.Stage), Warnings: done.warnings(), Version: toVersion(done.Version), Preview: done.preview(),
	}, nil
}

func (s *stageService) ListStageRevisions(
	ctx context.Context, req *fifev1.ListStageRevisionsRequest,
) (*fifev1.ListStageRevisionsResponse, error) {
	var v release.Violations
	start := pageStart(&v, req, 1)
	stage, state, err := s.findStage(ctx, v, req, "parent", req.GetParent())
	if err != nil {
		return nil, err
	}
	history := stage.History
	if newest, err := strconv.ParseUint(start[0], 10, 64); err == nil {
		history = slices.DeleteFunc(slices.Clone(history), func(r *release.Revision) bool { return r.Number > newest })
	}
	newestFirst := func(yield func(int) bool) {
		for i := len(history) - 1; i >= 0; i-- {
			if !yield(i) {
				return
			}
		}
	}
	convert := func(i int) *fifev1.StageRevision {
		r := history[i]
		p := &fifev1.StageRevision{
			Revision:   r.Number,
			CreateTime: toTime(r.Change.Time),
			Actor:      r.Change.Actor,
			Method:     r.Change.Method,
			Note:       r.Change.Note,
			After:      toConfig(stage.API, r.Config),
		}
		if i > 0 && history[i-1].Number == r.Number-1 {
			p.Before = toConfig(stage.API, history[i-1].Config)
		}
		return p
	}
	revisions, next := page(req, newestFirst, convert,
		func(i int) []string { return []string{strconv.FormatUint(history[i].Number, 10)} })
	return &fifev1.ListStageRevisionsResponse{
		Revisions: revisions, NextPageToken: next, Staleness: state.staleness,
	}, nil
}

const maxStickyKey = 4096 // bytes

func (s *stageService) ExplainSplit(
	ctx context.Context, req *fifev1.ExplainSplitRequest,
) (*fifev1.ExplainSplitResponse, error) {
	var v release.Violations
	if n := len(req.GetKey()); n < 1 || n > maxStickyKey {
		v.Addf("key", "has %d bytes, it must have 1 to %d", n, maxStickyKey)
	}
	stage, state, err := s.findStage(ctx, v, req, "name", req.GetName())
	if err != nil {
		return nil, err
	}
	e := stage.Explain(req.GetKey())
	variant := "base"
	if e.Canary {
		variant = "canary"
	}
	return &fifev1.ExplainSplitResponse{
		Variant:     variant,
		Deployment:  release.DeploymentName(stage.API, e.Deployment),
		Bucket:      e.Bucket,
		Threshold:   e.Threshold,
		Salt:        e.Salt,
		Explanation: e.Text,
		Staleness:   state.staleness,
	}, nil
}
