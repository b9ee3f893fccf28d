package access

import (
	"slices"
	"testing"
)

// TestNeeds: what is not named for certain needs the permission on everything.
func TestNeeds(t *testing.T) {
	named := on("name", StagesRead)
	created := Method{Permission: StagesManage, Name: "parent", Stage: "id"}
	deployed := Method{Permission: APIsEdit, Name: "parent", Stage: "stage", Instead: []Instead{
		{When: "stage", Permission: StagesDeploy},
		{When: "mask", Except: []string{"canary"}, Permission: StagesManage},
		{When: "wide", Permission: APIsManage, Whole: true},
	}}
	bound := Method{Permission: AccessManage, API: "api", Stage: "stage"}
	for _, tt := range []struct {
		what   string
		method Method
		fields map[string]string
		masks  map[string][]string
		want   Permission
		on     Resource
	}{
		{"an API", named, map[string]string{"name": "apis/a"}, nil, StagesRead, Resource{API: "a"}},
		{"a stage", named, map[string]string{"name": "apis/a/stages/s"}, nil, StagesRead, Resource{API: "a", Stage: "s"}},
		{"a deployment", named, map[string]string{"name": "apis/a/deployments/1"}, nil, StagesRead, Resource{API: "a"}},
		{"no name", named, nil, nil, StagesRead, Everything},
		{"an agent of the name", named, map[string]string{"name": "agents/a"}, nil, StagesRead, Everything},
		{"something else of the API", named, map[string]string{"name": "apis/a/keys/s"}, nil, StagesRead, Everything},
		{"an empty part", named, map[string]string{"name": "apis//stages/s"}, nil, StagesRead, Everything},
		{"a new stage", created, map[string]string{"parent": "apis/a", "id": "s"}, nil, StagesManage, Resource{API: "a", Stage: "s"}},
		{"a new stage without an id", created, map[string]string{"parent": "apis/a"}, nil, StagesManage, Everything},
		{"a deployment on no stage", deployed, map[string]string{"parent": "apis/a"}, nil, APIsEdit, Resource{API: "a"}},
		{"a deployment on a stage", deployed, map[string]string{"parent": "apis/a", "stage": "s"}, nil, StagesDeploy, Resource{API: "a", Stage: "s"}},
		{"one that sets its canary", deployed, map[string]string{"parent": "apis/a", "stage": "s"}, map[string][]string{"mask": {"canary"}}, StagesDeploy, Resource{API: "a", Stage: "s"}},
		{"one that sets more", deployed, map[string]string{"parent": "apis/a", "stage": "s"}, map[string][]string{"mask": {"canary", "split"}}, StagesManage, Resource{API: "a", Stage: "s"}},
		{"one that changes the API", deployed, map[string]string{"parent": "apis/a", "wide": "x"}, nil, APIsManage, Resource{API: "a", Stage: "*"}},
		{"ids", bound, map[string]string{"api": "a", "stage": "s"}, nil, AccessManage, Resource{API: "a", Stage: "s"}},
		{"ids without an API", bound, map[string]string{"stage": "s"}, nil, AccessManage, Everything},
		{"ids without a stage", bound, map[string]string{"api": "a"}, nil, AccessManage, Everything},
		{"nothing in particular", Method{Permission: ClusterManage}, map[string]string{"name": "apis/a"}, nil, ClusterManage, Everything},
		{"anything", Method{Permission: FleetRead, Some: true}, nil, nil, FleetRead, Resource{}},
	} {
		set := func(path string, except []string) bool {
			if list, ok := tt.masks[path]; ok {
				return slices.ContainsFunc(list, func(text string) bool { return !slices.Contains(except, text) })
			}
			return tt.fields[path] != ""
		}
		p, r := tt.method.Needs(func(path string) string { return tt.fields[path] }, set)
		if p != tt.want || r != tt.on {
			t.Errorf("%s needs %s on %+v, want %s on %+v", tt.what, p, r, tt.want, tt.on)
		}
	}
}
