//go:build linux

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// clients is how many clients make calls at the same time.
const clients = 10

func TestLinearizableWhileProcessesFail(t *testing.T) {
	c := startCluster(t, loopback(t))
	for i := range *histories {
		t.Run(fmt.Sprint("history=", i+1), func(t *testing.T) { record(t, c, i, processFaults) })
	}
}

// record lets clients make calls while one fault after the other happens, and
// checks what they saw.
func record(t *testing.T, c *cluster, number int, faults []fault) {
	api := fmt.Sprintf("h%d", number+1)
	prepare(t, c, api)
	r := rand.New(rand.NewPCG(*seed, uint64(number)))
	length := time.Duration(*length) * time.Second
	begin := time.Now()
	clock := func() int64 { return int64(time.Since(begin)) }
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()

	// Three stages are in use at a time, and new ones come up as the history goes on.
	generation := max(length/20, 3*time.Second)
	var all []*client
	var wg sync.WaitGroup
	bugs := make([]error, clients)
	for id := range clients {
		own := rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
		one := &client{
			id: id, api: api, cluster: c, rand: own, clock: clock, seen: map[string]answer{}, tally: map[string]int{},
			stages: func() string { return fmt.Sprintf("s%d", int(time.Since(begin)/generation)+own.IntN(3)) },
		}
		all = append(all, one)
		wg.Go(func() { bugs[id] = one.run(ctx) })
	}
	struck := map[string]int{}
	for i := 2 * number; pause(ctx, between(r, 300*time.Millisecond, 1500*time.Millisecond)); i++ {
		f := faults[i%len(faults)]
		if err := f.strike(ctx, c, r); err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
		struck[f.name]++
	}
	wg.Wait()
	if err := errors.Join(bugs...); err != nil {
		t.Fatal(err)
	}
	c.awaitLeader(t)
	history := slices.Concat(lastLook(t, c, all[0]), collect(all))
	c.awaitSame(t)
	checking := time.Now()
	findings := check(history)
	t.Logf("%d calls in %v: %v; faults: %v; checked in %v", len(history), length, tallies(all), struck,
		time.Since(checking).Round(time.Millisecond))
	for _, f := range findings {
		report(t, f)
	}
}

// prepare makes an API with deployments for the stages of a history.
func prepare(t *testing.T, c *cluster, api string) {
	t.Helper()
	n := c.nodes[0]
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c.awaitLeader(t)
	_, err := n.apis.CreateApi(ctx, &fifev1.CreateApiRequest{ApiId: api})
	if err == nil {
		_, err = n.apis.PutRoute(ctx, &fifev1.PutRouteRequest{Parent: "apis/" + api, Route: mockRoute("/", "ok")})
	}
	for range deployments {
		if err == nil {
			_, err = n.deployments.CreateDeployment(ctx, &fifev1.CreateDeploymentRequest{Parent: "apis/" + api})
		}
	}
	if err != nil {
		t.Fatalf("prepare %s: %v", api, err)
	}
}

func mockRoute(path, body string) *fifev1.Route {
	return &fifev1.Route{Method: "GET", Path: path, Integration: &fifev1.Integration{
		Kind: &fifev1.Integration_Mock{Mock: &fifev1.MockIntegration{Body: body}},
	}}
}

// lastLook reads every stage once more, through every node, now that all is well.
func lastLook(t *testing.T, c *cluster, as *client) []porcupine.Operation {
	t.Helper()
	var history []porcupine.Operation
	stages := map[string]bool{}
	for _, op := range as.history {
		stages[op.Input.(call).stage] = true
	}
	for _, name := range slices.Sorted(maps.Keys(stages)) {
		for i, n := range c.nodes {
			op := porcupine.Operation{ClientId: clients + i, Input: call{move: get, stage: name}, Call: as.clock()}
			await(t, patience, fmt.Sprintf("read %s through %s", name, n.name), func(ctx context.Context) error {
				a, err := n.do(ctx, as.api, op.Input.(call), "")
				if err == nil && a.unknown {
					err = errors.New("no answer")
				}
				op.Output, op.Return = a, as.clock()
				return err
			})
			history = append(history, op)
		}
	}
	return history
}

func collect(all []*client) []porcupine.Operation {
	var history []porcupine.Operation
	for _, c := range all {
		history = append(history, c.history...)
	}
	return history
}

// tallies sums up what the calls of all clients came to.
func tallies(all []*client) string {
	sum := map[string]int{}
	for _, c := range all {
		for k, n := range c.tally {
			sum[k] += n
		}
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(sum)) {
		parts = append(parts, fmt.Sprintf("%d %s", sum[k], k))
	}
	return strings.Join(parts, ", ")
}

// report fails the test, and keeps a picture of the history.
func report(t *testing.T, f finding) {
	t.Helper()
	t.Errorf("stage %s: %s (seed %d)", f.stage, f.reason, *seed)
	if f.draw == nil {
		return
	}
	path := filepath.Join(t.ArtifactDir(), f.stage+".html")
	out, err := os.Create(path)
	if err == nil {
		err = errors.Join(f.draw(out), out.Close())
	}
	if err != nil {
		t.Errorf("draw the history: %v", err)
		return
	}
	t.Logf("the history as a picture: %s (kept with -artifacts)", path)
}
