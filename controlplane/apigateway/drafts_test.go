package apigateway_test

import (
	"fmt"
	"strings"
	"testing"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// TestRestAPIs: their life, and what is refused.
func TestRestAPIs(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, clients []*client) {
		c := clients[0]
		created := c.do(201, post, "/restapis", object{
			"name": "my api", "description": "this is my api", "version": "v1", "binaryMediaTypes": []string{"image/png"},
			"tags": object{"owner": "team"}, "endpointConfiguration": object{"types": []string{"REGIONAL"}}, "unknown": object{"ignored": true},
		})
		c.equal("created", created, `{"id": "*", "name": "my api", "description": "this is my api", "createdDate": "*", "version": "v1",
			"binaryMediaTypes": ["image/png"], "apiKeySource": "HEADER", "endpointConfiguration": {"types": ["REGIONAL"], "ipAddressType": "ipv4"},
			"tags": {"owner": "team"}, "disableExecuteApiEndpoint": false, "rootResourceId": "*"}`)
		id := created["id"].(string)
		if len(id) != 10 || len(created["rootResourceId"].(string)) != 10 || created["createdDate"].(float64) != float64(int64(created["createdDate"].(float64))) {
			t.Errorf("ids and dates: %v", created)
		}
		path := "/restapis/" + id
		c.equal("updated", c.do(200, patchIt, path, patches(
			op{Op: "add", Path: "/binaryMediaTypes/image~1jpeg"}, op{Op: "remove", Path: "/binaryMediaTypes/image~1png"},
			op{Op: "replace", Path: "/name", Value: "other"}, op{Op: "remove", Path: "/description"},
			op{Op: "replace", Path: "/endpointConfiguration/types/REGIONAL", Value: "EDGE"},
		)), `{"id": "*", "name": "other", "createdDate": "*", "version": "v1", "binaryMediaTypes": ["image/jpeg"], "apiKeySource": "HEADER",
			"endpointConfiguration": {"types": ["EDGE"], "ipAddressType": "ipv4"}, "tags": {"owner": "team"},
			"disableExecuteApiEndpoint": false, "rootResourceId": "*"}`)
		for _, tt := range []struct {
			op      op
			message string
		}{
			{op{Op: "add", Path: "/binaryMediaTypes"}, "Invalid patch path /binaryMediaTypes"},
			{op{Op: "replace", Path: "/nope"}, "Invalid patch path /nope"},
			{op{Op: "replace", Path: "/minimumCompressionSize", Value: "-1"}, "Invalid minimum compression size, must be between 0 and 10485760"},
			{op{Op: "add", Path: "/minimumCompressionSize", Value: "1"}, "Invalid patch operation specified. Must be one of: [replace]"},
			{op{Op: "replace", Path: "/minimumCompressionSize", Value: "10"}, "Fife does not support compression of responses"},
			{op{Op: "replace", Path: "/policy", Value: "{}"}, "Fife does not support resource policies"},
			{op{Op: "replace", Path: "/disableExecuteApiEndpoint", Value: "true"}, "Fife does not support disableExecuteApiEndpoint"},
		} {
			c.refused(400, bad, tt.message, patchIt, path, patches(op{Op: "replace", Path: "/name", Value: "half done"}, tt.op))
		}
		if got := c.do(200, get, path, nil)["name"]; got != "other" {
			t.Errorf("a refused patch has changed the name to %v", got)
		}
		c.refused(400, bad, "Description cannot be an empty string", post, "/restapis", object{"name": "x", "description": ""})
		c.refused(400, bad, "Invalid REST API name specified", post, "/restapis", object{})
		c.refused(400, bad, "Fife does not support PRIVATE endpoints", post, "/restapis",
			object{"name": "x", "endpointConfiguration": object{"types": []string{"PRIVATE"}}})
		c.refused(404, missing, "Invalid API identifier specified 000000000000:nope", get, "/restapis/nope", nil)
		c.refused(404, missing, "Invalid API identifier specified 000000000000:UPPER", get, "/restapis/UPPER", nil)
		c.refused(404, missing, "Invalid API identifier specified 000000000000:a/b", get, "/restapis/a%2Fb", nil)

		for range 3 {
			c.newAPI()
		}
		page := c.do(200, get, "/restapis?limit=3", nil)
		next := c.do(200, get, "/restapis?limit=3&position="+page["position"].(string), nil)
		if len(page["item"].([]any)) != 3 || len(next["item"].([]any)) != 1 || next["position"] != nil {
			t.Errorf("pages: %v and %v", page, next)
		}
		c.do(202, del, path, nil)
		c.refused(404, missing, "Invalid API identifier specified 000000000000:"+id, del, path, nil)
	})
}

