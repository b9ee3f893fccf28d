package openapi_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fifegateway/fife/controlplane/openapi"
	"github.com/fifegateway/fife/controlplane/release"
)

// large returns a document of so many operations and at least so many bytes.
func large(operations, size int, yaml bool) []byte {
	description := strings.Repeat("a word, ", max(0, size/operations-180)/8)
	var b strings.Builder
	if yaml {
		b.WriteString("openapi: 3.0.1\nservers:\n- url: https://h\npaths:\n")
	} else {
		b.WriteString(`{"openapi": "3.0.1", "servers": [{"url": "https://h"}], "paths": {`)
	}
	for i := range operations {
		if yaml {
			fmt.Fprintf(&b, "  /r%d/{id}:\n    get:\n      description: %q\n      parameters:\n      - {name: id, in: path, required: true, schema: {type: string}}\n"+
				"      responses:\n        \"200\":\n          description: ok\n", i, description)
			continue
		}
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, `"/r%d/{id}": {"get": {"description": %q, "parameters": [{"name": "id", "in": "path", "required": true,`+
			` "schema": {"type": "string"}}], "responses": {"200": {"description": "ok"}}}}`, i, description)
	}
	if !yaml {
		b.WriteString("}}")
	}
	return []byte(b.String())
}

func TestLargeDocument(t *testing.T) {
	for _, yaml := range []bool{false, true} {
		doc := large(release.MaxRoutes, 5<<20, yaml)
		if len(doc) < 5_000_000 || len(doc) > openapi.MaxDocument {
			t.Fatalf("the document has %d bytes", len(doc))
		}
		d, err := openapi.Parse(doc, openapi.Options{})
		if err != nil || len(d.Routes) != release.MaxRoutes {
			t.Fatalf("yaml %v: %v", yaml, err)
		}
		_, err = openapi.Parse(large(release.MaxRoutes+1, 0, yaml), openapi.Options{})
		if err == nil || !strings.Contains(err.Error(), "/paths: has more than 10000 operations") {
			t.Errorf("one more: %v", err)
		}
	}
}

