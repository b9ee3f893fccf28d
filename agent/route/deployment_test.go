package route

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
)

func TestCompileDeployment(t *testing.T) {
	headers := map[string]string{"X-A": "1"}
	spec := DeploymentSpec{
		API: "demo", Number: 3, DefaultTimeout: time.Second, BinaryMediaTypes: []string{"image/png"},
		Routes: []RouteSpec{
			{Method: "GET", Path: "/pets/", Integration: MockSpec{Headers: headers, Body: "hi"}},
			{Method: "ANY", Path: "/pets/{id}", Timeout: 50 * time.Millisecond,
				Integration: HTTPSpec{URI: "https://${stageVariables.host}:${stageVariables.port}/p/{id}?x=${stageVariables.x}", Method: "POST"}},
			{Method: "GET", Path: "/f", Integration: LambdaSpec{Function: "f-${stageVariables.env}", Qualifier: "${stageVariables.alias}"}},
		},
	}
	d, err := CompileDeployment(spec)
	if err != nil {
		t.Fatal(err)
	}
	headers["X-A"], spec.BinaryMediaTypes[0] = "changed", "changed"
	if d.API != "demo" || d.Number != 3 || d.BinaryMediaTypes[0] != "image/png" {
		t.Errorf("deployment %+v", d)
	}
	v := &Variant{Deployment: d}
	var p Params
	r := v.Match("GET", "/pets", &p)
	if m := r.Integration.(*Mock); r.Path != "/pets" || r.Timeout != time.Second || m.Status != 200 || m.Body != "hi" || m.Headers["X-A"] != "1" {
		t.Errorf("%s %v: %+v", r.Path, r.Timeout, m)
	}
	r = v.Match("PUT", "/pets/7", &p)
	vars := map[string]string{"host": "h", "port": "81", "x": "y", "env": "prod", "alias": "live"}
	h := r.Integration.(*HTTP)
	if uri, err := h.URI.Expand(vars, &p); err != nil || uri != "https://h:81/p/7?x=y" || h.Method != "POST" || r.Timeout != 50*time.Millisecond {
		t.Errorf("uri %q, %v; method %q, timeout %v", uri, err, h.Method, r.Timeout)
	}
	l := v.Match("GET", "/f", &p).Integration.(*Lambda)
	function, err1 := l.Function.Expand(vars, nil)
	qualifier, err2 := l.Qualifier.Expand(vars, nil)
	if function != "f-prod" || qualifier != "live" || err1 != nil || err2 != nil {
		t.Errorf("function %q, %v; qualifier %q, %v", function, err1, qualifier, err2)
	}
}

func TestDefaultTimeout(t *testing.T) {
	var p Params
	if got := variant(t, "GET /").Match("GET", "/", &p).Timeout; got != 29*time.Second {
		t.Errorf("timeout %v, want 29 s", got)
	}
}

func TestIntegrationsAccepted(t *testing.T) {
	for _, i := range []IntegrationSpec{
		HTTPSpec{URI: "http://h"},
		HTTPSpec{URI: "HTTPS://h.example:8443/a%20b/?q=1&r"},
		HTTPSpec{URI: "http://[2001:db8::1]:80/"},
		HTTPSpec{URI: "http://${stageVariables.url}/x", Method: "PROPFIND"},
		HTTPSpec{URI: "http://${stageVariables.url}"},
		HTTPSpec{URI: "http://h?q=${stageVariables.q}"},
		HTTPSpec{URI: "http://h/{id}/x{rest}"},
		HTTPSpec{URI: "http://h/{rest+}?a=b"},
		HTTPSpec{URI: "http://h/a@b:c"},
		LambdaSpec{Function: "hello_World-1"},
		LambdaSpec{Function: "hello", Qualifier: "$LATEST"},
		LambdaSpec{Function: "${stageVariables.fn}", Qualifier: "v-${stageVariables.v}"},
		LambdaSpec{Function: "arn:aws:lambda:eu-west-1:123456789012:function:hello"},
		LambdaSpec{Function: "arn:aws:lambda:eu-west-1:123456789012:function:hello", Qualifier: "1"},
		LambdaSpec{Function: "arn:aws-us-gov:lambda:us-gov-east-1:123456789012:function:hello:$LATEST"},
		LambdaSpec{Function: "arn:aws:lambda:eu-west-1:123456789012:function:${stageVariables.fn}:${stageVariables.v}"},
		MockSpec{},
		MockSpec{Status: 599, Headers: map[string]string{"X-Tab": "a\tb é"}, Body: strings.Repeat("x", 64<<10)},
	} {
		if err := compileOne(RouteSpec{Method: "GET", Path: "/{id}/{rest+}", Integration: i}); err != nil {
			t.Errorf("%+v: %v", i, err)
		}
	}
}

