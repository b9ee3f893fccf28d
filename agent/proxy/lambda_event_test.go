package proxy

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/fifegateway/fife/agent/route"
)

// exchangeFor is a decided exchange of fixed time and id.
func exchangeFor(t *testing.T, path, query string, header http.Header, vars map[string]string) *exchange {
	t.Helper()
	x := &exchange{
		id: "id", scratch: new(scratch),
		start: time.Date(2020, 3, 4, 19, 15, 17, 345e6, time.UTC),
		table: compileRoutes(t, stage(func(s *route.StageSpec) { s.Variables = vars }), nil, []route.RouteSpec{
			{Method: "ANY", Path: "/pets/{id}/{rest+}", Integration: route.LambdaSpec{Function: "f"}},
			{Method: "GET", Path: "/canary-demo", Integration: route.LambdaSpec{Function: "f"}},
		}),
		head: head{
			method: "GET", host: "demo.execute-api.example.com:8080", path: path, query: query, fields: fieldsOf(header), lists: true, proto: "HTTP/1.1", scheme: "https", port: "8080",
			peer: netip.MustParseAddr("192.0.2.7"), client: netip.MustParseAddr("192.0.2.7"), peerText: "192.0.2.7",
		},
	}
	p := newProxy(t, x.table, nil)
	if err := p.decide(x); err != nil {
		t.Fatal(err)
	}
	return x
}

