package apigateway

import (
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// annotation is the key under which objects keep what only Amazon's model has of them.
const annotation = "apigateway"

// apiNotes are what only Amazon's model has of an API.
type apiNotes struct {
	Name          string            `json:"name,omitempty"`
	Version       string            `json:"version,omitempty"`
	APIKeySource  string            `json:"apiKeySource,omitempty"`
	EndpointTypes []string          `json:"endpointTypes,omitempty"`
	Tags          map[string]string `json:"tags,omitempty"`
	// Resources are the paths of resources that were created or moved here, by id.
	Resources map[string]string `json:"resources,omitempty"`
}

// readNotes reads an annotation. One that cannot be read, which somebody else has
// written, counts as empty.
func readNotes(annotations map[string]string, into any) {
	_ = json.Unmarshal([]byte(annotations[annotation]), into)
}

// withNotes returns annotations with other notes. Those of others stay.
func withNotes(annotations map[string]string, notes any) map[string]string {
	data, err := json.Marshal(notes)
	if err != nil {
		panic(err) // of our own shapes, which can be encoded
	}
	next := maps.Clone(annotations)
	if next == nil {
		next = map[string]string{}
	}
	next[annotation] = string(data)
	if string(data) == "{}" {
		delete(next, annotation)
	}
	return next
}

// restAPI is the service's shape of a REST API.
type restAPI struct {
	ID                        string                 `json:"id"`
	Name                      string                 `json:"name"`
	Description               string                 `json:"description,omitempty"`
	CreatedDate               int64                  `json:"createdDate"`
	Version                   string                 `json:"version,omitempty"`
	Warnings                  []string               `json:"warnings,omitempty"`
	BinaryMediaTypes          []string               `json:"binaryMediaTypes,omitempty"`
	APIKeySource              string                 `json:"apiKeySource"`
	EndpointConfiguration     *endpointConfiguration `json:"endpointConfiguration"`
	Tags                      map[string]string      `json:"tags,omitempty"`
	DisableExecuteAPIEndpoint bool                   `json:"disableExecuteApiEndpoint"`
	RootResourceID            string                 `json:"rootResourceId"`
}

type endpointConfiguration struct {
	Types          []string `json:"types"`
	IPAddressType  string   `json:"ipAddressType,omitempty"`
	VPCEndpointIDs []string `json:"vpcEndpointIds,omitempty"`
}

func apiName(id string) string { return "apis/" + id }

// epoch is a time as the service writes it: whole seconds.
func epoch(t *timestamppb.Timestamp) int64 { return t.GetSeconds() }

func toRestAPI(a *fifev1.Api) *restAPI {
	var notes apiNotes
	readNotes(a.GetAnnotations(), &notes)
	id := idOf(a)
	shape := &restAPI{
		ID: id, Name: notes.Name, Description: a.GetDescription(), CreatedDate: epoch(a.GetCreateTime()),
		Version: notes.Version, BinaryMediaTypes: a.GetBinaryMediaTypes(), APIKeySource: notes.APIKeySource,
		EndpointConfiguration: &endpointConfiguration{Types: notes.EndpointTypes, IPAddressType: "ipv4"},
		Tags:                  notes.Tags, RootResourceID: rootID(id),
	}
	if shape.Name == "" {
		shape.Name = id
	}
	if shape.APIKeySource == "" {
		shape.APIKeySource = "HEADER"
	}
	if len(notes.EndpointTypes) == 0 {
		shape.EndpointConfiguration.Types = []string{"EDGE"}
	}
	return shape
}

func idOf(a *fifev1.Api) string { return a.GetName()[len("apis/"):] }

// getAPI returns an API by its id.
func (g *Gateway) getAPI(c *call, id string) (*fifev1.Api, error) {
	resp, err := g.apis.GetApi(c.ctx, &fifev1.GetApiRequest{Name: apiName(id)})
	if err != nil {
		if reason, _ := reasonOf(err); reason == "INVALID_FIELD" {
			return nil, g.noAPI(id) // no API has such an id
		}
		return nil, err
	}
	return resp.GetApi(), nil
}

// newID returns an id of n random letters and digits.
func newID(n int) string {
	const digits = "abcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	for i := range b {
		b[i] = digits[int(b[i])%len(digits)] // names an object and guards nothing
	}
	return string(b)
}

