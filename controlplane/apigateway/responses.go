package apigateway

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// integrationResponse is the service's shape of an integration response.
type integrationResponse struct {
	StatusCode         string            `json:"statusCode"`
	SelectionPattern   string            `json:"selectionPattern,omitempty"`
	ResponseParameters map[string]string `json:"responseParameters,omitempty"`
	ResponseTemplates  map[string]string `json:"responseTemplates,omitempty"`
	ContentHandling    string            `json:"contentHandling,omitempty"`
}

const jsonType = "application/json"

// first returns the entry for JSON, or else the first one.
func first(m map[string]string) (contentType, text string) {
	if text, ok := m[jsonType]; ok {
		return jsonType, text
	}
	for _, contentType := range slices.Sorted(maps.Keys(m)) {
		return contentType, m[contentType]
	}
	return jsonType, ""
}

// mockFailure is what the service answers by a mock that chooses no response.
var mockFailure = &fifev1.MockIntegration{Status: http.StatusInternalServerError, Body: `{"message": "Internal server error"}`}

var mockStatus = regexp.MustCompile(`^\s*\{\s*"?statusCode"?\s*:\s*"?(\d{3})"?\s*\}\s*$`)

// deriveMock returns the answer that the templates of a mock come to. Only the body may
// depend on the request.
func (i *integration) deriveMock() (*fifev1.Integration, error) {
	m, err := i.mockAnswer()
	if err != nil {
		return nil, err
	}
	return &fifev1.Integration{Kind: &fifev1.Integration_Mock{Mock: m}}, nil
}

func (i *integration) mockAnswer() (*fifev1.MockIntegration, error) {
	_, template := first(i.RequestTemplates)
	if template == "" {
		return mockFailure, nil
	}
	match := mockStatus.FindStringSubmatch(template)
	if match == nil {
		return nil, unsupported(`request templates of mocks other than {"statusCode": N}`)
	}
	response, err := i.selected(match[1])
	if err != nil || response == nil {
		return mockFailure, err
	}
	status, err := strconv.Atoi(response.StatusCode)
	if err != nil {
		return nil, badRequest("Invalid status code specified: %s", response.StatusCode)
	}
	m := &fifev1.MockIntegration{Status: int32(status)}
	contentType, body := first(response.ResponseTemplates)
	m.Body, m.Template = body, directive.MatchString(body)
	headers := map[string]string{}
	if contentType != jsonType {
		headers["Content-Type"] = contentType
	}
	for to, from := range response.ResponseParameters {
		name, ok := strings.CutPrefix(to, "method.response.header.")
		value := strings.TrimSuffix(strings.TrimPrefix(from, "'"), "'")
		if !ok || len(from) != len(value)+2 {
			return nil, unsupported("the parameter mapping of " + to + " from " + from + "; mocks map text in single quotes")
		}
		headers[name] = value
	}
	if len(headers) > 0 {
		m.Headers = headers
	}
	return m, nil
}

// selected returns the response whose pattern fits a status, or the one without a
// pattern; nil if there is none.
func (i *integration) selected(status string) (*integrationResponse, error) {
	var byDefault *integrationResponse
	for _, code := range slices.Sorted(maps.Keys(i.IntegrationResponses)) {
		r := i.IntegrationResponses[code]
		if r.SelectionPattern == "" {
			byDefault = r
			continue
		}
		pattern, err := regexp.Compile("^(?:" + r.SelectionPattern + ")$")
		if err != nil {
			return nil, badRequest("Invalid selection pattern specified: %s", r.SelectionPattern)
		}
		if pattern.MatchString(status) {
			return r, nil
		}
	}
	return byDefault, nil
}

// directive matches what makes a template more than text: a directive, a comment or a
// reference of the Velocity template language. Which of them may be is decided where
// the route is written.
var directive = regexp.MustCompile(`#(?:[#*\[]|\{?[A-Za-z@])|\$!?\{?[A-Za-z]`)

// showMock shows a mock that was not written here.
func (i *integration) showMock(m *fifev1.MockIntegration) {
	status := strconv.Itoa(int(m.GetStatus()))
	i.Type = mock
	i.RequestTemplates = map[string]string{jsonType: `{"statusCode": ` + status + `}`}
	response := &integrationResponse{StatusCode: status}
	contentType := jsonType
	for name, value := range m.GetHeaders() {
		if strings.EqualFold(name, "Content-Type") {
			contentType = value
			continue
		}
		if response.ResponseParameters == nil {
			response.ResponseParameters = map[string]string{}
		}
		response.ResponseParameters["method.response.header."+name] = "'" + value + "'"
	}
	if m.GetBody() != "" {
		response.ResponseTemplates = map[string]string{contentType: m.GetBody()}
	}
	i.IntegrationResponses = map[string]*integrationResponse{status: response}
}

// responsesOf returns the method responses of a mock that was not written here.
func responsesOf(route *fifev1.Route) map[string]*methodResponse {
	m := route.GetIntegration().GetMock()
	if m == nil {
		return nil
	}
	status := strconv.Itoa(int(m.GetStatus()))
	response := &methodResponse{StatusCode: status}
	for name := range m.GetHeaders() {
		if !strings.EqualFold(name, "Content-Type") {
			if response.ResponseParameters == nil {
				response.ResponseParameters = map[string]bool{}
			}
			response.ResponseParameters["method.response.header."+name] = false
		}
	}
	return map[string]*methodResponse{status: response}
}

func checkStatusCode(code string) error {
	if n, err := strconv.Atoi(code); err != nil || n < 100 || n > 599 || len(code) != 3 {
		return badRequest("Invalid status code specified: %s", code)
	}
	return nil
}

