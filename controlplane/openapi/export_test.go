package openapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fifegateway/fife/controlplane/openapi"
	"github.com/fifegateway/fife/controlplane/release"
)

// TestRoundTrip: what Export writes, Parse takes back as it was.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDocument(t)
		data, err := openapi.Export(d, openapi.ExportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		again, err := openapi.Parse(data, openapi.Options{})
		if err != nil {
			t.Fatalf("%v\n%s", err, data)
		}
		again.Warnings = nil
		if !reflect.DeepEqual(again, d) {
			t.Fatalf("got  %+v\nwant %+v\nby %s", again, d, data)
		}
		twice, err := openapi.Export(again, openapi.ExportOptions{})
		if err != nil || !bytes.Equal(twice, data) {
			t.Fatalf("a second export differs: %v\n%s", err, twice)
		}
	})
}

// drawDocument returns a document with sorted routes in the form that Parse gives
// them.
func drawDocument(t *rapid.T) *openapi.Document {
	d := &openapi.Document{
		Title:            rapid.String().Draw(t, "title"),
		Description:      rapid.String().Draw(t, "description"),
		BinaryMediaTypes: rapid.SliceOfN(rapid.SampledFrom([]string{"image/png", "*/*", "a/b+c"}), 0, 3).Draw(t, "binary"),
	}
	if len(d.BinaryMediaTypes) == 0 {
		d.BinaryMediaTypes = nil
	}
	for _, path := range []string{"/", "/a", "/a/{b}", "/a/{b}/c/{d+}", "/x~y/:@!$&'()*+,;="} {
		for _, method := range []string{"ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"} {
			if rapid.Bool().Draw(t, "has "+method+" "+path) {
				d.Routes = append(d.Routes, drawRoute(t, method, path))
			}
		}
	}
	return d
}

func drawRoute(t *rapid.T, method, path string) release.Route {
	r := release.Route{Method: method, Path: path}
	switch rapid.SampledFrom([]string{"http", "lambda", "name", "mock", "none"}).Draw(t, "kind") {
	case "http":
		uri := "https://${stageVariables.h}:8443/p/" + rapid.SampledFrom([]string{"", "a%20b?x=1&y=<", "${stageVariables.v}/?q"}).Draw(t, "tail")
		uri = strings.ReplaceAll(uri, "<", "%3C")
		if strings.Contains(path, "{b}") && rapid.Bool().Draw(t, "variable") {
			uri = "http://h/{b}/x"
		}
		if strings.Contains(path, "{d+}") && rapid.Bool().Draw(t, "greedy") {
			uri = "http://h/{d+}/{b}?e=f"
		}
		h := release.HTTP{URI: uri, Method: rapid.SampledFrom([]string{"", "GET", "PROPFIND"}).Draw(t, "upstream")}
		if h.Method == method {
			h.Method = ""
		}
		r.Integration = h
	case "lambda":
		r.Integration = release.Lambda{Function: "arn:aws-cn:lambda:cn-north-1:123456789012:function:" +
			rapid.SampledFrom([]string{"f", "f:1", "f:$LATEST", "${stageVariables.f}:${stageVariables.q}"}).Draw(t, "function")}
	case "name":
		r.Integration = release.Lambda{Function: "hello-${stageVariables.env}",
			Qualifier: rapid.SampledFrom([]string{"", "prod", "${stageVariables.q}"}).Draw(t, "qualifier")}
	case "mock":
		m := release.Mock{Status: rapid.IntRange(200, 599).Draw(t, "status"), Body: rapid.String().Draw(t, "body")}
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"A", "Content-Type", "x-b"}), 0, 3, rapid.ID).Draw(t, "names") {
			if m.Headers == nil {
				m.Headers = map[string]string{}
			}
			m.Headers[name] = rapid.StringMatching(`[ -~]{0,20}`).Draw(t, "value")
		}
		r.Integration = m
	}
	if r.Integration != nil && rapid.Bool().Draw(t, "timed") {
		r.Timeout = time.Duration(rapid.IntRange(50, 29_000).Draw(t, "timeout")) * time.Millisecond
	}
	return r
}

func TestExport(t *testing.T) {
	d := &openapi.Document{Title: "demo", BinaryMediaTypes: []string{"image/png"}, Routes: []release.Route{
		{Method: "ANY", Path: "/{p+}", Integration: release.HTTP{URI: "http://h/{p+}?a=b&c"}, Timeout: time.Second},
		{Method: "GET", Path: "/{p+}", Integration: release.Lambda{Function: "f", Qualifier: "1"}},
	}}
	data, err := openapi.Export(d, openapi.ExportOptions{Version: "v", Server: "http://demo.localhost/", BasePath: "prod"})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"openapi":"3.0.1","info":{"title":"demo","version":"v"},
"servers":[{"url":"http://demo.localhost/{basePath}","variables":{"basePath":{"default":"prod"}}}],
"paths":{"/{p+}":{
"get":{"parameters":[{"name":"p","in":"path","required":true,"schema":{"type":"string"}}],
"responses":{"default":{"description":"Whatever the integration answers"}},
"x-amazon-apigateway-integration":{"type":"aws_proxy","httpMethod":"POST",
"uri":"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/f:1/invocations","passthroughBehavior":"when_no_match"}},
"x-amazon-apigateway-any-method":{"parameters":[{"name":"p","in":"path","required":true,"schema":{"type":"string"}}],
"responses":{"default":{"description":"Whatever the integration answers"}},
"x-amazon-apigateway-integration":{"type":"http_proxy","httpMethod":"ANY","uri":"http://h/{p}?a=b&c",
"requestParameters":{"integration.request.path.p":"method.request.path.p"},
"passthroughBehavior":"when_no_match","timeoutInMillis":1000}}}},
"x-amazon-apigateway-binary-media-types":["image/png"]}`
	var got bytes.Buffer
	if err := json.Compact(&got, data); err != nil {
		t.Fatal(err)
	}
	if got.String() != strings.ReplaceAll(want, "\n", "") {
		t.Errorf("got %s", got.String())
	}
	plain, err := openapi.Export(d, openapi.ExportOptions{WithoutExtensions: true})
	if err != nil || strings.Contains(string(plain), "-integration") || strings.Contains(string(plain), "binary") {
		t.Errorf("without extensions: %v\n%s", err, plain)
	}
}

func TestLambdaURI(t *testing.T) {
	for _, l := range []release.Lambda{
		{Function: "f"}, {Function: "f", Qualifier: "$LATEST"}, {Function: hello},
		{Function: "arn:aws:lambda:eu-west-1:123456789012:function:${stageVariables.f}"},
	} {
		if again, ok := openapi.ParseLambdaURI(openapi.LambdaURI(l)); !ok || again != l {
			t.Errorf("%+v came back as %+v, %v", l, again, ok)
		}
	}
	joined, ok := openapi.ParseLambdaURI(openapi.LambdaURI(release.Lambda{Function: strings.TrimSuffix(hello, ":1"), Qualifier: "1"}))
	if !ok || joined.Function != hello || joined.Qualifier != "" {
		t.Errorf("got %+v, %v", joined, ok)
	}
	for _, uri := range []string{"", hello, lambdaURI(""), lambdaURI("f") + "/x", fmt.Sprintf(lambdaURI("%5000d"), 1)} {
		if l, ok := openapi.ParseLambdaURI(uri); ok {
			t.Errorf("%.100q gave %.100v", uri, l)
		}
	}
}