// createRestAPIRequest is the body of CreateRestApi.
type createRestAPIRequest struct {
	Name                      string                 `json:"name"`
	Description               *string                `json:"description"`
	Version                   string                 `json:"version"`
	CloneFrom                 string                 `json:"cloneFrom"`
	BinaryMediaTypes          []string               `json:"binaryMediaTypes"`
	MinimumCompressionSize    *json.Number           `json:"minimumCompressionSize"`
	APIKeySource              string                 `json:"apiKeySource"`
	EndpointConfiguration     *endpointConfiguration `json:"endpointConfiguration"`
	Policy                    string                 `json:"policy"`
	Tags                      map[string]string      `json:"tags"`
	DisableExecuteAPIEndpoint bool                   `json:"disableExecuteApiEndpoint"`
}

func (g *Gateway) createRestAPI(c *call) (answer, error) {
	var req createRestAPIRequest
	if err := c.read(&req); err != nil {
		return answer{}, err
	}
	a, notes := &fifev1.Api{BinaryMediaTypes: req.BinaryMediaTypes}, apiNotes{Version: req.Version, Tags: req.Tags}
	switch {
	case req.Name == "":
		return answer{}, badRequest("Invalid REST API name specified")
	case req.Description != nil && *req.Description == "":
		return answer{}, badRequest("Description cannot be an empty string")
	case req.CloneFrom != "":
		return answer{}, unsupported("cloneFrom; export the API and import it")
	}
	notes.Name = req.Name
	if req.Description != nil {
		a.Description = *req.Description
	}
	if req.MinimumCompressionSize != nil {
		if err := setCompression(req.MinimumCompressionSize.String()); err != nil {
			return answer{}, err
		}
	}
	if req.Policy != "" {
		return answer{}, unsupported("resource policies")
	}
	if req.DisableExecuteAPIEndpoint {
		return answer{}, unsupported("disableExecuteApiEndpoint")
	}
	if err := setAPIKeySource(&notes, req.APIKeySource); err != nil {
		return answer{}, err
	}
	if e := req.EndpointConfiguration; e != nil {
		for _, kind := range e.Types {
			if err := addEndpointType(&notes, kind); err != nil {
				return answer{}, err
			}
		}
	}
	if err := checkTags(req.Tags); err != nil {
		return answer{}, err
	}
	a.Annotations = withNotes(nil, notes)
	created, err := g.newAPI(c, a)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusCreated, toRestAPI(created)}, nil
}

// newAPI makes an API under an id that nobody has.
func (g *Gateway) newAPI(c *call, a *fifev1.Api) (*fifev1.Api, error) {
	for {
		resp, err := g.apis.CreateApi(c.ctx, &fifev1.CreateApiRequest{ApiId: newID(10), Api: a})
		if reason, _ := reasonOf(err); reason == "RESOURCE_EXISTS" {
			continue // one in 36^10
		}
		return resp.GetApi(), err
	}
}

func setAPIKeySource(notes *apiNotes, source string) error {
	switch source {
	case "", "HEADER":
	case "AUTHORIZER":
		return unsupported("API keys from authorizers")
	default:
		return badRequest("Invalid API key source type specified. Must be one of: [HEADER, AUTHORIZER]")
	}
	notes.APIKeySource = source
	return nil
}

func addEndpointType(notes *apiNotes, kind string) error {
	switch kind {
	case "EDGE", "REGIONAL": // agents are where they are
		notes.EndpointTypes = []string{kind}
		return nil
	case "PRIVATE":
		return unsupported("PRIVATE endpoints")
	}
	return badRequest("Invalid endpoint type specified. Must be one of: [EDGE, REGIONAL, PRIVATE]")
}

// setCompression refuses a minimum size from which bodies are compressed.
func setCompression(value string) error {
	if n, err := strconv.Atoi(value); err != nil || n < 0 || n > 10485760 {
		return badRequest("Invalid minimum compression size, must be between 0 and 10485760")
	}
	return unsupported("compression of responses")
}

func (g *Gateway) getRestAPI(c *call) (answer, error) {
	a, err := g.getAPI(c, c.path[0])
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, toRestAPI(a)}, nil
}

// list is the service's shape of a page.
type list[T any] struct {
	Item     []T    `json:"item"`
	Position string `json:"position,omitempty"`
}

