package api

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"slices"

	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func (s *stageService) StartCanary(
	ctx context.Context, req *fifev1.StartCanaryRequest,
) (*fifev1.StartCanaryResponse, error) {
	var v release.Violations
	api, id := parseStage(&v, "name", req.GetName())
	if req.GetCanary() == nil {
		v.Addf("canary", "is required")
	}
	canary := parseCanary(&v, "canary", api, req.GetCanary())
	canary.Salt = newSalt()
	if err := s.sealCanary(&v, "canary", api, id, &canary, req.GetCanary(), true); err != nil {
		return nil, err
	}
	done, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_StartCanary{
		StartCanary: &storev1.StartCanary{
			Api: api, Stage: id, Canary: store.EncodeCanary(&canary), Replace: req.GetReplace(),
			IfRevision: parseEtag(&v, "etag", req.GetEtag()),
		},
	}})
	if err != nil {
		return nil, err
	}
	return &fifev1.StartCanaryResponse{
		Stage: toStage(done.Stage), Warnings: done.warnings(), Version: toVersion(done.Version), Preview: done.preview(),
	}, nil
}

func newSalt() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}

func (s *stageService) UpdateCanary(
	ctx context.Context, req *fifev1.UpdateCanaryRequest,
) (*fifev1.UpdateCanaryResponse, error) {
	var v release.Violations
	api, id := parseStage(&v, "name", req.GetName())
	if req.GetCanary() == nil {
		v.Addf("canary", "is required")
	}
	fields := selectFields(&v, req.GetUpdateMask().GetPaths(), release.CanaryFields(), release.FieldSecretOverrides)
	fields = withSecrets(fields, req.GetUpdateMask().GetPaths(), req.GetCanary().GetSecretOverrides(), release.FieldSecretOverrides)
	canary := parseCanary(&v, "canary", api, req.GetCanary())
	if err := s.sealCanary(&v, "canary", api, id, &canary, req.GetCanary(), false); err != nil {
		return nil, err
	}
	if req.GetCanary() != nil && slices.Contains(fields, release.FieldDeployment) && req.GetCanary().GetDeployment() == "" {
		v.Addf("canary.deployment", "is required, as update_mask names it or is unset")
	}
	done, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_UpdateCanary{
		UpdateCanary: &storev1.UpdateCanary{
			Api: api, Stage: id, Canary: store.EncodeCanary(&canary), Fields: fields,
			IfRevision: parseEtag(&v, "etag", req.GetEtag()),
		},
	}})
	if err != nil {
		return nil, err
	}
	return &fifev1.UpdateCanaryResponse{
		Stage: toStage(done.Stage), Warnings: done.warnings(), Version: toVersion(done.Version), Preview: done.preview(),
	}, nil
}

func (s *stageService) AbortCanary(
	ctx context.Context, req *fifev1.AbortCanaryRequest,
) (*fifev1.AbortCanaryResponse, error) {
	var v release.Violations
	cmd := &storev1.AbortCanary{IfRevision: parseEtag(&v, "etag", req.GetEtag())}
	cmd.Api, cmd.Stage = parseStage(&v, "name", req.GetName())
	done, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_AbortCanary{AbortCanary: cmd}})
	if err != nil {
		return nil, err
	}
	return &fifev1.AbortCanaryResponse{
		Stage: toStage(done.Stage), Version: toVersion(done.Version), Preview: done.preview(),
	}, nil
}
