package release_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fifegateway/fife/controlplane/release"
)

func TestMethods(t *testing.T) {
	check := func(method string) release.Violations {
		var v release.Violations
		release.CheckRouteKey(&v, "route.", method, "/")
		return v
	}
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "ANY"} {
		wantFault(t, check(m), fault{})
	}
	for _, m := range []string{"", "get", "CONNECT", "TRACE", "*", "GET ", "PROPFIND"} {
		wantFault(t, check(m), fault{"route.method", fmt.Sprintf("%q must be GET, HEAD", m)})
	}
}

func TestPaths(t *testing.T) {
	variables := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "/{v%d}", i)
		}
		return b.String()
	}
	tests := []struct{ path, fault string }{
		{"/", ""},
		{"/pets", ""},
		{"/pets/{id}/toys", ""},
		{"/pets/{rest+}", ""},
		{"/{a}/{b}/{c+}", ""},
		{"/{a.b_c-1}", ""},
		{"/AZaz09-._~!$&'()*+,;=:@", ""},
		{"/...", ""},
		{"/.well-known/x", ""},
		{"/" + strings.Repeat("a", 1023), ""},
		{variables(16), ""},
		{"", "must begin with a slash"},
		{"pets", "must begin with a slash"},
		{"{id}", "must begin with a slash"},
		{"/" + strings.Repeat("a", 1024), "has 1025 bytes, at most 1024"},
		{variables(17), "has 17 variables, at most 16"},
		{"/a/", "empty segment"},
		{"/a//b", "empty segment"},
		{"//", "empty segment"},
		{"/./a", "dot segment"},
		{"/a/..", "dot segment"},
		{"/{rest+}/a", `greedy variable "{rest+}" must be the last segment`},
		{"/{a+}/{b+}", `greedy variable "{a+}" must be the last segment`},
		{"/{id}/{id}", `variable "{id}" stands twice`},
		{"/{id}/{id+}", `variable "{id+}" stands twice`},
		{"/{}", `variable "{}"`},
		{"/{+}", `variable "{+}"`},
		{"/{a++}", `variable "{a++}"`},
		{"/{a b}", `variable "{a b}"`},
		{"/{a}{b}", `variable "{a}{b}"`},
		{"/{ä}", `variable "{ä}"`},
		{"/{a", `may not hold "{"`},
		{"/a}", `may not hold "}"`},
		{"/x{a}", `may not hold "{"`},
		{"/{a}x", `may not hold "{"`},
		{"/a b", `may not hold " "`},
		{"/a%20b", `may not hold "%"`},
		{"/%2e%2e", `may not hold "%"`},
		{"/a?b", `may not hold "?"`},
		{"/a#b", `may not hold "#"`},
		{"/a\\b", `may not hold "\\"`},
		{"/a\x00b", "may not hold"},
		{"/é", `may not hold "é"`},
		{"/\xff", "may not hold"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.40q", tt.path), func(t *testing.T) {
			var v release.Violations
			release.CheckRouteKey(&v, "route.", "GET", tt.path)
			if tt.fault == "" {
				wantFault(t, v, fault{})
			} else {
				wantFault(t, v, fault{"route.path", tt.fault})
			}
		})
	}
}

func TestCleanPath(t *testing.T) {
	for path, want := range map[string]string{
		"": "", "/": "/", "/a": "/a", "/a/": "/a", "/a/b/": "/a/b", "/a//": "/a/", "/{p+}/": "/{p+}",
	} {
		if got := release.CleanPath(path); got != want {
			t.Errorf("%q: got %q, want %q", path, got, want)
		}
	}
}

func TestCheckRouteTimeout(t *testing.T) {
	var v release.Violations
	release.CheckRoute(&v, "route.", &release.Route{Method: "GET", Path: "/", Timeout: time.Millisecond})
	wantFault(t, v, fault{"route.timeout", "1ms must lie between 50ms and 29s"})
}

// TestDraftMayLackIntegration: only deploying needs one.
func TestDraftMayLackIntegration(t *testing.T) {
	var v release.Violations
	release.CheckRoute(&v, "route.", &release.Route{Method: "GET", Path: "/"})
	wantFault(t, v, fault{})
}

func TestPathVariable(t *testing.T) {
	tests := []struct {
		segment, name string
		greedy, ok    bool
	}{
		{"id", "", false, false},
		{"{id", "", false, false},
		{"id}", "", false, false},
		{"{id}", "id", false, true},
		{"{rest+}", "rest", true, true},
		{"{}", "", false, true},
	}
	for _, tt := range tests {
		if name, greedy, ok := release.PathVariable(tt.segment); name != tt.name || greedy != tt.greedy || ok != tt.ok {
			t.Errorf("%q: got %q, %v, %v", tt.segment, name, greedy, ok)
		}
	}
}

