package openapi

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/fifegateway/fife/controlplane/release"
)

// integration reads an integration of API Gateway's for a route.
func (p *parser) integration(pointer string, n *node, r *release.Route) {
	pointer, n = p.resolve(pointer, n)
	if n == nil {
		return
	}
	if n.kind != object {
		p.faults.addf(pointer, n.line, "must be an object, and is %v", n.kind)
		return
	}
	i := integrationReader{parser: p, pointer: pointer, node: n, route: r, known: map[string]bool{"type": true}}
	switch kind := p.text(join(pointer, "type"), n.get("type")); strings.ToLower(kind) {
	case "http_proxy":
		i.http()
	case "http":
		p.warn("type http", join(pointer, "type"), "is http, and taken as http_proxy: requests and responses are not mapped")
		i.http()
	case "aws_proxy":
		i.lambda()
	case "mock":
		i.mock()
	default:
		p.faults.addf(join(pointer, "type"), n.line, "%.40q must be http_proxy, aws_proxy or mock", kind)
		return
	}
	i.timeout()
	i.ignoreRest()
	var v release.Violations
	release.CheckRoute(&v, "", r)
	for _, bad := range v {
		p.faults.addf(i.place(bad.Field), n.line, "%s", bad.Description)
	}
}

// integrationReader reads one integration.
type integrationReader struct {
	*parser
	pointer string
	node    *node
	route   *release.Route
	known   map[string]bool // members that are acted on, or make no difference
}

// take returns a member as a text and notes that it is acted on.
func (i *integrationReader) take(name string) string {
	i.known[name] = true
	return i.text(join(i.pointer, name), i.node.get(name))
}

// place returns where the field of a route is in an integration.
func (i *integrationReader) place(field string) string {
	switch {
	case field == "timeout":
		return join(i.pointer, "timeoutInMillis")
	case field == "integration.http.method":
		return join(i.pointer, "httpMethod")
	case strings.HasPrefix(field, "integration.mock"):
		return join(i.pointer, "responses")
	}
	return join(i.pointer, "uri")
}

func (i *integrationReader) timeout() {
	i.known["timeoutInMillis"] = true
	n := i.node.get("timeoutInMillis")
	if n == nil {
		return
	}
	ms, err := strconv.ParseInt(n.text, 10, 32)
	if err != nil || ms <= 0 {
		i.faults.addf(join(i.pointer, "timeoutInMillis"), n.line, "%.40q must be a number of milliseconds", n.text)
		return
	}
	i.route.Timeout = time.Duration(ms) * time.Millisecond
}

// ignoreRest warns of the members that nobody asked for.
func (i *integrationReader) ignoreRest() {
	for _, m := range i.node.members {
		switch {
		case i.known[m.name]:
		case m.name == "passthroughBehavior", m.name == "payloadFormatVersion" && m.value.text == "1.0",
			m.name == "connectionType" && m.value.text == "INTERNET", len(m.value.members)+len(m.value.items) == 0 && m.value.kind >= list:
		default:
			i.ignore(i.pointer, m.name)
		}
	}
}

func (i *integrationReader) http() {
	i.known["responses"] = true // of a proxy API Gateway ignores it, too
	method := i.take("httpMethod")
	if method = strings.ToUpper(method); method == i.route.Method || method == release.MethodAny {
		method = "" // the request's own
	}
	i.route.Integration = release.HTTP{URI: i.fillPath(i.take("uri")), Method: method}
}

// fillPath gives the variables in a URI's path the names that they have in the
// route's: API Gateway writes `{proxy}` for what the path calls `{proxy+}`, and can
// rename variables by requestParameters.
func (i *integrationReader) fillPath(uri string) string {
	i.known["requestParameters"] = true
	renamed := map[string]string{}
	for _, m := range i.node.get("requestParameters").membersOf() {
		to, ok := strings.CutPrefix(m.name, "integration.request.path.")
		from, fromOK := strings.CutPrefix(m.value.text, "method.request.path.")
		if !ok || !fromOK {
			i.ignore(join(i.pointer, "requestParameters"), m.name)
			continue
		}
		renamed[to] = from
	}
	written := map[string]string{} // by name, as the path writes it
	for segment := range strings.SplitSeq(i.route.Path, "/") {
		if name, _, ok := release.PathVariable(segment); ok {
			written[name] = segment
		}
	}
	if len(uri) > release.MaxURI {
		return uri // and is found fault with
	}
	path, query, hasQuery := strings.Cut(uri, "?")
	segments := strings.Split(path, "/")
	for at, segment := range segments {
		name, _, ok := release.PathVariable(segment)
		if !ok {
			continue
		}
		if to, ok := renamed[name]; ok {
			name = to
		}
		if w, ok := written[name]; ok {
			segments[at] = w
		}
	}
	uri = strings.Join(segments, "/")
	if hasQuery {
		uri += "?" + query
	}
	return uri
}

