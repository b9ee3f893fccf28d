package apigateway

import (
	"cmp"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// integration is the service's shape of an integration.
type integration struct {
	Type                 string                          `json:"type"`
	HTTPMethod           string                          `json:"httpMethod,omitempty"`
	URI                  string                          `json:"uri,omitempty"`
	ConnectionType       string                          `json:"connectionType,omitempty"`
	ConnectionID         string                          `json:"connectionId,omitempty"`
	Credentials          string                          `json:"credentials,omitempty"`
	RequestParameters    map[string]string               `json:"requestParameters,omitempty"`
	RequestTemplates     map[string]string               `json:"requestTemplates,omitempty"`
	PassthroughBehavior  string                          `json:"passthroughBehavior,omitempty"`
	ContentHandling      string                          `json:"contentHandling,omitempty"`
	TimeoutInMillis      int                             `json:"timeoutInMillis,omitempty"` // 0: the API's
	CacheNamespace       string                          `json:"cacheNamespace,omitempty"`
	CacheKeyParameters   []string                        `json:"cacheKeyParameters"`
	IntegrationResponses map[string]*integrationResponse `json:"integrationResponses,omitempty"`
	TLSConfig            *tlsConfig                      `json:"tlsConfig,omitempty"`
	ResponseTransferMode string                          `json:"responseTransferMode,omitempty"`
}

type tlsConfig struct {
	InsecureSkipVerification bool `json:"insecureSkipVerification"`
}

// The integration types that agents have.
const (
	httpProxy = "HTTP_PROXY"
	awsProxy  = "AWS_PROXY"
	mock      = "MOCK"
)

const defaultTimeout = 29 * time.Second

func (i *integration) timeout() *durationpb.Duration {
	if i.TimeoutInMillis == 0 {
		return nil
	}
	return durationpb.New(time.Duration(i.TimeoutInMillis) * time.Millisecond)
}

// check refuses what would be ignored by an agent and changes what clients see.
func (i *integration) check() error {
	switch i.Type {
	case httpProxy, awsProxy, mock:
	case "HTTP", "AWS":
		return unsupported("integrations of type " + i.Type + "; use HTTP_PROXY, AWS_PROXY or MOCK")
	default:
		return badRequest("Invalid integration type specified. Must be one of: [HTTP, AWS, MOCK, HTTP_PROXY, AWS_PROXY]")
	}
	switch {
	case i.Type != mock && i.HTTPMethod == "":
		return badRequest("Enumeration value for HttpMethod must be non-empty")
	case i.HTTPMethod != "" && !slices.Contains(validMethods, i.HTTPMethod):
		return badRequest("Invalid HttpMethod specified. Valid options are GET,PUT,POST,DELETE,PATCH,OPTIONS,HEAD,ANY")
	case i.ConnectionType != "" && i.ConnectionType != "INTERNET":
		return unsupported("connections of type " + i.ConnectionType)
	case i.TLSConfig != nil && i.TLSConfig.InsecureSkipVerification:
		return unsupported("insecureSkipVerification")
	case i.ContentHandling != "":
		return unsupported("contentHandling")
	case i.ResponseTransferMode != "" && i.ResponseTransferMode != "BUFFERED" && i.Type != httpProxy:
		return unsupported("response streaming of this integration")
	case i.TimeoutInMillis != 0 && (i.TimeoutInMillis < 50 || i.TimeoutInMillis > 29000):
		return badRequest("Timeout should be between 50 ms and 29000 ms")
	}
	switch i.PassthroughBehavior {
	case "":
		i.PassthroughBehavior = "WHEN_NO_MATCH"
	case "WHEN_NO_MATCH", "WHEN_NO_TEMPLATES", "NEVER":
	default:
		return badRequest("Invalid passthrough behavior specified. Must be one of: [WHEN_NO_MATCH, WHEN_NO_TEMPLATES, NEVER]")
	}
	return nil
}

// derive returns the route's integration that this one comes to.
func (i *integration) derive(path string) (*fifev1.Integration, error) {
	switch i.Type {
	case httpProxy:
		return i.deriveHTTP(path)
	case awsProxy:
		return i.deriveLambda()
	}
	return i.deriveMock()
}

var uriVariable = regexp.MustCompile(`\{([A-Za-z0-9._-]+)\}`)

// deriveHTTP puts the path's own variables where the URI's are: those that request
// parameters name, or else those of the same name.
func (i *integration) deriveHTTP(path string) (*fifev1.Integration, error) {
	if i.URI == "" {
		return nil, badRequest("Invalid HTTP endpoint specified for URI")
	}
	sources := map[string]string{}
	for to, from := range i.RequestParameters {
		where, name, _ := strings.Cut(strings.TrimPrefix(to, "integration.request."), ".")
		source, same := strings.CutPrefix(from, "method.request."+where+".")
		switch {
		case where == "path" && same:
			sources[name] = source
		case (where == "header" || where == "querystring") && same && source == name: // passes through anyhow
		default:
			return nil, unsupported("the parameter mapping of " + to + " from " + from)
		}
	}
	uri := uriVariable.ReplaceAllStringFunc(i.URI, func(v string) string {
		name := v[1 : len(v)-1]
		name = cmp.Or(sources[name], name)
		if strings.Contains(path, "{"+name+"+}") {
			return "{" + name + "+}"
		}
		return "{" + name + "}"
	})
	upstream := i.HTTPMethod
	if upstream == "ANY" {
		upstream = ""
	}
	return &fifev1.Integration{Kind: &fifev1.Integration_Http{Http: &fifev1.HttpIntegration{Uri: uri, Method: upstream}}}, nil
}

var lambdaURI = regexp.MustCompile(`^arn:aws[a-z-]*:apigateway:[a-z0-9-]+:lambda:path/2015-03-31/functions/(.+)/invocations$`)

func (i *integration) deriveLambda() (*fifev1.Integration, error) {
	match := lambdaURI.FindStringSubmatch(i.URI)
	if match == nil {
		if strings.HasPrefix(i.URI, "arn:") && !strings.Contains(i.URI, ":path/") && !strings.Contains(i.URI, ":action/") {
			return nil, badRequest("AWS ARN for integration must contain path or action")
		}
		return nil, badRequest("Invalid ARN specified in the request")
	}
	lambda := &fifev1.LambdaIntegration{Function: match[1]}
	if !strings.HasPrefix(match[1], "arn:") {
		lambda.Function, lambda.Qualifier, _ = strings.Cut(match[1], ":")
	}
	return &fifev1.Integration{Kind: &fifev1.Integration_Lambda{Lambda: lambda}}, nil
}

// integrationOf returns the integration of a route that was not written here.
func integrationOf(r *resource, route *fifev1.Route) *integration {
	i := &integration{PassthroughBehavior: "WHEN_NO_MATCH", CacheNamespace: r.id, CacheKeyParameters: []string{}}
	i.TimeoutInMillis = int(route.GetTimeout().AsDuration().Milliseconds())
	switch k := route.GetIntegration().GetKind().(type) {
	case *fifev1.Integration_Http:
		i.Type, i.HTTPMethod = httpProxy, cmp.Or(k.Http.GetMethod(), "ANY")
		i.URI = strings.ReplaceAll(k.Http.GetUri(), "+}", "}")
		for _, v := range uriVariable.FindAllStringSubmatch(i.URI, -1) {
			if !strings.Contains(i.URI, "$"+v[0]) { // a path's variable, no stage's
				if i.RequestParameters == nil {
					i.RequestParameters = map[string]string{}
				}
				i.RequestParameters["integration.request.path."+v[1]] = "method.request.path." + v[1]
			}
		}
	case *fifev1.Integration_Lambda:
		function, region := k.Lambda.GetFunction(), "us-east-1"
		if parts := strings.Split(function, ":"); len(parts) > 3 {
			region = parts[3]
		}
		if q := k.Lambda.GetQualifier(); q != "" {
			function += ":" + q
		}
		i.Type, i.HTTPMethod = awsProxy, http.MethodPost
		i.URI = "arn:aws:apigateway:" + region + ":lambda:path/2015-03-31/functions/" + function + "/invocations"
	case *fifev1.Integration_Mock:
		i.showMock(k.Mock)
	}
	return i
}

func (g *Gateway) putIntegration(c *call) (answer, error) {
	var i integration
	if err := c.read(&i); err != nil {
		return answer{}, err
	}
	i.IntegrationResponses = nil // they are put by themselves
	if err := i.check(); err != nil {
		return answer{}, err
	}
	if i.CacheKeyParameters == nil {
		i.CacheKeyParameters = []string{}
	}
	m, err := g.changeMethod(c, func(r *resource, m *method) error {
		i.CacheNamespace = cmp.Or(i.CacheNamespace, r.id)
		m.MethodIntegration = &i
		return nil
	})
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusCreated, m.MethodIntegration}, nil
}

