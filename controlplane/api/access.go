package api

import (
	"context"
	"slices"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

type accessService struct {
	fifev1.UnimplementedAccessServiceServer
	changer
	bearers *Bearers
}

func toBinding(b access.Binding) *fifev1.Binding {
	return &fifev1.Binding{Subject: string(b.Subject), Role: string(b.Role), Api: b.API, Stage: b.Stage}
}

func parseBinding(v *release.Violations, p *fifev1.Binding) access.Binding {
	b := access.Binding{
		Subject: access.Subject(p.GetSubject()), Role: access.Role(p.GetRole()), API: p.GetApi(), Stage: p.GetStage(),
	}
	if err := b.Check(); err != nil {
		v.Addf("binding", "%v", err)
	}
	return b
}

func (s *accessService) CreateBinding(
	ctx context.Context, req *fifev1.CreateBindingRequest,
) (*fifev1.CreateBindingResponse, error) {
	var v release.Violations
	b := parseBinding(&v, req.GetBinding())
	_, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_CreateBinding{
		CreateBinding: &storev1.CreateBinding{Binding: store.EncodeBinding(b)},
	}})
	if err != nil {
		return nil, err
	}
	return &fifev1.CreateBindingResponse{Binding: toBinding(b)}, nil
}

func (s *accessService) DeleteBinding(
	ctx context.Context, req *fifev1.DeleteBindingRequest,
) (*fifev1.DeleteBindingResponse, error) {
	var v release.Violations
	b := parseBinding(&v, req.GetBinding())
	_, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_DeleteBinding{
		DeleteBinding: &storev1.DeleteBinding{Binding: store.EncodeBinding(b)},
	}})
	if err != nil {
		return nil, err
	}
	return &fifev1.DeleteBindingResponse{}, nil
}

func (s *accessService) ListBindings(
	ctx context.Context, req *fifev1.ListBindingsRequest,
) (*fifev1.ListBindingsResponse, error) {
	var v release.Violations
	start := pageStart(&v, req, 4)
	if err := v.Err(); err != nil {
		return nil, err
	}
	state, err := s.read(ctx, req)
	if err != nil {
		return nil, err
	}
	from := access.Binding{Subject: access.Subject(start[0]), Role: access.Role(start[1]), API: start[2], Stage: start[3]}
	bindings, next := page(req, state.Bindings(from), toBinding, func(b access.Binding) []string {
		return []string{string(b.Subject), string(b.Role), b.API, b.Stage}
	})
	return &fifev1.ListBindingsResponse{Bindings: bindings, NextPageToken: next, Staleness: state.staleness}, nil
}

// WhoAmI answers from the node's own state: it works without a leader.
func (s *accessService) WhoAmI(ctx context.Context, _ *fifev1.WhoAmIRequest) (*fifev1.WhoAmIResponse, error) {
	caller, ok := callerOf(ctx)
	if !ok {
		return &fifev1.WhoAmIResponse{Subject: anonymous}, nil
	}
	resp := &fifev1.WhoAmIResponse{Subject: string(caller.Subject), Groups: caller.Groups}
	for b := range s.store.State().BindingsOf(caller.Subjects()) {
		resp.Bindings = append(resp.Bindings, toBinding(b))
	}
	return resp, nil
}

func (s *accessService) TestPermissions(
	ctx context.Context, req *fifev1.TestPermissionsRequest,
) (*fifev1.TestPermissionsResponse, error) {
	var v release.Violations
	asked := access.Permissions()
	if len(req.GetPermissions()) > 0 {
		all := asked
		asked = nil
		for _, p := range req.GetPermissions() {
			if !slices.Contains(all, access.Permission(p)) {
				v.Addf("permissions", "%q is no permission", p)
			}
			asked = append(asked, access.Permission(p))
		}
	}
	if err := v.Err(); err != nil {
		return nil, err
	}
	resource := access.Resource{API: req.GetApi(), Stage: req.GetStage()}
	caller, known := callerOf(ctx)
	resp := &fifev1.TestPermissionsResponse{}
	for _, p := range asked {
		// On a plaintext port nobody is known, and everybody may do everything.
		if !known || access.Decide(s.store.State().BindingsOf(caller.Subjects()), caller, p, resource) == nil {
			resp.Permissions = append(resp.Permissions, string(p))
		}
	}
	return resp, nil
}
