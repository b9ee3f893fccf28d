package cmd_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fifegateway/fife/agent/proxy"
	"github.com/fifegateway/fife/agent/route"
	"github.com/fifegateway/fife/controlplane/release"
)

// TestRulesAgree: what the control plane takes as a route, agents can compile. Else one
// route that was taken would make every agent refuse the whole frame that it comes in.
func TestRulesAgree(t *testing.T) { rapid.Check(t, rulesAgree) }

// TestRulesAgreeOnBytes tries every byte at every place where a text has rules.
func TestRulesAgreeOnBytes(t *testing.T) {
	const hole = "${stageVariables.v}"
	taken := 0
	for b := range 256 {
		for _, c := range []string{string([]byte{byte(b)}), string([]byte{byte(b), byte(b)}), "%" + string([]byte{byte(b)}) + "1", string(rune(b + 0x80))} {
			http := func(uri string) *release.Route {
				return &release.Route{Method: "GET", Path: "/p/{id}/{rest+}", Integration: release.HTTP{URI: uri}}
			}
			mock := func(path string) *release.Route {
				return &release.Route{Method: "GET", Path: path, Integration: release.Mock{Status: 200}}
			}
			lambda := func(function, qualifier string) *release.Route {
				return &release.Route{Method: "GET", Path: "/", Integration: release.Lambda{Function: function, Qualifier: qualifier}}
			}
			header := func(name, value string) *release.Route {
				return &release.Route{Method: "GET", Path: "/", Integration: release.Mock{Status: 200, Headers: map[string]string{name: value}}}
			}
			for _, r := range []*release.Route{
				mock("/" + c), mock("/a" + c + "a"), mock("/a/" + c + "/a"), mock("/{" + c + "}"), mock("/{a" + c + "a}"), mock("/{a+}" + c), mock("/{a}" + c + "{b}"),
				http("http://" + c), http("http://a" + c + "a"), http("http://a" + c + "a:80/"), http("http://a:" + c), http("http://a:8" + c + "/x"), http("http://[" + c + "::1]/"),
				http("http://a/" + c), http("http://a/x" + c + "x"), http("http://a/{id}" + c), http("http://a/" + c + "{id}"), http("http://a/{id}/{rest+}" + c), http("http://a/{" + c + "id}"), http("http://a/{id" + c + "}"),
				http("http://a?" + c), http("http://a/?x" + c + "x=1"), http("http://a/{id}?" + c), http("http://a" + c + "{id}"), http(c + "http://a/"), http("http" + c + "://a/"),
				http("http://a" + c), http("http://a:1" + c), http("http://a/" + c + c + "/x"), http("http://a/%2e" + c), http("http://a/%2f" + c + "%2f"), http("http://a/." + c + "/x"), http("http://[" + c + "]"), http("http://[::1" + c + "]"), http("http://[::1]" + c),
				http("http://" + hole + c), http("http://a/" + hole + c + "/x"), http("http://a/?" + hole + c), http("http://a/${" + c + "stageVariables.v}"), http("http://a/${stageVariables.v" + c + "}"), http("http://a/$" + c),
				lambda(c, ""), lambda("a"+c+"a", ""), lambda("a", c), lambda("a", "a"+c+"a"), lambda("a", "$LATEST"+c), lambda(hole+c, hole+c), lambda("${stageVariables.v"+c+"}", ""),
				lambda("arn:aws:lambda:eu-west-1:123456789012:function:a"+c, ""), lambda("arn:aws:lambda:eu-west-1:123456789012:function:a:"+c, ""), lambda("arn:aws"+c+":lambda:eu"+c+":123456789012:function:a", ""),
				header(c, ""), header("a"+c+"a", ""), header("a", c), header("a", "a"+c+"a"),
			} {
				r.Path = release.CleanPath(r.Path)
				var v release.Violations
				if release.CheckRoute(&v, "", r); v.Err() != nil {
					continue
				}
				taken++
				if err := compile(r); err != nil {
					t.Errorf("the control plane takes %s to %q, and no agent does: %v", r, r.Integration, err)
				}
			}
		}
	}
	if taken < 1000 {
		t.Errorf("the control plane takes only %d", taken)
	}
}

