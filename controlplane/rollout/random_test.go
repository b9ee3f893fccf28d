package rollout_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fifegateway/fife/controlplane/discovery"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

var (
	rounds = flag.Int("rollout.rounds", 20, "promotions of TestRandom")
	seed   = flag.Uint64("rollout.seed", uint64(time.Now().UnixNano()), "seed of TestRandom")
)

// TestRandom: whatever is cut off from whatever, and however agents dawdle, refuse
// and restart, nobody changes over while anybody who may serve is not prepared, and
// nobody who may serve has not changed over once a promotion is complete. Clocks of
// agents run slow, about half of them by all of the 1 % that is allowed.
//
// Taking out the wait for silent nodes, or what an agent must have to get a lease,
// has been seen to fail it within a few rounds.
func TestRandom(t *testing.T) {
	t.Logf("seed %d", *seed)
	play(t, func(t *testing.T, s *scene) {
		r := rand.New(rand.NewPCG(*seed, 0))
		nodes := []string{"n1", "n2", "n3"}
		for i := range 6 {
			r.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
			a := s.fleet.join(fmt.Sprint("edge-", i+1), nil, nodes[0], nodes[1], nodes[2])
			s.fleet.set(func() { a.drift = min(time.Duration(r.IntN(200))*time.Millisecond, discovery.LeaseTTL/100) })
		}
		s.settle()
		count := map[fifev1.Promotion_State]int{}
		for round := range *rounds {
			state := s.round(r)
			count[state]++
			if t.Failed() {
				t.Fatalf("seed %d, round %d", *seed, round)
			}
		}
		t.Logf("%v", count)
		if *rounds >= 40 && (count[complete] == 0 || count[aborted] == 0) {
			t.Errorf("too little happened: %v", count)
		}
	})
}

// round plays one promotion under faults, heals all, and returns how it ended.
func (s *scene) round(r *rand.Rand) fifev1.Promotion_State {
	s.t.Helper()
	nodes := []string{"n1", "n2", "n3"}
	var cuts [][2]string
	strike := func() {
		a := s.fleet.agents[r.IntN(len(s.fleet.agents))]
		switch r.IntN(6) {
		case 0, 1:
			cuts = append(cuts, [2]string{a.id, nodes[r.IntN(3)]})
			s.cluster.Network.Cut(cuts[len(cuts)-1][0], cuts[len(cuts)-1][1])
		case 2:
			i := r.IntN(3)
			cuts = append(cuts, [2]string{nodes[i], nodes[(i+1)%3]})
			s.cluster.Network.Cut(cuts[len(cuts)-1][0], cuts[len(cuts)-1][1])
		case 3:
			a.leave()
			a.start()
		case 4:
			s.fleet.set(func() { a.sloth = time.Duration(r.IntN(3000)) * time.Millisecond })
		case 5:
			s.fleet.set(func() { a.refuse = true })
		}
	}
	for range r.IntN(4) { // what is so when it opens
		strike()
	}
	s.until("a promotion is opened", func() bool {
		ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
		defer cancel()
		resp, err := s.stages[nodes[r.IntN(3)]].PromoteCanary(ctx, &fifev1.PromoteCanaryRequest{
			Name: prod, RequestId: fmt.Sprint("promotion-after-", s.number), Sync: &fifev1.SyncOptions{
				Mode:           fifev1.SyncMode_SYNC_MODE_VERSION + fifev1.SyncMode(s.number%2),
				OnTimeout:      fifev1.TimeoutPolicy(1 + s.number%3),
				PrepareTimeout: durationpb.New(time.Duration(1+s.number%20) * time.Second),
			},
		})
		if err == nil {
			s.number = resp.GetStage().GetPromotion().GetNumber()
		}
		return err == nil
	})
	for range r.IntN(4) {
		<-time.After(time.Duration(r.IntN(4000)) * time.Millisecond / time.Duration(1+r.IntN(100)))
		strike()
	}
	<-time.After(time.Duration(r.IntN(30)) * time.Second)
	for _, c := range cuts {
		s.cluster.Network.Join(c[0], c[1])
	}
	s.fleet.set(func() {
		for _, a := range s.fleet.agents {
			a.refuse, a.sloth = false, 0
		}
	})
	for _, a := range s.fleet.agents {
		a.leave() // one that has refused a version waits for the next otherwise
		a.start()
	}
	state := s.over()
	if state == complete {
		s.fleet.checkComplete(s.number)
	} else {
		s.ok(s.stages["n1"].AbortCanary(s.t.Context(), &fifev1.AbortCanaryRequest{Name: prod}))
	}
	s.settle()
	s.canary()
	return state
}

// over waits for the end of the promotion opened last.
func (s *scene) over() (state fifev1.Promotion_State) {
	s.t.Helper()
	s.until("the end of the promotion", func() bool {
		ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
		defer cancel()
		resp, err := s.stages["n1"].GetStage(ctx, &fifev1.GetStageRequest{Name: prod})
		p := resp.GetStage().GetPromotion()
		state = p.GetState()
		return err == nil && p.GetNumber() == s.number && (state == complete || state == aborted)
	})
	return state
}