// TestTags: of APIs and stages, by ARNs with encoded slashes and without.
func TestTags(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, clients []*client) {
		c := clients[0]
		path, _ := c.mockAPI("one")
		c.deployed(path, object{"stageName": "dev"})
		for _, arn := range []string{"arn:aws:apigateway:eu-west-1::" + path, "arn:aws:apigateway:eu-west-1::" + path + "/stages/dev"} {
			encoded := "/tags/" + strings.NewReplacer(":", "%3A", "/", "%2F").Replace(arn)
			c.equal("no tags", c.do(200, get, encoded, nil), `{"tags": {}}`)
			c.do(204, put, encoded, object{"tags": object{"a b": "1", "c": "2"}})
			c.equal("tags", c.do(200, get, "/tags/"+arn, nil), `{"tags": {"a b": "1", "c": "2"}}`)
			c.do(204, del, encoded+"?tagKeys=c&tagKeys=none", nil)
			c.equal("fewer", c.do(200, get, encoded, nil), `{"tags": {"a b": "1"}}`)
			c.refused(400, bad, `Invalid tag key specified: "aws:x" must have 1 to 128 characters and not begin with aws:`,
				put, encoded, object{"tags": object{"aws:x": ""}})
		}
		c.refused(400, bad, "Invalid ARN specified in the request", get, "/tags/nope", nil)
		c.refused(404, missing, "Invalid stage identifier specified", get, "/tags/arn:aws:apigateway:eu-west-1::"+path+"/stages/none", nil)
		c.equal("account", c.do(200, get, "/account", nil), `{"features": [], "apiKeyVersion": "4"}`)
	})
}

