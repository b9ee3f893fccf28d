package apigateway

import (
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestOperationsAreDocumented: the document says of every operation whether there is one,
// and names no other.
func TestOperationsAreDocumented(t *testing.T) {
	data, err := os.ReadFile("../../docs/from-api-gateway.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(data), "## Every operation")
	implemented, refused, ok := strings.Cut(text, "Known and refused")
	if !ok || len(operations) != 124 {
		t.Fatalf("the service has 124 operations, the table %d", len(operations))
	}
	words := func(text string) []string {
		return strings.FieldsFunc(text, func(c rune) bool { return (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') })
	}
	for _, op := range operations {
		if got := slices.Contains(words(implemented), op.name); got != (op.handle != nil) {
			t.Errorf("%s has a handler: %v; named among those implemented: %v", op.name, op.handle != nil, got)
		}
		if got := slices.Contains(words(refused), op.name); got != (op.handle == nil) {
			t.Errorf("%s has a handler: %v; named among those refused: %v", op.name, op.handle != nil, got)
		}
	}
}

// TestFindOperation: segments are told apart before they are decoded.
func TestFindOperation(t *testing.T) {
	for _, tt := range []struct{ method, target, name, params string }{
		{"POST", "/restapis", "CreateRestApi", ""},
		{"POST", "/restapis?mode=import", "ImportRestApi", ""},
		{"POST", "/apikeys?mode=import&format=csv", "ImportApiKeys", ""},
		{"POST", "/apikeys", "CreateApiKey", ""},
		{"GET", "/restapis/", "GetRestApis", ""},
		{"GET", "/restapis/a%2Fb/resources/%7Bx%7D", "GetResource", "a/b {x}"},
		{"GET", "/restapis/a/resources/b/methods/GET/integration/responses/200", "GetIntegrationResponse", "a b GET 200"},
		{"PUT", "/tags/arn%3Aaws%3Aapigateway%3Ax%3A%3A%2Frestapis%2Fa", "TagResource", "arn:aws:apigateway:x::/restapis/a"},
		{"PUT", "/tags/arn:aws:apigateway:x::/restapis/a/stages/b%20c", "TagResource", "arn:aws:apigateway:x::/restapis/a/stages/b c"},
		{"GET", "/restapis/a/b", "", ""},
		{"GET", "/restapis//resources", "", ""},
		{"PATCH", "/restapis", "", ""},
	} {
		op, params, ok := findOperation(httptest.NewRequest(tt.method, tt.target, nil))
		if ok != (tt.name != "") || (ok && (op.name != tt.name || strings.Join(params, " ") != tt.params)) {
			t.Errorf("%s %s: got %v %q, want %s %q", tt.method, tt.target, op, params, tt.name, tt.params)
		}
	}
}

// FuzzParsePointer: what is a pointer can be written again, and comes to the same.
func FuzzParsePointer(f *testing.F) {
	for _, seed := range []string{"/a", "/a~1b/~0", "", "a", "/~", "/~2", "//", "/~01"} {
		f.Add(seed)
	}
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	f.Fuzz(func(t *testing.T, text string) {
		tokens, ok := parsePointer(text)
		if !ok {
			return
		}
		again := ""
		for _, token := range tokens {
			again += "/" + escape.Replace(token)
		}
		if again != text {
			t.Errorf("%q is %q, which is %q", text, tokens, again)
		}
	})
}

// TestHashID: agents name resources alike, and hold to the same values in their test.
func TestHashID(t *testing.T) {
	if got := hashID(6, "demo", "/canary-demo") + " " + rootID("demo"); got != "xvi47i j2ctp2y7vj" {
		t.Errorf("got %s", got)
	}
}
