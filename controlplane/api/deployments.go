package api

import (
	"context"
	"slices"
	"strconv"

	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

type deploymentService struct {
	fifev1.UnimplementedDeploymentServiceServer
	changer
}

func (s *deploymentService) CreateDeployment(
	ctx context.Context, req *fifev1.CreateDeploymentRequest,
) (*fifev1.CreateDeploymentResponse, error) {
	var v release.Violations
	cmd := &storev1.CreateDeployment{
		Api:         parseAPI(&v, "parent", req.GetParent()),
		Description: req.GetDescription(),
		Stage:       req.GetStageId(),
		Target:      storev1.Target(req.GetTarget()),
		IfRevision:  parseEtag(&v, "etag", req.GetEtag()),
	}
	release.CheckDescription(&v, "description", req.GetDescription())
	if req.GetStageId() != "" {
		release.CheckStageID(&v, "stage_id", req.GetStageId())
	} else if req.GetTarget() != 0 || req.GetEtag() != "" || len(req.GetStageMask().GetPaths()) > 0 {
		v.Addf("stage_id", "is unset, but target, etag or stage_mask is set")
	}
	if cmd.Fields = req.GetStageMask().GetPaths(); len(cmd.GetFields()) > 0 {
		values := parseDeployedStage(&v, cmd, req.GetStage())
		if err := s.sealStage(&v, cmd.GetApi(), cmd.GetStage(), &values, req.GetStage(), false); err != nil {
			return nil, err
		}
		cmd.Values = store.EncodeStageValues(values)
	}
	if _, known := fifev1.DeploymentTarget_name[int32(req.GetTarget())]; !known {
		v.Addf("target", "%d is unknown", req.GetTarget())
	}
	done, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_CreateDeployment{CreateDeployment: cmd}})
	if err != nil {
		return nil, err
	}
	resp := &fifev1.CreateDeploymentResponse{
		Deployment: toDeployment(done.Deployment),
		Warnings:   done.warnings(),
		Version:    toVersion(done.Version),
		Preview:    done.preview(),
	}
	if done.Stage != nil {
		resp.Stage = toStage(done.Stage)
	}
	return resp, nil
}

// parseDeployedStage reads what else of its stage a deployment sets.
func parseDeployedStage(v *release.Violations, cmd *storev1.CreateDeployment, p *fifev1.Stage) release.StageValues {
	values := parseStageValues(v, cmd.GetApi(), p)
	known := slices.DeleteFunc(release.StageFields(), func(f string) bool { return f == release.FieldDeployment })
	checkFields(v, "stage_mask", cmd.GetFields(), append(known,
		release.FieldSecretVariables, release.FieldCanary, release.FieldAnnotations, release.FieldOtherPromoter))
	if p.GetDeployment() != "" || p.GetCanary().GetDeployment() != "" {
		v.Addf("stage", "names a deployment, but gets the new one")
	}
	if !slices.Contains(cmd.GetFields(), release.FieldCanary) {
		values.Canary = nil
		return values
	}
	if values.Canary == nil {
		v.Addf("stage.canary", "is required when stage_mask names it")
	}
	if cmd.GetTarget() == storev1.Target_TARGET_BASE {
		v.Addf("target", "is BASE, but stage_mask gives the deployment to the canary")
	}
	return values
}

func (s *deploymentService) GetDeployment(
	ctx context.Context, req *fifev1.GetDeploymentRequest,
) (*fifev1.GetDeploymentResponse, error) {
	var v release.Violations
	api, number := parseDeployment(&v, "name", req.GetName())
	d, state, err := s.findDeployment(ctx, v, req, api, number)
	if err != nil {
		return nil, err
	}
	return &fifev1.GetDeploymentResponse{Deployment: toDeployment(d), Staleness: state.staleness}, nil
}

func (s *deploymentService) findDeployment(
	ctx context.Context, v release.Violations, req readRequest, api string, number uint64,
) (*release.Deployment, view, error) {
	if err := v.Err(); err != nil {
		return nil, view{}, err
	}
	state, err := s.read(ctx, req)
	if err != nil {
		return nil, view{}, err
	}
	d, ok := state.Deployment(api, number)
	if !ok {
		return nil, view{}, release.Missing(release.DeploymentName(api, number))
	}
	return d, state, nil
}

func (s *deploymentService) ListDeployments(
	ctx context.Context, req *fifev1.ListDeploymentsRequest,
) (*fifev1.ListDeploymentsResponse, error) {
	var v release.Violations
	id := parseAPI(&v, "parent", req.GetParent())
	start := pageStart(&v, req, 1)
	_, state, err := s.findAPI(ctx, v, req, id)
	if err != nil {
		return nil, err
	}
	from, _ := strconv.ParseUint(start[0], 10, 64) // a forged token lists from the first
	deployments, next := page(req, state.Deployments(id, from), toDeployment,
		func(d *release.Deployment) []string { return []string{strconv.FormatUint(d.Number, 10)} })
	return &fifev1.ListDeploymentsResponse{Deployments: deployments, NextPageToken: next, Staleness: state.staleness}, nil
}

func (s *deploymentService) ListDeploymentRoutes(
	ctx context.Context, req *fifev1.ListDeploymentRoutesRequest,
) (*fifev1.ListDeploymentRoutesResponse, error) {
	var v release.Violations
	api, number := parseDeployment(&v, "parent", req.GetParent())
	start := pageStart(&v, req, 2)
	d, state, err := s.findDeployment(ctx, v, req, api, number)
	if err != nil {
		return nil, err
	}
	first, _ := slices.BinarySearchFunc(d.Routes, &release.Route{Method: start[0], Path: start[1]}, release.CompareRoutes)
	routes, next := page(req, slices.Values(d.Routes[first:]), toRoute, routeToken)
	return &fifev1.ListDeploymentRoutesResponse{Routes: routes, NextPageToken: next, Staleness: state.staleness}, nil
}

func (s *deploymentService) DeleteDeployment(
	ctx context.Context, req *fifev1.DeleteDeploymentRequest,
) (*fifev1.DeleteDeploymentResponse, error) {
	var v release.Violations
	cmd := &storev1.DeleteDeployment{IfRevision: parseEtag(&v, "etag", req.GetEtag())}
	cmd.Api, cmd.Number = parseDeployment(&v, "name", req.GetName())
	done, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_DeleteDeployment{DeleteDeployment: cmd}})
	if err != nil {
		return nil, err
	}
	return &fifev1.DeleteDeploymentResponse{Version: toVersion(done.Version)}, nil
}