// TestResources: the tree, its rules in the service's words, and moves that keep ids.
func TestResources(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, clients []*client) {
		c := clients[0]
		path, root := c.newAPI()
		resources := path + "/resources"
		make := func(parent, part string) string {
			t.Helper()
			return c.do(201, post, resources+"/"+parent, object{"pathPart": part})["id"].(string)
		}
		pets := make(root, "pets")
		sub := make(pets, "{id}")
		deep := make(sub, "toys")
		all := make(root, "{proxy+}")
		c.equal("resource", c.do(200, get, resources+"/"+sub, nil),
			fmt.Sprintf(`{"id": %q, "parentId": %q, "pathPart": "{id}", "path": "/pets/{id}"}`, sub, pets))
		if len(pets) != 6 || pets == sub {
			t.Errorf("ids %s and %s", pets, sub)
		}
		for _, tt := range []struct {
			status            int
			kind, message, at string
			part              string
		}{
			{409, taken, "Another resource with the same parent already has this name: pets", root, "pets"},
			{400, bad, "A sibling ({proxy+}) of this resource already has a variable path part -- only one is allowed", root, "{x}"},
			{400, bad, "Cannot create a child of a resource with a greedy path variable: {proxy+}", all, "x"},
			{400, bad, "Resource's path part only allow a-zA-Z0-9._-: or a valid greedy path variable and curly braces at the beginning and the end.", root, "a b"},
			{400, bad, "Resource's path part only allow a-zA-Z0-9._-: or a valid greedy path variable and curly braces at the beginning and the end.", root, ""},
			{404, missing, "Invalid Resource identifier specified", "none", "x"},
		} {
			c.refused(tt.status, tt.kind, tt.message, post, resources+"/"+tt.at, object{"pathPart": tt.part})
		}
		for _, tt := range []struct {
			status        int
			kind, message string
			op            op
		}{
			{400, bad, "Invalid patch path  '/invalid' specified for op 'replace'. Must be one of: [/parentId, /pathPart]", op{Op: "replace", Path: "/invalid", Value: "x"}},
			{400, bad, "Invalid patch path  '/pathPart' specified for op 'remove'. Please choose supported operations", op{Op: "remove", Path: "/pathPart"}},
			{400, bad, "Resources cannot be cyclical.", op{Op: "replace", Path: "/parentId", Value: deep}},
			{404, missing, "Invalid Resource identifier specified", op{Op: "replace", Path: "/parentId", Value: "none"}},
			{400, bad, "Cannot create a child of a resource with a greedy path variable: {proxy+}", op{Op: "replace", Path: "/parentId", Value: all}},
		} {
			c.refused(tt.status, tt.kind, tt.message, patchIt, resources+"/"+pets, patches(tt.op))
		}

		// A move takes what is under it along, methods included, and keeps ids.
		c.do(201, put, resources+"/"+deep+"/methods/GET", object{"authorizationType": "NONE"})
		c.equal("moved", c.do(200, patchIt, resources+"/"+pets, patches(op{Op: "replace", Path: "/pathPart", Value: "dogs"})),
			fmt.Sprintf(`{"id": %q, "parentId": %q, "pathPart": "dogs", "path": "/dogs"}`, pets, root))
		c.equal("moved with it", c.do(200, get, resources+"/"+deep, nil),
			fmt.Sprintf(`{"id": %q, "parentId": %q, "pathPart": "toys", "path": "/dogs/{id}/toys", "resourceMethods": {"GET": {}}}`, deep, sub))
		c.equal("to the root", c.do(200, patchIt, resources+"/"+deep, patches(op{Op: "replace", Path: "/parentId", Value: root})),
			fmt.Sprintf(`{"id": %q, "parentId": %q, "pathPart": "toys", "path": "/toys", "resourceMethods": {"GET": {}}}`, deep, root))
		routes := must(c.apis.ListRoutes(t.Context(), &fifev1.ListRoutesRequest{Parent: "apis/" + path[len("/restapis/"):]}))(t).GetRoutes()
		if len(routes) != 1 || routes[0].GetPath() != "/toys" {
			t.Errorf("the operators' API shows %v", routes)
		}

		page := c.do(200, get, resources+"?limit=2&embed=methods", nil)
		rest := c.do(200, get, resources+"?embed=methods&position="+page["position"].(string), nil)
		c.equal("pages", object{"first": page["item"], "rest": rest["item"]}, fmt.Sprintf(`{
			"first": [{"id": %[1]q, "path": "/"}, {"id": %[2]q, "parentId": %[1]q, "pathPart": "dogs", "path": "/dogs"}],
			"rest": [{"id": %[3]q, "parentId": %[2]q, "pathPart": "{id}", "path": "/dogs/{id}"},
				{"id": %[4]q, "parentId": %[1]q, "pathPart": "toys", "path": "/toys", "resourceMethods": {"GET": {"httpMethod": "GET", "authorizationType": "NONE", "apiKeyRequired": false}}},
				{"id": %[5]q, "parentId": %[1]q, "pathPart": "{proxy+}", "path": "/{proxy+}"}]}`, root, pets, sub, deep, all))

		c.do(202, del, resources+"/"+pets, nil)
		c.refused(404, missing, "Invalid Resource identifier specified", get, resources+"/"+sub, nil)
		c.do(202, del, resources+"/"+deep, nil)
		c.refused(400, bad, "The root resource cannot be deleted", del, resources+"/"+root, nil)
		if n := must(c.apis.GetApi(t.Context(), &fifev1.GetApiRequest{Name: "apis/" + path[len("/restapis/"):]}))(t).GetApi().GetRouteCount(); n != 0 {
			t.Errorf("%d routes outlive their resource", n)
		}
	})
}

const lambdaURI = "arn:aws:apigateway:eu-west-1:lambda:path/2015-03-31/functions/arn:aws:lambda:eu-west-1:123456789012:function:hello:1/invocations"

