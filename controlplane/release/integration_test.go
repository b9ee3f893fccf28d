package release_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fifegateway/fife/controlplane/release"
)

func checkIntegration(path string, i release.Integration) release.Violations {
	var v release.Violations
	release.CheckRoute(&v, "route.", &release.Route{Method: "GET", Path: path, Integration: i})
	return v
}

func TestURIs(t *testing.T) {
	const path = "/pets/{id}/{rest+}"
	tests := []struct{ uri, fault string }{
		{"http://h", ""},
		{"https://h.example:8443/a/b?c=d&e=f", ""},
		{"http://127.0.0.1:80/", ""},
		{"http://[::1]:80/", ""},
		{"http://h/%41%2F", ""},
		{"http://h/x/{id}/y/{rest+}", ""},
		{"http://${stageVariables.host}/", ""},
		{"http://${stageVariables.a}.${stageVariables.b}:${stageVariables.port}/v${stageVariables.v}/{id}?q=${stageVariables.q}", ""},
		{"http://h/" + strings.Repeat("a", 2048-9), ""},
		{"http://h/" + strings.Repeat("a", 2049-9), "has 2049 bytes, at most 2048"},
		{"", "must begin with http:// or https://"},
		{"h/a", "must begin with http"},
		{"//h/a", "must begin with http"},
		{"ftp://h/", "must begin with http"},
		{"HTTP://h/", "must begin with http"},
		{"${stageVariables.scheme}://h/", "stage variables may not stand in the scheme"},
		{"http${stageVariables.s}://h/", "stage variables may not stand in the scheme"},
		{"http://", "names no host"},
		{"http:///a", "names no host"},
		{"http://:80/a", "names no host"},
		{"http://u@h/", "may not hold user information"},
		{"http://u:p@h/", "may not hold user information"},
		{"http://h/#f", "may not hold a fragment"},
		{"http://h/#", "may not hold a fragment"},
		{"http://h:port/", "is no URI"},
		{"http://h/%zz", "is no URI"},
		{"http://h/\x00", "is no URI"},
		{"http://h/\n", "is no URI"},
		{"http://h_1.a-b:0/", ""},
		{"http://h:${stageVariables.port}", ""},
		{"http://h:8080${stageVariables.path}", ""},
		{"http://h${stageVariables.rest}:", ""},
		{"http://h:65535", ""},
		{"http://h:65536", `names the port "65536"`},
		{"http://h:000080", `names the port "000080"`},
		{"http://h:/", `names the port ""`},
		{"http://[::1]:/", `names the port ""`},
		{"http://a!b/", `names the host "a!b"`},
		{"http://a,b", `names the host "a,b"`},
		{"http://a~b?x", `names the host "a~b"`},
		{"http://${stageVariables.a}!/", `names the host "!"`},
		{"http://[fe80::1%25eth0]/", `names the host "fe80::1%25eth0"`},
		{"http://h/..x/x../.../%2ex", ""},
		{"http://h/.${stageVariables.x}/", ""},
		{"http://h?/../", ""},
		{"http://h/../x", "has a dot segment"},
		{"http://h/.", "has a dot segment"},
		{"http://h/x/%2E./y", "has a dot segment"},
		{"http://h/x%2f..%2Fy", "has a dot segment"},
		{"http://h/x%2f%2e%2Fy", "has a dot segment"},
		{"http://{id}/", ""}, // refused, by the parser or by us
		{"http://h/?a={id}", "may hold path variables in its path only"},
		{"http://h/{name}", "uses {name}, which is no variable of /pets/{id}/{rest+}"},
		{"http://h/{rest}", "uses {rest}"},
		{"http://h/{id+}", "uses {id+}"},
		{"http://h/x{id}", "as whole segments"},
		{"http://h/{id}x", "as whole segments"},
		{"http://h/{id", "as whole segments"},
		{"http://h/${stageVariables.}", "as whole segments"},
		{"http://h/${stageVariables.a-b}", "as whole segments"},
		{"http://h/${env.x}", "as whole segments"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.60q", tt.uri), func(t *testing.T) {
			v := checkIntegration(path, release.HTTP{URI: tt.uri})
			switch {
			case tt.uri == "http://{id}/":
				if len(v) == 0 {
					t.Error("a path variable as host passes")
				}
			case tt.fault == "":
				wantFault(t, v, fault{})
			default:
				wantFault(t, v, fault{"route.integration.http.uri", tt.fault})
			}
		})
	}
}

