package rollout_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/fifegateway/fife/controlplane/bubbletest"
	"github.com/fifegateway/fife/controlplane/controlplanetest"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// scene is three nodes, agents, and a stage with a canary.
type scene struct {
	t       *testing.T
	number  uint64 // of the promotion opened last
	cluster *controlplanetest.Cluster
	fleet   *fleet
	stages  map[string]fifev1.StageServiceClient
	members fifev1.ClusterServiceClient
}

const prod = "apis/demo/stages/prod"

func play(t *testing.T, act func(t *testing.T, s *scene)) {
	bubbletest.Test(t, func(t *testing.T) {
		c := controlplanetest.Start(t, 3)
		s := &scene{t: t, cluster: c, fleet: &fleet{t: t, cluster: c}, stages: map[string]fifev1.StageServiceClient{}}
		for _, n := range []string{"n1", "n2", "n3"} {
			s.stages[n] = fifev1.NewStageServiceClient(c.Conn(n))
		}
		s.members = fifev1.NewClusterServiceClient(c.Conn("n2"))
		defer s.fleet.stop()
		s.until("three voters", func() bool {
			resp, err := s.members.ListMembers(t.Context(), &fifev1.ListMembersRequest{})
			return err == nil && len(resp.GetMembers()) == 3 && !slices.ContainsFunc(resp.GetMembers(), func(m *fifev1.Member) bool { return !m.GetVoter() })
		})
		apis, deployments := fifev1.NewApiServiceClient(c.Conn("n1")), fifev1.NewDeploymentServiceClient(c.Conn("n1"))
		s.ok(apis.CreateApi(t.Context(), &fifev1.CreateApiRequest{ApiId: "demo"}))
		for _, code := range []int32{201, 202} {
			s.ok(apis.PutRoute(t.Context(), &fifev1.PutRouteRequest{Parent: "apis/demo", Route: &fifev1.Route{
				Method: "GET", Path: "/", Integration: &fifev1.Integration{
					Kind: &fifev1.Integration_Mock{Mock: &fifev1.MockIntegration{Status: code}},
				},
			}}))
			s.ok(deployments.CreateDeployment(t.Context(), &fifev1.CreateDeploymentRequest{Parent: "apis/demo"}))
		}
		s.ok(s.stages["n1"].CreateStage(t.Context(), &fifev1.CreateStageRequest{
			Parent: "apis/demo", StageId: "prod", Stage: &fifev1.Stage{Deployment: "apis/demo/deployments/1"},
		}))
		s.canary()
		<-time.After(20 * time.Second) // no lease of before the first leader can be under way
		act(t, s)
	})
}

func (s *scene) ok(_ any, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) canary() {
	s.t.Helper()
	s.ok(s.stages["n1"].StartCanary(s.t.Context(), &fifev1.StartCanaryRequest{
		Name: prod, Canary: &fifev1.Canary{Deployment: "apis/demo/deployments/2", Percent: 10},
	}))
}

// settle gives agents the time to get their leases.
func (s *scene) settle() { <-time.After(10 * time.Second) }

