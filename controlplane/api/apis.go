package api

import (
	"context"
	"fmt"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

type apiService struct {
	fifev1.UnimplementedApiServiceServer
	changer
}

func (s *apiService) CreateApi(ctx context.Context, req *fifev1.CreateApiRequest) (*fifev1.CreateApiResponse, error) {
	var v release.Violations
	release.CheckAPIID(&v, "api_id", req.GetApiId())
	a := parseAPIFields(&v, req.GetApiId(), req.GetApi())
	done, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_CreateApi{
		CreateApi: &storev1.CreateApi{Api: store.EncodeAPI(a)},
	}})
	if err != nil {
		return nil, err
	}
	return &fifev1.CreateApiResponse{Api: toAPI(done.API), Version: toVersion(done.Version)}, nil
}

func (s *apiService) GetApi(ctx context.Context, req *fifev1.GetApiRequest) (*fifev1.GetApiResponse, error) {
	var v release.Violations
	id := parseAPI(&v, "name", req.GetName())
	a, view, err := s.findAPI(ctx, v, req, id)
	if err != nil {
		return nil, err
	}
	return &fifev1.GetApiResponse{Api: toAPI(a), Staleness: view.staleness}, nil
}

// findAPI returns an API and the state that it is of.
func (c changer) findAPI(ctx context.Context, v release.Violations, req readRequest, id string) (*release.API, view, error) {
	if err := v.Err(); err != nil {
		return nil, view{}, err
	}
	state, err := c.read(ctx, req)
	if err != nil {
		return nil, view{}, err
	}
	a, ok := state.API(id)
	if !ok {
		return nil, view{}, release.Missing(release.APIName(id))
	}
	return a, state, nil
}

func (s *apiService) ListApis(ctx context.Context, req *fifev1.ListApisRequest) (*fifev1.ListApisResponse, error) {
	var v release.Violations
	start := pageStart(&v, req, 1)
	if err := v.Err(); err != nil {
		return nil, err
	}
	state, err := s.read(ctx, req)
	if err != nil {
		return nil, err
	}
	apis, next := page(req, visible(ctx, state, access.APIsRead, state.APIs(start[0]), resourceOfAPI), toAPI, func(a *release.API) []string { return []string{a.ID} })
	return &fifev1.ListApisResponse{Apis: apis, NextPageToken: next, Staleness: state.staleness}, nil
}

func (s *apiService) UpdateApi(ctx context.Context, req *fifev1.UpdateApiRequest) (*fifev1.UpdateApiResponse, error) {
	var v release.Violations
	id := parseAPI(&v, "api.name", req.GetApi().GetName())
	done, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_UpdateApi{
		UpdateApi: &storev1.UpdateApi{
			Api:        store.EncodeAPI(parseAPIFields(&v, id, req.GetApi())),
			Fields:     selectFields(&v, req.GetUpdateMask().GetPaths(), release.APIFields(), release.FieldAnnotations),
			IfRevision: parseEtag(&v, "api.etag", req.GetApi().GetEtag()),
		},
	}})
	if err != nil {
		return nil, err
	}
	return &fifev1.UpdateApiResponse{Api: toAPI(done.API), Version: toVersion(done.Version)}, nil
}

func (s *apiService) DeleteApi(ctx context.Context, req *fifev1.DeleteApiRequest) (*fifev1.DeleteApiResponse, error) {
	var v release.Violations
	cmd := &storev1.DeleteApi{
		Api:        parseAPI(&v, "name", req.GetName()),
		IfRevision: parseEtag(&v, "etag", req.GetEtag()),
		Force:      req.GetForce(),
	}
	done, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_DeleteApi{DeleteApi: cmd}})
	if err != nil {
		return nil, err
	}
	return &fifev1.DeleteApiResponse{Version: toVersion(done.Version)}, nil
}