// TestMethods: methods are routes, an integration is what the route comes to, and both
// faces show the same.
func TestMethods(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, clients []*client) {
		c := clients[0]
		path, root := c.newAPI()
		id := c.do(201, post, path+"/resources/"+root, object{"pathPart": "{proxy+}"})["id"].(string)
		methods := path + "/resources/" + id + "/methods"
		for name, tt := range map[string]struct {
			body    object
			message string
		}{
			"GRAB":    {object{"authorizationType": "NONE"}, "Invalid HttpMethod specified. Valid options are GET,PUT,POST,DELETE,PATCH,OPTIONS,HEAD,ANY"},
			"GET":     {object{"authorizationType": "AWS_IAM"}, "Fife does not support authorization by AWS_IAM"},
			"PUT":     {object{"authorizationType": "NONE", "apiKeyRequired": true}, "Fife does not support API keys"},
			"POST":    {object{"authorizationType": "CUSTOM"}, "Invalid authorizer ID specified. Setting the authorization type to CUSTOM or COGNITO_USER_POOLS requires a valid authorizer."},
			"PATCH":   {object{"authorizationType": "NONE", "requestValidatorId": "x"}, "Invalid Request Validator identifier specified"},
			"OPTIONS": {object{"authorizationType": "NONE", "requestParameters": object{"method.request.header.a": true, "method.request.path.a": true}}, "Parameter names must be unique across querystring, header and path"},
		} {
			c.refused(400, bad, tt.message, put, methods+"/"+name, tt.body)
		}
		c.equal("method", c.do(201, put, methods+"/ANY", object{
			"authorizationType": "NONE", "operationName": "Proxy", "requestParameters": object{"method.request.path.proxy": true},
		}), `{"httpMethod": "ANY", "authorizationType": "NONE", "apiKeyRequired": false, "operationName": "Proxy",
			"requestParameters": {"method.request.path.proxy": true}}`)
		c.refused(409, taken, "Method already exists for this resource", put, methods+"/ANY", object{"authorizationType": "NONE"})
		c.refused(404, missing, "Invalid Method identifier specified", get, methods+"/GET", nil)
		c.refused(404, missing, "Invalid Integration identifier specified", get, methods+"/ANY/integration", nil)
		c.refused(404, missing, "No integration defined for method", put, methods+"/ANY/integration/responses/200", object{})
		c.refused(400, bad, "No integration defined for method", post, path+"/deployments", object{})

		for _, tt := range []struct {
			body    object
			message string
		}{
			{object{"type": "HTTP", "httpMethod": "GET", "uri": "http://h"}, "Fife does not support integrations of type HTTP; use HTTP_PROXY, AWS_PROXY or MOCK"},
			{object{"type": "HTTP_PROXY", "uri": "http://h"}, "Enumeration value for HttpMethod must be non-empty"},
			{object{"type": "HTTP_PROXY", "httpMethod": "ANY"}, "Invalid HTTP endpoint specified for URI"},
			{object{"type": "AWS_PROXY", "httpMethod": "POST", "uri": "nope"}, "Invalid ARN specified in the request"},
			{object{"type": "AWS_PROXY", "httpMethod": "POST", "uri": "arn:aws:lambda:x"}, "AWS ARN for integration must contain path or action"},
			{object{"type": "HTTP_PROXY", "httpMethod": "ANY", "uri": "http://h", "timeoutInMillis": 49}, "Timeout should be between 50 ms and 29000 ms"},
			{object{"type": "HTTP_PROXY", "httpMethod": "ANY", "uri": "http://h", "connectionType": "VPC_LINK"}, "Fife does not support connections of type VPC_LINK"},
			{object{"type": "HTTP_PROXY", "httpMethod": "ANY", "uri": "http://h", "requestParameters": object{"integration.request.header.x": "'static'"}},
				"Fife does not support the parameter mapping of integration.request.header.x from 'static'"},
			{object{"type": "MOCK", "requestTemplates": object{"application/json": "#set($a = 1)"}}, `Fife does not support request templates of mocks other than {"statusCode": N}`},
		} {
			c.refused(400, bad, tt.message, put, methods+"/ANY/integration", tt.body)
		}

		want := fmt.Sprintf(`{"type": "HTTP_PROXY", "httpMethod": "ANY", "uri": "http://${stageVariables.host}/v1/{proxy}", "passthroughBehavior": "WHEN_NO_MATCH",
			"requestParameters": {"integration.request.path.proxy": "method.request.path.proxy"},
			"timeoutInMillis": 5000, "cacheNamespace": %q, "cacheKeyParameters": []}`, id)
		c.equal("integration", c.do(201, put, methods+"/ANY/integration", object{
			"type": "HTTP_PROXY", "httpMethod": "ANY", "uri": "http://${stageVariables.host}/v1/{proxy}", "timeoutInMillis": 5000,
			"requestParameters": object{"integration.request.path.proxy": "method.request.path.proxy"},
		}), want)
		c.equal("integration, read", c.do(200, get, methods+"/ANY/integration", nil), want)
		api := "apis/" + path[len("/restapis/"):]
		route := func() *fifev1.Route {
			return must(c.apis.ListRoutes(t.Context(), &fifev1.ListRoutesRequest{Parent: api}))(t).GetRoutes()[0]
		}
		if r := route(); r.GetIntegration().GetHttp().GetUri() != "http://${stageVariables.host}/v1/{proxy+}" || r.GetTimeout().GetSeconds() != 5 || r.GetMethod() != "ANY" {
			t.Errorf("the operators' API shows %v", r)
		}
		c.equal("patched", c.do(200, patchIt, methods+"/ANY/integration", patches(
			op{Op: "replace", Path: "/type", Value: "AWS_PROXY"}, op{Op: "replace", Path: "/httpMethod", Value: "POST"},
			op{Op: "replace", Path: "/uri", Value: lambdaURI}, op{Op: "replace", Path: "/timeoutInMillis", Value: "29000"},
			op{Op: "remove", Path: "/requestParameters/integration.request.path.proxy"},
		)), fmt.Sprintf(`{"type": "AWS_PROXY", "httpMethod": "POST", "uri": %q, "passthroughBehavior": "WHEN_NO_MATCH",
			"timeoutInMillis": 29000, "cacheNamespace": %q, "cacheKeyParameters": []}`, lambdaURI, id))
		if got := route().GetIntegration().GetLambda().GetFunction(); got != "arn:aws:lambda:eu-west-1:123456789012:function:hello:1" {
			t.Errorf("the operators' API shows function %s", got)
		}

		// Once the operators' API has written the route, it is shown as that says.
		changed := route()
		changed.Integration.GetLambda().Function = "arn:aws:lambda:eu-west-1:123456789012:function:hello:2"
		must(c.apis.PutRoute(t.Context(), &fifev1.PutRouteRequest{Parent: api, Route: changed}))(t)
		if got := c.do(200, get, methods+"/ANY/integration", nil)["uri"]; got != strings.Replace(lambdaURI, "hello:1", "hello:2", 1) {
			t.Errorf("after a native change the integration is %v", got)
		}
		c.do(204, del, methods+"/ANY/integration", nil)
		c.refused(404, missing, "Invalid Integration identifier specified", del, methods+"/ANY/integration", nil)
		if r := route(); r.GetIntegration() != nil {
			t.Errorf("after the integration is gone the operators' API shows %v", r)
		}
		c.do(204, del, methods+"/ANY", nil)
		c.refused(404, missing, "Invalid Method identifier specified", del, methods+"/ANY", nil)
		c.do(200, get, path+"/resources/"+id, nil) // it outlives its last method
		c.refused(400, bad, "The REST API doesn't contain any methods", post, path+"/deployments", object{})
	})
}

