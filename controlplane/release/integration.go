package release

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Integration is what answers a route's requests: HTTP, Lambda or Mock.
type Integration interface {
	// check notes what is wrong with the integration of route r.
	check(v *Violations, field string, r *Route)
	// templates returns the texts in which stage variables may stand.
	templates() []string
	// canonical returns the integration's fields for a deployment's digest.
	canonical() []string
}

// HTTP passes requests on to an HTTP upstream.
type HTTP struct {
	URI    string
	Method string // empty means the request's own
}

// Lambda invokes a function.
type Lambda struct {
	Function  string // name or ARN
	Qualifier string // version or alias
}

// Mock answers with a response of its own.
type Mock struct {
	Status   int
	Headers  map[string]string
	Body     string
	Template bool // whether Body is a template: see ParseTemplate
}

func checkIntegration(v *Violations, field string, r *Route) {
	if r.Integration != nil {
		r.Integration.check(v, field, r)
	}
}

// stageVariable matches a reference to a stage variable; the first group is its
// name.
var stageVariable = regexp.MustCompile(`\$\{stageVariables\.([A-Za-z0-9_]{1,64})\}`)

func (h HTTP) templates() []string { return []string{h.URI} }
func (h HTTP) canonical() []string { return []string{"http", h.URI, h.Method} }

