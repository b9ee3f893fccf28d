package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/fifegateway/fife/controlplane/release"
)

// ExportOptions say what an exported document holds beside the routes.
type ExportOptions struct {
	Version           string // of the API, not of OpenAPI; empty means 1.0
	Server            string // URL at which the API is served; may be empty
	BasePath          string // path under Server, as a variable named basePath; may be empty
	WithoutExtensions bool   // leaves the integrations out, for people rather than gateways
}

// Export writes a document as OpenAPI 3.0 in JSON, with API Gateway's extensions.
// The same document always gives the same bytes, and Parse takes it back, but for
// these: the qualifier of a function's ARN becomes a part of it, an HTTP method that
// is the route's own is left out, and timeouts are in whole milliseconds.
func Export(d *Document, o ExportOptions) ([]byte, error) {
	out := exported{OpenAPI: "3.0.1", Info: exportedInfo{d.Title, d.Description, o.Version}, Paths: map[string]map[string]operation{}}
	if out.Info.Version == "" {
		out.Info.Version = "1.0"
	}
	if o.Server != "" {
		s := exportedServer{URL: o.Server}
		if o.BasePath != "" {
			s.URL = strings.TrimSuffix(s.URL, "/") + "/{basePath}"
			s.Variables = map[string]serverDefault{"basePath": {o.BasePath}}
		}
		out.Servers = []exportedServer{s}
	}
	if !o.WithoutExtensions {
		out.BinaryMediaTypes = d.BinaryMediaTypes
	}
	for i := range d.Routes {
		r := &d.Routes[i]
		if out.Paths[r.Path] == nil {
			out.Paths[r.Path] = map[string]operation{}
		}
		name := strings.ToLower(r.Method)
		if r.Method == release.MethodAny {
			name = anyMethodName
		}
		op := operation{Parameters: pathParameters(r.Path), Responses: map[string]response{"default": {"Whatever the integration answers"}}}
		if !o.WithoutExtensions {
			op.Integration = exportIntegration(r)
		}
		out.Paths[r.Path][name] = op
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // URIs are full of ampersands
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(out); err != nil {
		return nil, fmt.Errorf("write OpenAPI: %w", err)
	}
	return b.Bytes(), nil
}

type exported struct {
	OpenAPI          string                          `json:"openapi"`
	Info             exportedInfo                    `json:"info"`
	Servers          []exportedServer                `json:"servers,omitempty"`
	Paths            map[string]map[string]operation `json:"paths"`
	BinaryMediaTypes []string                        `json:"x-amazon-apigateway-binary-media-types,omitempty"`
}

type exportedInfo struct {
	Title       string `json:"title"`
	Description string `json:"description,omitempty"`
	Version     string `json:"version"`
}

type exportedServer struct {
	URL       string                   `json:"url"`
	Variables map[string]serverDefault `json:"variables,omitempty"`
}

type serverDefault struct {
	Default string `json:"default"`
}

type operation struct {
	Parameters  []parameter          `json:"parameters,omitempty"`
	Responses   map[string]response  `json:"responses"`
	Integration *exportedIntegration `json:"x-amazon-apigateway-integration,omitempty"`
}

type parameter struct {
	Name     string            `json:"name"`
	In       string            `json:"in"`
	Required bool              `json:"required"`
	Schema   map[string]string `json:"schema"`
}

type response struct {
	Description string `json:"description"`
}

type exportedIntegration struct {
	Type              string                  `json:"type"`
	HTTPMethod        string                  `json:"httpMethod,omitempty"`
	URI               string                  `json:"uri,omitempty"`
	RequestParameters map[string]string       `json:"requestParameters,omitempty"`
	RequestTemplates  map[string]string       `json:"requestTemplates,omitempty"`
	Responses         map[string]mockResponse `json:"responses,omitempty"`
	Passthrough       string                  `json:"passthroughBehavior,omitempty"`
	TimeoutInMillis   int64                   `json:"timeoutInMillis,omitempty"`
}

type mockResponse struct {
	StatusCode string            `json:"statusCode"`
	Parameters map[string]string `json:"responseParameters,omitempty"`
	Templates  map[string]string `json:"responseTemplates,omitempty"`
}

func pathParameters(path string) []parameter {
	var out []parameter
	for segment := range strings.SplitSeq(path, "/") {
		if name, _, ok := release.PathVariable(segment); ok {
			out = append(out, parameter{Name: name, In: "path", Required: true, Schema: map[string]string{"type": "string"}})
		}
	}
	return out
}

func exportIntegration(r *release.Route) *exportedIntegration {
	e := &exportedIntegration{Passthrough: "when_no_match", TimeoutInMillis: r.Timeout.Milliseconds()}
	switch i := r.Integration.(type) {
	case release.HTTP:
		e.Type, e.HTTPMethod = "http_proxy", i.Method
		if i.Method == "" {
			e.HTTPMethod = r.Method
		}
		e.URI, e.RequestParameters = exportURI(i.URI)
	case release.Lambda:
		e.Type, e.HTTPMethod, e.URI = "aws_proxy", "POST", LambdaURI(i)
	case release.Mock:
		e.Type = "mock"
		e.RequestTemplates = map[string]string{"application/json": statusTemplate(i.Status)}
		m := mockResponse{StatusCode: strconv.Itoa(i.Status)}
		for name, value := range i.Headers {
			if m.Parameters == nil {
				m.Parameters = map[string]string{}
			}
			m.Parameters["method.response.header."+name] = "'" + value + "'"
		}
		if i.Body != "" {
			m.Templates = map[string]string{"application/json": i.Body}
		}
		e.Responses = map[string]mockResponse{"default": m}
	default:
		return nil
	}
	return e
}

// exportURI writes the variables of a URI's path as API Gateway does: without the
// plus of a greedy one, and with a parameter that says where each comes from.
func exportURI(uri string) (string, map[string]string) {
	var parameters map[string]string
	path, query, hasQuery := strings.Cut(uri, "?")
	segments := strings.Split(path, "/")
	for at, segment := range segments {
		name, _, ok := release.PathVariable(segment)
		if !ok {
			continue
		}
		segments[at] = "{" + name + "}"
		if parameters == nil {
			parameters = map[string]string{}
		}
		parameters["integration.request.path."+name] = "method.request.path." + name
	}
	uri = strings.Join(segments, "/")
	if hasQuery {
		uri += "?" + query
	}
	return uri, parameters
}
