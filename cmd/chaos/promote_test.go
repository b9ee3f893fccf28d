//go:build linux

package chaos_test

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// promotion is one promotion in steps and what was seen of it.
type promotion struct {
	stage      string
	deployment uint64              // that it makes the base
	options    *fifev1.SyncOptions // nil in waves
	number     uint64
	opened     time.Time
	committed  time.Time   // when that was decided, by the leader's clock; zero if it was not
	completed  time.Time   // when the first node said so; zero if none did
	reached    []time.Time // when that was decided of each wave, by the leader's clock
	waves      []uint64    // by which index each wave was reached
	ended      uint64      // index at which an operator or a rollback ended it; 0 if neither did
	version    uint64      // that last was read at
	last       *fifev1.Promotion
}

// era is what a stage itself serves from one index of the log on.
type era struct {
	index        uint64
	base, canary uint64     // deployments
	promotion    *promotion // whose commit began it; nil if none did
}

// promoter opens canaries on a stage and promotes them, one after the other.
type promoter struct {
	cluster *cluster
	stage   string // its id
	rand    *rand.Rand

	promotions []*promotion // those that have ended
	eras       []era

	mu   sync.Mutex
	seen map[uint64]*promotion // by number, as the nodes show them
	news chan struct{}         // told after seen has changed
}

// api is what all stages belong to.
const api = "instep"

func newPromoter(c *cluster, stage string, first era, r *rand.Rand) *promoter {
	return &promoter{cluster: c, stage: stage, rand: r, eras: []era{first}, seen: map[uint64]*promotion{}, news: make(chan struct{}, 1)}
}

func (p *promoter) name() string { return "apis/" + api + "/stages/" + p.stage }

// watch follows the stage through one node until ctx ends.
func (p *promoter) watch(ctx context.Context, n *node) {
	for pause(ctx, 50*time.Millisecond) {
		stream, err := n.stages.WatchStage(ctx, &fifev1.WatchStageRequest{Name: p.name()})
		for err == nil {
			var resp *fifev1.WatchStageResponse
			if resp, err = stream.Recv(); err == nil {
				p.see(resp.GetStage().GetPromotion(), resp.GetVersion().GetIndex(), time.Now())
			}
		}
	}
}

