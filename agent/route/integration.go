package route

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// The limits of integrations.
const (
	maxFunction    = 64
	maxQualifier   = 128
	maxMockBody    = 64 << 10
	maxMockHeaders = 32
	maxMockParts   = 129 // 64 references with text around them
)

// Integration is what answers a route: an *HTTP, a *Lambda or a *Mock.
type Integration interface{ integration() }

// HTTP passes requests on to an HTTP upstream.
type HTTP struct {
	// URI expands to the upstream's address, which the caller must parse and
	// check anew whenever the template is not constant.
	URI Template
	// Method to use upstream; empty means the request's own.
	Method string
}

// Lambda invokes a Lambda function.
type Lambda struct {
	// Function expands to a name or an ARN.
	Function Template
	// Qualifier expands to a version or alias; an empty template means none,
	// or the one of the ARN.
	Qualifier Template
}

// Mock answers with a response of its own.
type Mock struct {
	// Status is 200 to 599.
	Status int
	// Headers of the response. Read only.
	Headers map[string]string
	// Body of the response.
	Body string
	// Parts make up the body instead, if there are any. Read only.
	Parts []MockPart
}

// contextFields are what a MockPart may name of a request.
var contextFields = []string{
	"apiId", "deploymentId", "extendedRequestId", "httpMethod", "isCanaryRequest", "path", "requestId", "resourcePath", "stage",
}

func (*HTTP) integration()   {}
func (*Lambda) integration() {}
func (*Mock) integration()   {}

func compileIntegration(spec IntegrationSpec, path pathTemplate) (Integration, error) {
	switch spec := spec.(type) {
	case HTTPSpec:
		return compileHTTP(spec, path)
	case LambdaSpec:
		return compileLambda(spec)
	case MockSpec:
		return compileMock(spec)
	}
	return nil, errors.New("has no integration")
}

func compileHTTP(spec HTTPSpec, path pathTemplate) (*HTTP, error) {
	if m := spec.Method; !isEvery(m, isUpper) || m == "ANY" || m == "CONNECT" || m == "TRACE" {
		return nil, fmt.Errorf("http method %q: want one in capitals, other than CONNECT and TRACE, or none for the request's own", m)
	}
	uri, err := parseTemplate(spec.URI)
	if err == nil {
		err = checkURI(&uri, path)
	}
	if err != nil {
		return nil, fmt.Errorf("http uri %q: %w", spec.URI, err)
	}
	return &HTTP{URI: uri, Method: spec.Method}, nil
}

// checkURI sees to it that a URI is one whatever fills its holes: its scheme is
// literal, and what a client sends lands in the path.
func checkURI(uri *Template, path pathTemplate) error {
	scheme, rest, ok := strings.Cut(uri.source, "://")
	if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return errors.New("must begin with http:// or https://")
	}
	// "0" may stand for a host, a port, a piece of a path and of a query.
	filled := uri.fill("0")
	if strings.ContainsRune(filled, '#') {
		return errors.New("must have no fragment")
	}
	if !isEvery(filled, isURIByte) {
		return errors.New("has a character that must be percent-encoded")
	}
	u, err := url.Parse(filled)
	if err != nil {
		return errors.Unwrap(err) // without the "parse FILLED:" in front
	}
	if u.Hostname() == "" {
		return errors.New("has no host")
	}
	if u.User != nil {
		return errors.New("must have no user or password")
	}
	pathBegin, pathEnd := len(uri.source), len(uri.source)
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		pathBegin = len(scheme) + len("://") + i
	}
	if i := strings.IndexByte(uri.source, '?'); i >= 0 {
		pathEnd = i
	}
	for _, p := range uri.parts {
		switch {
		case p.kind == literalPart || p.kind == variablePart:
		case p.pos < pathBegin || p.pos > pathEnd:
			return fmt.Errorf("{%s}: a path variable may stand in the path only", p.text)
		case !slices.Contains(path.params, p.text):
			return fmt.Errorf("{%s}: the route's path has no such variable", p.text)
		case p.kind == greedyPart && !(path.greedy && p.text == path.params[len(path.params)-1]):
			return fmt.Errorf("{%s+}: the route's {%s} is not greedy", p.text, p.text)
		}
	}
	return nil
}

// isURIByte reports whether RFC 3986 lets c stand in a URI as it is.
func isURIByte(c byte) bool { return isWord(c) || strings.IndexByte("-.~:/?[]@!$&'()*+,;=%", c) >= 0 }