func (s *scene) until(what string, ok func() bool) {
	s.t.Helper()
	for range 6000 {
		if ok() {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	s.t.Fatalf("waited a minute for %s", what)
}

// promote opens a promotion, a synchronised one with options.
func (s *scene) promote(o *fifev1.SyncOptions) {
	s.t.Helper()
	s.promoteAt("n1", o)
}

func (s *scene) promoteAt(node string, o *fifev1.SyncOptions) {
	s.t.Helper()
	resp, err := s.stages[node].PromoteCanary(s.t.Context(), &fifev1.PromoteCanaryRequest{Name: prod, Sync: o})
	s.ok(resp, err)
	s.number = resp.GetStage().GetPromotion().GetNumber()
}

// ends waits for a promotion's state through a node, and returns it and the time it
// took; what must hold when one is complete is looked at.
func (s *scene) ends(node string, state fifev1.Promotion_State) (*fifev1.Promotion, time.Duration) {
	s.t.Helper()
	begin := time.Now()
	var p *fifev1.Promotion
	s.until(state.String(), func() bool {
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
		defer cancel()
		resp, err := s.stages[node].GetStage(ctx, &fifev1.GetStageRequest{
			Name: prod, Consistency: fifev1.ReadConsistency_READ_CONSISTENCY_STALE,
		})
		p = resp.GetStage().GetPromotion()
		return err == nil && p.GetState() == state && p.GetNumber() == s.number
	})
	if state == fifev1.Promotion_STATE_COMPLETE {
		s.fleet.checkComplete(p.GetNumber())
	}
	return p, time.Since(begin)
}

func (s *scene) leader() string {
	name := ""
	s.until("a leader", func() bool {
		resp, err := s.members.ListMembers(s.t.Context(), &fifev1.ListMembersRequest{})
		for _, m := range resp.GetMembers() {
			if m.GetLeader() {
				name = strings.TrimPrefix(m.GetName(), "members/")
			}
		}
		return err == nil && name != ""
	})
	return name
}

const (
	complete = fifev1.Promotion_STATE_COMPLETE
	aborted  = fifev1.Promotion_STATE_ABORTED
)

// TestInStep: with everybody in touch a promotion takes a moment, and its report
// says that all were prepared.
func TestInStep(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		for i, id := range []string{"edge-1", "edge-2", "edge-3", "edge-4"} {
			s.fleet.join(id, nil, []string{"n1", "n2", "n3"}[i%3])
		}
		s.settle()
		s.promote(&fifev1.SyncOptions{})
		p, took := s.ends("n1", complete)
		if r := p.GetReport(); took > time.Second || r.GetAgents() != 4 || r.GetPrepared() != 4 || len(r.GetStale())+len(r.GetFenced()) > 0 {
			t.Errorf("after %v: %v", took, p)
		}
		s.canary()
		s.promote(&fifev1.SyncOptions{Mode: fifev1.SyncMode_SYNC_MODE_TIMED})
		p, took = s.ends("n2", complete)
		if p.GetFlipTime() == nil || took < time.Second || took > 3*time.Second {
			t.Errorf("timed, after %v: %v", took, p)
		}
	})
}

// TestRefusal: one agent's refusal aborts a promotion before anybody has changed over.
func TestRefusal(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		edge, other := s.fleet.join("edge-1", nil, "n1"), s.fleet.join("edge-2", nil, "n2")
		s.settle()
		s.fleet.set(func() { edge.refuse = true })
		s.promote(&fifev1.SyncOptions{})
		p, took := s.ends("n1", aborted)
		if !strings.Contains(p.GetReason(), "edge-1 refused it: will not compile") || took > time.Second {
			t.Errorf("after %v: %v", took, p)
		}
		s.fleet.set(func() {
			if len(other.flipped) > 0 {
				t.Error("edge-2 has changed over")
			}
		})
	})
}

// TestDeadline: what happens at the deadline if an agent that is in touch does not
// get ready is the operator's choice.
func TestDeadline(t *testing.T) {
	const (
		abort = fifev1.TimeoutPolicy_TIMEOUT_POLICY_ABORT
		wait  = fifev1.TimeoutPolicy_TIMEOUT_POLICY_WAIT
		fence = fifev1.TimeoutPolicy_TIMEOUT_POLICY_FENCE
	)
	for _, policy := range []fifev1.TimeoutPolicy{abort, wait, fence} {
		t.Run(policy.String(), func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.fleet.join("edge-1", nil, "n1")
				slow := s.fleet.join("edge-2", nil, "n2")
				s.settle()
				s.fleet.set(func() { slow.mute = true })
				s.promote(&fifev1.SyncOptions{OnTimeout: policy, PrepareTimeout: durationpb.New(5 * time.Second)})
				switch policy {
				case abort:
					p, took := s.ends("n1", aborted)
					if !strings.Contains(p.GetReason(), "edge-2") || took < 5*time.Second || took > 8*time.Second {
						t.Errorf("after %v: %v", took, p)
					}
				case wait:
					<-time.After(30 * time.Second)
					s.ends("n1", fifev1.Promotion_STATE_PREPARING)
					slow.leave()
					s.fleet.set(func() { slow.mute = false })
					slow.start()
					if p, _ := s.ends("n1", complete); p.GetReport().GetPrepared() != 2 {
						t.Errorf("got %v", p)
					}
				case fence:
					p, took := s.ends("n1", complete)
					if !slices.Equal(p.GetReport().GetFenced(), []string{"edge-2"}) || !p.GetFenced() || took < 10*time.Second || took > 40*time.Second {
						t.Errorf("after %v: %v", took, p)
					}
				}
			})
		})
	}
}

