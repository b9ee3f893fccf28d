package openapi_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fifegateway/fife/controlplane/openapi"
	"github.com/fifegateway/fife/controlplane/release"
)

const hello = "arn:aws:lambda:eu-west-1:123456789012:function:hello:1"

func lambdaURI(function string) string {
	return "arn:aws:apigateway:eu-west-1:lambda:path/2015-03-31/functions/" + function + "/invocations"
}

// shown returns a route in one line.
func shown(r release.Route) string {
	var to string
	switch i := r.Integration.(type) {
	case release.HTTP:
		to = "http " + i.URI
		if i.Method != "" {
			to += " as " + i.Method
		}
	case release.Lambda:
		to = strings.TrimSpace("lambda " + i.Function + " " + i.Qualifier)
	case release.Mock:
		to = fmt.Sprintf("mock %d %v %q", i.Status, i.Headers, i.Body)
	default:
		to = "nothing"
	}
	if r.Timeout != 0 {
		to += " in " + r.Timeout.String()
	}
	return r.String() + " -> " + to
}

func TestParse(t *testing.T) {
	tests := map[string]struct {
		doc      string
		base     openapi.BasePath
		routes   []string
		warnings []string
	}{
		"plain OpenAPI": {
			doc: `
openapi: 3.1.0
info: {title: Pets, version: "1"}
servers: [{url: https://pets.example/v1/}]
paths:
  /pets/{id}/:
    get: {parameters: [{name: id, in: path}], responses: {"200": {description: ok}}}
    delete: {}
  /: {get: {}}
`,
			routes: []string{
				"GET / -> http https://pets.example/v1/",
				"DELETE /pets/{id} -> http https://pets.example/v1/pets/{id}/",
				"GET /pets/{id} -> http https://pets.example/v1/pets/{id}/",
			},
		},
		"Swagger": {
			doc:    `{"swagger": "2.0", "host": "h:8080", "basePath": "/v2", "schemes": ["wss", "http"], "paths": {"/a": {"head": {}}}}`,
			routes: []string{"HEAD /a -> http http://h:8080/v2/a"},
		},
		"Swagger of both schemes": {
			doc:    `{"swagger": "2.0", "host": "h", "schemes": ["http", "https"], "paths": {"/a": {"get": {}}}}`,
			routes: []string{"GET /a -> http https://h/a"},
		},
		"Swagger of no scheme": {
			doc:    `{"swagger": "2.0", "host": "h", "schemes": ["ws"], "paths": {"/a": {"get": {}}}}`,
			routes: []string{"GET /a -> nothing"},
			warnings: []string{"/schemes: names neither http nor https, so the host is ignored",
				"/paths/~1a/get: has no server with a host, so the route has no integration and cannot be deployed"},
		},
		"server variables": {
			doc: `
openapi: 3.0.3
servers: [{url: "https://{zone}.example:{port}/{basePath}", variables: {zone: {default: eu}, port: {default: 8443}, basePath: {default: v3}}}]
paths: {/a: {get: {}}}
`,
			routes: []string{"GET /a -> http https://eu.example:8443/v3/a"},
		},
		"servers of an item and of an operation": {
			doc: `
openapi: 3.0.0
servers: [{url: "https://root.example"}, {url: "https://second.example"}]
paths:
  /a:
    servers: [{url: "https://item.example"}]
    get: {}
    put: {servers: [{url: "https://operation.example"}]}
  /b: {get: {}}
`,
			routes: []string{"GET /a -> http https://item.example/a", "PUT /a -> http https://operation.example/a",
				"GET /b -> http https://root.example/b"},
			warnings: []string{"/servers/1: is ignored, and so are those after it: requests go to the first server"},
		},
		"no server": {
			doc:    "openapi: 3.0.0\nservers: [{url: /v1}]\npaths: {/a: {get: {}, post: {}}}",
			routes: []string{"GET /a -> nothing", "POST /a -> nothing"},
			warnings: []string{"/paths/~1a/get: has no server with a host, so the route has no integration and cannot be deployed" +
				" (and so in 1 more places)"},
		},
		"prepend": {
			doc: "openapi: 3.0.0\nservers: [{url: 'https://h/a/b//c/'}]\npaths: {/e: {get: {}}, /: {get: {}}}", base: openapi.PrependBasePath,
			routes: []string{"GET /a/b/c -> http https://h/a/b//c/", "GET /a/b/c/e -> http https://h/a/b//c/e"},
		},
		"split": {
			doc: `{"swagger": "2.0", "basePath": "a/b/c", "host": "h", "paths": {"/e": {"get": {}}}}`, base: openapi.SplitBasePath,
			routes: []string{"GET /b/c/e -> http https://h/a/b/c/e"},
		},
		"split of one": {
			doc: `{"swagger": "2.0", "basePath": "/a", "host": "h", "paths": {"/e": {"get": {}}}}`, base: openapi.SplitBasePath,
			routes: []string{"GET /e -> http https://h/a/e"},
		},
		"API Gateway's export": {
			doc: `{
  "openapi": "3.0.1",
  "info": {"title": "demo", "description": "d", "version": "2026-01-01T00:00:00Z"},
  "servers": [{"url": "https://abc.execute-api.eu-west-1.amazonaws.com/{basePath}", "variables": {"basePath": {"default": "/prod"}}}],
  "paths": {
    "/{proxy+}": {"x-amazon-apigateway-any-method": {
      "parameters": [{"name": "proxy", "in": "path", "required": true, "schema": {"type": "string"}}],
      "x-amazon-apigateway-integration": {
        "type": "http_proxy", "httpMethod": "ANY", "uri": "http://up.example/x/{proxy}?a=b", "passthroughBehavior": "when_no_match",
        "requestParameters": {"integration.request.path.proxy": "method.request.path.proxy"}, "timeoutInMillis": 1500,
        "responses": {"default": {"statusCode": "200"}}}}},
    "/hello": {
      "get": {"x-amazon-apigateway-integration": {"type": "AWS_PROXY", "httpMethod": "POST", "uri": "` + lambdaURI(hello) + `"}},
      "post": {"x-amazon-apigateway-integration": {"type": "http_proxy", "httpMethod": "put", "uri": "https://${stageVariables.host}/p"}},
      "put": {},
      "options": {"x-amazon-apigateway-integration": {"type": "mock", "requestTemplates": {"application/json": "{\"statusCode\": 204}"},
        "responses": {"default": {"statusCode": "500"}, "2\\d{2}": {"statusCode": "204", "responseParameters": {
          "method.response.header.Access-Control-Allow-Origin": "'*'"}, "responseTemplates": {"text/plain": "fine"}}}}}
    }
  },
  "x-amazon-apigateway-binary-media-types": ["image/png"]
}`,
			routes: []string{
				"GET /hello -> lambda " + hello,
				`OPTIONS /hello -> mock 204 map[Access-Control-Allow-Origin:* Content-Type:text/plain] "fine"`,
				"POST /hello -> http https://${stageVariables.host}/p as PUT",
				"PUT /hello -> nothing",
				"ANY /{proxy+} -> http http://up.example/x/{proxy+}?a=b in 1.5s",
			},
			warnings: []string{"/paths/~1hello/put: has no x-amazon-apigateway-integration, so the route has no integration and cannot be deployed"},
		},
		"renamed variables": {
			doc: `{"openapi": "3.0.1", "paths": {"/a/{id}": {"get": {"x-amazon-apigateway-integration": {
				"type": "http_proxy", "uri": "http://h/{pet}", "requestParameters": {"integration.request.path.pet": "method.request.path.id",
				"integration.request.header.X": "'x'"}}}}}}`,
			routes:   []string{"GET /a/{id} -> http http://h/{id}"},
			warnings: []string{"/paths/~1a~1{id}/get/x-amazon-apigateway-integration/requestParameters/integration.request.header.X: is ignored"},
		},
		"functions by name": {
			doc: `{"openapi": "3.0.1", "paths": {"/a": {"get": {"x-amazon-apigateway-integration": {"type": "aws_proxy", "uri": "` +
				lambdaURI("hello:prod") + `"}}, "put": {"x-amazon-apigateway-integration": {"type": "aws_proxy", "uri": "` +
				lambdaURI("arn:aws:lambda:eu-west-1:123456789012:function:${stageVariables.fn}") + `"}}}}}`,
			routes: []string{"GET /a -> lambda hello prod", "PUT /a -> lambda arn:aws:lambda:eu-west-1:123456789012:function:${stageVariables.fn}"},
		},
		"mock without anything": {
			doc:    `{"openapi": "3.0.1", "paths": {"/a": {"get": {"x-amazon-apigateway-integration": {"type": "MOCK"}}}}}`,
			routes: []string{`GET /a -> mock 200 map[] ""`},
		},
		"what is ignored": {
			doc: `
openapi: 3.0.1
security: [{key: []}]
x-amazon-apigateway-policy: {Version: "2012-10-17"}
x-other: {}
webhooks: {}
paths:
  x-comment: none
  /a:
    trace: {}
    x-amazon-apigateway-cors: {}
    summary: s
    get:
      security: [{key: []}]
      x-amazon-apigateway-request-validator: all
      x-amazon-apigateway-integration:
        type: http
        uri: http://h/
        credentials: arn:aws:iam::1:role/r
        connectionType: VPC_LINK
        connectionId: abc
        requestTemplates: {application/json: x}
        cacheKeyParameters: []
    put:
      security: []
      x-amazon-apigateway-integration: {type: mock, credentials: c, responses: {default: {statusCode: 200, responseTemplates: {text/html: "<b>$input.body</b>"}}}}
`,
			routes: []string{"GET /a -> http http://h/", `PUT /a -> mock 200 map[Content-Type:text/html] "<b>$input.body</b>"`},
			warnings: []string{
				"/security: is ignored: Fife does not authorize requests (and so in 1 more places)",
				"/x-amazon-apigateway-policy: is ignored",
				"/webhooks: is ignored",
				"/paths/~1a/trace: is ignored",
				"/paths/~1a/x-amazon-apigateway-cors: is ignored",
				"/paths/~1a/get/x-amazon-apigateway-request-validator: is ignored",
				"/paths/~1a/get/x-amazon-apigateway-integration/type: is http, and taken as http_proxy: requests and responses are not mapped",
				"/paths/~1a/get/x-amazon-apigateway-integration/credentials: is ignored (and so in 1 more places)",
				"/paths/~1a/get/x-amazon-apigateway-integration/connectionType: is ignored",
				"/paths/~1a/get/x-amazon-apigateway-integration/connectionId: is ignored",
				"/paths/~1a/get/x-amazon-apigateway-integration/requestTemplates: is ignored",
				"/paths/~1a/put/x-amazon-apigateway-integration/responses/default/responseTemplates/text~1html: is sent as it stands: " +
					`"$input.body</b>": a template may have references to stage variables and to the context, such as $stageVariables.x and $context.stage, and nothing else of the template language`,
			},
		},
		"references": {
			doc: `
openapi: 3.1.0
servers: [{url: https://h}]
paths:
  /a: {$ref: '#/components/pathItems/shared'}
  /b: {$ref: '#/paths/~1a', put: {servers: [{url: https://own}]}}
  /c~d: {$ref: '#/paths/~1%62'}
  /d: {$ref: '#/paths/~1c~0d'}
  /e: {$ref: '#/x-list/1'}
x-list: [{}, {post: {}}]
components: {pathItems: {shared: {get: {}, put: {}}}}
`,
			routes: []string{"GET /a -> http https://h/a", "PUT /a -> http https://h/a", "GET /b -> http https://h/b", "PUT /b -> http https://own/b",
				"GET /c~d -> http https://h/c~d", "PUT /c~d -> http https://own/c~d",
				"GET /d -> http https://h/d", "PUT /d -> http https://own/d", "POST /e -> http https://h/e"},
		},
		"a shared integration": {
			doc: `{"openapi": "3.0.1", "paths": {"/a": {"get": {"x-amazon-apigateway-integration": {"$ref": "#/components/x-amazon-apigateway-integrations/i"}}}},
				"components": {"x-amazon-apigateway-integrations": {"i": {"type": "http_proxy", "httpMethod": "GET", "uri": "http://h"}}}}`,
			routes: []string{"GET /a -> http http://h"},
		},
		"YAML's aliases and merges": {
			doc: `
openapi: 3.0.0
servers: [{url: https://h}]
x-common: &common {get: {}, put: {servers: [{url: https://common}]}}
paths:
  /a: *common
  /b: {<<: *common, put: {}}
  /c: {<<: [{post: {}}, *common]}
`,
			routes: []string{"GET /a -> http https://h/a", "PUT /a -> http https://common/a", "GET /b -> http https://h/b", "PUT /b -> http https://h/b",
				"GET /c -> http https://h/c", "POST /c -> http https://h/c", "PUT /c -> http https://common/c"},
		},
		"percent-encoding": {
			doc:    "openapi: 3.0.0\nservers: [{url: https://h}]\npaths: {'/%7Euser/%41%3a': {get: {}}}",
			routes: []string{"GET /~user/A: -> http https://h/%7Euser/%41%3a"},
		},
		"byte order mark": {
			doc: "\ufeff{\"openapi\": \"3.0.0\", \"paths\": {}}",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d, err := openapi.Parse([]byte(tt.doc), openapi.Options{BasePath: tt.base})
			if err != nil {
				t.Fatal(err)
			}
			var routes []string
			for _, r := range d.Routes {
				routes = append(routes, shown(r))
			}
			if !reflect.DeepEqual(routes, tt.routes) {
				t.Errorf("got routes\n%s\nwant\n%s", strings.Join(routes, "\n"), strings.Join(tt.routes, "\n"))
			}
			if !reflect.DeepEqual(d.Warnings, tt.warnings) {
				t.Errorf("got warnings\n%s\nwant\n%s", strings.Join(d.Warnings, "\n"), strings.Join(tt.warnings, "\n"))
			}
		})
	}
}

