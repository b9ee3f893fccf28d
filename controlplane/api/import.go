package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/fifegateway/fife/controlplane/openapi"
	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// maxResponse is the most bytes that one node takes from another: an exported draft
// can have several times the bytes of its routes.
const maxResponse = 6 * release.MaxDeployment

// partSize is how many bytes of routes go into one entry of the log; the rest of
// store.MaxCommand is for what is around them.
const partSize = store.MaxCommand - 64<<10

// maxFaults is how many faults of a document are named: errors travel as headers,
// and clients take few kilobytes of those.
const maxFaults = 20

func (s *apiService) ImportRoutes(ctx context.Context, req *fifev1.ImportRoutesRequest) (*fifev1.ImportRoutesResponse, error) {
	var v release.Violations
	cmd := &storev1.ImportRoutes{
		Api:        parseAPI(&v, "parent", req.GetParent()),
		Merge:      req.GetMode() == fifev1.ImportMode_IMPORT_MODE_MERGE,
		Create:     req.GetAllowMissing(),
		IfRevision: parseEtag(&v, "etag", req.GetEtag()),
	}
	if _, known := fifev1.ImportMode_name[int32(req.GetMode())]; !known {
		v.Addf("mode", "%d is unknown", req.GetMode())
	}
	doc := parseDocument(&v, req)
	cmd.BinaryMediaTypes = doc.BinaryMediaTypes
	cmd.Description = openapi.Clip(doc.Title)
	done, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_ImportRoutes{ImportRoutes: cmd}}, stage(cmd, doc.Routes)...)
	if err != nil {
		return nil, err
	}
	i := done.Imported
	return &fifev1.ImportRoutesResponse{
		Api:           toAPI(done.API),
		Version:       toVersion(done.Version),
		Added:         int32(i.Added),
		Removed:       int32(i.Removed),
		Changed:       int32(i.Changed),
		Unchanged:     int32(i.Unchanged),
		RoutesAdded:   i.Names.Added,
		RoutesRemoved: i.Names.Removed,
		RoutesChanged: i.Names.Changed,
		Warnings:      doc.Warnings,
	}, nil
}

// parseDocument reads the document of an import. What is wrong with it is told with
// lines and JSON pointers; an empty document comes back then.
func parseDocument(v *release.Violations, req *fifev1.ImportRoutesRequest) *openapi.Document {
	modes := map[fifev1.BasePathMode]openapi.BasePath{
		fifev1.BasePathMode_BASE_PATH_MODE_UNSPECIFIED: openapi.IgnoreBasePath,
		fifev1.BasePathMode_BASE_PATH_MODE_IGNORE:      openapi.IgnoreBasePath,
		fifev1.BasePathMode_BASE_PATH_MODE_PREPEND:     openapi.PrependBasePath,
		fifev1.BasePathMode_BASE_PATH_MODE_SPLIT:       openapi.SplitBasePath,
	}
	mode, known := modes[req.GetBasePath()]
	if !known {
		v.Addf("base_path", "%d is unknown", req.GetBasePath())
	}
	doc, err := openapi.Parse(req.GetDocument(), openapi.Options{BasePath: mode})
	bad, ok := errors.AsType[*openapi.Error](err)
	if !ok {
		return doc
	}
	named := bad.Faults[:min(len(bad.Faults), maxFaults)]
	for _, f := range named {
		v.Addf("document", "%s", f)
	}
	if more := bad.More + len(bad.Faults) - len(named); more > 0 {
		v.Addf("document", "and %d more", more)
	}
	return &openapi.Document{}
}

// stage deals routes out to the commands of an import: those that fit in go into
// the last one, cmd, the others into commands before it, which are returned.
func stage(cmd *storev1.ImportRoutes, routes []release.Route) (first []*storev1.Command) {
	size := 0
	for i := range routes {
		r := store.EncodeRoute(&routes[i])
		n := proto.Size(r) + 8 // with its tag and length
		if size > 0 && size+n > partSize {
			cmd.Import = importID(cmd.GetImport())
			first = append(first, &storev1.Command{Op: &storev1.Command_StageRoutes{StageRoutes: &storev1.StageRoutes{
				Api: cmd.GetApi(), Import: cmd.GetImport(), Part: cmd.GetParts(), Routes: cmd.GetRoutes(),
			}}})
			cmd.Parts++
			cmd.Routes, size = nil, 0
		}
		cmd.Routes = append(cmd.Routes, r)
		size += n
	}
	return first
}

// importID returns the id of an import that has one, or a new one.
func importID(id string) string {
	if id == "" {
		return rand.Text()
	}
	return id
}

func (s *apiService) ExportRoutes(ctx context.Context, req *fifev1.ExportRoutesRequest) (*fifev1.ExportRoutesResponse, error) {
	var v release.Violations
	api, number := parseDraftOrDeployment(&v, "parent", req.GetParent())
	a, state, err := s.findAPI(ctx, v, req, api)
	if err != nil {
		return nil, err
	}
	doc := &openapi.Document{Title: a.ID, Description: a.Description, BinaryMediaTypes: a.BinaryMediaTypes}
	if number == 0 {
		for r := range state.Routes(api, "", "") {
			doc.Routes = append(doc.Routes, *r)
		}
	} else {
		d, ok := state.Deployment(api, number)
		if !ok {
			return nil, release.Missing(release.DeploymentName(api, number))
		}
		doc.BinaryMediaTypes = d.BinaryMediaTypes
		for _, r := range d.Routes {
			doc.Routes = append(doc.Routes, *r)
		}
	}
	data, err := openapi.Export(doc, openapi.ExportOptions{})
	if err != nil {
		return nil, fmt.Errorf("export %s: %w", req.GetParent(), err)
	}
	return &fifev1.ExportRoutesResponse{Document: data, Staleness: state.staleness}, nil
}
