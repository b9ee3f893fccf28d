package release_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fifegateway/fife/controlplane/release"
)

func TestCheckAPI(t *testing.T) {
	many := func(n int, format string) []string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf(format, i))
		}
		return out
	}
	tests := map[string]struct {
		api  release.API
		want fault
	}{
		"zero":              {},
		"all fields":        {api: release.API{Hosts: []string{"a.example.com", "127.0.0.1"}, DefaultTimeout: time.Second, BinaryMediaTypes: []string{"image/png", "*/*"}}},
		"20 hosts":          {api: release.API{Hosts: many(20, "h%d.example")}},
		"21 hosts":          {release.API{Hosts: many(21, "h%d.example")}, fault{"api.hosts", "has 21 entries, at most 20"}},
		"host twice":        {release.API{Hosts: []string{"a.b", "c", "a.b"}}, fault{"api.hosts", `"a.b" is named twice`}},
		"host with port":    {release.API{Hosts: []string{"a.b:80"}}, fault{"api.hosts", `"a.b:80" must be a lower-case host name without port`}},
		"host upper case":   {release.API{Hosts: []string{"A.b"}}, fault{"api.hosts", `"A.b"`}},
		"host empty":        {release.API{Hosts: []string{""}}, fault{"api.hosts", `""`}},
		"host empty label":  {release.API{Hosts: []string{"a..b"}}, fault{"api.hosts", `"a..b"`}},
		"host trailing dot": {release.API{Hosts: []string{"a.b."}}, fault{"api.hosts", `"a.b."`}},
		"host wildcard":     {release.API{Hosts: []string{"*.b"}}, fault{"api.hosts", `"*.b"`}},
		"host long label":   {release.API{Hosts: []string{strings.Repeat("a", 64) + ".b"}}, fault{"api.hosts", "must be a lower-case host name"}},
		"host of 253":       {api: release.API{Hosts: []string{strings.Repeat("a.", 126) + "a"}}},
		"host of 254":       {release.API{Hosts: []string{strings.Repeat("a.", 126) + "ab"}}, fault{"api.hosts", "must be a lower-case host name"}},
		"timeout":           {release.API{DefaultTimeout: 30 * time.Second}, fault{"api.default_timeout", "30s"}},
		"description":       {release.API{Description: strings.Repeat("x", 1025)}, fault{"api.description", "1025"}},
		"64 media types":    {api: release.API{BinaryMediaTypes: many(64, "image/x%d")}},
		"65 media types":    {release.API{BinaryMediaTypes: many(65, "image/x%d")}, fault{"api.binary_media_types", "has 65 entries"}},
		"no media type":     {release.API{BinaryMediaTypes: []string{"image"}}, fault{"api.binary_media_types", `"image"`}},
		"no subtype":        {release.API{BinaryMediaTypes: []string{"image/"}}, fault{"api.binary_media_types", `"image/"`}},
		"no main type":      {release.API{BinaryMediaTypes: []string{"/png"}}, fault{"api.binary_media_types", `"/png"`}},
		"media parameter":   {release.API{BinaryMediaTypes: []string{"text/plain;charset=utf-8"}}, fault{"api.binary_media_types", "without parameters"}},
		"media list":        {release.API{BinaryMediaTypes: []string{"a/b,c/d"}}, fault{"api.binary_media_types", `"a/b,c/d"`}},
		"long media type":   {release.API{BinaryMediaTypes: []string{"a/" + strings.Repeat("b", 127)}}, fault{"api.binary_media_types", "must be a media type"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var v release.Violations
			release.CheckAPI(&v, "api.", &tt.api)
			wantFault(t, v, tt.want)
		})
	}
}

// TestAPIUpdate: each field is taken if it is named, and only then.
func TestAPIUpdate(t *testing.T) {
	old := &release.API{
		ID: "demo", Description: "old", Hosts: []string{"old"}, DefaultTimeout: time.Second,
		BinaryMediaTypes: []string{"a/b"}, CreateTime: change(1).Time, UpdateTime: change(1).Time,
		Revision: 7, LastDeployment: 3, RouteCount: 2,
	}
	values := &release.API{
		ID: "other", Description: "new", Hosts: []string{"new"}, DefaultTimeout: 2 * time.Second,
		BinaryMediaTypes: []string{"c/d"}, CreateTime: change(9).Time, Revision: 99, LastDeployment: 99, RouteCount: 99,
	}
	before := *old
	expect := map[string]func(*release.API){
		release.FieldDescription:      func(a *release.API) { a.Description = "new" },
		release.FieldHosts:            func(a *release.API) { a.Hosts = []string{"new"} },
		release.FieldDefaultTimeout:   func(a *release.API) { a.DefaultTimeout = 2 * time.Second },
		release.FieldBinaryMediaTypes: func(a *release.API) { a.BinaryMediaTypes = []string{"c/d"} },
	}
	check := func(fields ...string) {
		t.Helper()
		want := before
		want.UpdateTime = change(5).Time
		for _, f := range fields {
			expect[f](&want)
		}
		if got := old.Update(change(5).Time, values, fields); !reflect.DeepEqual(*got, want) {
			t.Errorf("fields %v: got %+v, want %+v", fields, *got, want)
		}
	}
	check()
	for _, f := range release.APIFields() {
		check(f)
	}
	check(release.APIFields()...)
	if !reflect.DeepEqual(*old, before) {
		t.Errorf("the receiver changed to %+v", *old)
	}
}