func TestParseAbout(t *testing.T) {
	d, err := openapi.Parse([]byte(`{"openapi": "3.0.1", "info": {"title": "t", "description": "d"}, "paths": {},
		"x-amazon-apigateway-binary-media-types": ["image/png", "*/*"]}`), openapi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := &openapi.Document{Title: "t", Description: "d", BinaryMediaTypes: []string{"image/png", "*/*"}}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("got %+v, want %+v", d, want)
	}
}

func TestFaults(t *testing.T) {
	const head = `{"openapi": "3.0.1", `
	get := func(integration string) string {
		return head + `"paths": {"/a": {"get": {"x-amazon-apigateway-integration": ` + integration + `}}}}`
	}
	const at = "/paths/~1a/get/x-amazon-apigateway-integration"
	tests := map[string]struct {
		doc  string
		want []string // beginnings, of all faults in order
	}{
		"empty":              {"  \n", []string{"it is empty"}},
		"no UTF-8":           {"openapi: 3.0.0\ntitle: \xff", []string{"line 2: it is no UTF-8"}},
		"broken JSON":        {"{\"openapi\": \"3.0.0\",\n\"paths\": [}", []string{"line 2: it is no JSON: invalid character '}'"}},
		"cut JSON":           {`{"openapi": "3.0.0"`, []string{"line 1: it is no JSON: unexpected end"}},
		"more after JSON":    {"{}\n{}", []string{"line 2: it is no JSON: invalid character '{' after top-level value"}},
		"member twice":       {"{\"openapi\": \"3.0.0\",\n\"openapi\": \"3.0.0\"}", []string{`line 2: member "openapi" stands twice`}},
		"broken YAML":        {"openapi: 3.0.0\npaths: [", []string{"it is no YAML: line 2: did not find expected node content"}},
		"tab in YAML":        {"a:\n\tb: c", []string{"it is no YAML: line 2: found character that cannot start any token"}},
		"two documents":      {"a: b\n---\nc: d", []string{"line 2: it goes on after the end of the first YAML document"}},
		"YAML member twice":  {"a: b\na: b", []string{`line 2: member "a" stands twice`}},
		"alias in itself":    {"a: &x [*x]", []string{"line 1: alias *x stands within what it names"}},
		"unknown alias":      {"a: *x", []string{"it is no YAML: unknown anchor 'x' referenced"}},
		"merge of a text":    {"a: {<<: b}", []string{"line 1: << must name an object or a list of objects, and is a text"}},
		"member not a text":  {"{a: b}: c", []string{"line 1: it is"}},
		"a text":             {"hello", []string{"line 1: it must be an object, and is a text"}},
		"no OpenAPI":         {`{"a": 1}`, []string{"line 1: it has neither `openapi` nor `swagger`"}},
		"too new":            {"openapi: 4.0.0", []string{`line 1, /openapi: "4.0.0" must be 3.0.x or 3.1.x`}},
		"too old":            {"swagger: 1.2", []string{`line 1, /swagger: "1.2" must be 2.0`}},
		"no paths":           {head + `"a": 1}`, []string{"line 1, /paths: is missing"}},
		"paths no object":    {head + `"paths": []}`, []string{"line 1, /paths: is missing, or no object"}},
		"item no object":     {head + `"paths": {"/a": 7}}`, []string{"line 1, /paths/~1a: must be an object, and is a number"}},
		"operation a list":   {head + `"paths": {"/a": {"get": []}}}`, []string{"line 1, /paths/~1a/get: must be an object, and is a list"}},
		"path":               {head + `"paths": {"a": {"get": {}}}}`, []string{`line 1, /paths/a: "a" must begin with a slash`}},
		"escaped slash":      {head + `"paths": {"/a%2Fb": {"get": {}}}}`, []string{`line 1, /paths/~1a%2Fb: "/a%2Fb" may not hold "%"`}},
		"escaped brace":      {head + `"paths": {"/%7Bb%7D": {"get": {}}}}`, []string{`line 1, /paths/~1%7Bb%7D: "/%7Bb%7D" may not hold "%"`}},
		"part variable":      {head + `"paths": {"/a.{b}": {"get": {}}}}`, []string{`line 1, /paths/~1a.{b}: "/a.{b}" may not hold "{"`}},
		"siblings":           {head + `"paths": {"/a/{b}": {"get": {}}, "/a/{c}/d": {"get": {}}}}`, []string{`line 1, /paths/~1a~1{c}~1d: puts {c} under /a/, where "/a/{b}" has {b}`}},
		"one route twice":    {head + `"paths": {"/a/": {"get": {}}, "/a": {"get": {}}}}`, []string{"line 1, /paths/~1a/get: is the same route as /paths/~1a~1/get, GET /a"}},
		"remote reference":   {head + `"paths": {"/a": {"$ref": "other.yaml#/a"}}}`, []string{`line 1, /paths/~1a/$ref: "other.yaml#/a" leads out of the document`}},
		"dangling reference": {head + `"paths": {"/a": {"$ref": "#/b"}}}`, []string{`line 1, /paths/~1a/$ref: "#/b" leads to nothing`}},
		"reference a list":   {head + `"paths": {"/a": {"$ref": []}}}`, []string{`line 1, /paths/~1a/$ref: must be a text`}},
		"circle":             {head + `"paths": {"/a": {"$ref": "#/paths/~1b"}, "/b": {"$ref": "#/paths/~1a"}}}`, []string{"line 1, /paths/~1a/$ref: \"#/paths/~1b\" goes on to other references", "line 1, /paths/~1b/$ref"}},
		"media types":        {head + `"paths": {}, "x-amazon-apigateway-binary-media-types": "a/b"}`, []string{"line 1, /x-amazon-apigateway-binary-media-types: must be a list"}},
		"media type":         {head + `"paths": {}, "x-amazon-apigateway-binary-media-types": ["a"]}`, []string{`line 1, /x-amazon-apigateway-binary-media-types: "a" must be a media type`}},
		"no type":            {get(`{}`), []string{"line 1, " + at + `/type: "" must be http_proxy, aws_proxy or mock`}},
		"integration a text": {get(`"http_proxy"`), []string{"line 1, " + at + ": must be an object, and is a text"}},
		"aws":                {get(`{"type": "aws"}`), []string{"line 1, " + at + `/type: "aws" must be`}},
		"no URI":             {get(`{"type": "http_proxy"}`), []string{"line 1, " + at + `/uri: "" must begin with http://`}},
		"no function":        {get(`{"type": "aws_proxy", "uri": "` + hello + `"}`), []string{"line 1, " + at + `/uri: "` + hello + `" must be arn:aws:apigateway:REGION:lambda:path/`}},
		"bad function":       {get(`{"type": "aws_proxy", "uri": "` + lambdaURI("arn:aws:lambda:x") + `"}`), []string{"line 1, " + at + `/uri: "arn:aws:lambda:x" must be a function's name or ARN`}},
		"CloudFormation":     {get(`{"type": "aws_proxy", "uri": {"Fn::Sub": "x"}}`), []string{"line 1, " + at + "/uri: must be a text, and is an object", "line 1, " + at + "/uri"}},
		"timeout":            {get(`{"type": "mock", "timeoutInMillis": 10}`), []string{"line 1, " + at + "/timeoutInMillis: 10ms must lie between 50ms and 29s"}},
		"timeout a text":     {get(`{"type": "mock", "timeoutInMillis": "soon"}`), []string{"line 1, " + at + `/timeoutInMillis: "soon" must be a number`}},
		"upstream method":    {get(`{"type": "http_proxy", "uri": "http://h", "httpMethod": "a b"}`), []string{"line 1, " + at + `/httpMethod: "A B" must be an HTTP method`}},
		"unknown variable":   {get(`{"type": "http_proxy", "uri": "http://h/{x}"}`), []string{"line 1, " + at + `/uri: "http://h/{x}" uses {x}, which is no variable of /a`}},
		"mock status":        {get(`{"type": "mock", "responses": {"default": {"statusCode": "ok"}}}`), []string{"line 1, " + at + `/responses/default/statusCode: "ok" is no HTTP status`, "line 1, " + at + "/responses: 0 must lie between"}},
		"server":             {"openapi: 3.0.0\nservers: [{url: 'ftp://h'}]\npaths: {/a: {get: {}}}", []string{`line 3, /paths/~1a/get: with the server of /servers/0: "ftp://h/a" must begin with http://`}},
		"server variable":    {"openapi: 3.0.0\nservers: [{url: 'http://{h}'}]\npaths: {}", []string{`line 2, /servers/0/variables/h: has no default, and "http://{h}" needs one`}},
		"by line":            {"openapi: 3.0.0\npaths:\n  /a: {get: 1}\n  /b: {$ref: x}", []string{"line 3, /paths/~1a/get: ", "line 4, /paths/~1b/$ref: "}},
		"all at once": {head + `"info": {"title": []}, "paths": {"a": {}, "/b": {"get": 1, "put": {"x-amazon-apigateway-integration": {"type": "x"}}}}}`, []string{
			"line 1, /info/title: must be a text, and is a list", "line 1, /paths/a: ", "line 1, /paths/~1b/get: ", "line 1, /paths/~1b/put/x-amazon-apigateway-integration/type: "}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d, err := openapi.Parse([]byte(tt.doc), openapi.Options{})
			bad, ok := errors.AsType[*openapi.Error](err)
			if !ok {
				t.Fatalf("got %+v, error %v", d, err)
			}
			match := len(bad.Faults) == len(tt.want)
			for i := range min(len(bad.Faults), len(tt.want)) {
				match = match && strings.HasPrefix(bad.Faults[i].String(), tt.want[i])
			}
			if !match {
				t.Errorf("got\n%v\nwant\n%s", err, strings.Join(tt.want, "\n"))
			}
		})
	}
}