func (s *apiService) PutRoute(ctx context.Context, req *fifev1.PutRouteRequest) (*fifev1.PutRouteResponse, error) {
	var v release.Violations
	cmd := &storev1.PutRoute{
		Api:        parseAPI(&v, "parent", req.GetParent()),
		Route:      store.EncodeRoute(parseRoute(&v, "route", req.GetRoute())),
		IfRevision: parseEtag(&v, "route.etag", req.GetRoute().GetEtag()),
	}
	done, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_PutRoute{PutRoute: cmd}})
	if err != nil {
		return nil, err
	}
	return &fifev1.PutRouteResponse{Route: toRoute(done.Route), Version: toVersion(done.Version)}, nil
}

func (s *apiService) ListRoutes(ctx context.Context, req *fifev1.ListRoutesRequest) (*fifev1.ListRoutesResponse, error) {
	var v release.Violations
	id := parseAPI(&v, "parent", req.GetParent())
	start := pageStart(&v, req, 2)
	_, state, err := s.findAPI(ctx, v, req, id)
	if err != nil {
		return nil, err
	}
	routes, next := page(req, state.Routes(id, start[0], start[1]), toRoute, routeToken)
	return &fifev1.ListRoutesResponse{Routes: routes, NextPageToken: next, Staleness: state.staleness}, nil
}

func routeToken(r *release.Route) []string { return []string{r.Method, r.Path} }

func (s *apiService) DeleteRoute(ctx context.Context, req *fifev1.DeleteRouteRequest) (*fifev1.DeleteRouteResponse, error) {
	var v release.Violations
	cmd := &storev1.DeleteRoute{
		Api:        parseAPI(&v, "parent", req.GetParent()),
		Method:     req.GetMethod(),
		Path:       release.CleanPath(req.GetPath()),
		IfRevision: parseEtag(&v, "etag", req.GetEtag()),
	}
	release.CheckRouteKey(&v, "", cmd.GetMethod(), cmd.GetPath())
	done, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_DeleteRoute{DeleteRoute: cmd}})
	if err != nil {
		return nil, err
	}
	return &fifev1.DeleteRouteResponse{Version: toVersion(done.Version)}, nil
}

func (s *apiService) EditRoutes(ctx context.Context, req *fifev1.EditRoutesRequest) (*fifev1.EditRoutesResponse, error) {
	var v release.Violations
	id := parseAPI(&v, "parent", req.GetParent())
	cmd := &storev1.EditRoutes{
		Api:        id,
		Fields:     req.GetUpdateMask().GetPaths(),
		IfRevision: parseEtag(&v, "api.etag", req.GetApi().GetEtag()),
	}
	for i, key := range req.GetDeleteRoutes() {
		field := fmt.Sprintf("delete_routes[%d].", i)
		d := &storev1.DeleteRoute{
			Api:        id,
			Method:     key.GetMethod(),
			Path:       release.CleanPath(key.GetPath()),
			IfRevision: parseEtag(&v, field+"etag", key.GetEtag()),
		}
		release.CheckRouteKey(&v, field, d.GetMethod(), d.GetPath())
		cmd.Delete = append(cmd.Delete, d)
	}
	for i, r := range req.GetPutRoutes() {
		field := fmt.Sprintf("put_routes[%d]", i)
		cmd.Put = append(cmd.Put, &storev1.PutRoute{
			Api:        id,
			Route:      store.EncodeRoute(parseRoute(&v, field, r)),
			IfRevision: parseEtag(&v, field+".etag", r.GetEtag()),
		})
	}
	if len(cmd.GetFields()) > 0 {
		checkFields(&v, "update_mask", cmd.GetFields(), append(release.APIFields(), release.FieldAnnotations))
		cmd.Values = store.EncodeAPI(parseAPIFields(&v, id, req.GetApi()))
	}
	done, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_EditRoutes{EditRoutes: cmd}})
	if err != nil {
		return nil, err
	}
	return &fifev1.EditRoutesResponse{Api: toAPI(done.API), Version: toVersion(done.Version)}, nil
}
