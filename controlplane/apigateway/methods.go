package apigateway

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// method is the service's shape of a method, and what a route's annotation holds.
type method struct {
	HTTPMethod        string                     `json:"httpMethod"`
	AuthorizationType string                     `json:"authorizationType"`
	APIKeyRequired    bool                       `json:"apiKeyRequired"`
	OperationName     string                     `json:"operationName,omitempty"`
	RequestParameters map[string]bool            `json:"requestParameters,omitempty"`
	RequestModels     map[string]string          `json:"requestModels,omitempty"`
	MethodResponses   map[string]*methodResponse `json:"methodResponses,omitempty"`
	MethodIntegration *integration               `json:"methodIntegration,omitempty"`
}

// methodResponse is the service's shape of a method response.
type methodResponse struct {
	StatusCode         string            `json:"statusCode"`
	ResponseParameters map[string]bool   `json:"responseParameters,omitempty"`
	ResponseModels     map[string]string `json:"responseModels,omitempty"`
}

// method returns a route as the service shows it: what was written here if the route is
// still what that comes to, and what the route says where it is not.
func (d *draft) method(r *resource, route *fifev1.Route) *method {
	m := &method{}
	readNotes(route.GetAnnotations(), m)
	m.HTTPMethod, m.AuthorizationType = route.GetMethod(), "NONE"
	m.APIKeyRequired = false
	switch {
	case route.GetIntegration() == nil:
		m.MethodIntegration = nil
	case !m.comesTo(route):
		m.MethodIntegration = integrationOf(r, route)
		if responses := responsesOf(route); responses != nil {
			m.MethodResponses = responses
		}
	}
	return m
}

// shown returns a method with the timeout that its integration has in effect.
func (d *draft) shown(m *method) *method {
	if m.MethodIntegration == nil || m.MethodIntegration.TimeoutInMillis != 0 {
		return m
	}
	next, i := *m, *m.MethodIntegration
	i.TimeoutInMillis = int(cmp.Or(d.api.GetDefaultTimeout().AsDuration(), defaultTimeout).Milliseconds())
	next.MethodIntegration = &i
	return &next
}

// comesTo reports whether the method's integration is that of the route.
func (m *method) comesTo(route *fifev1.Route) bool {
	if m.MethodIntegration == nil {
		return false
	}
	derived, err := m.MethodIntegration.derive(route.GetPath())
	return err == nil && proto.Equal(derived, route.GetIntegration()) &&
		m.MethodIntegration.timeout().AsDuration() == route.GetTimeout().AsDuration()
}