// TestPointersLead: the pointer of a fault names the place, whatever its keys hold.
func TestPointersLead(t *testing.T) {
	_, err := openapi.Parse([]byte(`{"openapi": "3.0.1", "paths": {"/a~b/{c}": {"get": 7}}}`), openapi.Options{})
	bad, _ := errors.AsType[*openapi.Error](err)
	if bad == nil || bad.Faults[0].Pointer != "/paths/~1a~0b~1{c}/get" {
		t.Errorf("got %v", err)
	}
}

func TestManyFaults(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"openapi": "3.0.1", "paths": {`)
	for i := range 250 {
		fmt.Fprintf(&b, `"/%d": 7, `, i)
	}
	b.WriteString(`"/x": {}}}`)
	_, err := openapi.Parse([]byte(b.String()), openapi.Options{})
	bad, _ := errors.AsType[*openapi.Error](err)
	if bad == nil || len(bad.Faults) != 100 || bad.More != 150 || !strings.HasSuffix(err.Error(), "; and 150 more") {
		t.Errorf("got %.200v", err)
	}
}

func TestTimeouts(t *testing.T) {
	d, err := openapi.Parse([]byte(`{"swagger": "2.0", "paths": {"/a": {"get": {"x-amazon-apigateway-integration": {"type": "mock", "timeoutInMillis": 29000}}}}}`), openapi.Options{})
	if err != nil || d.Routes[0].Timeout != 29*time.Second {
		t.Errorf("got %+v, %v", d, err)
	}
}
