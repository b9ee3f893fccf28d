package rollout

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

const (
	lookPause   = 200 * time.Millisecond // between two looks at the agents, when nothing else happens
	tidyEvery   = 10 * time.Second
	applyWithin = 5 * time.Second // for one step
)

// Run takes open promotions on whenever this node leads, until ctx ends.
func (s *Service) Run(ctx context.Context) {
	var driving sync.WaitGroup
	defer driving.Wait()
	driven := map[uint64]context.CancelFunc{}
	defer func() {
		for _, stop := range driven {
			stop()
		}
	}()
	ended := make(chan uint64)
	tidy := time.NewTicker(tidyEvery)
	defer tidy.Stop()
	for {
		state := s.config.Store.State()
		if s.config.Store.IsLeader() {
			for stage := range state.Promoting() {
				number := stage.Promotion.Number
				if driven[number] != nil {
					continue
				}
				driveCtx, stop := context.WithCancel(ctx)
				driven[number] = stop
				driving.Go(func() {
					s.drive(driveCtx, stage.API, stage.ID, number)
					select {
					case ended <- number:
					case <-ctx.Done():
					}
				})
			}
		}
		select {
		case <-state.Changed():
		case <-tidy.C:
			s.tidy(ctx)
		case number := <-ended:
			driven[number]()
			delete(driven, number)
			if !pause(ctx) { // if it is still open, it is taken up again
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// drive takes one promotion from step to step, until it has ended or this node does
// not lead any more.
func (s *Service) drive(ctx context.Context, api, id string, number uint64) {
	var begun time.Time
	var at [2]uint64                 // the state and the wave that began then
	var changed map[string]time.Time // when agents came to its goal
	for {
		// What is known of grants is of one term: it must be this one.
		if _, err := s.lead(ctx); err != nil {
			return
		}
		stage, ok := s.config.Store.State().Stage(api, id)
		if !ok || !stage.Promotion.Open() || stage.Promotion.Number != number {
			return
		}
		p := stage.Promotion
		if now := [2]uint64{uint64(p.State), uint64(len(p.Waves))}; now != at {
			at, begun, changed = now, time.Now(), map[string]time.Time{}
		}
		epoch := s.config.Store.State().Version().Epoch
		v, err := s.look(ctx, store.Version{Epoch: epoch, Index: goal(stage)})
		if err != nil {
			return
		}
		now := time.Now()
		v.note(changed, now)
		step := decide(stage, v, changed, now, begun)
		if step == nil {
			if !pause(ctx) {
				return
			}
			continue
		}
		step.Api, step.Stage, step.Promotion, step.IfRevision = api, id, number, stage.Index
		if err := s.move(ctx, step); err != nil {
			s.config.Logger.Warn("step of a promotion was not taken", "stage", stage.Name(), "promotion", number, "error", err)
			if !pause(ctx) {
				return
			}
		}
	}
}

// pause waits before another look; false once ctx has ended.
func pause(ctx context.Context) bool {
	select {
	case <-time.After(lookPause):
		return true
	case <-ctx.Done():
		return false
	}
}

// stepMethods name the steps in a stage's history.
var stepMethods = map[uint32]string{
	store.StepCommit: "CommitPromotion", store.StepComplete: "CompletePromotion", store.StepAbort: "AbortPromotion",
	store.StepFence: "FencePromotion", store.StepNextWave: "NextWave", store.StepHalt: "HaltPromotion",
}

// move puts a step in the log. What was found stands on the stage as it was then:
// its revision is compared.
func (s *Service) move(ctx context.Context, step *storev1.MovePromotion) error {
	ctx, cancel := context.WithTimeout(ctx, applyWithin)
	defer cancel()
	method := stepMethods[step.GetStep()]
	err := s.apply(ctx, &storev1.Command{Method: method, Op: &storev1.Command_MovePromotion{MovePromotion: step}})
	if err == nil {
		s.config.Logger.Info("promotion taken on", "stage", release.StageName(step.GetApi(), step.GetStage()),
			"promotion", step.GetPromotion(), "step", method, "reason", step.GetReason())
	}
	return err
}

// tidy forgets agents that have held no stream for long, and nodes that have left
// whose grants have run out.
func (s *Service) tidy(ctx context.Context) {
	if !s.config.Store.IsLeader() {
		clear(s.absent)
		return
	}
	if err := s.forget(ctx); err != nil && !errors.Is(err, context.Canceled) {
		s.config.Logger.Warn("agents and nodes that have left are still on the record", "error", err)
	}
}

func (s *Service) forget(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, applyWithin)
	defer cancel()
	if _, err := s.lead(ctx); err != nil {
		return err
	}
	state := s.config.Store.State()
	for node := range state.Departed() {
		if time.Now().After(s.grants.quiet(node)) {
			op := &storev1.Command_DeleteNode{DeleteNode: &storev1.DeleteNode{Id: node, DepartedOnly: true}}
			if err := s.apply(ctx, &storev1.Command{Method: "ForgetNode", Op: op}); err != nil {
				return err
			}
		}
	}
	v, err := s.look(ctx, store.Version{})
	if err != nil {
		return err
	}
	op := &storev1.ForgetAgents{}
	for _, a := range v.sorted() {
		since, known := s.absent[a.id]
		switch {
		case a.connected || a.leased:
			delete(s.absent, a.id)
		case !known:
			s.absent[a.id] = time.Now()
		case time.Since(since) > s.config.ForgetAfter && len(op.GetIds()) < maxRegistration:
			op.Ids = append(op.Ids, a.id)
			delete(s.absent, a.id)
		}
	}
	if len(op.GetIds()) == 0 {
		return nil
	}
	return s.apply(ctx, &storev1.Command{Method: "ForgetAgents", Op: &storev1.Command_ForgetAgents{ForgetAgents: op}})
}