// TestBounds: documents made to take time or memory are refused soon. What is not
// refused in a minute hangs the test.
func TestBounds(t *testing.T) {
	repeat := strings.Repeat
	aliases := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	laughs := func(n int) (doc string) {
		for i := range n {
			doc += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(repeat(fmt.Sprintf("*a%d,", i), 10), ","))
		}
		return doc
	}
	tests := map[string]struct{ doc, want string }{
		"size":         {repeat(" ", openapi.MaxDocument+1), "it has 6291457 bytes, at most 6291456"},
		"deep JSON":    {repeat(`{"a":`, 201) + "1" + repeat("}", 201), "it is nested deeper than 200 levels"},
		"deepest JSON": {"{\"a\":" + repeat("[", 3_000_000), "it is no JSON"},
		"deep YAML":    {repeat("[", 300) + repeat("]", 300), "it is nested deeper than 200 levels"},
		"deepest YAML": {repeat("[", 1_400_000), "it is no YAML"},
		"many values":  {`{"a":[` + repeat("1,", 1_500_000) + "1]}", "it has more than 1500000 values"},
		"many items":   {"a:\n" + repeat("- \n", 2_000_000), "it has more than 1500000 values"},
		"laughs":       {"a0: &a0 x\n" + laughs(7), "those that aliases repeat counted"},
		"wide alias": {"openapi: 3.0.0\nx: &x {" + aliases(10_000, "y%d: 1, ") + "}\npaths:\n" + aliases(1000, "  /%d: *x\n"),
			"those that aliases repeat counted"},
		"wide references": {"openapi: 3.0.0\nx: {" + aliases(10_000, "y%d: 1, ") + "}\npaths:\n" + aliases(10_000, "  /%d: {$ref: '#/x'}\n"),
			"the references lead to more than 1500000 values"},
		"long reference": {`{"openapi": "3.0.0", "paths": {"/a": {"$ref": "#/` + repeat("a", 5000) + `"}}}`, "has 5002 bytes, at most 4096"},
		"long name":      {`{"` + repeat("a", 5000) + `": 1}`, "the name of a member has 5000 bytes"},
		"long YAML name": {repeat("a", 1000) + ": 1\n? " + repeat("b", 5000) + "\n: 2", "line 2: the name of a member has 5000 bytes"},
		"bytes of routes": {"openapi: 3.0.0\nx: &x {x-amazon-apigateway-integration: {type: mock, responses: {default: {responseTemplates: {text/plain: '" +
			repeat("x", 60<<10) + "'}}}}}\npaths:\n" + aliases(500, "  /%d: {get: *x}\n"), "/paths: has routes of more than 16777216 bytes"},
		"directives": {aliases(300_000, "%%TAG !%d! x\n") + "---\na: b\n", "it has 300000 %TAG directives, at most 100"},
		"patterns": {`{"openapi": "3.0.0", "paths": {"/a": {"get": {"x-amazon-apigateway-integration": {"type": "mock", "responses": {` +
			aliases(100_000, `"[0-9]{900}%d": {}, `) + `"default": {"statusCode": 0}}}}}}}`, "0 must lie between 200 and 599"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := openapi.Parse([]byte(tt.doc), openapi.Options{})
			bad, ok := errors.AsType[*openapi.Error](err)
			if !ok || !strings.Contains(bad.Error(), tt.want) {
				t.Errorf("got %.300v", err)
			}
			if took := time.Since(start); took > time.Minute {
				t.Errorf("took %v", took)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for _, yaml := range []bool{false, true} {
		doc := large(release.MaxRoutes, 5<<20, yaml)
		b.Run(fmt.Sprintf("yaml=%v", yaml), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(doc)))
			for b.Loop() {
				if _, err := openapi.Parse(doc, openapi.Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, doc := range []string{
		"openapi: 3.0.0\nservers: [{url: 'https://{a}/', variables: {a: {default: h}}}]\npaths: {/a: &x {get: {}}, '/b/{c+}': *x, /d: {<<: *x}}",
		`{"swagger": "2.0", "host": "h", "basePath": "/a/b", "schemes": ["http"], "paths": {"/a": {"$ref": "#/paths/~1b"}, "/b": {"put": {}}}}`,
		`{"openapi": "3.1.0", "info": {"title": "t"}, "security": [{}], "x-amazon-apigateway-binary-media-types": ["a/b"], "paths": {"/{p+}": {
			"x-amazon-apigateway-any-method": {"x-amazon-apigateway-integration": {"type": "http_proxy", "httpMethod": "ANY", "uri": "http://h/{p}",
			"requestParameters": {"integration.request.path.p": "method.request.path.p"}, "timeoutInMillis": 50}},
			"get": {"x-amazon-apigateway-integration": {"type": "aws_proxy", "uri": "` + lambdaURI(hello) + `"}},
			"put": {"x-amazon-apigateway-integration": {"type": "mock", "requestTemplates": {"a/b": "{statusCode: 204}"}, "responses": {
			"2..": {"statusCode": 204, "responseParameters": {"method.response.header.A": "'b'"}, "responseTemplates": {"a/b": "c"}}}}}}}}`,
	} {
		f.Add([]byte(doc), 0)
		f.Add([]byte(doc), 2)
	}
	f.Fuzz(func(t *testing.T, doc []byte, base int) {
		d, err := openapi.Parse(doc, openapi.Options{BasePath: openapi.BasePath(base % 3)})
		if err != nil {
			if _, ok := errors.AsType[*openapi.Error](err); !ok {
				t.Errorf("error %v is a %T", err, err)
			}
			return
		}
		for i := range d.Routes {
			var v release.Violations
			if release.CheckRoute(&v, "", &d.Routes[i]); len(v) > 0 {
				t.Errorf("%v passed: %v", d.Routes[i], v)
			}
		}
		if _, err := openapi.Export(d, openapi.ExportOptions{}); err != nil {
			t.Error(err)
		}
	})
}
