package release_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fifegateway/fife/controlplane/release"
)

func freeze(t *testing.T, api release.API, draft ...*release.Route) *release.Deployment {
	t.Helper()
	slices.SortFunc(draft, release.CompareRoutes)
	d, err := release.Freeze(&api, draft, "", change(1).Time, 1)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func route(method, path string, i release.Integration) *release.Route {
	return &release.Route{Method: method, Path: path, Integration: i, Revision: 5}
}

func mock(status int) release.Mock { return release.Mock{Status: status} }

func TestFreeze(t *testing.T) {
	api := &release.API{ID: "demo", LastDeployment: 6, BinaryMediaTypes: []string{"image/png"}, Revision: 3}
	draft := []*release.Route{route("GET", "/a", mock(200)), route("ANY", "/b", mock(201))}
	d, err := release.Freeze(api, draft, "why", change(4).Time, 42)
	if err != nil {
		t.Fatal(err)
	}
	want := &release.Deployment{
		API: "demo", Number: 7, Description: "why", CreateTime: change(4).Time, Digest: d.Digest,
		DefaultTimeout: 29 * time.Second, BinaryMediaTypes: []string{"image/png"}, Revision: 42, RouteCount: 2,
		Routes: []*release.Route{
			{Method: "GET", Path: "/a", Integration: mock(200)}, {Method: "ANY", Path: "/b", Integration: mock(201)},
		},
	}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("got %+v, want %+v", d, want)
	}
	if draft[0].Revision != 5 || api.LastDeployment != 6 {
		t.Error("the draft or the API changed")
	}
	draft[0].Path = "/c" // the draft is no part of the deployment
	if d.Routes[0].Path != "/a" {
		t.Error("the deployment changed with the draft")
	}
	api.DefaultTimeout = time.Second
	if d := freeze(t, *api, route("GET", "/", mock(200))); d.DefaultTimeout != time.Second {
		t.Errorf("the API's timeout became %v", d.DefaultTimeout)
	}
}

func TestFreezeRefuses(t *testing.T) {
	api := &release.API{ID: "demo"}
	_, err := release.Freeze(api, nil, "", change(1).Time, 1)
	if r := wantRefusal(t, err, release.APIEmpty); r.Metadata["resource"] != "apis/demo" {
		t.Errorf("metadata %v", r.Metadata)
	}
	_, err = release.Freeze(api, []*release.Route{route("GET", "/a", mock(200)), route("PUT", "/b", nil)}, "", change(1).Time, 1)
	r := wantRefusal(t, err, release.RouteIncomplete)
	if !reflect.DeepEqual(r.Metadata, vars("resource", "apis/demo", "route", "PUT /b")) {
		t.Errorf("metadata %v", r.Metadata)
	}
}

// TestFreezeLimit: what is too large to reach agents is not deployed.
func TestFreezeLimit(t *testing.T) {
	api := &release.API{ID: "demo"}
	draft := make([]*release.Route, release.MaxDeployment/release.MaxMockBody+1)
	for i := range draft {
		draft[i] = route("GET", fmt.Sprintf("/%04d", i), release.Mock{Status: 200, Body: strings.Repeat("b", release.MaxMockBody)})
	}
	_, err := release.Freeze(api, draft, "", change(1).Time, 1)
	if r := wantRefusal(t, err, release.LimitReached); r.Metadata["limit"] != "16777216" || r.Metadata["resource"] != "apis/demo" {
		t.Errorf("metadata %v", r.Metadata)
	}
	if _, err := release.Freeze(api, draft[:len(draft)-2], "", change(1).Time, 1); err != nil {
		t.Errorf("a little less: %v", err)
	}
}