// see takes in what a node shows at an index.
func (p *promoter) see(shown *fifev1.Promotion, index uint64, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.seen[shown.GetNumber()]
	if s == nil {
		s = &promotion{}
		p.seen[shown.GetNumber()] = s
	}
	for i := range int(shown.GetWavesReached()) {
		if i == len(s.waves) {
			s.waves = append(s.waves, index)
		}
		s.waves[i] = min(s.waves[i], index)
	}
	if index < s.version || (index == s.version && shown.GetState() <= s.last.GetState()) {
		return
	}
	s.version, s.last = index, shown
	if shown.GetState() == fifev1.Promotion_STATE_COMPLETE && s.completed.IsZero() {
		s.completed = at
	}
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// became notes what a stage serves since a change.
func (p *promoter) became(s *fifev1.Stage, v *fifev1.Version) {
	p.eras = append(p.eras, era{
		index: v.GetIndex(), base: uint64(parseNumber(s.GetDeployment())), canary: uint64(parseNumber(s.GetCanary().GetDeployment())),
	})
}

// prepare opens a canary of a new deployment. Calls are repeated until a node has
// carried them out.
func (p *promoter) prepare(ctx context.Context) (deployment uint64, err error) {
	err = p.insist(ctx, "create a deployment", func(ctx context.Context, n *node, id string) error {
		resp, err := n.deployments.CreateDeployment(ctx, &fifev1.CreateDeploymentRequest{Parent: "apis/" + api, RequestId: id})
		deployment = uint64(parseNumber(resp.GetDeployment().GetName()))
		return err
	})
	if err != nil {
		return 0, err
	}
	return deployment, p.insist(ctx, "start a canary", func(ctx context.Context, n *node, id string) error {
		resp, err := n.stages.StartCanary(ctx, &fifev1.StartCanaryRequest{
			Name: p.name(), Replace: true, RequestId: id,
			Canary: &fifev1.Canary{Deployment: deploymentName(api, uint32(deployment)), Percent: 20},
		})
		if err == nil {
			p.became(resp.GetStage(), resp.GetVersion())
		}
		return err
	})
}

// promote promotes a canary of a deployment, and waits until that has ended. An
// operator may interfere with it before.
func (p *promoter) promote(ctx context.Context, one *promotion, interfere func(context.Context, *promotion) error) error {
	err := p.insist(ctx, "promote", func(ctx context.Context, n *node, id string) error {
		resp, err := n.stages.PromoteCanary(ctx, &fifev1.PromoteCanaryRequest{Name: p.name(), Sync: one.options, RequestId: id})
		one.number = resp.GetStage().GetPromotion().GetNumber()
		return err
	})
	if err != nil {
		return err
	}
	one.opened = time.Now()
	if interfere != nil {
		pause(ctx, between(p.rand, 0, time.Second))
		if err := interfere(ctx, one); err != nil {
			return err
		}
	}
	if err := p.end(ctx, one); err != nil {
		return err
	}
	p.promotions = append(p.promotions, one)
	return nil
}

// cycle opens a canary, promotes it and, at times, rolls the stage back while that goes
// on or afterwards.
func (p *promoter) cycle(ctx context.Context) error {
	one := &promotion{stage: p.stage}
	if p.stage != waving {
		one.options = draw(p.rand)
	}
	var err error
	if one.deployment, err = p.prepare(ctx); err != nil {
		return err
	}
	pause(ctx, between(p.rand, 0, 500*time.Millisecond))
	interfere := map[int]func(context.Context, *promotion) error{0: p.abort, 1: p.rollBack}[p.rand.IntN(10)]
	if err := p.promote(ctx, one, interfere); err != nil {
		return err
	}
	if p.rand.IntN(4) != 0 {
		return nil
	}
	pause(ctx, between(p.rand, 0, 500*time.Millisecond))
	return p.rollBack(ctx, one)
}

// abort ends an open promotion as an operator would, if it is not too late.
func (p *promoter) abort(ctx context.Context, one *promotion) error {
	return p.insist(ctx, "abort", func(ctx context.Context, n *node, id string) error {
		resp, err := n.stages.AbortPromotion(ctx, &fifev1.AbortPromotionRequest{Name: p.name(), RequestId: id})
		if err == nil {
			one.ended = resp.GetVersion().GetIndex()
			p.became(resp.GetStage(), resp.GetVersion())
		}
		return unless(err, "NO_PROMOTION")
	})
}

// rollBack restores what the stage served before, whatever a promotion is at.
func (p *promoter) rollBack(ctx context.Context, one *promotion) error {
	return p.insist(ctx, "roll back", func(ctx context.Context, n *node, id string) error {
		resp, err := n.stages.RollbackStage(ctx, &fifev1.RollbackStageRequest{Name: p.name(), RequestId: id})
		if err == nil {
			one.ended = resp.GetVersion().GetIndex()
			p.became(resp.GetStage(), resp.GetVersion())
		}
		return unless(err, "NO_HISTORY")
	})
}

// resume lets a halted promotion in waves go on, if it has not gone on already.
func (p *promoter) resume(ctx context.Context) error {
	return p.insist(ctx, "resume", func(ctx context.Context, n *node, id string) error {
		_, err := n.stages.ResumePromotion(ctx, &fifev1.ResumePromotionRequest{Name: p.name(), RequestId: id})
		return unless(err, "NO_PROMOTION")
	})
}

// unless returns an error but for a refusal with a reason.
func unless(err error, reason string) error {
	if info(err).GetReason() == reason {
		return nil
	}
	return err
}

// endWithin is how long a promotion may take while faults go on. Those that take
// longer, as the leader was changed again and again, are aborted.
const endWithin = time.Minute

// end waits until a promotion is complete or aborted, and notes what was seen of it.
func (p *promoter) end(ctx context.Context, one *promotion) error {
	tooLong := time.NewTimer(endWithin)
	defer tooLong.Stop()
	for {
		p.mu.Lock()
		seen := p.seen[one.number]
		state := seen.state()
		if state == fifev1.Promotion_STATE_COMPLETE || state == fifev1.Promotion_STATE_ABORTED {
			one.last, one.completed, one.waves = seen.last, seen.completed, seen.waves
			p.mu.Unlock()
			return p.history(ctx, one)
		}
		p.mu.Unlock()
		var wait <-chan time.Time
		if state == fifev1.Promotion_STATE_HALTED {
			wait = time.After(between(p.rand, 0, time.Second))
		}
		select {
		case <-p.news:
		case <-wait:
			if err := p.resume(ctx); err != nil {
				return err
			}
		case <-tooLong.C:
			if err := p.abort(ctx, one); err != nil {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("promotion %d of %s has not ended: %v", one.number, p.stage, seen.state())
		}
	}
}

func (p *promotion) state() fifev1.Promotion_State {
	if p == nil {
		return fifev1.Promotion_STATE_UNSPECIFIED
	}
	return p.last.GetState()
}

// history notes when the steps of a promotion were decided, by the stage's history.
func (p *promoter) history(ctx context.Context, one *promotion) error {
	err := p.insist(ctx, "read the history", func(ctx context.Context, n *node, _ string) error {
		resp, err := n.stages.ListStageRevisions(ctx, &fifev1.ListStageRevisionsRequest{Parent: p.name()})
		one.reached, one.committed = nil, time.Time{}
		for _, r := range resp.GetRevisions() { // the newest first
			base := uint64(parseNumber(r.GetAfter().GetDeployment()))
			switch r.GetMethod() {
			case "CommitPromotion":
				if base == one.deployment && one.committed.IsZero() {
					one.committed = r.GetCreateTime().AsTime()
				}
			case "NextWave":
				one.reached = slices.Insert(one.reached, 0, r.GetCreateTime().AsTime())
			case "PromoteCanary":
				return err
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	if (one.last.GetCommitted() != nil) == one.committed.IsZero() {
		return fmt.Errorf("%v is committed at %v, and its commit in the history is of %v", one, one.last.GetCommitted(), one.committed)
	}
	if v := one.last.GetCommitted(); v != nil {
		p.eras = append(p.eras, era{index: v.GetIndex(), base: one.deployment, promotion: one})
	}
	return nil
}

// insist repeats a call through one node after the other until it is carried out.
// The error is a refusal, or says that ctx has ended.
func (p *promoter) insist(ctx context.Context, what string, call func(context.Context, *node, string) error) error {
	id := crand.Text()
	nodes := slices.Clone(p.cluster.nodes)
	p.rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	for i := 0; ; i++ {
		attempt, done := context.WithTimeout(ctx, hastyTimeout)
		err := call(attempt, nodes[i%len(nodes)], id)
		done()
		if err == nil {
			return nil
		}
		again := []string{"NO_LEADER", "OUTCOME_UNKNOWN", "NOT_CAUGHT_UP"}
		transient := slices.Contains([]codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.Canceled}, status.Code(err))
		if !transient && !slices.Contains(again, info(err).GetReason()) {
			return fmt.Errorf("%s on %s: %w", what, p.stage, err)
		}
		if !pause(ctx, 50*time.Millisecond) {
			return fmt.Errorf("%s on %s: %w", what, p.stage, errors.Join(err, ctx.Err()))
		}
	}
}

// draw draws options of a promotion.
func draw(r *rand.Rand) *fifev1.SyncOptions {
	modes := []fifev1.SyncMode{fifev1.SyncMode_SYNC_MODE_VERSION, fifev1.SyncMode_SYNC_MODE_TIMED}
	policies := []fifev1.TimeoutPolicy{
		fifev1.TimeoutPolicy_TIMEOUT_POLICY_ABORT, fifev1.TimeoutPolicy_TIMEOUT_POLICY_WAIT, fifev1.TimeoutPolicy_TIMEOUT_POLICY_FENCE,
	}
	return &fifev1.SyncOptions{
		Mode: modes[r.IntN(len(modes))], OnTimeout: policies[r.IntN(len(policies))],
		PrepareTimeout: durationpb.New(between(r, time.Second, 10*time.Second)),
	}
}

// String describes a promotion and its end.
func (p *promotion) String() string {
	short := func(name, prefix string) string { return strings.ToLower(strings.TrimPrefix(name, prefix)) }
	how := "in waves"
	if p.options != nil {
		how = short(p.options.GetMode().String(), "SYNC_MODE_") + ", on timeout " + short(p.options.GetOnTimeout().String(), "TIMEOUT_POLICY_")
	}
	return fmt.Sprintf("promotion %d of %s to deployment %d (%s): %s", p.number, p.stage, p.deployment, how, short(p.state().String(), "STATE_"))
}