func FuzzRulesAgree(f *testing.F) { f.Fuzz(rapid.MakeFuzz(rulesAgree)) }

func rulesAgree(t *rapid.T) {
	draft := map[string]*release.Route{}
	for _, r := range rapid.SliceOfN(routes(), 1, 20).Draw(t, "routes") {
		r.Path = release.CleanPath(r.Path)
		var v release.Violations
		release.CheckRoute(&v, "", r)
		if v.Err() != nil || !fitsBeside(draft, r) {
			continue
		}
		draft[r.String()] = r
	}
	if err := compile(slices.SortedFunc(maps.Values(draft), release.CompareRoutes)...); err != nil {
		t.Fatalf("the control plane has taken it, and no agent does: %v", err)
	}
}

// compile compiles routes as an agent does, and looks at their URIs as it does with every
// request.
func compile(routes ...*release.Route) error {
	spec := route.DeploymentSpec{API: "demo", Number: 1, DefaultTimeout: release.DefaultTimeout}
	for _, r := range routes {
		if i, ok := r.Integration.(release.HTTP); ok {
			if err := sendable(i.URI); err != nil {
				return fmt.Errorf("%s to %q: %w", r, i.URI, err)
			}
		}
		spec.Routes = append(spec.Routes, route.RouteSpec{Method: r.Method, Path: r.Path, Timeout: r.Timeout, Integration: integrationSpec(r.Integration)})
	}
	_, err := route.CompileDeployment(spec)
	return err
}

var (
	variable     = regexp.MustCompile(`\$\{stageVariables\.[A-Za-z0-9_]+\}`)
	pathVariable = regexp.MustCompile(`\{[^{}]*\}`)
)

// sendable reports whether an agent would send a request to a URI under some values of the
// stage variables: pieces of names, or what ends the authority.
func sendable(uri string) (err error) {
	for _, value := range []string{"1", "/1", "1/1"} {
		filled := pathVariable.ReplaceAllString(variable.ReplaceAllString(uri, value), "1")
		if err = proxy.CheckURI(filled); err == nil {
			return nil
		}
	}
	return err
}

// fitsBeside reports whether the variables of a route are those of its siblings.
func fitsBeside(draft map[string]*release.Route, r *release.Route) bool {
	for _, slot := range release.VariableSlots(r.Path) {
		for _, other := range draft {
			if strings.HasPrefix(other.Path, slot.Parent+"{") && release.CheckSibling(r, slot, other.Path) != nil {
				return false
			}
		}
	}
	return true
}

func integrationSpec(i release.Integration) route.IntegrationSpec {
	switch i := i.(type) {
	case release.HTTP:
		return route.HTTPSpec{URI: i.URI, Method: i.Method}
	case release.Lambda:
		return route.LambdaSpec{Function: i.Function, Qualifier: i.Qualifier}
	case release.Mock:
		return route.MockSpec{Status: i.Status, Headers: i.Headers, Body: i.Body}
	}
	return nil
}