func TestVariableSlots(t *testing.T) {
	type slots = []release.VariableSlot
	for path, want := range map[string]slots{
		"/":         nil,
		"/a/b":      nil,
		"/{id}":     {{Parent: "/", Variable: "{id}"}},
		"/a/{id}/b": {{Parent: "/a/", Variable: "{id}"}},
		"/a/{id}/b/{c}/{rest+}": {
			{Parent: "/a/", Variable: "{id}"},
			{Parent: "/a/{id}/b/", Variable: "{c}"},
			{Parent: "/a/{id}/b/{c}/", Variable: "{rest+}"},
		},
	} {
		if got := release.VariableSlots(path); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
}

// TestSiblings: a parent has one variable child, however the draft's other routes
// go on behind it.
func TestSiblings(t *testing.T) {
	tests := []struct{ path, sibling, clash string }{
		{"/{id}", "/{id}", ""},
		{"/{id}/a", "/{id}/b/c", ""},
		{"/{id}", "/{name}", "{name}"},
		{"/{id}/a", "/{name}", "{name}"},
		{"/{id}", "/{name}/deep/er", "{name}"},
		{"/{id}", "/{id+}", "{id+}"},
		{"/{id+}", "/{id}/a", "{id}"},
		{"/{id}", "/{idx}", "{idx}"},
		{"/a/{x}/{y}", "/a/{x}/{z}", "{z}"},
		{"/a/{x}/{y}", "/a/{w}/{y}", "{w}"},
	}
	for _, tt := range tests {
		t.Run(tt.path+" beside "+tt.sibling, func(t *testing.T) {
			r := &release.Route{Method: "GET", Path: tt.path}
			var errs []error
			for _, slot := range release.VariableSlots(tt.path) {
				if !strings.HasPrefix(tt.sibling, slot.Parent+"{") {
					continue // the store looks siblings up by this prefix
				}
				if err := release.CheckSibling(r, slot, tt.sibling); err != nil {
					errs = append(errs, err)
				}
			}
			if tt.clash == "" {
				if errs != nil {
					t.Fatalf("got %v", errs)
				}
				return
			}
			if len(errs) != 1 {
				t.Fatalf("got %v, want one clash with %s", errs, tt.clash)
			}
			r2 := wantRefusal(t, errs[0], release.InvalidField)
			wantFault(t, r2.Violations, fault{"route.path", "so use " + tt.clash})
		})
	}
}

// FuzzCheckRoute: no path or URI makes the checks panic, a path that they accept
// they accept again, and what they accept is what the draft's bookkeeping relies
// on.
func FuzzCheckRoute(f *testing.F) {
	for _, seed := range [][2]string{
		{"/", "http://h"},
		{"/a/{id}/{rest+}", "https://h:8080/x/{id}/{rest+}?q=${stageVariables.q}"},
		{"//", "http://${stageVariables.h}:${stageVariables.p}/"},
		{"/{", "http://h/{"},
		{"/{a}{b}", "http://[::1]/%7Bid%7D"},
		{"/a/", "http://u:p@h#f"},
		{"/\xff\x00", "http://h/\x00\xff"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, path, uri string) {
		r := &release.Route{Method: "GET", Path: release.CleanPath(path), Integration: release.HTTP{URI: uri}}
		var v release.Violations
		release.CheckRoute(&v, "", r)
		slots := release.VariableSlots(r.Path)

		var key release.Violations
		release.CheckRouteKey(&key, "", "GET", r.Path)
		if len(key) > 0 {
			return
		}
		if again := release.CleanPath(r.Path); again != r.Path {
			t.Fatalf("accepted %q, which cleans to %q", r.Path, again)
		}
		for _, slot := range slots {
			if !strings.HasPrefix(r.Path, slot.Parent+slot.Variable) || !strings.HasSuffix(slot.Parent, "/") {
				t.Fatalf("%q has no slot %v", r.Path, slot)
			}
			if err := release.CheckSibling(r, slot, r.Path); err != nil {
				t.Fatalf("%q clashes with itself: %v", r.Path, err)
			}
		}
		if got := len(slots); got != strings.Count(r.Path, "{") || got > release.MaxPathVariables {
			t.Fatalf("%q has %d slots", r.Path, got)
		}
		if strings.ContainsRune(r.Path, 0) {
			t.Fatalf("accepted %q: keys are ended by NUL", r.Path)
		}
	})
}