// TestURICharacters: a URI holds what RFC 3986 lets stand in one, and nothing
// else. Agents refuse anything else, and with it the whole state. A percent sign
// begins an escape, which TestURIs tries.
func TestURICharacters(t *testing.T) {
	const legal = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:/?[]@!$&'()*+,;=%"
	for _, place := range []string{"http://h/a%sb", "http://h/?a%sb"} {
		passed := ""
		for c := range rune(0x180) {
			if !strings.ContainsRune(legal, c) && len(checkIntegration("/", release.HTTP{URI: fmt.Sprintf(place, string(c))})) == 0 {
				passed += string(c)
			}
		}
		if passed != "" {
			t.Errorf("in %q these pass: %.60q", place, passed)
		}
		for _, c := range strings.TrimSuffix(legal, "%") {
			wantFault(t, checkIntegration("/", release.HTTP{URI: fmt.Sprintf(place, string(c))}), fault{})
		}
	}
}

func TestUpstreamMethods(t *testing.T) {
	for _, m := range []string{"", "GET", "POST", "PROPFIND"} {
		wantFault(t, checkIntegration("/", release.HTTP{URI: "http://h", Method: m}), fault{})
	}
	for _, m := range []string{"get", "ANY", "CONNECT", "TRACE", "GET ", "A-B", "É"} {
		wantFault(t, checkIntegration("/", release.HTTP{URI: "http://h", Method: m}),
			fault{"route.integration.http.method", fmt.Sprintf("%q must be an HTTP method in capitals", m)})
	}
}

func TestFunctions(t *testing.T) {
	const arn = "arn:aws:lambda:eu-west-1:123456789012:function:hello"
	tests := []struct{ function, qualifier, field, fault string }{
		{"hello", "", "", ""},
		{"Hello_World-2", "1", "", ""},
		{"hello", "$LATEST", "", ""},
		{"hello", strings.Repeat("q", 128), "", ""},
		{strings.Repeat("f", 64), "", "", ""},
		{arn, "", "", ""},
		{arn, "prod", "", ""},
		{arn + ":1", "", "", ""},
		{arn + ":$LATEST", "", "", ""},
		{arn + ":prod_2-x", "", "", ""},
		{"arn:aws-cn:lambda:cn-north-1:123456789012:function:f", "", "", ""},
		{"arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:f", "", "", ""},
		{"${stageVariables.f}", "${stageVariables.q}", "", ""},
		{"hello-${stageVariables.env}", "v${stageVariables.n}", "", ""},
		{"arn:aws:lambda:eu-west-1:123456789012:function:${stageVariables.f}:${stageVariables.q}", "", "", ""},
		{"", "", "function", `"" must be a function's name or ARN`},
		{"he llo", "", "function", `"he llo"`},
		{"hello:1", "", "function", `"hello:1"`},
		{strings.Repeat("f", 65), "", "function", "must be a function's name"},
		{"arn:aws:lambda:eu-west-1:12345678901:function:f", "", "function", "must be a function's name"},
		{"arn:aws:lambda:eu-west-1:1234567890123:function:f", "", "function", "must be a function's name"},
		{"arn:aws:lambda::123456789012:function:f", "", "function", "must be a function's name"},
		{"arn:aws:s3:eu-west-1:123456789012:function:f", "", "function", "must be a function's name"},
		{"arn:aws:lambda:eu-west-1:123456789012:layer:f", "", "function", "must be a function's name"},
		{"arn:aws:lambda:eu-west-1:123456789012:function:", "", "function", "must be a function's name"},
		{arn + ":", "", "function", "must be a function's name"},
		{arn + ":1:2", "", "function", "must be a function's name"},
		{arn + "\n", "", "function", "must be a function's name"},
		// A stage variable stands in a name or a qualifier. Agents refuse it anywhere else.
		{"arn:aws:lambda:${stageVariables.region}:123456789012:function:f", "", "function", "must be a function's name"},
		{"arn:aws:lambda:eu-west-1:12345678901${stageVariables.d}:function:f", "", "function", "must be a function's name"},
		{"${stageVariables." + strings.Repeat("x", 2048) + "}", "", "function", ""},
		{"hello", "${stageVariables." + strings.Repeat("x", 2048) + "}", "qualifier", ""},
		{arn + ":1", "1", "qualifier", `"1" must be unset, as the ARN ends in a qualifier`},
		{"hello", "a b", "qualifier", `"a b" must be a version`},
		{"hello", "$OLDEST", "qualifier", `"$OLDEST"`},
		{"hello", "a.b", "qualifier", `"a.b"`},
		{"hello", strings.Repeat("q", 129), "qualifier", "must be a version"},
		{"hello", "${stageVariables.x-y}", "qualifier", "must be a version"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.70q %.20q", tt.function, tt.qualifier), func(t *testing.T) {
			v := checkIntegration("/", release.Lambda{Function: tt.function, Qualifier: tt.qualifier})
			if tt.field == "" {
				wantFault(t, v, fault{})
			} else {
				wantFault(t, v, fault{"route.integration.lambda." + tt.field, tt.fault})
			}
		})
	}
}