// TestCutOff: an agent that nobody reaches is waited for until its lease has run
// out, and named; a node that nobody reaches until those it may have granted have.
func TestCutOff(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.fleet.join("edge-1", nil, "n1")
		s.fleet.join("edge-2", nil, "n2")
		s.settle()
		s.cluster.Network.Cut("edge-2", "n2")
		s.promote(&fifev1.SyncOptions{})
		p, took := s.ends("n1", complete)
		if r := p.GetReport(); !slices.Equal(r.GetStale(), []string{"edge-2"}) || r.GetPrepared() != 1 || took < 5*time.Second || took > 11*time.Second {
			t.Errorf("an agent cut off, after %v: %v", took, p)
		}

		s.cluster.Network.Join("edge-2", "n2")
		s.canary()
		s.settle()
		leader := s.leader()
		cut := map[string]string{"n1": "n2", "n2": "n3", "n3": "n2"}[leader]
		s.fleet.join("edge-3", nil, cut)
		s.settle()
		s.cluster.Isolate(cut)
		s.promoteAt(leader, &fifev1.SyncOptions{})
		p, took = s.ends(leader, complete)
		if r := p.GetReport(); !slices.Contains(r.GetStale(), "edge-3") || took < 9*time.Second || took > 14*time.Second {
			t.Errorf("a node cut off, after %v: %v", took, p)
		}
	})
}

// TestNewLeader: a promotion that its leader leaves behind in any state is finished
// by the next one, and by nobody twice.
func TestNewLeader(t *testing.T) {
	for _, after := range []time.Duration{0, 5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				for i, id := range []string{"edge-1", "edge-2", "edge-3"} {
					a := s.fleet.join(id, nil, []string{"n1", "n2", "n3"}[i], []string{"n2", "n3", "n1"}[i], []string{"n3", "n1", "n2"}[i])
					s.fleet.set(func() { a.sloth = time.Duration(i) * 8 * time.Millisecond })
				}
				s.settle()
				leader := s.leader()
				s.promoteAt(leader, &fifev1.SyncOptions{OnTimeout: fifev1.TimeoutPolicy_TIMEOUT_POLICY_WAIT})
				<-time.After(after)
				s.cluster.Isolate(leader, "edge-1", "edge-2", "edge-3")
				other := map[string]string{"n1": "n2", "n2": "n3", "n3": "n1"}[leader]
				p, _ := s.ends(other, complete)
				if p.GetReport().GetAgents() != 3 {
					t.Errorf("got %v", p)
				}
				s.cluster.Heal(leader, "edge-1", "edge-2", "edge-3")
				if again, _ := s.ends(leader, complete); again.GetCommitted().GetIndex() != p.GetCommitted().GetIndex() {
					t.Errorf("committed as %v and as %v", p, again)
				}
			})
		})
	}
}