var validMethods = []string{"GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "HEAD", "ANY"}

// findMethod returns a method of a draft.
func (d *draft) findMethod(c *call) (*resource, *fifev1.Route, error) {
	r, err := d.find(c.path[1])
	if err != nil {
		return nil, nil, err
	}
	route, ok := r.methods[c.path[2]]
	if !ok {
		return nil, nil, errNoMethod
	}
	return r, route, nil
}

// onMethod reads a method for an operation.
func (g *Gateway) onMethod(c *call) (*method, error) {
	d, err := g.readDraft(c, c.path[0])
	if err != nil {
		return nil, err
	}
	r, route, err := d.findMethod(c)
	if err != nil {
		return nil, err
	}
	return d.shown(d.method(r, route)), nil
}

// changeMethod reads a method, has it edited and writes it back, on condition that
// nothing has changed it meanwhile. It returns the method as it is shown now.
func (g *Gateway) changeMethod(c *call, edit func(*resource, *method) error) (m *method, err error) {
	err = retry(func() error {
		d, err := g.readDraft(c, c.path[0])
		if err != nil {
			return err
		}
		r, route, err := d.findMethod(c)
		if err != nil {
			return err
		}
		m = d.method(r, route)
		if err := edit(r, m); err != nil {
			return err
		}
		if err := g.putRoute(c, d, route, m); err != nil {
			return err
		}
		m = d.shown(m)
		return nil
	})
	return m, err
}

// putRoute writes the route that a method comes to.
func (g *Gateway) putRoute(c *call, d *draft, route *fifev1.Route, m *method) error {
	route.Integration, route.Timeout = nil, nil
	if i := m.MethodIntegration; i != nil {
		derived, err := i.derive(route.GetPath())
		if err != nil {
			return err
		}
		route.Integration, route.Timeout = derived, i.timeout()
	}
	route.Annotations = withNotes(route.GetAnnotations(), m)
	_, err := g.apis.PutRoute(c.ctx, &fifev1.PutRouteRequest{Parent: d.api.GetName(), Route: route})
	return err
}

// putMethodRequest is the body of PutMethod.
type putMethodRequest struct {
	AuthorizationType   string            `json:"authorizationType"`
	AuthorizerID        string            `json:"authorizerId"`
	AuthorizationScopes []string          `json:"authorizationScopes"`
	APIKeyRequired      bool              `json:"apiKeyRequired"`
	OperationName       string            `json:"operationName"`
	RequestParameters   map[string]bool   `json:"requestParameters"`
	RequestModels       map[string]string `json:"requestModels"`
	RequestValidatorID  string            `json:"requestValidatorId"`
}

func (g *Gateway) putMethod(c *call) (answer, error) {
	var req putMethodRequest
	if err := c.read(&req); err != nil {
		return answer{}, err
	}
	d, err := g.readDraft(c, c.path[0])
	if err != nil {
		return answer{}, err
	}
	r, err := d.find(c.path[1])
	if err != nil {
		return answer{}, err
	}
	name := c.path[2]
	switch {
	case !slices.Contains(validMethods, name):
		return answer{}, badRequest("Invalid HttpMethod specified. Valid options are GET,PUT,POST,DELETE,PATCH,OPTIONS,HEAD,ANY")
	case r.methods[name] != nil:
		return answer{}, conflict("Method already exists for this resource")
	case req.RequestValidatorID != "":
		return answer{}, badRequest("Invalid Request Validator identifier specified")
	case req.APIKeyRequired:
		return answer{}, unsupported("API keys")
	}
	if err := checkAuthorization(req.AuthorizationType); err != nil {
		return answer{}, err
	}
	m := &method{
		HTTPMethod: name, AuthorizationType: "NONE", OperationName: req.OperationName,
		RequestParameters: req.RequestParameters, RequestModels: req.RequestModels,
	}
	if err := m.checkParameters(); err != nil {
		return answer{}, err
	}
	if err := g.putRoute(c, d, &fifev1.Route{Method: name, Path: r.path}, m); err != nil {
		return answer{}, err
	}
	return answer{http.StatusCreated, m}, nil
}

// checkAuthorization refuses what agents would have to check: a method that looks
// guarded and is not is worse than none.
func checkAuthorization(kind string) error {
	switch kind {
	case "NONE":
		return nil
	case "CUSTOM", "COGNITO_USER_POOLS":
		return badRequest("Invalid authorizer ID specified. Setting the authorization type to CUSTOM or COGNITO_USER_POOLS requires a valid authorizer.")
	case "AWS_IAM":
		return unsupported("authorization by AWS_IAM")
	}
	return badRequest("Invalid authorization type specified. Must be one of: [NONE, AWS_IAM, CUSTOM, COGNITO_USER_POOLS]")
}

// checkParameters refuses request parameters that have no place or share a name.
func (m *method) checkParameters() error {
	names := map[string]bool{}
	for p := range m.RequestParameters {
		parts := strings.SplitN(p, ".", 4)
		if len(parts) != 4 || parts[0] != "method" || parts[1] != "request" ||
			!slices.Contains([]string{"header", "querystring", "path", "multivalueheader", "multivaluequerystring"}, parts[2]) {
			return badRequest("Invalid mapping expression specified: %s", p)
		}
		if names[parts[3]] {
			return badRequest("Parameter names must be unique across querystring, header and path")
		}
		names[parts[3]] = true
	}
	return nil
}

func (g *Gateway) getMethod(c *call) (answer, error) {
	m, err := g.onMethod(c)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, m}, nil
}

func (g *Gateway) deleteMethod(c *call) (answer, error) {
	err := retry(func() error {
		d, err := g.readDraft(c, c.path[0])
		if err != nil {
			return err
		}
		r, route, err := d.findMethod(c)
		if err != nil {
			return err
		}
		d.keep(r) // with its last method gone it is a resource all the same
		return g.edit(c, d, []*fifev1.RouteKey{key(route)}, nil)
	})
	return answer{status: http.StatusNoContent}, err
}

func (g *Gateway) updateMethod(c *call) (answer, error) {
	patches, err := c.patches()
	if err != nil {
		return answer{}, err
	}
	m, err := g.changeMethod(c, func(_ *resource, m *method) error {
		for _, p := range patches {
			if err := m.patch(p); err != nil {
				return err
			}
		}
		return m.checkParameters()
	})
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, m}, nil
}

func (m *method) patch(p patch) error {
	onlyReplace := badRequest("Invalid patch operation specified. Must be one of: [replace]")
	switch {
	case p.is("authorizationType") && p.Op == opReplace:
		return checkAuthorization(p.Value)
	case p.is("apiKeyRequired") && p.Op == opReplace:
		if p.Value == "true" {
			return unsupported("API keys")
		}
	case p.is("operationName") && p.Op == opReplace:
		m.OperationName = p.Value
	case p.is("requestValidatorId") && p.Op == opReplace:
		if p.Value != "" {
			return badRequest("Invalid Request Validator identifier specified")
		}
	case p.is("authorizationType"), p.is("apiKeyRequired"), p.is("operationName"), p.is("requestValidatorId"):
		return onlyReplace
	case p.is("requestParameters", "*"):
		m.RequestParameters = patchMap(m.RequestParameters, p, p.Value == "true")
	case p.is("requestModels", "*"):
		m.RequestModels = patchMap(m.RequestModels, p, p.Value)
	default:
		return badRequest("Invalid patch path %s", p.Path)
	}
	return nil
}

// patchMap applies a patch to the entry that its path ends with.
func patchMap[V any](m map[string]V, p patch, value V) map[string]V {
	name := p.tokens[len(p.tokens)-1]
	if p.Op == opRemove {
		delete(m, name)
		return m
	}
	if m == nil {
		m = map[string]V{}
	}
	m[name] = value
	return m
}