func compileLambda(spec LambdaSpec) (*Lambda, error) {
	function, err := parseTemplate(spec.Function)
	if err == nil {
		err = checkFunction(&function, spec.Qualifier != "")
	}
	if err != nil {
		return nil, fmt.Errorf("lambda function %q: %w", spec.Function, err)
	}
	qualifier, err := parseTemplate(spec.Qualifier)
	if err == nil && spec.Qualifier != "" {
		err = checkName(&qualifier, qualifier.fill(hole), maxQualifier, "$-")
	}
	if err != nil {
		return nil, fmt.Errorf("lambda qualifier %q: %w", spec.Qualifier, err)
	}
	return &Lambda{Function: function, Qualifier: qualifier}, nil
}

// hole stands in for a stage variable in a function or a qualifier. No template
// can hold it otherwise.
const hole = "\x00"

// checkFunction takes a function's name, or an ARN
// arn:aws[-x]:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER].
func checkFunction(t *Template, qualified bool) error {
	filled := t.fill(hole)
	if !strings.HasPrefix(filled, "arn:") {
		return checkName(t, filled, maxFunction, "-")
	}
	f := strings.Split(filled, ":")
	switch {
	case len(f) < 7 || len(f) > 8 || f[2] != "lambda" || f[5] != "function":
		return errors.New("want arn:aws:lambda:REGION:ACCOUNT:function:NAME, or the same with :QUALIFIER")
	case strings.Contains(f[1]+f[3]+f[4], hole):
		return errors.New("a stage variable may stand in the name and the qualifier only")
	case !strings.HasPrefix(f[1], "aws") || !isEvery(f[1], isLowerOrHyphen):
		return fmt.Errorf("partition %q: want aws, or aws- and more", f[1])
	case f[3] == "" || !isEvery(f[3], func(c byte) bool { return isLowerOrHyphen(c) || isDigit(c) }):
		return fmt.Errorf("region %q: want lower-case letters, digits and hyphens", f[3])
	case len(f[4]) != 12 || !isEvery(f[4], isDigit):
		return fmt.Errorf("account %q: want 12 digits", f[4])
	}
	if err := checkName(t, f[6], maxFunction, "-"); err != nil {
		return err
	}
	if len(f) == 7 {
		return nil
	}
	if qualified {
		return fmt.Errorf("the ARN carries the qualifier %q already", f[7])
	}
	return checkName(t, f[7], maxQualifier, "$-")
}

// checkName checks a filled piece of t: 1 to max letters, digits, underscores,
// extra characters and stage variables.
func checkName(t *Template, filled string, max int, extra string) error {
	for _, p := range t.parts {
		if p.kind == paramPart || p.kind == greedyPart {
			return fmt.Errorf("{%s}: a path variable may not stand here", p.text)
		}
	}
	if filled == "" || len(filled) > max || !isEvery(filled, func(c byte) bool {
		return isWord(c) || c == hole[0] || strings.IndexByte(extra, c) >= 0
	}) {
		return fmt.Errorf("want 1 to %d letters, digits, '_' and %q", max, extra)
	}
	return nil
}

func compileMock(spec MockSpec) (*Mock, error) {
	m := &Mock{Status: spec.Status, Headers: maps.Clone(spec.Headers), Body: spec.Body, Parts: slices.Clone(spec.Parts)}
	if m.Status == 0 {
		m.Status = 200
	}
	switch {
	case m.Status < 200 || m.Status > 599:
		return nil, fmt.Errorf("mock status %d: want 200 to 599", m.Status)
	case len(m.Body) > maxMockBody:
		return nil, fmt.Errorf("mock body of %d bytes: at most %d are allowed", len(m.Body), maxMockBody)
	case len(m.Headers) > maxMockHeaders:
		return nil, fmt.Errorf("%d mock headers: at most %d are allowed", len(m.Headers), maxMockHeaders)
	}
	if err := checkParts(m.Parts); err != nil {
		return nil, err
	}
	for name, value := range m.Headers {
		if !isToken(name) {
			return nil, fmt.Errorf("mock header %q: is not a header name", name)
		}
		if !isEvery(value, func(c byte) bool { return isNoControl(c) || c == '\t' }) {
			return nil, fmt.Errorf("mock header %q: value %q has a control character", name, value)
		}
	}
	return m, nil
}

func checkParts(parts []MockPart) error {
	if len(parts) > maxMockParts {
		return fmt.Errorf("mock body of %d parts: at most %d are allowed", len(parts), maxMockParts)
	}
	size := 0
	for _, p := range parts {
		size += len(p.Text)
		set := 0
		for _, field := range []string{p.Text, p.Variable, p.Context} {
			if field != "" {
				set++
			}
		}
		if set != 1 || (p.Context != "" && !slices.Contains(contextFields, p.Context)) {
			return fmt.Errorf("mock body: part %+v is of no kind that is known", p)
		}
	}
	if size > maxMockBody {
		return fmt.Errorf("mock body of %d bytes: at most %d are allowed", size, maxMockBody)
	}
	return nil
}