// TestDigest: the same contents have the same digest, whatever else differs; any
// field that decides an answer changes it; and no text can pass for two.
func TestDigest(t *testing.T) {
	contents := map[string]func() (release.API, []*release.Route){}
	one := func(name string, r *release.Route) {
		contents[name] = func() (release.API, []*release.Route) { return release.API{}, []*release.Route{r} }
	}
	one("start", route("GET", "/", release.HTTP{URI: "http://h"}))
	one("method", route("PUT", "/", release.HTTP{URI: "http://h"}))
	one("path", route("GET", "/a", release.HTTP{URI: "http://h"}))
	one("timeout", &release.Route{Method: "GET", Path: "/", Integration: release.HTTP{URI: "http://h"}, Timeout: time.Second})
	one("uri", route("GET", "/", release.HTTP{URI: "http://i"}))
	one("upstream method", route("GET", "/", release.HTTP{URI: "http://h", Method: "PUT"}))
	one("lambda", route("GET", "/", release.Lambda{Function: "f"}))
	one("lambda named like the uri", route("GET", "/", release.Lambda{Function: "http://h"}))
	one("qualifier", route("GET", "/", release.Lambda{Function: "f", Qualifier: "1"}))
	one("function and qualifier shifted", route("GET", "/", release.Lambda{Function: "f1"}))
	one("mock", route("GET", "/", release.Mock{Status: 200}))
	one("mock status", route("GET", "/", release.Mock{Status: 201}))
	one("mock body", route("GET", "/", release.Mock{Status: 200, Body: "b"}))
	one("mock header", route("GET", "/", release.Mock{Status: 200, Headers: vars("a", "b")}))
	one("mock header value", route("GET", "/", release.Mock{Status: 200, Headers: vars("a", "c")}))
	one("mock header shifted", route("GET", "/", release.Mock{Status: 200, Headers: vars("ab", "")}))
	one("mock two headers", route("GET", "/", release.Mock{Status: 200, Headers: vars("a", "b", "c", "d")}))
	contents["two routes"] = func() (release.API, []*release.Route) {
		return release.API{}, []*release.Route{
			route("GET", "/", release.HTTP{URI: "http://h"}), route("GET", "/a", release.HTTP{URI: "http://h"}),
		}
	}
	api := func(name string, a release.API) {
		contents[name] = func() (release.API, []*release.Route) {
			return a, []*release.Route{route("GET", "/", release.HTTP{URI: "http://h"})}
		}
	}
	api("default timeout", release.API{DefaultTimeout: time.Second})
	api("media type", release.API{BinaryMediaTypes: []string{"a/b"}})
	api("two media types", release.API{BinaryMediaTypes: []string{"a/b", "c/d"}})
	api("media types shifted", release.API{BinaryMediaTypes: []string{"a/bc/d"}})

	seen := map[string]string{}
	for name, make := range contents {
		a, draft := make()
		first := fmt.Sprintf("%x", freeze(t, a, draft...).Digest)
		if other, ok := seen[first]; ok {
			t.Errorf("%q and %q have the same digest", name, other)
		}
		seen[first] = name
		a, draft = make()
		a.ID, a.Description, a.Hosts, a.LastDeployment, a.Revision = "other", "d", []string{"h"}, 9, 9
		for _, r := range draft {
			r.Revision = 77
		}
		if again := fmt.Sprintf("%x", freeze(t, a, draft...).Digest); again != first {
			t.Errorf("%q: the same contents have digests %s and %s", name, first, again)
		}
	}
}

func TestDiffRoutes(t *testing.T) {
	start := freeze(t, release.API{},
		route("GET", "/a", mock(200)), route("PUT", "/a", mock(200)), route("GET", "/a/b", mock(200)), route("GET", "/z", mock(200)))
	short := release.API{DefaultTimeout: time.Second}
	tests := map[string]struct {
		from, to *release.Deployment
		want     release.RouteDiff
	}{
		"nothing":      {start, start, release.RouteDiff{}},
		"from nothing": {nil, start, release.RouteDiff{Added: []string{"GET /a", "PUT /a", "GET /a/b", "GET /z"}}},
		"all kinds": {start, freeze(t, release.API{},
			route("GET", "/a", mock(201)), route("POST", "/a", mock(200)), route("GET", "/a/b", mock(200)), route("GET", "/zz", mock(200))),
			release.RouteDiff{Added: []string{"POST /a", "GET /zz"}, Removed: []string{"PUT /a", "GET /z"}, Changed: []string{"GET /a"}}},
		"another kind of integration": {start, freeze(t, release.API{},
			route("GET", "/a", release.Lambda{Function: "f"}), route("PUT", "/a", mock(200)), route("GET", "/a/b", mock(200)), route("GET", "/z", mock(200))),
			release.RouteDiff{Changed: []string{"GET /a"}}},
		"default timeout": {freeze(t, release.API{}, route("GET", "/", mock(200))), freeze(t, short, route("GET", "/", mock(200))),
			release.RouteDiff{Changed: []string{"GET /"}}},
		"the same timeout, said otherwise": {
			freeze(t, short, route("GET", "/", mock(200))),
			freeze(t, release.API{}, &release.Route{Method: "GET", Path: "/", Integration: mock(200), Timeout: time.Second}),
			release.RouteDiff{}},
	}
	for name, tt := range tests {
		if got := release.DiffRoutes(tt.from, tt.to); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
	}
}