func (h HTTP) check(v *Violations, field string, r *Route) {
	if h.Method != "" && (strings.Trim(h.Method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" || h.Method == MethodAny ||
		h.Method == "CONNECT" || h.Method == "TRACE") {
		v.Addf(field+".http.method", "%q must be an HTTP method in capitals, or unset for the request's own", h.Method)
	}
	field += ".http.uri"
	if !fits(v, field, h.URI) {
		return
	}
	if !strings.HasPrefix(h.URI, "http://") && !strings.HasPrefix(h.URI, "https://") {
		v.Addf(field, "%q must begin with http:// or https://; stage variables may not stand in the scheme", h.URI)
		return
	}
	// A digit may stand for a host, a port, a piece of a path and of a query.
	filled := stageVariable.ReplaceAllString(h.URI, "1")
	u, err := url.Parse(filled)
	switch {
	case err != nil:
		v.Addf(field, "%q is no URI: %v", h.URI, err)
		return
	case strings.Trim(filled, uriCharacters) != "":
		v.Addf(field, "%q holds a character that must be percent-encoded (RFC 3986)", h.URI)
		return
	case u.Host == "" || u.Hostname() == "":
		v.Addf(field, "%q names no host", h.URI)
	case u.User != nil:
		v.Addf(field, "%q may not hold user information", h.URI)
	case u.Fragment != "" || strings.HasSuffix(h.URI, "#"):
		v.Addf(field, "%q may not hold a fragment", h.URI)
	case strings.ContainsAny(u.Host+u.RawQuery, "{}"):
		v.Addf(field, "%q may hold path variables in its path only", h.URI)
	default:
		checkAuthority(v, field, h.URI)
	}
	checkDots(v, field, h.URI, u.EscapedPath())
	for segment := range strings.SplitSeq(u.Path, "/") {
		if !strings.ContainsAny(segment, "{}") {
			continue
		}
		if _, _, ok := PathVariable(segment); !ok {
			v.Addf(field, "%q must hold path variables as whole segments, such as /{id}", h.URI)
		} else if !slices.Contains(strings.Split(r.Path, "/"), segment) {
			v.Addf(field, "%q uses %s, which is no variable of %s", h.URI, segment, r.Path)
		}
	}
}

// uriCharacters are what RFC 3986 lets stand in a URI, and the braces of path
// variables.
const uriCharacters = alphanumeric + "-._~:/?#[]@!$&'()*+,;=%{}"

func (l Lambda) templates() []string { return []string{l.Function, l.Qualifier} }
func (l Lambda) canonical() []string { return []string{"lambda", l.Function, l.Qualifier} }

// fits notes whether the text of a template, references included, is short enough
// for agents to take.
func fits(v *Violations, field, text string) bool {
	if len(text) > MaxURI {
		v.Addf(field, "has %d bytes, at most %d are allowed", len(text), MaxURI)
	}
	return len(text) <= MaxURI
}

// hole stands for a stage variable in a function and a qualifier: it fits a name
// and a qualifier, and nothing else.
const hole = "\x00"

var (
	functionName = regexp.MustCompile(`^[A-Za-z0-9_\x00-]{1,64}$`)
	functionARN  = regexp.MustCompile(`^arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:function:` +
		`[A-Za-z0-9_\x00-]{1,64}(:[A-Za-z0-9_$\x00-]{1,128})?$`)
	qualifier = regexp.MustCompile(`^(?:\$LATEST|[A-Za-z0-9_\x00-]{1,128})$`)
)

func (l Lambda) check(v *Violations, field string, _ *Route) {
	field += ".lambda"
	if !fits(v, field+".function", l.Function) || !fits(v, field+".qualifier", l.Qualifier) {
		return
	}
	function := stageVariable.ReplaceAllString(l.Function, hole)
	arn := functionARN.FindStringSubmatch(function)
	wrong := arn == nil && !functionName.MatchString(function)
	if arn != nil && arn[1] != "" {
		wrong = !qualifier.MatchString(arn[1][1:])
	}
	if wrong || strings.Contains(l.Function, hole) {
		v.Addf(field+".function",
			"%q must be a function's name or ARN, such as arn:aws:lambda:eu-west-1:123456789012:function:hello:1", l.Function)
	}
	switch {
	case l.Qualifier == "":
	case arn != nil && arn[1] != "":
		v.Addf(field+".qualifier", "%q must be unset, as the ARN ends in a qualifier", l.Qualifier)
	case !qualifier.MatchString(stageVariable.ReplaceAllString(l.Qualifier, hole)) || strings.Contains(l.Qualifier, hole):
		v.Addf(field+".qualifier", "%q must be a version, an alias or $LATEST", l.Qualifier)
	}
}

func (m Mock) templates() []string { return nil }

func (m Mock) canonical() []string {
	fields := []string{"mock", fmt.Sprint(m.Status), m.Body}
	if m.Template {
		fields[0] = "mock-template"
	}
	return append(fields, sortedPairs(m.Headers)...)
}

func (m Mock) check(v *Violations, field string, _ *Route) {
	field += ".mock"
	if m.Status < 200 || m.Status > 599 {
		v.Addf(field+".status", "%d must lie between 200 and 599", m.Status)
	}
	if len(m.Body) > MaxMockBody {
		v.Addf(field+".body", "has %d bytes, at most %d are allowed", len(m.Body), MaxMockBody)
	}
	if m.Template && len(m.Body) <= MaxMockBody {
		if _, err := ParseTemplate(m.Body); err != nil {
			v.Addf(field+".body", "%v", err)
		}
	}
	size := 0
	for name, value := range m.Headers {
		size += len(name) + len(value)
	}
	if size > MaxMockHead {
		v.Addf(field+".headers", "have %d bytes, at most %d are allowed", size, MaxMockHead)
	}
	if len(m.Headers) > MaxMockHeaders {
		v.Addf(field+".headers", "has %d entries, at most %d are allowed", len(m.Headers), MaxMockHeaders)
	}
	for _, name := range sortedKeys(m.Headers) {
		value := m.Headers[name]
		if name == "" || strings.Trim(name, alphanumeric+"!#$%&'*+-.^_`|~") != "" {
			v.Addf(field+".headers", "%q is no header name", name)
		}
		if strings.ContainsFunc(value, func(c rune) bool { return (c < ' ' && c != '\t') || c == 0x7f }) {
			v.Addf(field+".headers", "the value of %q holds control characters", name)
		}
	}
}

func sortedPairs(m map[string]string) []string {
	pairs := make([]string, 0, 2*len(m))
	for _, k := range sortedKeys(m) {
		pairs = append(pairs, k, m[k])
	}
	return pairs
}