// pageSize reads the query's limit.
func (c *call) pageSize() (int32, error) {
	text := c.query.Get("limit")
	if text == "" {
		return 25, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, badRequest("Invalid limit specified: %s", text)
	}
	return int32(min(n, 500)), nil
}

func (g *Gateway) getRestAPIs(c *call) (answer, error) {
	size, err := c.pageSize()
	if err != nil {
		return answer{}, err
	}
	resp, err := g.apis.ListApis(c.ctx, &fifev1.ListApisRequest{PageSize: size, PageToken: c.query.Get("position")})
	if err != nil {
		return answer{}, err
	}
	page := list[*restAPI]{Item: []*restAPI{}, Position: resp.GetNextPageToken()}
	for _, a := range resp.GetApis() {
		page.Item = append(page.Item, toRestAPI(a))
	}
	return answer{http.StatusOK, page}, nil
}

func (g *Gateway) deleteRestAPI(c *call) (answer, error) {
	if _, err := g.getAPI(c, c.path[0]); err != nil {
		return answer{}, err
	}
	_, err := g.apis.DeleteApi(c.ctx, &fifev1.DeleteApiRequest{Name: apiName(c.path[0]), Force: true})
	return answer{status: http.StatusAccepted}, err
}

func (g *Gateway) updateRestAPI(c *call) (answer, error) {
	patches, err := c.patches()
	if err != nil {
		return answer{}, err
	}
	a, err := g.changeAPI(c, c.path[0], func(a *fifev1.Api, notes *apiNotes) error {
		for _, p := range patches {
			if err := patchAPI(a, notes, p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, toRestAPI(a)}, nil
}

// changeAPI reads an API, has it edited and writes it back, on condition that nothing
// has changed it meanwhile.
func (g *Gateway) changeAPI(c *call, id string, edit func(*fifev1.Api, *apiNotes) error) (a *fifev1.Api, err error) {
	err = retry(func() error {
		if a, err = g.getAPI(c, id); err != nil {
			return err
		}
		var notes apiNotes
		readNotes(a.GetAnnotations(), &notes)
		if err := edit(a, &notes); err != nil {
			return err
		}
		a.Annotations = withNotes(a.GetAnnotations(), notes)
		resp, err := g.apis.UpdateApi(c.ctx, &fifev1.UpdateApiRequest{
			Api: a, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"description", "binary_media_types", "annotations"}},
		})
		a = resp.GetApi()
		return err
	})
	return a, err
}

func patchAPI(a *fifev1.Api, notes *apiNotes, p patch) error {
	add, remove := p.Op == opAdd, p.Op == opRemove
	switch {
	case p.is("name") && p.Op == opReplace && p.Value != "":
		notes.Name = p.Value
	case p.is("description") && p.Op == opReplace:
		a.Description = p.Value
	case p.is("description") && remove:
		a.Description = ""
	case p.is("version") && p.Op == opReplace:
		notes.Version = p.Value
	case p.is("apiKeySource") && p.Op == opReplace:
		return setAPIKeySource(notes, p.Value)
	case p.is("endpointConfiguration", "types", "*") && p.Op == opReplace:
		return addEndpointType(notes, p.Value)
	case p.is("endpointConfiguration", "ipAddressType"):
		return unsupported("a choice of ipAddressType")
	case p.is("policy"):
		return unsupported("resource policies")
	case p.is("disableExecuteApiEndpoint") && p.Op == opReplace:
		if p.Value != "false" {
			return unsupported("disableExecuteApiEndpoint")
		}
	case p.is("minimumCompressionSize"):
		if p.Op != opReplace {
			return badRequest("Invalid patch operation specified. Must be one of: [replace]")
		}
		if p.Value != "" { // none is what it is
			return setCompression(p.Value)
		}
	case p.is("binaryMediaTypes", "*"):
		kind, types := p.tokens[1], slices.Clone(a.GetBinaryMediaTypes())
		at := slices.Index(types, kind)
		switch {
		case add && at < 0:
			types = append(types, kind)
		case remove && at >= 0:
			types = slices.Delete(types, at, at+1)
		case p.Op == opReplace && at >= 0:
			types[at] = p.Value
		case p.Op == opReplace:
			return badRequest("Invalid patch path %s", p.Path)
		}
		a.BinaryMediaTypes = types
	default:
		return badRequest("Invalid patch path %s", p.Path)
	}
	return nil
}
