package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fifegateway/fife/controlplane/release"
)

func TestVersionOrder(t *testing.T) {
	ordered := []Version{{}, {0, 1}, {1, 0}, {1, 1}, {1, 2}, {2, 0}, {2, 1}}
	for i, a := range ordered {
		for j, b := range ordered {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := a.Compare(b); got != want {
				t.Errorf("%v with %v: got %d, want %d", a, b, got, want)
			}
		}
	}
	if got := (Version{Epoch: 3, Index: 14}).String(); got != "3.14" {
		t.Errorf("got %s", got)
	}
}

// TestWalks: every list begins at the key that it is asked to begin at, whether
// or not anything has that key, and keeps to its API.
func TestWalks(t *testing.T) {
	ids := rapid.StringMatching(`[ab-]{1,3}`)
	paths := rapid.StringMatching(`/[ab!~{}/]{0,4}`)
	methods := rapid.SampledFrom([]string{"ANY", "GET"})
	rapid.Check(t, func(rt *rapid.T) {
		s := newState()
		tx := tx{next: s, index: 1}
		var apis, stages, routes, deployments []string
		for range rapid.IntRange(0, 12).Draw(rt, "size") {
			api, stage := ids.Draw(rt, "api"), ids.Draw(rt, "stage")
			r := &release.Route{Method: methods.Draw(rt, "method"), Path: paths.Draw(rt, "path")}
			d := &release.Deployment{API: api, Number: pick[uint64](rt, "number", 1, 2, 255, 256, 65536)}
			tx.setAPI(&release.API{ID: api})
			s.routes, _, _ = s.routes.Insert(routeKey(api, r.Method, r.Path), r)
			s.stages, _, _ = s.stages.Insert(key(api, stage), &release.Stage{API: api, ID: stage})
			s.deployments, _, _ = s.deployments.Insert(deploymentKey(api, d.Number), d)
			apis, stages = append(apis, api), append(stages, order(api, stage))
			routes = append(routes, order(api, r.Path, r.Method))
			deployments = append(deployments, order(api, fmt.Sprintf("%08d", d.Number)))
		}
		api, stage, path, method := ids.Draw(rt, "from api"), ids.Draw(rt, "from stage"), paths.Draw(rt, "from path"), methods.Draw(rt, "from method")
		number := rapid.Uint64Range(0, 300).Draw(rt, "from number")
		check := func(what string, got []string, all []string, prefix, from string) {
			t.Helper()
			var want []string
			for _, k := range slices.Compact(slices.Sorted(slices.Values(all))) {
				if strings.HasPrefix(k, prefix) && k >= from {
					want = append(want, k)
				}
			}
			if !slices.Equal(got, want) {
				rt.Fatalf("%s of %q from %q: got %q, want %q", what, prefix, from, got, want)
			}
		}
		var got []string
		for a := range s.APIs(api) {
			got = append(got, a.ID)
		}
		check("APIs", got, apis, "", api)
		got = nil
		for r := range s.Routes(api, method, path) {
			got = append(got, order(api, r.Path, r.Method))
		}
		check("Routes", got, routes, order(api, ""), order(api, path, method))
		got = nil
		for x := range s.Stages(api, stage) {
			got = append(got, order(x.API, x.ID))
		}
		check("Stages", got, stages, order(api, ""), order(api, stage))
		got = nil
		for x := range s.AllStages(api, stage) {
			got = append(got, order(x.API, x.ID))
		}
		check("AllStages", got, stages, "", order(api, stage))
		got = nil
		for d := range s.Deployments(api, number) {
			got = append(got, order(d.API, fmt.Sprintf("%08d", d.Number)))
		}
		check("Deployments", got, deployments, order(api, ""), order(api, fmt.Sprintf("%08d", number)))
	})
}

// order writes the parts of a key so that texts sort as the keys should: part by
// part, a part that is a prefix of another first.
func order(parts ...string) string { return strings.Join(parts, "\x00") }

// TestWalksStop: whoever has seen enough can leave.
func TestWalksStop(t *testing.T) {
	r := newReplica()
	for _, id := range []string{"a", "b", "c"} {
		r.apply(t, createAPI(id))
	}
	n := 0
	for range r.state().APIs("") {
		n++
		break
	}
	for range r.state().Resources(nil) {
		n++
		break
	}
	if n != 2 {
		t.Errorf("saw %d", n)
	}
}