func TestMock(t *testing.T) {
	headers := manyVars("h", 32)
	tests := map[string]struct {
		mock release.Mock
		want fault
	}{
		"least":         {mock: release.Mock{Status: 200}},
		"most":          {mock: release.Mock{Status: 599, Headers: headers, Body: strings.Repeat("b", 64<<10)}},
		"values":        {mock: release.Mock{Status: 200, Headers: vars("X!#$%&'*+-.^_`|~09", "tab\tand ünïcode", "empty", "")}},
		"unset status":  {release.Mock{}, fault{"mock.status", "0 must lie between 200 and 599"}},
		"1xx":           {release.Mock{Status: 199}, fault{"mock.status", "199"}},
		"600":           {release.Mock{Status: 600}, fault{"mock.status", "600"}},
		"negative":      {release.Mock{Status: -1}, fault{"mock.status", "-1"}},
		"body":          {release.Mock{Status: 200, Body: strings.Repeat("b", 64<<10+1)}, fault{"mock.body", "has 65537 bytes, at most 65536"}},
		"33 headers":    {release.Mock{Status: 200, Headers: manyVars("h", 33)}, fault{"mock.headers", "has 33 entries, at most 32"}},
		"no name":       {release.Mock{Status: 200, Headers: vars("", "v")}, fault{"mock.headers", `"" is no header name`}},
		"name space":    {release.Mock{Status: 200, Headers: vars("a b", "v")}, fault{"mock.headers", `"a b" is no header name`}},
		"name colon":    {release.Mock{Status: 200, Headers: vars("a:", "v")}, fault{"mock.headers", `"a:"`}},
		"value newline": {release.Mock{Status: 200, Headers: vars("a", "b\r\nc: d")}, fault{"mock.headers", `the value of "a" holds control characters`}},
		"value nul":     {release.Mock{Status: 200, Headers: vars("a", "\x00")}, fault{"mock.headers", "control characters"}},
		"value del":     {release.Mock{Status: 200, Headers: vars("a", "\x7f")}, fault{"mock.headers", "control characters"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.want.field != "" {
				tt.want.field = "route.integration." + tt.want.field
			}
			wantFault(t, checkIntegration("/", tt.mock), tt.want)
		})
	}
}

// TestMockFaultsInOrder: however maps are walked, the same request is refused
// with the same words.
func TestMockFaultsInOrder(t *testing.T) {
	headers := map[string]string{}
	for i := range 8 {
		headers[fmt.Sprintf("bad %d", i)] = "v"
	}
	first := checkIntegration("/", release.Mock{Status: 200, Headers: headers}).Err().Error()
	for range 50 {
		if again := checkIntegration("/", release.Mock{Status: 200, Headers: headers}).Err().Error(); again != first {
			t.Fatalf("once %s\nonce %s", first, again)
		}
	}
}
