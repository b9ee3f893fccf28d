package release_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/fifegateway/fife/controlplane/release"
)

func TestCheckVariables(t *testing.T) {
	tests := map[string]struct {
		vars map[string]string
		want fault
	}{
		"none":          {},
		"all name":      {vars: vars("AZaz09_", "v")},
		"all value":     {vars: vars("n", "AZaz09-._~:/?#&=,")},
		"longest":       {vars: vars(strings.Repeat("n", 64), strings.Repeat("v", 512))},
		"100":           {vars: manyVars("n", 100)},
		"101":           {manyVars("n", 101), fault{"f", "has 101 entries, at most 100"}},
		"empty name":    {vars("", "v"), fault{"f", `name ""`}},
		"name dash":     {vars("a-b", "v"), fault{"f", `name "a-b" must have 1 to 64`}},
		"name dot":      {vars("a.b", "v"), fault{"f", `name "a.b"`}},
		"name long":     {vars(strings.Repeat("n", 65), "v"), fault{"f", "must have 1 to 64"}},
		"name umlaut":   {vars("ä", "v"), fault{"f", `name "ä"`}},
		"empty value":   {vars("n", ""), fault{"f", `value "" of "n" must have 1 to 512`}},
		"value space":   {vars("n", "a b"), fault{"f", `value "a b"`}},
		"value percent": {vars("n", "%41"), fault{"f", `value "%41"`}},
		"value dollar":  {vars("n", "${stageVariables.m}"), fault{"f", "${stageVariables.m}"}},
		"value newline": {vars("n", "a\n"), fault{"f", `"a\n"`}},
		"value long":    {vars("n", strings.Repeat("v", 513)), fault{"f", "must have 1 to 512"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var v release.Violations
			release.CheckVariables(&v, "f", tt.vars)
			wantFault(t, v, tt.want)
		})
	}
}

func TestMergeVariables(t *testing.T) {
	base, overrides := vars("a", "1", "b", "1"), vars("b", "2", "c", "2")
	tests := []struct{ base, overrides, want map[string]string }{
		{nil, nil, nil},
		{base, nil, vars("a", "1", "b", "1")},
		{nil, overrides, vars("b", "2", "c", "2")},
		{base, overrides, vars("a", "1", "b", "2", "c", "2")},
	}
	for _, tt := range tests {
		if got := release.MergeVariables(tt.base, tt.overrides); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%v with %v: got %v, want %v", tt.base, tt.overrides, got, tt.want)
		}
	}
	if len(base) != 2 || base["b"] != "1" || len(overrides) != 2 {
		t.Errorf("the arguments changed: %v, %v", base, overrides)
	}
}

func TestUnsetVariables(t *testing.T) {
	d := &release.Deployment{Routes: []*release.Route{
		{Method: "GET", Path: "/h", Integration: release.HTTP{URI: "http://${stageVariables.host}/${stageVariables.host}?q=${stageVariables.q}"}},
		{Method: "GET", Path: "/l", Integration: release.Lambda{Function: "${stageVariables.f}", Qualifier: "${stageVariables.q}"}},
		{Method: "GET", Path: "/m", Integration: release.Mock{Status: 200, Body: "${stageVariables.no}"}},
		{Method: "GET", Path: "/n"},
	}}
	want := []string{
		`GET /h uses stage variable "host", which is not set: it will answer 500`,
		`GET /l uses stage variable "f", which is not set: it will answer 500`,
	}
	if got := release.UnsetVariables(d, vars("q", "1")); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := release.UnsetVariables(d, vars("q", "1", "host", "h", "f", "g")); got != nil {
		t.Errorf("all set: got %q", got)
	}
}