func compileOne(routes ...RouteSpec) error {
	_, err := CompileDeployment(DeploymentSpec{API: "demo", Number: 3, Routes: routes})
	return err
}

// TestCompileDeploymentRefuses: every refusal names the deployment and what was
// wrong, and those of a route the route.
func TestCompileDeploymentRefuses(t *testing.T) {
	route := func(method, path string) []RouteSpec {
		return []RouteSpec{{Method: method, Path: path, Integration: MockSpec{}}}
	}
	with := func(i IntegrationSpec) []RouteSpec {
		return []RouteSpec{{Method: "GET", Path: "/{id}/{rest+}", Integration: i}}
	}
	uri := func(s string) []RouteSpec { return with(HTTPSpec{URI: s}) }
	function := func(s string) []RouteSpec { return with(LambdaSpec{Function: s}) }
	tooManyHeaders := map[string]string{}
	for i := range 33 {
		tooManyHeaders[fmt.Sprint("X-", i)] = ""
	}
	tests := []struct {
		name   string
		routes []RouteSpec
		want   string // in the error
	}{
		{"method", route("TRACE", "/"), `method "TRACE"`},
		{"method, case", route("get", "/"), `method "get"`},
		{"method, none", route("", "/"), `method ""`},
		{"path, none", route("GET", ""), "begin with a slash"},
		{"path, relative", route("GET", "a"), "begin with a slash"},
		{"path, empty segment", route("GET", "/a//b"), "empty"},
		{"path, two slashes", route("GET", "//"), "empty"},
		{"path, dot", route("GET", "/a/../b"), "dot segment"},
		{"path, hidden dot", route("GET", "/%2e%2E"), "dot segment"},
		{"path, space", route("GET", "/a b"), "character ' '"},
		{"path, query", route("GET", "/a?b"), "character '?'"},
		{"path, not ASCII", route("GET", "/é"), "percent-encoded"},
		{"path, escape", route("GET", "/a%2"), "escape"},
		{"path, long", route("GET", "/"+strings.Repeat("a", 1024)), "1025 characters"},
		{"variable, no name", route("GET", "/{}"), `segment "{}"`},
		{"variable, plus alone", route("GET", "/{+}"), `segment "{+}"`},
		{"variable, open", route("GET", "/{a"), `segment "{a"`},
		{"variable, with literal", route("GET", "/x{a}"), `segment "x{a}"`},
		{"variable, two in one", route("GET", "/{a}{b}"), `segment "{a}{b}"`},
		{"variable, name", route("GET", "/{a b}"), `segment "{a b}"`},
		{"variable, twice", route("GET", "/{a}/b/{a}"), `"a" is named twice`},
		{"variable, twice greedy", route("GET", "/{a}/b/{a+}"), `"a" is named twice`},
		{"greedy, not last", route("GET", "/{a+}/b"), "must come last"},
		{"variables, 17", route("GET", "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}/{j}/{k}/{l}/{m}/{n}/{o}/{p}/{q}"), "17 variables"},
		{"duplicate", append(route("GET", "/a"), route("GET", "/a/")...), "declared twice"},
		{"duplicate, escaped", append(route("GET", "/a"), route("GET", "/%61")...), "declared twice"},
		{"clash of names", append(route("GET", "/a/{x}"), route("PUT", "/a/{y}/z")...), "{y} clashes with {x}"},
		{"clash of kinds", append(route("GET", "/a/{x}"), route("GET", "/a/{proxy+}")...), "{proxy+} clashes with {x}"},
		{"clash of kinds, one name", append(route("GET", "/{x+}"), route("GET", "/{x}")...), "{x} clashes with {x+}"},
		{"timeout, short", []RouteSpec{{Method: "GET", Path: "/", Timeout: 49 * time.Millisecond, Integration: MockSpec{}}}, "timeout: 49ms"},
		{"timeout, long", []RouteSpec{{Method: "GET", Path: "/", Timeout: 30 * time.Second, Integration: MockSpec{}}}, "timeout: 30s"},
		{"timeout, negative", []RouteSpec{{Method: "GET", Path: "/", Timeout: -1, Integration: MockSpec{}}}, "timeout: -1ns"},
		{"no integration", with(nil), "no integration"},

		{"uri, none", uri(""), "begin with http"},
		{"uri, relative", uri("/x"), "begin with http"},
		{"uri, scheme", uri("ftp://h/"), "begin with http"},
		{"uri, variable scheme", uri("${stageVariables.s}://h/"), "begin with http"},
		{"uri, half a scheme", uri("http${stageVariables.s}://h/"), "begin with http"},
		{"uri, no host", uri("http:///x"), "no host"},
		{"uri, port alone", uri("http://:80/x"), "no host"},
		{"uri, port", uri("http://h:x/"), "port"},
		{"uri, user", uri("http://u:p@h/"), "user"},
		{"uri, variable user", uri("http://${stageVariables.u}@h/"), "user"},
		{"uri, fragment", uri("http://h/#x"), "fragment"},
		{"uri, space", uri("http://h/a b"), "percent-encoded"},
		{"uri, control", uri("http://h/\r\n"), "control character"},
		{"uri, backslash", uri(`http://h\x/`), "percent-encoded"},
		{"uri, escape", uri("http://h/%zz"), "escape"},
		{"uri, long", uri("http://h/" + strings.Repeat("a", 2040)), "2049 characters"},
		{"uri, parameter in host", uri("http://{id}/"), "{id}: a path variable may stand in the path only"},
		{"uri, parameter in query", uri("http://h/?x={id}"), "{id}: a path variable may stand in the path only"},
		{"uri, parameter without path", uri("http://h?{id}"), "{id}: a path variable may stand in the path only"},
		{"uri, unknown parameter", uri("http://h/{other}"), "{other}: the route's path has no such variable"},
		{"uri, not greedy", uri("http://h/{id+}"), "is not greedy"},
		{"uri, bad hole", uri("http://h/${stageVariables.a-b}"), "stageVariables.NAME"},
		{"uri, method", with(HTTPSpec{URI: "http://h", Method: "get"}), `method "get"`},
		{"uri, method ANY", with(HTTPSpec{URI: "http://h", Method: "ANY"}), `method "ANY"`},
		{"uri, method CONNECT", with(HTTPSpec{URI: "http://h", Method: "CONNECT"}), `method "CONNECT"`},

		{"function, none", function(""), "want 1 to 64"},
		{"function, long", function(strings.Repeat("a", 65)), "want 1 to 64"},
		{"function, character", function("a.b"), "want 1 to 64"},
		{"function, NUL", function("a\x00b"), "control character"},
		{"function, parameter", function("{id}"), "{id}: a path variable"},
		{"function, qualified name", function("hello:1"), "want 1 to 64"},
		{"arn, short", function("arn:aws:lambda:eu-west-1:123456789012:function"), "want arn:"},
		{"arn, long", function("arn:aws:lambda:eu-west-1:123456789012:function:f:1:2"), "want arn:"},
		{"arn, service", function("arn:aws:s3:eu-west-1:123456789012:function:f"), "want arn:"},
		{"arn, partition", function("arn:aws1:lambda:eu-west-1:123456789012:function:f"), "partition"},
		{"arn, region", function("arn:aws:lambda::123456789012:function:f"), "region"},
		{"arn, variable region", function("arn:aws:lambda:${stageVariables.r}:123456789012:function:f"), "a stage variable may stand"},
		{"arn, account", function("arn:aws:lambda:eu-west-1:12345678901:function:f"), "account"},
		{"arn, no name", function("arn:aws:lambda:eu-west-1:123456789012:function:"), "want 1 to 64"},
		{"arn, no qualifier", function("arn:aws:lambda:eu-west-1:123456789012:function:f:"), "want 1 to 128"},
		{"arn, two qualifiers", with(LambdaSpec{Function: "arn:aws:lambda:eu-west-1:123456789012:function:f:1", Qualifier: "2"}), "already"},
		{"qualifier, character", with(LambdaSpec{Function: "f", Qualifier: "a b"}), "lambda qualifier"},
		{"qualifier, parameter", with(LambdaSpec{Function: "f", Qualifier: "{id}"}), "lambda qualifier"},

		{"mock, status", with(MockSpec{Status: 199}), "status 199"},
		{"mock, high status", with(MockSpec{Status: 600}), "status 600"},
		{"mock, body", with(MockSpec{Body: strings.Repeat("x", 64<<10+1)}), "body of 65537"},
		{"mock, header name", with(MockSpec{Headers: map[string]string{"X A": ""}}), `header "X A"`},
		{"mock, header value", with(MockSpec{Headers: map[string]string{"X-A": "a\r\nb"}}), "control character"},
		{"mock, headers", with(MockSpec{Headers: tooManyHeaders}), "33 mock headers"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := compileOne(tt.routes...)
			if err == nil {
				t.Fatal("was accepted")
			}
			last := tt.routes[len(tt.routes)-1]
			for _, want := range []string{`api "demo", deployment 3: route `, fmt.Sprintf("%q", last.Method+" "+last.Path), tt.want} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func TestCompileDeploymentRefusesTheWhole(t *testing.T) {
	tests := map[string]DeploymentSpec{
		`api id "Demo"`:        {API: "Demo", Number: 1},
		`api id ""`:            {Number: 1},
		"count from 1":         {API: "demo"},
		"default timeout: 30s": {API: "demo", Number: 1, DefaultTimeout: 30 * time.Second},
		"10001 routes":         {API: "demo", Number: 1, Routes: make([]RouteSpec, 10_001)},
		"65 binary":            {API: "demo", Number: 1, BinaryMediaTypes: make([]string, 65)},
		`media type ""`:        {API: "demo", Number: 1, BinaryMediaTypes: []string{""}},
	}
	for want, spec := range tests {
		if _, err := CompileDeployment(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v", want, err)
		}
	}
}

// TestTreeGrows: a tree that began too small for its nodes still finds them all.
func TestTreeGrows(t *testing.T) {
	var routes []string
	for i := range 500 {
		routes = append(routes, fmt.Sprintf("GET /a%d/b/c%d/d", i/7, i))
	}
	v := &Variant{Deployment: &Deployment{tree: newTree(0)}}
	for _, r := range routes {
		method, path, _ := strings.Cut(r, " ")
		if err := v.Deployment.add(&RouteSpec{Method: method, Path: path, Integration: MockSpec{}}, maxTimeout); err != nil {
			t.Fatal(err)
		}
	}
	var p Params
	for _, r := range routes {
		method, path, _ := strings.Cut(r, " ")
		if got := render(v.Match(method, path, &p), &p); got != r {
			t.Errorf("%s matched %s", r, got)
		}
	}
}

// TestTreeComparesParents: two edges may share a tag; what tells them apart then
// is the child itself.
func TestTreeComparesParents(t *testing.T) {
	tree := newTree(0)
	path, err := parsePath("/a/x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tree.insert(path); err != nil {
		t.Fatal(err)
	}
	a := tree.literal(0, "a")
	x := tree.literal(a, "x")
	h := tree.hash(0, "x")
	tree.edges = make([]edge, 2)
	tree.edges[h&1] = edge{tag: uint32(h >> 32), child: x}
	if got := tree.literal(0, "x"); got != 0 {
		t.Errorf("/x was taken for /a/x (node %d)", got)
	}
}

func FuzzCompilePath(f *testing.F) {
	for _, path := range []string{"/", "/a/{id}/{rest+}", "/a%2Fb/", "/{a}/{b+}/c", "//", "/%", "/{a}{b}", "/..", "/é"} {
		f.Add(path, "http://h/{id}/${stageVariables.x}", "f-${stageVariables.x}")
	}
	f.Fuzz(func(t *testing.T, path, uri, function string) {
		for _, i := range []IntegrationSpec{HTTPSpec{URI: uri}, LambdaSpec{Function: function}, MockSpec{}} {
			d, err := CompileDeployment(DeploymentSpec{API: "demo", Number: 1, Routes: []RouteSpec{{Method: "GET", Path: path, Integration: i}}})
			if err != nil {
				continue
			}
			// An accepted path serves the request that is spelt like it, with
			// the variables' own names, which no request path refuses, as values.
			request := strings.NewReplacer("{", "", "+}", "", "}", "").Replace(path)
			var p Params
			r := (&Variant{Deployment: d}).Match("GET", request, &p)
			if r == nil {
				t.Fatalf("path %q does not match %q", path, request)
			}
			got := maps.Collect(func(yield func(string, string) bool) {
				for i := range p.Len() {
					yield(p.At(i))
				}
			})
			for name, value := range got {
				if name != strings.TrimSuffix(value, "/") {
					t.Fatalf("path %q: parameter %q = %q", path, name, value)
				}
			}
			if h, ok := r.Integration.(*HTTP); ok && !h.URI.Constant() {
				if _, err := h.URI.Expand(nil, &p); err != nil && !strings.Contains(err.Error(), "stage variable") {
					t.Fatalf("uri %q: %v", uri, err)
				}
			}
		}
	})
}