// TestMock: what a mock's responses come to.
func TestMock(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, clients []*client) {
		c := clients[0]
		path, method := c.mockAPI(`{"message": "one"}`)
		api := "apis/" + path[len("/restapis/"):]
		answers := func(status int32, body string, headers map[string]string) {
			t.Helper()
			m := must(c.apis.ListRoutes(t.Context(), &fifev1.ListRoutesRequest{Parent: api}))(t).GetRoutes()[0].GetIntegration().GetMock()
			if m.GetStatus() != status || m.GetBody() != body || fmt.Sprint(m.GetHeaders()) != fmt.Sprint(headers) {
				t.Errorf("the route answers %v, want %d %s %v", m, status, body, headers)
			}
		}
		answers(200, `{"message": "one"}`, nil)
		response := method + "/integration/responses/200"
		c.equal("patched", c.do(200, patchIt, response, patches(op{Op: "replace", Path: "/responseTemplates/application~1json", Value: "two"})),
			`{"statusCode": "200", "responseTemplates": {"application/json": "two"}}`)
		answers(200, "two", nil)
		c.refused(400, bad, `the request has bad fields: route.integration.mock.body: "#if(true)x#end": a template may have references to stage variables and to the context, `+
			"such as $stageVariables.x and $context.stage, and nothing else of the template language",
			patchIt, response, patches(op{Op: "replace", Path: "/responseTemplates/application~1json", Value: "#if(true)x#end"}))
		const template = `{"version": "$stageVariables.version", "canary": "$context.isCanaryRequest"}`
		c.do(200, patchIt, response, patches(op{Op: "replace", Path: "/responseTemplates/application~1json", Value: template}))
		answers(200, template, nil)
		if m := must(c.apis.ListRoutes(t.Context(), &fifev1.ListRoutesRequest{Parent: api}))(t).GetRoutes()[0].GetIntegration().GetMock(); !m.GetTemplate() {
			t.Errorf("the route is shown without its template: %v", m)
		}
		c.do(200, patchIt, response, patches(op{Op: "replace", Path: "/responseTemplates/application~1json", Value: "two"}))

		c.refused(404, missing, "Invalid Response status code specified", put, method+"/integration/responses/404", object{})
		c.do(201, put, method+"/responses/404", object{"responseParameters": object{"method.response.header.x-why": false}})
		c.refused(409, taken, "Response already exists for this resource", put, method+"/responses/404", object{})
		c.refused(400, bad, "Invalid status code specified: 4x4", put, method+"/responses/4x4", object{})
		c.refused(400, bad, "Invalid mapping expression specified: Validation Result: warnings : [], errors : [Invalid mapping expression parameter specified: method.response.header.x-not]",
			put, method+"/integration/responses/404", object{"responseParameters": object{"method.response.header.x-not": "'v'"}})
		c.do(201, put, method+"/integration/responses/404", object{
			"selectionPattern": "4\\d\\d", "responseParameters": object{"method.response.header.x-why": "'gone'"},
			"responseTemplates": object{"text/plain": "costs $5 #1"},
		})
		answers(200, "two", nil)
		c.do(200, patchIt, method+"/integration", patches(op{Op: "replace", Path: "/requestTemplates/application~1json", Value: `{"statusCode": 410}`}))
		answers(404, "costs $5 #1", map[string]string{"Content-Type": "text/plain", "x-why": "gone"})
		c.do(204, del, method+"/integration/responses/404", nil)
		answers(200, "two", nil)
		c.do(204, del, response, nil)
		answers(500, `{"message": "Internal server error"}`, nil)
		c.refused(404, missing, "Invalid Response status code specified", get, response, nil)
		c.equal("method", c.do(200, get, method, nil), `{"httpMethod": "GET", "authorizationType": "NONE", "apiKeyRequired": false,
			"methodResponses": {"200": {"statusCode": "200"}, "404": {"statusCode": "404", "responseParameters": {"method.response.header.x-why": false}}},
			"methodIntegration": {"type": "MOCK", "requestTemplates": {"application/json": "{\"statusCode\": 410}"}, "passthroughBehavior": "WHEN_NO_MATCH",
				"timeoutInMillis": 29000, "cacheNamespace": "*", "cacheKeyParameters": []}}`)
		c.equal("method response", c.do(201, patchIt, method+"/responses/404", patches(
			op{Op: "add", Path: "/responseParameters/method.response.header.x", Value: "true"}, op{Op: "add", Path: "/responseModels/application~1json", Value: "Empty"},
		)), `{"statusCode": "404", "responseParameters": {"method.response.header.x-why": false, "method.response.header.x": true}, "responseModels": {"application/json": "Empty"}}`)
		c.do(204, del, method+"/responses/404", nil)
		c.refused(404, missing, "Invalid Response status code specified", get, method+"/responses/404", nil)
	})
}

