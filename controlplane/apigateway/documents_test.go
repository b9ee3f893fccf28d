package apigateway_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/fifegateway/fife/controlplane/openapi"
)

const petStore = `
openapi: 3.0.1
info: {title: pets, description: all of them, version: "1"}
servers: [{url: "https://pets.test/v1"}]
paths:
  /pets:
    get: {responses: {}}
  /pets/{id}:
    get:
      responses: {}
      x-amazon-apigateway-integration:
        {type: aws_proxy, httpMethod: POST, uri: "arn:aws:apigateway:eu-west-1:lambda:path/2015-03-31/functions/arn:aws:lambda:eu-west-1:123456789012:function:pet:2/invocations"}
    post:
      responses: {}
      x-amazon-apigateway-integration: {type: http_proxy, httpMethod: POST, uri: "https://pets.test/new", cacheNamespace: x}
`

// TestDocuments: an API comes as a document, is merged with another and replaced by a
// third, and goes as one.
func TestDocuments(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, clients []*client) {
		c := clients[0]
		created := c.do(201, post, "/restapis?mode=import&basepath=prepend", strings.Replace(petStore, "    get: {responses: {}}\n", "    x-none: 1\n", 1))
		if created["name"] != "pets" || created["description"] != "all of them" || len(created["warnings"].([]any)) == 0 {
			t.Errorf("created %v", created)
		}
		path := "/restapis/" + created["id"].(string)
		wantPaths := func(what string, want ...string) {
			t.Helper()
			var got []string
			for _, r := range c.do(200, get, path+"/resources?limit=100", nil)["item"].([]any) {
				if methods, ok := r.(object)["resourceMethods"].(object); ok {
					for m := range methods {
						got = append(got, m+" "+r.(object)["path"].(string))
					}
				}
			}
			for _, w := range want {
				if !strings.Contains(strings.Join(got, "\n")+"\n", w+"\n") {
					t.Errorf("%s: %q is missing among %q", what, w, got)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%s: got %q, want %q", what, got, want)
			}
		}
		wantPaths("imported", "GET /v1/pets/{id}", "POST /v1/pets/{id}")

		more := `{"openapi": "3.0.1", "info": {"title": "more", "description": "` + strings.Repeat("é", 2000) + `", "version": "1"}, "paths": {"/more": {"get": {"responses": {},
			"x-amazon-apigateway-integration": {"type": "http_proxy", "httpMethod": "GET", "uri": "https://more.test/"}}}}}`
		if got := c.do(200, put, path, more); got["name"] != "pets" || got["warnings"] != nil {
			t.Errorf("merged: %v", got)
		}
		wantPaths("merged", "GET /v1/pets/{id}", "POST /v1/pets/{id}", "GET /more")
		if got := c.do(200, put, path+"?mode=overwrite", more); got["name"] != "more" || got["description"] != strings.Repeat("é", 1024) {
			t.Errorf("replaced: %v", got)
		}
		wantPaths("replaced", "GET /more")

		c.deployed(path, object{"stageName": "prod"})
		code, header, text := c.send(get, path+"/stages/prod/exports/oas30", nil)
		var document struct {
			OpenAPI string
			Paths   map[string]any
		}
		if err := json.Unmarshal([]byte(text), &document); err != nil || code != 200 || !strings.HasPrefix(document.OpenAPI, "3.0") ||
			document.Paths["/more"] == nil || !strings.Contains(header.Get("Content-Disposition"), "oas30.json") {
			t.Errorf("exported: %d %v %s", code, header, text)
		}
		if again := c.do(201, post, "/restapis?mode=import", text); again["id"] == created["id"] {
			t.Errorf("imported what was exported: %v", again)
		}

		c.refused(400, bad, "Invalid basepath specified. Must be one of: [ignore, prepend, split]", post, "/restapis?mode=import&basepath=x", more)
		c.refused(400, bad, "Invalid mode specified. Must be one of: [merge, overwrite]", put, path+"?mode=x", more)
		c.refused(400, bad, "Fife does not support exports as swagger; ask for oas30", get, path+"/stages/prod/exports/swagger", nil)
		c.refused(400, bad, "Invalid export type specified. Must be one of: [oas30, swagger]", get, path+"/stages/prod/exports/x", nil)
		c.refused(404, missing, "Invalid stage identifier specified", get, path+"/stages/nope/exports/oas30", nil)
		before := len(c.do(200, get, "/restapis", nil)["item"].([]any))
		for query, document := range map[string]string{"": "{", "&failonwarnings=true": petStore} {
			code, header, text := c.send(post, "/restapis?mode=import"+query, document)
			if code != 400 || header.Get("x-amzn-ErrorType") != bad || !strings.Contains(text, " found during import:") {
				t.Errorf("%q: %d %s", query, code, text)
			}
		}
		if got := len(c.do(200, get, "/restapis", nil)["item"].([]any)); got != before {
			t.Errorf("documents that were refused left %d APIs", got-before)
		}
	})
}

// TestLargeDocuments: a document of 5 MB and 9,000 methods is taken in; one that is larger
// than documents may be is refused, and leaves no API behind.
func TestLargeDocuments(t *testing.T) {
	document := func(methods int) string {
		var b strings.Builder
		b.WriteString(`{"openapi": "3.0.1", "info": {"title": "large", "version": "1"}, "servers": [{"url": "https://pets.test"}], "paths": {"/": {}`)
		for i := range methods {
			fmt.Fprintf(&b, `, "/pets/%d/{id}": {"get": {"description": %q, "responses": {}}}`, i, strings.Repeat("d", 500))
		}
		return b.String() + "}}"
	}
	inBubble(t, 3, func(t *testing.T, clients []*client) {
		large, larger := document(9000), document(12_000)
		if len(large) < 5_000_000 || len(large) > openapi.MaxDocument || len(larger) < openapi.MaxDocument {
			t.Fatalf("the documents have %d and %d bytes", len(large), len(larger))
		}
		created := clients[1].do(201, post, "/restapis?mode=import", large)
		path := "/restapis/" + created["id"].(string)
		if got := len(clients[2].do(200, get, path+"/resources?limit=500", nil)["item"].([]any)); got != 500 {
			t.Errorf("a page has %d resources", got)
		}
		if got := clients[0].do(200, put, path+"?mode=overwrite", document(1)); got["name"] != "large" {
			t.Errorf("replaced: %v", got)
		}
		before := clients[0].do(200, get, "/restapis", nil)
		code, header, text := clients[0].send(post, "/restapis?mode=import", larger)
		if code != 413 || header.Get("x-amzn-ErrorType") == "" || !strings.Contains(text, "message") {
			t.Errorf("too large: %d %v %s", code, header, text)
		}
		if after := clients[0].do(200, get, "/restapis", nil); len(after["item"].([]any)) != len(before["item"].([]any)) {
			t.Errorf("what was refused left an API: %v", after)
		}
	})
}
