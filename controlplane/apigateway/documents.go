package apigateway

import (
	"net/http"
	"strings"

	"github.com/fifegateway/fife/controlplane/openapi"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// The modes of the query's basepath: what becomes of a document's base path.
var (
	basePaths = map[string]openapi.BasePath{
		"": openapi.IgnoreBasePath, "ignore": openapi.IgnoreBasePath,
		"prepend": openapi.PrependBasePath, "split": openapi.SplitBasePath,
	}
	basePathModes = map[openapi.BasePath]fifev1.BasePathMode{
		openapi.IgnoreBasePath:  fifev1.BasePathMode_BASE_PATH_MODE_IGNORE,
		openapi.PrependBasePath: fifev1.BasePathMode_BASE_PATH_MODE_PREPEND,
		openapi.SplitBasePath:   fifev1.BasePathMode_BASE_PATH_MODE_SPLIT,
	}
)

// readDocument reads the body as an OpenAPI document, in the mode that the query asks
// for.
func (c *call) readDocument() (*openapi.Document, openapi.BasePath, error) {
	mode, ok := basePaths[c.query.Get("basepath")]
	if !ok {
		return nil, mode, badRequest("Invalid basepath specified. Must be one of: [ignore, prepend, split]")
	}
	d, err := openapi.Parse(c.body, openapi.Options{BasePath: mode})
	if err != nil {
		return nil, mode, badRequest("Errors found during import:\n\t%s", err)
	}
	if len(d.Warnings) > 0 && c.query.Get("failonwarnings") == "true" {
		return nil, mode, badRequest("Warnings found during import:\n\t%s", strings.Join(d.Warnings, "\n\t"))
	}
	return d, mode, nil
}

// importRoutes makes the routes of the body's document those of an API.
func (g *Gateway) importRoutes(c *call, id string, mode openapi.BasePath, merge fifev1.ImportMode) (*fifev1.Api, error) {
	resp, err := g.apis.ImportRoutes(c.ctx, &fifev1.ImportRoutesRequest{
		Parent: apiName(id), Document: c.body, BasePath: basePathModes[mode], Mode: merge,
	})
	return resp.GetApi(), err
}

func (g *Gateway) importRestAPI(c *call) (answer, error) {
	d, mode, err := c.readDocument()
	if err != nil {
		return answer{}, err
	}
	a := &fifev1.Api{Description: openapi.Clip(d.Description), BinaryMediaTypes: d.BinaryMediaTypes}
	a.Annotations = withNotes(nil, apiNotes{Name: d.Title})
	created, err := g.newAPI(c, a)
	if err != nil {
		return answer{}, err
	}
	id := idOf(created)
	imported, err := g.importRoutes(c, id, mode, fifev1.ImportMode_IMPORT_MODE_REPLACE)
	if err != nil {
		// Nobody has heard of the API yet.
		_, _ = g.apis.DeleteApi(c.ctx, &fifev1.DeleteApiRequest{Name: apiName(id)})
		return answer{}, err
	}
	shape := toRestAPI(imported)
	shape.Warnings = d.Warnings
	return answer{http.StatusCreated, shape}, nil
}

func (g *Gateway) putRestAPI(c *call) (answer, error) {
	id := c.path[0]
	if _, err := g.getAPI(c, id); err != nil {
		return answer{}, err
	}
	merge, ok := map[string]fifev1.ImportMode{
		"": fifev1.ImportMode_IMPORT_MODE_MERGE, "merge": fifev1.ImportMode_IMPORT_MODE_MERGE,
		"overwrite": fifev1.ImportMode_IMPORT_MODE_REPLACE,
	}[c.query.Get("mode")]
	if !ok {
		return answer{}, badRequest("Invalid mode specified. Must be one of: [merge, overwrite]")
	}
	d, mode, err := c.readDocument()
	if err != nil {
		return answer{}, err
	}
	a, err := g.importRoutes(c, id, mode, merge)
	if err != nil {
		return answer{}, err
	}
	if merge == fifev1.ImportMode_IMPORT_MODE_REPLACE {
		a, err = g.changeAPI(c, id, func(a *fifev1.Api, notes *apiNotes) error {
			a.Description, notes.Name = openapi.Clip(d.Description), d.Title
			return nil
		})
		if err != nil {
			return answer{}, err
		}
	}
	shape := toRestAPI(a)
	shape.Warnings = d.Warnings
	return answer{http.StatusOK, shape}, nil
}

// getExport returns what a stage's own deployment serves as an OpenAPI document.
func (g *Gateway) getExport(c *call) (answer, error) {
	s, err := g.getNativeStage(c, c.path[0], c.path[1])
	switch {
	case err != nil:
		return answer{}, err
	case c.path[2] == "swagger":
		return answer{}, unsupported("exports as swagger; ask for oas30")
	case c.path[2] != "oas30":
		return answer{}, badRequest("Invalid export type specified. Must be one of: [oas30, swagger]")
	case strings.Contains(c.head.Get("Accept"), "yaml"):
		return answer{}, unsupported("exports in YAML; ask for application/json")
	}
	resp, err := g.apis.ExportRoutes(c.ctx, &fifev1.ExportRoutesRequest{Parent: s.GetDeployment()})
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, raw{"application/json", "oas30.json", resp.GetDocument()}}, nil
}