// TestWaves: a promotion goes from wave to wave, dwells in each, halts at a refusal
// and goes on when told to.
func TestWaves(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		label := func(region, tier string) map[string]string { return map[string]string{"region": region, "tier": tier} }
		s.fleet.join("edge-1", label("eu", "all"), "n1")
		s.fleet.join("edge-2", label("eu", "canary"), "n2")
		us := s.fleet.join("edge-3", label("us", "all"), "n3")
		s.settle()
		s.ok(s.stages["n1"].AbortCanary(t.Context(), &fifev1.AbortCanaryRequest{Name: prod}))
		s.ok(s.stages["n1"].UpdateStage(t.Context(), &fifev1.UpdateStageRequest{
			Stage: &fifev1.Stage{Name: prod, Waves: []*fifev1.Wave{
				{Selection: &fifev1.Wave_OnePerLabel{OnePerLabel: "region"}, Dwell: durationpb.New(20 * time.Second)},
				{Selection: &fifev1.Wave_Labels{Labels: &fifev1.AgentLabels{Labels: map[string]string{"tier": "canary"}}}, Dwell: durationpb.New(10 * time.Second)},
			}},
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"waves"}},
		}))
		s.canary()
		if _, err := s.stages["n1"].PromoteCanary(t.Context(), &fifev1.PromoteCanaryRequest{Name: prod, Sync: &fifev1.SyncOptions{}}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("sync on a stage with waves: %v", err)
		}
		s.fleet.set(func() { us.refuse = true })
		s.promote(nil)
		if p, _ := s.ends("n1", fifev1.Promotion_STATE_HALTED); !strings.Contains(p.GetReason(), "edge-3") {
			t.Errorf("halted: %v", p)
		}
		<-time.After(time.Minute)
		s.ends("n1", fifev1.Promotion_STATE_HALTED)
		us.leave()
		s.fleet.set(func() { us.refuse = false })
		us.start()
		s.settle()
		s.ok(s.stages["n1"].ResumePromotion(t.Context(), &fifev1.ResumePromotionRequest{Name: prod}))
		p, took := s.ends("n1", complete)
		if p.GetWavesReached() != 2 || took < 10*time.Second || took > 35*time.Second {
			t.Errorf("after %v: %v", took, p)
		}
	})
}

// TestNodeRestart: a node that has started again has forgotten whose leases still run.
// Without the wait for these an agent that is cut off would be passed over.
func TestNodeRestart(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		leader := s.leader()
		node := map[string]string{"n1": "n2", "n2": "n3", "n3": "n2"}[leader]
		s.fleet.join("edge-1", nil, leader)
		s.fleet.join("edge-2", nil, node)
		s.settle()
		s.cluster.Network.Cut("edge-2", node)
		s.cluster.StopNode(node)
		s.cluster.StartNode(node)
		<-time.After(2 * time.Second)
		s.promoteAt(leader, &fifev1.SyncOptions{})
		p, took := s.ends(leader, complete)
		if !slices.Equal(p.GetReport().GetStale(), []string{"edge-2"}) || took < 5*time.Second {
			t.Errorf("after %v: %v", took, p)
		}
	})
}

// TestBreakAtEveryMessage: a stream that breaks at any message, before or after what it
// brings is applied, costs a promotion a moment and nothing else: in the end every
// agent has changed over to each promotion, in order.
func TestBreakAtEveryMessage(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.fleet.join("edge-1", nil, "n1")
		shaky := s.fleet.join("edge-2", nil, "n2", "n3", "n1")
		s.settle()
		var numbers []uint64
		for i := range 16 {
			s.fleet.set(func() { shaky.crash, shaky.after = 1+i/2, i%2 == 1 })
			s.promote(&fifev1.SyncOptions{})
			if p, took := s.ends("n1", complete); p.GetReport().GetPrepared() != 2 || took > 5*time.Second {
				t.Errorf("broken at message %d: after %v: %v", 1+i/2, took, p)
			}
			numbers = append(numbers, s.number)
			s.canary()
			s.settle()
		}
		s.fleet.set(func() {
			var last time.Time
			for _, number := range numbers {
				at := shaky.flipped[number]
				if at.IsZero() || at.Before(last) {
					t.Errorf("promotion %d: changed over at %v, the one before at %v", number, at, last)
				}
				last = at
			}
			if len(shaky.flipped) != len(numbers) {
				t.Errorf("changed over %d times to %d promotions", len(shaky.flipped), len(numbers))
			}
		})
	})
}
