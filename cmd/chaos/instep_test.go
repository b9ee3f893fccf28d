//go:build linux

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// The stages: the first two by what an agent without a lease does with them, and are
// promoted in step; the third in waves.
const (
	serving = "open"
	closing = "closed"
	waving  = "waved"
)

// rings is how many groups of agents there are. All but the last are waves.
const rings = 3

// For how long things break: a short time, or on average so long per promotion.
const (
	shortly      = 25 * time.Second
	perPromotion = 15 * time.Second
)

// TestInStep promotes canaries, on two stages in step and on one in waves, and rolls
// back, while agents and nodes are cut off, stopped and killed and agents refuse what
// they are sent. It looks at every answer of every agent: whatever breaks, it must be
// what the agent's version says, and nobody may be answered by what a report says is gone.
func TestInStep(t *testing.T) {
	needSandbox(t, "ip", "nft")
	sites := newNetwork(t, 3+*agents)
	c := startCluster(t, sites[:3])
	stages := []string{serving, closing, waving}
	first := makeStages(t, c)
	edges := startEdges(t, c, sites[3:])
	awaitLeases(t, c, edges)
	awaitAnswers(t, edges, stages)

	r := rand.New(rand.NewPCG(*seed, 0))
	load := &load{edges: edges, stages: stages, replies: map[asked][]reply{}, roamed: map[int][]reply{}}
	b := &breaker{cluster: c, edges: edges, struck: map[string]int{}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var loading, watching, promoting, breaking sync.WaitGroup
	own := rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
	loading.Go(func() { load.run(ctx, own) })
	var promoters []*promoter
	for _, stage := range stages {
		p := newPromoter(c, stage, first[stage], rand.New(rand.NewPCG(r.Uint64(), r.Uint64())))
		promoters = append(promoters, p)
		for _, n := range c.nodes {
			watching.Go(func() { p.watch(ctx, n) })
		}
	}
	defer func() { cancel(); loading.Wait(); watching.Wait() }()

	begin := time.Now()
	each, limit := *promotions/len(promoters), time.Duration(*promotions)*perPromotion
	if *promotions == 0 {
		each, limit = math.MaxInt, shortly
	}
	faulty, heal := context.WithTimeout(ctx, limit)
	defer heal()
	var bug error
	breaking.Go(func() { bug = b.run(faulty, r) })
	bugs := make([]error, len(promoters))
	for i, p := range promoters {
		promoting.Go(func() {
			for n := 0; n < each && faulty.Err() == nil && bugs[i] == nil; n++ {
				bugs[i] = p.cycle(ctx)
			}
		})
	}
	promoting.Wait()
	heal()
	breaking.Wait()
	err := errors.Join(append(bugs, bug)...)
	if err != nil {
		t.Fatalf("%v (seed %d)", err, *seed)
	}
	broken := time.Since(begin).Round(time.Second)

	// Now that all is well, a promotion reaches everybody: also those that wait for
	// the next version, since they have refused one.
	last, stop := context.WithTimeout(ctx, 2*patience)
	defer stop()
	var ones []*promotion
	for _, p := range promoters {
		one := &promotion{stage: p.stage}
		if p.stage != waving {
			one.options = &fifev1.SyncOptions{}
		}
		if one.deployment, err = p.prepare(last); err != nil {
			t.Fatalf("%v (seed %d)", err, *seed)
		}
		ones = append(ones, one)
	}
	awaitLeases(t, c, edges)
	calm := time.Now()
	for i, p := range promoters {
		if err := p.promote(last, ones[i], nil); err != nil {
			t.Fatalf("%v (seed %d)", err, *seed)
		}
		if report := ones[i].last.GetReport(); ones[i].completed.IsZero() || len(ones[i].named()) > 0 ||
			(p.stage != waving && int(report.GetPrepared()) != len(edges)) {
			t.Errorf("with all well again, %v: %v %v", ones[i], ones[i].last.GetReason(), report)
		}
	}
	pause(ctx, time.Second) // of answers by it
	cancel()
	loading.Wait()
	watching.Wait()

	e := evidenceOfStep{
		replies: load.replies, roamed: load.roamed, eras: map[string][]era{}, rings: map[string]int{}, outages: b.outages, calm: calm,
	}
	for _, p := range promoters {
		e.promotions, e.eras[p.stage] = append(e.promotions, p.promotions...), p.eras
	}
	for _, edge := range edges {
		e.rings[edge.name] = edge.ring
	}
	v := judge(e)
	summarise(t, e, v, b, broken)
	for _, violation := range v.violations {
		t.Error(violation)
	}
	if n := len(v.violations); n > 0 || t.Failed() {
		t.Errorf("%d violations (seed %d)", n, *seed)
	}
}

// makeStages makes an API with one deployment and the stages, and returns what they
// begin with.
func makeStages(t *testing.T, c *cluster) map[string]era {
	t.Helper()
	n := c.awaitLeader(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := n.apis.CreateApi(ctx, &fifev1.CreateApiRequest{ApiId: api})
	if err == nil {
		_, err = n.apis.PutRoute(ctx, &fifev1.PutRouteRequest{Parent: "apis/" + api, Route: mockRoute("/", "ok")})
	}
	if err == nil {
		_, err = n.deployments.CreateDeployment(ctx, &fifev1.CreateDeploymentRequest{Parent: "apis/" + api})
	}
	var waves []*fifev1.Wave
	for ring := range rings - 1 {
		waves = append(waves, &fifev1.Wave{Dwell: durationpb.New(200 * time.Millisecond), Selection: &fifev1.Wave_Labels{
			Labels: &fifev1.AgentLabels{Labels: map[string]string{"ring": fmt.Sprint(ring)}},
		}})
	}
	first := map[string]era{}
	for id, stage := range map[string]*fifev1.Stage{
		serving: {StalePolicy: fifev1.StalePolicy_STALE_POLICY_SERVE_STALE},
		closing: {StalePolicy: fifev1.StalePolicy_STALE_POLICY_FAIL_CLOSED, ConsistentClients: true},
		waving:  {Waves: waves},
	} {
		stage.Deployment, stage.ExposeHeaders = deploymentName(api, 1), true
		if err == nil {
			var resp *fifev1.CreateStageResponse
			resp, err = n.stages.CreateStage(ctx, &fifev1.CreateStageRequest{Parent: "apis/" + api, StageId: id, Stage: stage})
			first[id] = era{index: resp.GetVersion().GetIndex(), base: 1}
		}
	}
	if err != nil {
		t.Fatalf("make stages: %v", err)
	}
	return first
}

// awaitLeases waits until all agents hold a lease, as the nodes see it, and will go on
// holding one: all of them have asked for it of late.
func awaitLeases(t *testing.T, c *cluster, edges []*edge) {
	t.Helper()
	const fresh = 6 * time.Second // of ten; a third passes between two Renews
	await(t, patience, "all agents hold leases", func(ctx context.Context) error {
		n, err := c.leader(ctx)
		if err != nil {
			return err
		}
		resp, err := fifev1.NewFleetServiceClient(n.conn).ListAgents(ctx, &fifev1.ListAgentsRequest{})
		if err != nil {
			return err
		}
		held := 0
		for _, a := range resp.GetAgents() {
			if !a.GetAbsent() && a.GetLease().AsDuration() > fresh && a.GetLeaseDenied() == "" {
				held++
			}
		}
		if held != len(edges) {
			return fmt.Errorf("%d of %d do: %v", held, len(edges), resp)
		}
		return nil
	})
}

// awaitAnswers waits until all agents serve all stages.
func awaitAnswers(t *testing.T, edges []*edge, stages []string) {
	t.Helper()
	for _, e := range edges {
		for _, stage := range stages {
			await(t, patience, e.name+" serves "+stage, func(ctx context.Context) error {
				a := asker{address: e.ip + ":" + httpPort, path: "/" + stage + "/"}
				defer a.close()
				if got := a.ask(ctx); got.status != http.StatusOK {
					return fmt.Errorf("it answers %d %s", got.status, got.failure)
				}
				return nil
			})
		}
	}
}

// summarise prints what was done and found.
func summarise(t *testing.T, e evidenceOfStep, v *verdict, b *breaker, broken time.Duration) {
	t.Helper()
	ends, windows := map[string]int{}, map[string][]time.Duration{}
	for _, p := range e.promotions {
		ends[p.state().String()[len("STATE_"):]]++
		if p.completed.IsZero() {
			continue
		}
		kind := p.stage + " " + p.options.GetMode().String()
		windows[kind] = append(windows[kind], e.window(p))
	}
	t.Logf("seed %d: %d agents, %d promotions in %v: %v", *seed, len(b.edges), len(e.promotions), broken, ends)
	for _, fault := range slices.Sorted(maps.Keys(b.struck)) {
		t.Logf("%3d times: %s", b.struck[fault], fault)
	}
	for _, kind := range slices.Sorted(maps.Keys(windows)) {
		t.Logf("%s: both configurations in use for %v at most", kind, slices.Max(windows[kind]))
	}
	roamed := 0
	for _, replies := range e.roamed {
		roamed += len(replies)
	}
	t.Logf("%d requests: %d answered, %d of them by an older configuration on agents that the report names; "+
		"%d withheld without a lease; %d unanswered by agents that were stopped or killed; %d of clients that bring their version along",
		v.requests, v.answered, v.stale, v.withheld, v.down, roamed)
	t.Logf("%d violations", len(v.violations))
}