func TestLambdaEvent(t *testing.T) {
	const nobody = `"accessKey": null, "accountId": null, "apiKey": null, "apiKeyId": null, "caller": null,
		"cognitoAuthenticationProvider": null, "cognitoAuthenticationType": null, "cognitoIdentityId": null,
		"cognitoIdentityPoolId": null, "principalOrgId": null, "user": null, "userArn": null, "sourceIp": "192.0.2.7"`
	const context = `"apiId": "demo", "deploymentId": "000001", "domainName": "demo.execute-api.example.com", "domainPrefix": "demo",
		"extendedRequestId": "id", "httpMethod": "GET", "protocol": "HTTP/1.1", "requestId": "id",
		"requestTime": "04/Mar/2020:19:15:17 +0000", "requestTimeEpoch": 1583349317345, "stage": "prod"`
	const forwarded = `"Host": "demo.execute-api.example.com:8080", "X-Forwarded-For": "192.0.2.7", "X-Forwarded-Host": "demo.execute-api.example.com:8080",
		"X-Forwarded-Port": "8080", "X-Forwarded-Proto": "https"`
	const forwardedLists = `"Host": ["demo.execute-api.example.com:8080"], "X-Forwarded-For": ["192.0.2.7"], "X-Forwarded-Host": ["demo.execute-api.example.com:8080"],
		"X-Forwarded-Port": ["8080"], "X-Forwarded-Proto": ["https"]`

	for name, c := range map[string]struct {
		path, query string
		header      http.Header
		vars        map[string]string
		account     string
		body        string
		binary      []string
		want        string
	}{
		"everything empty is null": {
			path: "/prod/canary-demo",
			want: `{"resource": "/canary-demo", "path": "/canary-demo", "httpMethod": "GET",
				"headers": {` + forwarded + `}, "multiValueHeaders": {` + forwardedLists + `},
				"queryStringParameters": null, "multiValueQueryStringParameters": null, "pathParameters": null, "stageVariables": null,
				"requestContext": {"accountId": null, ` + context + `, "identity": {` + nobody + `, "userAgent": null},
					"path": "/prod/canary-demo", "resourceId": "` + resourceID("demo", "/canary-demo") + `", "resourcePath": "/canary-demo"},
				"body": null, "isBase64Encoded": false}`,
		},
		"everything": {
			path:  "/prod/./pets/a%2Fb/c%20d/e/",
			query: "a=1&b=x%20y+z&a=2&c&d=%zz&",
			header: http.Header{"User-Agent": {"curl/8"}, "X-Many": {"1", "2"}, "Connection": {"close"}, "X-Fife-Variant": {"canary"},
				"X-Forwarded-For": {"1.1.1.1"}, "Content-Type": {"text/plain; charset=utf-8"}},
			vars:    map[string]string{"env": "blue"},
			account: "123456789012",
			body:    "<hi> & é",
			binary:  []string{"image/png"},
			want: `{"resource": "/pets/{id}/{rest+}", "path": "/pets/a%2Fb/c%20d/e/", "httpMethod": "GET",
				"headers": {"User-Agent": "curl/8", "X-Many": "2", "Content-Type": "text/plain; charset=utf-8", ` + forwarded + `},
				"multiValueHeaders": {"User-Agent": ["curl/8"], "X-Many": ["1", "2"], "Content-Type": ["text/plain; charset=utf-8"], ` + forwardedLists + `},
				"queryStringParameters": {"a": "2", "b": "x y z", "c": "", "d": "%zz"},
				"multiValueQueryStringParameters": {"a": ["1", "2"], "b": ["x y z"], "c": [""], "d": ["%zz"]},
				"pathParameters": {"id": "a%2Fb", "rest": "c%20d/e/"}, "stageVariables": {"env": "blue"},
				"requestContext": {"accountId": "123456789012", ` + context + `, "identity": {` + nobody + `, "userAgent": "curl/8"},
					"path": "/prod/pets/a%2Fb/c%20d/e/", "resourceId": "` + resourceID("demo", "/pets/{id}/{rest+}") + `", "resourcePath": "/pets/{id}/{rest+}"},
				"body": "<hi> & é", "isBase64Encoded": false}`,
		},
		"binary": {
			path: "/prod/canary-demo", header: http.Header{"Content-Type": {"Image/PNG"}}, body: "\x89PNG", binary: []string{"image/png"},
			want: `{"resource": "/canary-demo", "path": "/canary-demo", "httpMethod": "GET",
				"headers": {"Content-Type": "Image/PNG", ` + forwarded + `}, "multiValueHeaders": {"Content-Type": ["Image/PNG"], ` + forwardedLists + `},
				"queryStringParameters": null, "multiValueQueryStringParameters": null, "pathParameters": null, "stageVariables": null,
				"requestContext": {"accountId": null, ` + context + `, "identity": {` + nobody + `, "userAgent": null},
					"path": "/prod/canary-demo", "resourceId": "` + resourceID("demo", "/canary-demo") + `", "resourcePath": "/canary-demo"},
				"body": "iVBORw==", "isBase64Encoded": true}`,
		},
	} {
		x := exchangeFor(t, c.path, c.query, c.header, c.vars)
		raw, err := x.event(c.account, []byte(c.body), c.binary)
		if err != nil {
			t.Fatal(err)
		}
		var got, want map[string]any
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := json.Unmarshal([]byte(c.want), &want); err != nil {
			t.Fatalf("%s: the test's own JSON: %v", name, err)
		}
		if !reflect.DeepEqual(got, want) {
			pretty, _ := json.MarshalIndent(want, "", " ")
			t.Errorf("%s: got\n%s\nwant\n%s", name, raw, pretty)
		}
	}
}

func TestIsBinary(t *testing.T) {
	for _, c := range []struct {
		value string
		types []string
		want  bool
	}{
		{"image/png", []string{"image/png"}, true},
		{" image/PNG ;q=1, text/html", []string{"image/png"}, true},
		{"text/html, image/png", []string{"image/png"}, false},
		{"image/png", []string{"image/*"}, false},
		{"image/*", []string{"image/*"}, true},
		{"", []string{"image/png"}, false},
		{"", []string{""}, false},
		{"", []string{"*/*"}, true},
		{"a/b", []string{"x/y", "*/*"}, true},
		{"*/*", []string{"image/png"}, false},
		{"image/png", nil, false},
	} {
		if got := isBinary(c.value, c.types); got != c.want {
			t.Errorf("isBinary(%q, %q) = %v", c.value, c.types, got)
		}
	}
}

// TestResourceID: the control plane's management API names resources alike, and holds to
// the same values in its test.
func TestResourceID(t *testing.T) {
	if got := resourceID("demo", "/canary-demo") + " " + resourceID("demo", "/"); got != "xvi47i j2ctp2y7vj" {
		t.Errorf("got %s", got)
	}
}
