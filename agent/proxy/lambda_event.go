package proxy

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net"
	"net/http"
	"strings"

	"github.com/fifegateway/fife/agent/route"
)

// lambdaEvent is a request as a function gets it: Amazon API Gateway's proxy
// event in payload format 1.0. Maps and strings that are empty are null.
type lambdaEvent struct {
	Resource                        string              `json:"resource"`
	Path                            string              `json:"path"`
	HTTPMethod                      string              `json:"httpMethod"`
	Headers                         map[string]string   `json:"headers"`
	MultiValueHeaders               map[string][]string `json:"multiValueHeaders"`
	QueryStringParameters           map[string]string   `json:"queryStringParameters"`
	MultiValueQueryStringParameters map[string][]string `json:"multiValueQueryStringParameters"`
	PathParameters                  map[string]string   `json:"pathParameters"`
	StageVariables                  map[string]string   `json:"stageVariables"`
	RequestContext                  lambdaContext       `json:"requestContext"`
	Body                            *string             `json:"body"`
	IsBase64Encoded                 bool                `json:"isBase64Encoded"`
}

type lambdaContext struct {
	AccountID         *string        `json:"accountId"`
	APIID             string         `json:"apiId"`
	DeploymentID      string         `json:"deploymentId"`
	DomainName        *string        `json:"domainName"`
	DomainPrefix      *string        `json:"domainPrefix"`
	ExtendedRequestID string         `json:"extendedRequestId"`
	HTTPMethod        string         `json:"httpMethod"`
	Identity          lambdaIdentity `json:"identity"`
	Path              string         `json:"path"`
	Protocol          string         `json:"protocol"`
	RequestID         string         `json:"requestId"`
	RequestTime       string         `json:"requestTime"`
	RequestTimeEpoch  int64          `json:"requestTimeEpoch"`
	ResourceID        string         `json:"resourceId"`
	ResourcePath      string         `json:"resourcePath"`
	Stage             string         `json:"stage"`
}

// lambdaIdentity names the client. An agent authenticates nobody, so all but its
// address and user agent is null.
type lambdaIdentity struct {
	AccessKey                     *string `json:"accessKey"`
	AccountID                     *string `json:"accountId"`
	APIKey                        *string `json:"apiKey"`
	APIKeyID                      *string `json:"apiKeyId"`
	Caller                        *string `json:"caller"`
	CognitoAuthenticationProvider *string `json:"cognitoAuthenticationProvider"`
	CognitoAuthenticationType     *string `json:"cognitoAuthenticationType"`
	CognitoIdentityID             *string `json:"cognitoIdentityId"`
	CognitoIdentityPoolID         *string `json:"cognitoIdentityPoolId"`
	PrincipalOrgID                *string `json:"principalOrgId"`
	SourceIP                      *string `json:"sourceIp"`
	User                          *string `json:"user"`
	UserAgent                     *string `json:"userAgent"`
	UserArn                       *string `json:"userArn"`
}

// event returns the JSON of the exchange's event. Path and path parameters stay
// percent-encoded, query parameters are decoded.
func (x *exchange) event(account string, body []byte, binary []string) ([]byte, error) {
	domain := x.host
	if host, _, err := net.SplitHostPort(x.host); err == nil {
		domain = host
	}
	prefix, _, _ := strings.Cut(domain, ".")
	e := lambdaEvent{
		Resource:       x.route.Path,
		Path:           x.rest,
		HTTPMethod:     x.method,
		PathParameters: pathParameters(&x.params),
		StageVariables: emptyNull(x.variant.Variables),
		RequestContext: lambdaContext{
			AccountID:         orNull(account),
			APIID:             x.stage.API,
			DeploymentID:      fmt.Sprintf("%06d", x.variant.Deployment.Number),
			DomainName:        orNull(domain),
			DomainPrefix:      orNull(prefix),
			ExtendedRequestID: x.id,
			HTTPMethod:        x.method,
			Identity:          lambdaIdentity{UserAgent: orNull(x.first("User-Agent"))},
			Path:              route.StagePath(x.path),
			Protocol:          x.proto,
			RequestID:         x.id,
			RequestTime:       x.start.UTC().Format("02/Jan/2006:15:04:05 -0700"),
			RequestTimeEpoch:  x.start.UnixMilli(),
			ResourceID:        resourceID(x.stage.API, x.route.Path),
			ResourcePath:      x.route.Path,
			Stage:             x.stage.Name,
		},
	}
	if x.client.IsValid() {
		e.RequestContext.Identity.SourceIP = orNull(x.client.String())
	}
	e.Headers, e.MultiValueHeaders = x.eventHeaders()
	e.QueryStringParameters, e.MultiValueQueryStringParameters = queryParameters(x.query)
	if len(body) > 0 {
		text := string(body)
		if e.IsBase64Encoded = isBinary(x.first("Content-Type"), binary); e.IsBase64Encoded {
			text = base64.StdEncoding.EncodeToString(body)
		}
		e.Body = &text
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(&e); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// eventHeaders returns the headers twice: the last value of each, and all.
func (x *exchange) eventHeaders() (map[string]string, map[string][]string) {
	x.scratch.fields = x.appendForwarded(x.scratch.fields[:0])
	all := make(http.Header, len(x.scratch.fields)+1)
	for _, f := range x.scratch.fields {
		all.Add(f.Name, f.Value)
	}
	if x.host != "" {
		all.Set("Host", x.host)
	}
	last := make(map[string]string, len(all))
	for name, values := range all {
		if len(values) > 0 {
			last[name] = values[len(values)-1]
		}
	}
	return emptyNull(last), emptyNull(map[string][]string(all))
}

// queryParameters returns the parameters twice: the last value of each, and all.
func queryParameters(query string) (last map[string]string, all map[string][]string) {
	if query == "" {
		return nil, nil
	}
	last, all = make(map[string]string), make(map[string][]string)
	for name, value := range queryPairs(query) {
		last[name] = value
		all[name] = append(all[name], value)
	}
	return emptyNull(last), emptyNull(all)
}

func pathParameters(p *route.Params) map[string]string {
	if p.Len() == 0 {
		return nil
	}
	m := make(map[string]string, p.Len())
	for i := range p.Len() {
		name, value := p.At(i)
		m[name] = value
	}
	return m
}

// resourceID returns the id of a path template, which stays the same over deployments:
// six letters and digits, ten of the root's, of the FNV-1a hash of API and path. The
// control plane's management API knows resources by the same.
func resourceID(api, path string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(api + path)) // a hash never fails
	id := make([]byte, 6, 10)
	if path == "/" {
		id = id[:10]
	}
	sum := h.Sum64()
	for i := range id {
		id[i] = "0123456789abcdefghijklmnopqrstuvwxyz"[sum%36]
		sum /= 36
	}
	return string(id)
}

// isBinary reports whether the media type that a header's value begins with is
// one of types. They are compared whole, without parameters; `*/*` stands for
// every type, even an unknown one.
func isBinary(value string, types []string) bool {
	value, _, _ = strings.Cut(value, ",")
	value, _, _ = strings.Cut(value, ";")
	value = strings.Trim(value, " \t")
	for _, t := range types {
		if t == "*/*" || value != "" && strings.EqualFold(t, value) {
			return true
		}
	}
	return false
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func emptyNull[M ~map[string]V, V any](m M) M {
	if len(m) == 0 {
		return nil
	}
	return m
}