// routes are made of pieces that rules may differ about.
func routes() *rapid.Generator[*release.Route] {
	method := mostly("GET", rapid.SampledFrom([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "ANY", "get", "TRACE", ""}))
	path := pieces("/", 4, "/", "/a", "/{id}", "/{id+}", "/{a.b-c_d}", "/{proxy+}", "/.", "/..", "/...", "/%41", "/~!$&'()*+,;=:@", "/[", "/é", "/{}", "/{+}", "/{i d}", "/{x}y", "/ ", "/\x7f", "//")
	uri := rapid.Custom(func(t *rapid.T) string {
		scheme := rapid.SampledFrom([]string{"http://", "http://", "http://", "https://", "HTTP://", "http:/", "", "${stageVariables.a}://"}).Draw(t, "scheme")
		host := pieces("h", 2, "h", "a.b", ":", ":80", ":99999", ":080", ":000080", "~", "[fe80::1%25e]", ":x", "[::1]", "[", "]", "u@", "u:p@", "%41", "_", "-", "!", "${stageVariables.a}", "${stageVariables.}", "${stageVariables.a b}", "$", "{id}", ",", ";", "é", "\\").Draw(t, "host")
		rest := pieces("", 4, "/", "/a", "/{id}", "/{id+}", "/{a.b-c_d}", "/{proxy+}", "/{proxy}", "{id}", "?", "?a=b", "&", "#", "/..", "/.", "..", ".", "%2f", "%2e", "%", "%zz", "%00", "%7Bid%7D", "${stageVariables.a}", "/${stageVariables.a}{id}",
			"${a}", "{", "}", "}{", "$", " ", "\\", "\"", "<", "^", "`", "|", "é", "[", "]", ":", "@", "//", "\x00", "'", "(", "*").Draw(t, "rest")
		return scheme + host + rest
	})
	text := pieces("", 3, "f", "F-_0", "arn:aws:lambda:eu-west-1:123456789012:function:", "arn:aws-cn:lambda:cn-1:123456789012:function:f", "arn:awsx:lambda::1:function:", ":", ":1", ":$LATEST", "$LATEST", "$", "${stageVariables.a}", "${stageVariables.",
		"${stageVariables.a_Z9}", "{id}", "}", "/", ".", " ", "é", "\x00", strings.Repeat("n", 64), strings.Repeat("n", 63), strings.Repeat("n", 127), "${stageVariables."+strings.Repeat("v", 64)+"}", "${stageVariables."+strings.Repeat("v", 65)+"}")
	return rapid.Custom(func(t *rapid.T) *release.Route {
		r := &release.Route{
			Method: method.Draw(t, "method"), Path: path.Draw(t, "path"),
			Timeout: mostly(0, rapid.SampledFrom([]time.Duration{time.Nanosecond, 50*time.Millisecond - 1, 50 * time.Millisecond, 29 * time.Second, 29*time.Second + 1, -1})).Draw(t, "timeout"),
		}
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			r.Integration = release.HTTP{URI: uri.Draw(t, "uri"), Method: mostly("", rapid.SampledFrom([]string{"GET", "ANY", "get", "M-SEARCH", "TRACE", "QUERY"})).Draw(t, "method of the upstream")}
		case 1:
			r.Integration = release.Lambda{Function: text.Draw(t, "function"), Qualifier: mostly("", text).Draw(t, "qualifier")}
		default:
			r.Integration = release.Mock{
				Status: mostly(200, rapid.SampledFrom([]int{199, 0, 599, 600, 204})).Draw(t, "status"),
				Headers: rapid.MapOfN(rapid.SampledFrom([]string{"X", "Y", "Z", "", "a b", "é", "x_y", "x`|~", "\"", "X\x00"}), rapid.SampledFrom([]string{"", "v", " v ", "\t", "\r", "\x7f", "é", "\x80\xff"}), 0, 2).
					Draw(t, "headers"),
				Body: mostly("", rapid.SampledFrom([]string{strings.Repeat("b", 64<<10), strings.Repeat("b", 64<<10+1)})).Draw(t, "body"),
			}
		}
		return r
	})
}

// mostly is one value, and one of some others now and then.
func mostly[T any](usual T, others *rapid.Generator[T]) *rapid.Generator[T] {
	return rapid.OneOf(rapid.Just(usual), rapid.Just(usual), rapid.Just(usual), others)
}

// pieces are up to most of some texts in a row, behind a first one in most cases.
func pieces(first string, most int, some ...string) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		begin := rapid.SampledFrom([]string{first, first, first, ""}).Draw(t, "first")
		if begin == "/" {
			begin = "" // every piece of a path brings its own
		}
		return begin + strings.Join(rapid.SliceOfN(rapid.SampledFrom(some), 0, most).Draw(t, "pieces"), "")
	})
}