func (i *integrationReader) lambda() {
	for _, name := range []string{"httpMethod", "responses"} {
		i.known[name] = true // a function is always invoked by POST and makes its own responses
	}
	uri := i.take("uri")
	l, ok := ParseLambdaURI(uri)
	if !ok {
		i.faults.addf(join(i.pointer, "uri"), i.node.line, "%.300q must be arn:aws:apigateway:REGION:lambda:path/2015-03-31/functions/FUNCTION/invocations", uri)
		return
	}
	i.route.Integration = l
}

// mockStatus finds the status in a mock's request template.
var mockStatus = regexp.MustCompile(`"?statusCode"?\s*:\s*"?([0-9]{3})`)

// mock takes the response that API Gateway would choose: the request template says
// the status, and the response whose pattern matches it, or the default, is sent.
func (i *integrationReader) mock() {
	for _, name := range []string{"requestTemplates", "responses", "httpMethod", "uri"} {
		i.known[name] = true
	}
	wanted := "200"
	if _, n := firstTemplate(i.node.get("requestTemplates")); n != nil {
		if found := mockStatus.FindStringSubmatch(n.text[:min(len(n.text), maxName)]); found != nil {
			wanted = found[1]
		}
	}
	m := release.Mock{Status: 200}
	if wanted != "200" {
		m.Status, _ = strconv.Atoi(wanted)
	}
	name, response := i.chooseResponse(wanted)
	if response != nil {
		i.mockResponse(join(i.pointer, "responses", name), response, &m)
	}
	i.route.Integration = m
}

func (i *integrationReader) chooseResponse(status string) (string, *node) {
	responses := i.node.get("responses")
	for _, m := range responses.membersOf() {
		if m.name != "default" && i.matches(m.name, status) {
			return m.name, m.value
		}
	}
	return "default", responses.get("default")
}

// matches reports whether the pattern of a response, a regular expression, is that
// of a status. One that is none matches nothing.
func (p *parser) matches(pattern, status string) bool {
	compiled, known := p.patterns[pattern]
	if !known && len(p.patterns) < maxPatterns && len(pattern) <= 256 {
		compiled, _ = regexp.Compile("^(?:" + pattern + ")$") // nil of one that is none
		p.patterns[pattern] = compiled
	}
	return compiled != nil && compiled.MatchString(status)
}

// firstTemplate returns the template for JSON, or else the first.
func firstTemplate(templates *node) (mediaType string, n *node) {
	if n := templates.get("application/json"); n != nil {
		return "application/json", n
	}
	for _, m := range templates.membersOf() {
		return m.name, m.value
	}
	return "", nil
}

func (i *integrationReader) mockResponse(pointer string, n *node, m *release.Mock) {
	if code := n.get("statusCode"); code != nil {
		status, err := strconv.Atoi(code.text)
		if err != nil {
			i.faults.addf(join(pointer, "statusCode"), code.line, "%.40q is no HTTP status", code.text)
		}
		m.Status = status
	}
	for _, parameter := range n.get("responseParameters").membersOf() {
		name, ok := strings.CutPrefix(parameter.name, "method.response.header.")
		value := parameter.value.text
		if !ok || len(value) < 2 || value[0] != '\'' || value[len(value)-1] != '\'' {
			i.ignore(join(pointer, "responseParameters"), parameter.name)
			continue
		}
		setHeader(m, name, value[1:len(value)-1])
	}
	mediaType, template := firstTemplate(n.get("responseTemplates"))
	if template == nil {
		return
	}
	m.Body = i.text(join(pointer, "responseTemplates", mediaType), template)
	if len(m.Body) <= release.MaxMockBody && release.IsTemplate(m.Body) {
		_, err := release.ParseTemplate(m.Body)
		if m.Template = err == nil; !m.Template {
			i.warn("template", join(pointer, "responseTemplates", mediaType), "is sent as it stands: "+err.Error())
		}
	}
	if mediaType != "application/json" && !hasHeader(m, "Content-Type") { // which is what a mock says anyway
		setHeader(m, "Content-Type", mediaType)
	}
}

func setHeader(m *release.Mock, name, value string) {
	if m.Headers == nil {
		m.Headers = map[string]string{}
	}
	m.Headers[name] = value
}

func hasHeader(m *release.Mock, name string) bool {
	for n := range m.Headers {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// statusTemplate returns the request template that makes a mock answer with a
// status.
func statusTemplate(status int) string {
	data, _ := json.Marshal(map[string]int{"statusCode": status}) // a map of numbers can always be written
	return string(data)
}