// TestNativeAPI: an API that the operators' API has made is shown with resources of its
// routes' paths.
func TestNativeAPI(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, clients []*client) {
		c := clients[0]
		ctx := t.Context()
		must(c.apis.CreateApi(ctx, &fifev1.CreateApiRequest{ApiId: "demo", Api: &fifev1.Api{Annotations: map[string]string{"docs": "kept"}}}))(t)
		for _, r := range []*fifev1.Route{
			{Method: "GET", Path: "/a/{id}", Integration: &fifev1.Integration{Kind: &fifev1.Integration_Http{Http: &fifev1.HttpIntegration{Uri: "http://h/{id}?v=${stageVariables.v}"}}}},
			{Method: "PUT", Path: "/a/{id}", Integration: &fifev1.Integration{Kind: &fifev1.Integration_Lambda{Lambda: &fifev1.LambdaIntegration{Function: "hello", Qualifier: "1"}}}},
			{Method: "POST", Path: "/a/{id}", Integration: &fifev1.Integration{Kind: &fifev1.Integration_Mock{Mock: &fifev1.MockIntegration{
				Status: 201, Headers: map[string]string{"content-type": "text/plain", "x": "y"}, Body: "made",
			}}}},
		} {
			must(c.apis.PutRoute(ctx, &fifev1.PutRouteRequest{Parent: "apis/demo", Route: r}))(t)
		}
		items := c.do(200, get, "/restapis/demo/resources", nil)["item"].([]any)
		var paths []string
		for _, i := range items {
			paths = append(paths, i.(object)["path"].(string))
		}
		if fmt.Sprint(paths) != "[/ /a /a/{id}]" {
			t.Fatalf("resources %v", paths)
		}
		id := items[2].(object)["id"].(string)
		methods := "/restapis/demo/resources/" + id + "/methods"
		common := fmt.Sprintf(`"passthroughBehavior": "WHEN_NO_MATCH", "timeoutInMillis": 29000, "cacheNamespace": %q, "cacheKeyParameters": []`, id)
		c.equal("http", c.do(200, get, methods+"/GET/integration", nil), `{"type": "HTTP_PROXY", "httpMethod": "ANY", "uri": "http://h/{id}?v=${stageVariables.v}",
			"requestParameters": {"integration.request.path.id": "method.request.path.id"}, `+common+`}`)
		c.equal("lambda", c.do(200, get, methods+"/PUT/integration", nil), `{"type": "AWS_PROXY", "httpMethod": "POST",
			"uri": "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/hello:1/invocations", `+common+`}`)
		c.equal("mock", c.do(200, get, methods+"/POST/integration", nil), `{"type": "MOCK", "requestTemplates": {"application/json": "{\"statusCode\": 201}"},
			"integrationResponses": {"201": {"statusCode": "201", "responseParameters": {"method.response.header.x": "'y'"}, "responseTemplates": {"text/plain": "made"}}}, `+common+`}`)
		// What is shown can be written back and comes to the same.
		c.do(200, patchIt, methods+"/POST/integration/responses/201", patches(op{Op: "replace", Path: "/responseTemplates/text~1plain", Value: "other"}))
		routes := must(c.apis.ListRoutes(ctx, &fifev1.ListRoutesRequest{Parent: "apis/demo"}))(t).GetRoutes()
		if m := routes[1].GetIntegration().GetMock(); m.GetStatus() != 201 || m.GetBody() != "other" || m.GetHeaders()["x"] != "y" || m.GetHeaders()["Content-Type"] != "text/plain" {
			t.Errorf("the mock is %v", m)
		}
		c.do(204, put, "/tags/arn:aws:apigateway:us-east-1::/restapis/demo", object{"tags": object{"a": "1"}})
		if got := must(c.apis.GetApi(ctx, &fifev1.GetApiRequest{Name: "apis/demo"}))(t).GetApi().GetAnnotations()["docs"]; got != "kept" {
			t.Errorf("somebody else's annotation is %q", got)
		}
		if got := c.do(200, get, "/restapis/demo", nil)["name"]; got != "demo" {
			t.Errorf("the API is called %v", got)
		}
	})
}