func (g *Gateway) putMethodResponse(c *call) (answer, error) {
	response := &methodResponse{}
	if err := c.read(response); err != nil {
		return answer{}, err
	}
	response.StatusCode = c.path[3]
	if err := checkStatusCode(response.StatusCode); err != nil {
		return answer{}, err
	}
	_, err := g.changeMethod(c, func(_ *resource, m *method) error {
		if m.MethodResponses[response.StatusCode] != nil {
			return conflict("Response already exists for this resource")
		}
		if m.MethodResponses == nil {
			m.MethodResponses = map[string]*methodResponse{}
		}
		m.MethodResponses[response.StatusCode] = response
		return nil
	})
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusCreated, response}, nil
}

func (m *method) response(code string) (*methodResponse, error) {
	if r := m.MethodResponses[code]; r != nil {
		return r, nil
	}
	return nil, errNoStatusCode
}

func (g *Gateway) getMethodResponse(c *call) (answer, error) {
	m, err := g.onMethod(c)
	if err != nil {
		return answer{}, err
	}
	r, err := m.response(c.path[3])
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, r}, nil
}

func (g *Gateway) deleteMethodResponse(c *call) (answer, error) {
	_, err := g.changeMethod(c, func(_ *resource, m *method) error {
		_, err := m.response(c.path[3])
		delete(m.MethodResponses, c.path[3])
		return err
	})
	return answer{status: http.StatusNoContent}, err
}

func (g *Gateway) updateMethodResponse(c *call) (answer, error) {
	patches, err := c.patches()
	if err != nil {
		return answer{}, err
	}
	var r *methodResponse
	_, err = g.changeMethod(c, func(_ *resource, m *method) error {
		if r, err = m.response(c.path[3]); err != nil {
			return err
		}
		for _, p := range patches {
			switch {
			case p.is("responseParameters", "*"):
				r.ResponseParameters = patchMap(r.ResponseParameters, p, p.Value == "true")
			case p.is("responseModels", "*"):
				r.ResponseModels = patchMap(r.ResponseModels, p, p.Value)
			default:
				return badRequest("Invalid patch path %s", p.Path)
			}
		}
		return nil
	})
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusCreated, r}, nil
}

// checkResponse refuses an integration response that the method does not declare.
func (m *method) checkResponse(r *integrationResponse) error {
	declared := m.MethodResponses[r.StatusCode]
	if declared == nil {
		return errNoStatusCode
	}
	if r.ContentHandling != "" {
		return unsupported("contentHandling")
	}
	for _, p := range slices.Sorted(maps.Keys(r.ResponseParameters)) {
		if _, ok := declared.ResponseParameters[p]; !ok {
			return badRequest("Invalid mapping expression specified: Validation Result: warnings : [], errors : "+
				"[Invalid mapping expression parameter specified: %s]", p)
		}
	}
	return nil
}

func (g *Gateway) putIntegrationResponse(c *call) (answer, error) {
	r := &integrationResponse{}
	if err := c.read(r); err != nil {
		return answer{}, err
	}
	r.StatusCode = c.path[3]
	if err := checkStatusCode(r.StatusCode); err != nil {
		return answer{}, err
	}
	_, err := g.changeMethod(c, func(_ *resource, m *method) error {
		if m.MethodIntegration == nil {
			return notFound("No integration defined for method")
		}
		if err := m.checkResponse(r); err != nil {
			return err
		}
		if m.MethodIntegration.IntegrationResponses == nil {
			m.MethodIntegration.IntegrationResponses = map[string]*integrationResponse{}
		}
		m.MethodIntegration.IntegrationResponses[r.StatusCode] = r
		return nil
	})
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusCreated, r}, nil
}

func (m *method) integrationResponse(code string) (*integrationResponse, error) {
	if m.MethodIntegration == nil {
		return nil, errNoIntegration
	}
	if r := m.MethodIntegration.IntegrationResponses[code]; r != nil {
		return r, nil
	}
	return nil, errNoStatusCode
}

func (g *Gateway) getIntegrationResponse(c *call) (answer, error) {
	m, err := g.onMethod(c)
	if err != nil {
		return answer{}, err
	}
	r, err := m.integrationResponse(c.path[3])
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, r}, nil
}

func (g *Gateway) deleteIntegrationResponse(c *call) (answer, error) {
	_, err := g.changeMethod(c, func(_ *resource, m *method) error {
		if _, err := m.integrationResponse(c.path[3]); err != nil {
			return err
		}
		delete(m.MethodIntegration.IntegrationResponses, c.path[3])
		return nil
	})
	return answer{status: http.StatusNoContent}, err
}

func (g *Gateway) updateIntegrationResponse(c *call) (answer, error) {
	patches, err := c.patches()
	if err != nil {
		return answer{}, err
	}
	var r *integrationResponse
	_, err = g.changeMethod(c, func(_ *resource, m *method) error {
		if r, err = m.integrationResponse(c.path[3]); err != nil {
			return err
		}
		for _, p := range patches {
			switch {
			case p.is("responseParameters", "*"):
				r.ResponseParameters = patchMap(r.ResponseParameters, p, p.Value)
			case p.is("responseTemplates", "*"):
				r.ResponseTemplates = patchMap(r.ResponseTemplates, p, p.Value)
			case p.is("selectionPattern") && p.Op == opReplace:
				r.SelectionPattern = p.Value
			case p.is("contentHandling") && p.Op == opReplace:
				r.ContentHandling = p.Value
			default:
				return badRequest("Invalid patch path %s", p.Path)
			}
		}
		return m.checkResponse(r)
	})
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, r}, nil
}
