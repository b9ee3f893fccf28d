package store

import (
	"fmt"
	"maps"

	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

func (t *tx) openPromotion(op *storev1.OpenPromotion) (Outcome, error) {
	sync := release.SyncOptions{
		Mode:           release.SyncMode(op.GetMode()),
		OnTimeout:      release.TimeoutPolicy(op.GetOnTimeout()),
		PrepareTimeout: op.GetPrepareTimeout().AsDuration(),
	}
	return t.open(op, op.GetKeepCanary(), sync)
}

// open opens a promotion. From now on nobody comes to hold a lease without it.
func (t *tx) open(ref stageRef, keep bool, sync release.SyncOptions) (Outcome, error) {
	return t.move(ref, func(s *release.Stage) (*release.Stage, error) {
		next, err := s.OpenPromotion(t.change, t.index, keep, sync)
		if err == nil {
			t.next.entryFloor = t.index
		}
		return next, err
	})
}

// The steps of a MovePromotion command.
const (
	StepCommit uint32 = 1 + iota
	StepComplete
	StepAbort
	StepFence
	StepNextWave
	StepHalt
	StepResume
)

func (t *tx) movePromotion(op *storev1.MovePromotion) (Outcome, error) {
	number, c := op.GetPromotion(), t.change
	return t.move(op, func(s *release.Stage) (*release.Stage, error) {
		switch op.GetStep() {
		case StepCommit:
			next, err := s.CommitPromotion(c, t.next.epoch, t.index, number, decodeTime(op.GetFlipTime()), decodeReport(op.GetReport()))
			return next, t.raise(err)
		case StepComplete:
			return s.CompletePromotion(c, number, decodeReport(op.GetReport()))
		case StepAbort:
			return s.AbortPromotion(c, number, op.GetReason())
		case StepFence:
			next, err := s.FencePromotion(c, t.index, number)
			return next, t.raise(err)
		case StepNextWave:
			return s.NextWave(c, t.index, number, t.next.Agents())
		case StepHalt:
			return s.HaltPromotion(c, number, op.GetReason())
		case StepResume:
			return s.ResumePromotion(c, number)
		}
		panic(fmt.Sprintf("apply index %d: unknown step %d of a promotion; this build is too old for the log", t.index, op.GetStep()))
	})
}

// raise raises both floors to this command, unless it is refused.
func (t *tx) raise(refusal error) error {
	if refusal == nil {
		t.next.entryFloor, t.next.renewalFloor = t.index, t.index
	}
	return refusal
}

func (t *tx) registerAgents(op *storev1.RegisterAgents) (Outcome, error) {
	agents, total := t.next.agents.Txn(), t.next.agents.Len()
	for _, p := range op.GetAgents() {
		a := decodeAgent(p)
		old, known := agents.Get([]byte(a.ID))
		switch {
		case known && maps.Equal(old.Labels, a.Labels):
			continue
		case !known && total >= MaxAgents:
			return Outcome{}, release.TooMany("the cluster", "agents", MaxAgents)
		case !known:
			total++
		}
		agents.Insert([]byte(a.ID), a)
	}
	t.next.agents = agents.Commit()
	return Outcome{}, nil
}

func (t *tx) forgetAgents(op *storev1.ForgetAgents) (Outcome, error) {
	agents := t.next.agents.Txn()
	for _, id := range op.GetIds() {
		agents.Delete([]byte(id))
	}
	t.next.agents = agents.Commit()
	return Outcome{}, nil
}