// TestUnknown: what is no operation, is none of Fife's, or cannot be read.
func TestUnknown(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, clients []*client) {
		c := clients[0]
		path, _ := c.newAPI()
		for _, at := range []string{"/", "/nope", "/restapis/x/y/z", "/restapis//resources"} {
			c.refused(403, "MissingAuthenticationTokenException", "Missing Authentication Token", get, at, nil)
		}
		c.refused(403, "MissingAuthenticationTokenException", "Missing Authentication Token", "TRACE", path, nil)
		c.refused(501, "NotImplementedException", "Fife does not implement CreateAuthorizer", post, path+"/authorizers", object{})
		c.refused(501, "NotImplementedException", "Fife does not implement CreateUsagePlan", post, "/usageplans", object{})
		c.refused(501, "NotImplementedException", "Fife does not implement ImportApiKeys", post, "/apikeys?mode=import&format=csv", "x")
		c.equal("none", c.do(200, get, "/vpclinks", nil), `{"item": []}`)
		c.equal("none of an API", c.do(200, get, path+"/authorizers", nil), `{"item": []}`)
		c.refused(404, missing, "Invalid API identifier specified 000000000000:none", get, "/restapis/none/authorizers", nil)
		for _, body := range []string{"{", "[]", `{"name": 5}`, `"x"`, `{"name": "x"} trailing`} {
			code, header, text := c.send(post, "/restapis", body)
			if code != 400 || header.Get("x-amzn-ErrorType") != "SerializationException" {
				t.Errorf("%s: %d %s", body, code, text)
			}
		}
		if code, _, text := c.send(post, "/restapis", strings.Repeat(" ", 2<<20)); code != 413 {
			t.Errorf("a large body: %d %s", code, text)
		}
		c.refused(400, bad, "Invalid limit specified: x", get, "/restapis?limit=x", nil)
	})
}
