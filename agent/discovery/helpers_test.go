package discovery

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fifegateway/fife/agent/route"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

var update = flag.Bool("update", false, "write the fixtures that do not exist instead of failing without them")

// fixture is a directory in the first on-disk format. It is never written again:
// a newer format gets a fixture beside it.
const fixture = "testdata/lastgood-1"

func version(index uint64) *discoveryv1.Version {
	return &discoveryv1.Version{Epoch: 1, Index: index}
}

func api(id string, revision uint64, hosts ...string) *discoveryv1.Resource {
	return &discoveryv1.Resource{
		Name:     "apis/" + id,
		Revision: revision,
		Body:     &discoveryv1.Resource_Api{Api: &discoveryv1.Api{Hosts: hosts}},
	}
}

// deployment has one route, GET /, which answers with the deployment's name.
func deployment(id string, number, revision uint64) *discoveryv1.Resource {
	return deploymentOf(id, number, revision, &discoveryv1.Route{
		Method:      "GET",
		Path:        "/",
		Integration: &discoveryv1.Route_Mock{Mock: &discoveryv1.MockIntegration{Body: fmt.Sprintf("%s/%d", id, number)}},
	})
}

func deploymentOf(id string, number, revision uint64, routes ...*discoveryv1.Route) *discoveryv1.Resource {
	return &discoveryv1.Resource{
		Name:     fmt.Sprintf("apis/%s/deployments/%d", id, number),
		Revision: revision,
		Body:     &discoveryv1.Resource_Deployment{Deployment: &discoveryv1.Deployment{Routes: routes}},
	}
}

func stage(id, name string, number, revision uint64, change ...func(*discoveryv1.Stage)) *discoveryv1.Resource {
	s := &discoveryv1.Stage{Deployment: number}
	for _, f := range change {
		f(s)
	}
	return &discoveryv1.Resource{
		Name:     fmt.Sprintf("apis/%s/stages/%s", id, name),
		Revision: revision,
		Body:     &discoveryv1.Resource_Stage{Stage: s},
	}
}

func canary(number uint64, ppm uint32) func(*discoveryv1.Stage) {
	return func(s *discoveryv1.Stage) {
		s.Canary = &discoveryv1.Canary{Deployment: number, PartsPerMillion: ppm}
	}
}

// controlPlane makes frames as a node does: it knows what agents hold.
type controlPlane struct {
	index     uint64
	resources []*discoveryv1.Resource
}

// step moves to index with what is put and removed, and returns the frame.
func (c *controlPlane) step(index uint64, upserts []*discoveryv1.Resource, removes ...string) *discoveryv1.Frame {
	f := &discoveryv1.Frame{To: version(index), Upserts: upserts, Removes: removes}
	if c.index > 0 {
		f.From = version(c.index)
	}
	c.index = index
	c.resources = slices.DeleteFunc(c.resources, func(r *discoveryv1.Resource) bool {
		return slices.Contains(removes, r.GetName()) ||
			slices.ContainsFunc(upserts, func(u *discoveryv1.Resource) bool { return u.GetName() == r.GetName() })
	})
	c.resources = append(c.resources, upserts...)
	f.Digest = c.digest()
	return f
}

// full returns a full snapshot.
func (c *controlPlane) full() *discoveryv1.Frame {
	return &discoveryv1.Frame{To: version(c.index), Upserts: slices.Clone(c.resources), Digest: c.digest()}
}

func (c *controlPlane) digest() (sum uint64) {
	for _, r := range c.resources {
		sum += digest(r)
	}
	return sum
}

// newControlPlane is at version 1.10: API demo with deployments 1 and 2, of
// which stage prod serves the first.
func newControlPlane() *controlPlane {
	c := new(controlPlane)
	c.step(10, []*discoveryv1.Resource{
		api("demo", 3), deployment("demo", 1, 5), deployment("demo", 2, 8), stage("demo", "prod", 1, 9),
	})
	return c
}

func one(r ...*discoveryv1.Resource) []*discoveryv1.Resource { return r }

func mustApply(t testing.TB, h *held, f *discoveryv1.Frame) *held {
	t.Helper()
	next, err := h.apply(f, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// served returns what answers a GET of / on a stage, as "API/DEPLOYMENT", or
// "none".
func served(table *route.Table, apiID, stageID string) string {
	s, rest, ok := table.Lookup(apiID+".localhost", "/"+stageID, "")
	if !ok {
		return "none"
	}
	var p route.Params
	r := s.Pick(0).Match("GET", rest, &p)
	if r == nil {
		return "no route"
	}
	return r.Integration.(*route.Mock).Body
}
