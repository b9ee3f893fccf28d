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

// promotion is one synchronised promotion and what was seen of it.
type promotion struct {
	stage      string
	deployment uint64 // that it makes the base, and no other promotion does
	options    *fifev1.SyncOptions
	number     uint64
	opened     time.Time
	committed  time.Time // when that was decided, by the leader's clock; zero if it was not
	completed  time.Time // when the first node said so; zero if none did
	last       *fifev1.Promotion
}

// promoter opens canaries on a stage and promotes them, one after the other.
type promoter struct {
	cluster *cluster
	stage   string // its id
	rand    *rand.Rand

	promotions []*promotion // those that have ended

	mu   sync.Mutex
	seen map[uint64]*promotion // by number, as the nodes show them
	news chan struct{}         // told after seen has changed
}

// api is what all stages belong to.
const api = "instep"

func newPromoter(c *cluster, stage string, r *rand.Rand) *promoter {
	return &promoter{cluster: c, stage: stage, rand: r, seen: map[uint64]*promotion{}, news: make(chan struct{}, 1)}
}

func (p *promoter) name() string { return "apis/" + api + "/stages/" + p.stage }

// watch follows the stage through one node until ctx ends.
func (p *promoter) watch(ctx context.Context, n *node) {
	for pause(ctx, 50*time.Millisecond) {
		stream, err := n.stages.WatchStage(ctx, &fifev1.WatchStageRequest{Name: p.name()})
		for err == nil {
			var resp *fifev1.WatchStageResponse
			if resp, err = stream.Recv(); err == nil {
				p.see(resp.GetStage().GetPromotion(), time.Now())
			}
		}
	}
}

// see takes in what a node shows. The state of a promotion only rises.
func (p *promoter) see(shown *fifev1.Promotion, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.seen[shown.GetNumber()]
	if s == nil {
		s = &promotion{}
		p.seen[shown.GetNumber()] = s
	}
	if shown.GetState() > s.last.GetState() {
		s.last = shown
		if shown.GetState() == fifev1.Promotion_STATE_COMPLETE {
			s.completed = at
		}
		select {
		case p.news <- struct{}{}:
		default:
		}
	}
}

// cycle opens a canary, promotes it, and waits until that has ended; an operator may
// abort it. Calls are repeated until a node has carried them out.
func (p *promoter) cycle(ctx context.Context, options *fifev1.SyncOptions, operatorAborts bool) error {
	one := &promotion{stage: p.stage, options: options}
	err := p.insist(ctx, "create a deployment", func(ctx context.Context, n *node, id string) error {
		resp, err := n.deployments.CreateDeployment(ctx, &fifev1.CreateDeploymentRequest{Parent: "apis/" + api, RequestId: id})
		one.deployment = uint64(parseNumber(resp.GetDeployment().GetName()))
		return err
	})
	if err != nil {
		return err
	}
	err = p.insist(ctx, "start a canary", func(ctx context.Context, n *node, id string) error {
		_, err := n.stages.StartCanary(ctx, &fifev1.StartCanaryRequest{
			Name: p.name(), Replace: true, RequestId: id,
			Canary: &fifev1.Canary{Deployment: deploymentName(api, uint32(one.deployment)), Percent: 20},
		})
		return err
	})
	if err != nil {
		return err
	}
	pause(ctx, between(p.rand, 0, 500*time.Millisecond))
	err = p.insist(ctx, "promote", func(ctx context.Context, n *node, id string) error {
		resp, err := n.stages.PromoteCanary(ctx, &fifev1.PromoteCanaryRequest{Name: p.name(), Sync: options, RequestId: id})
		one.number = resp.GetStage().GetPromotion().GetNumber()
		return err
	})
	if err != nil {
		return err
	}
	one.opened = time.Now()
	if operatorAborts {
		pause(ctx, between(p.rand, 0, time.Second))
		if err := p.abort(ctx); err != nil {
			return err
		}
	}
	if err := p.end(ctx, one); err != nil {
		return err
	}
	p.promotions = append(p.promotions, one)
	return nil
}

// abort ends the open promotion as an operator would, if it is not too late.
func (p *promoter) abort(ctx context.Context) error {
	return p.insist(ctx, "abort", func(ctx context.Context, n *node, id string) error {
		_, err := n.stages.AbortPromotion(ctx, &fifev1.AbortPromotionRequest{Name: p.name(), RequestId: id})
		if info(err).GetReason() == "NO_PROMOTION" {
			return nil
		}
		return err
	})
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
		if state := seen.state(); state == fifev1.Promotion_STATE_COMPLETE || state == fifev1.Promotion_STATE_ABORTED {
			one.last, one.completed = seen.last, seen.completed
			p.mu.Unlock()
			return p.history(ctx, one)
		}
		p.mu.Unlock()
		select {
		case <-p.news:
		case <-tooLong.C:
			if err := p.abort(ctx); err != nil {
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

// history notes when a promotion was committed, by the stage's history.
func (p *promoter) history(ctx context.Context, one *promotion) error {
	return p.insist(ctx, "read the history", func(ctx context.Context, n *node, _ string) error {
		resp, err := n.stages.ListStageRevisions(ctx, &fifev1.ListStageRevisionsRequest{Parent: p.name(), PageSize: 10})
		for _, r := range resp.GetRevisions() {
			base := uint64(parseNumber(r.GetAfter().GetDeployment()))
			if r.GetMethod() == "CommitPromotion" && base == one.deployment {
				one.committed = r.GetCreateTime().AsTime()
			}
		}
		if complete := one.state() == fifev1.Promotion_STATE_COMPLETE; err == nil && complete == one.committed.IsZero() {
			err = fmt.Errorf("promotion %d is %v, and its commit in the history is of %v", one.number, one.state(), one.committed)
		}
		return err
	})
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
	return fmt.Sprintf("promotion %d of %s to deployment %d (%s, on timeout %s): %s", p.number, p.stage, p.deployment,
		short(p.options.GetMode().String(), "SYNC_MODE_"), short(p.options.GetOnTimeout().String(), "TIMEOUT_POLICY_"),
		short(p.state().String(), "STATE_"))
}