func (g *Gateway) getIntegration(c *call) (answer, error) {
	m, err := g.onMethod(c)
	if err != nil {
		return answer{}, err
	}
	if m.MethodIntegration == nil {
		return answer{}, errNoIntegration
	}
	return answer{http.StatusOK, m.MethodIntegration}, nil
}

func (g *Gateway) deleteIntegration(c *call) (answer, error) {
	_, err := g.changeMethod(c, func(_ *resource, m *method) error {
		if m.MethodIntegration == nil {
			return errNoIntegration
		}
		m.MethodIntegration = nil
		return nil
	})
	return answer{status: http.StatusNoContent}, err
}

func (g *Gateway) updateIntegration(c *call) (answer, error) {
	patches, err := c.patches()
	if err != nil {
		return answer{}, err
	}
	m, err := g.changeMethod(c, func(_ *resource, m *method) error {
		if m.MethodIntegration == nil {
			return errNoIntegration
		}
		for _, p := range patches {
			if err := m.MethodIntegration.patch(p); err != nil {
				return err
			}
		}
		return m.MethodIntegration.check()
	})
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, m.MethodIntegration}, nil
}

func (i *integration) patch(p patch) error {
	if p.is("requestParameters", "*") {
		i.RequestParameters = patchMap(i.RequestParameters, p, p.Value)
		return nil
	}
	if p.is("requestTemplates", "*") {
		i.RequestTemplates = patchMap(i.RequestTemplates, p, p.Value)
		return nil
	}
	if p.is("timeoutInMillis") && p.Op == opReplace {
		n, err := time.ParseDuration(p.Value + "ms")
		if err != nil {
			return badRequest("Timeout should be between 50 ms and 29000 ms")
		}
		i.TimeoutInMillis = int(n.Milliseconds())
		return nil
	}
	fields := map[string]*string{
		"type": &i.Type, "uri": &i.URI, "httpMethod": &i.HTTPMethod, "passthroughBehavior": &i.PassthroughBehavior,
		"credentials": &i.Credentials, "connectionType": &i.ConnectionType, "connectionId": &i.ConnectionID,
		"contentHandling": &i.ContentHandling, "cacheNamespace": &i.CacheNamespace,
	}
	field, ok := fields[p.tokens[0]]
	if !ok || len(p.tokens) != 1 || p.Op != opReplace {
		return badRequest("Invalid patch path %s", p.Path)
	}
	*field = p.Value
	return nil
}
