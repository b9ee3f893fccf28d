package store

import (
	"slices"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// stageRef is what every command on one stage carries.
type stageRef interface {
	GetApi() string
	GetStage() string
	GetIfRevision() uint64
}

func (t *tx) stage(ref stageRef) (*release.Stage, error) {
	s, ok := t.next.Stage(ref.GetApi(), ref.GetStage())
	if !ok {
		return nil, release.Missing(release.StageName(ref.GetApi(), ref.GetStage()))
	}
	return s, release.CheckRevision(s.Name(), s.Index, ref.GetIfRevision())
}

// setStage puts a stage in the place of old, which is nil for a new stage, and
// keeps count of the deployments that agents need for it.
func (t *tx) setStage(old, s *release.Stage) (Outcome, error) {
	s.Index = t.index
	for _, d := range s.Live() {
		t.countLive(s.API, d, 1)
	}
	if old != nil {
		t.dropLive(old)
		if err := t.needToUnprotect(old, s); err != nil {
			return Outcome{}, err
		}
	}
	t.next.stages, _, _ = t.next.stages.Insert(key(s.API, s.ID), s)
	t.setPromoting(s)
	t.touch(s.Name())
	return Outcome{Stage: s}, nil
}

func (t *tx) setPromoting(s *release.Stage) {
	if s.Promotion.Open() {
		t.next.promoting, _, _ = t.next.promoting.Insert(key(s.API, s.ID), s)
	} else {
		t.next.promoting, _, _ = t.next.promoting.Delete(key(s.API, s.ID))
	}
}

func (t *tx) dropLive(s *release.Stage) {
	for _, d := range s.Live() {
		t.countLive(s.API, d, -1)
	}
}

func (t *tx) countLive(api string, number uint64, by int) {
	k := deploymentKey(api, number)
	before, _ := t.next.live.Get(k)
	after := before + by
	if after > 0 {
		t.next.live, _, _ = t.next.live.Insert(k, after)
	} else {
		t.next.live, _, _ = t.next.live.Delete(k)
	}
	if (before > 0) != (after > 0) {
		t.touch(release.DeploymentName(api, number))
	}
}

// needDeployment refuses a number that no deployment has; 0 stands for none and
// passes.
func (t *tx) needDeployment(api string, number uint64) error {
	if _, ok := t.next.Deployment(api, number); !ok && number != 0 {
		return release.Missing(release.DeploymentName(api, number))
	}
	return nil
}

// needDeployments is needDeployment for all that a stage's values name.
func (t *tx) needDeployments(api string, values release.StageValues) error {
	if err := t.needDeployment(api, values.Deployment); err != nil || values.Canary == nil {
		return err
	}
	return t.needDeployment(api, values.Canary.Deployment)
}

func (t *tx) needRoomForStage(api string) error {
	if count(t.next.Stages(api, "")) >= MaxStages {
		return release.TooMany(release.APIName(api), "stages", MaxStages)
	}
	return nil
}

func (t *tx) createStage(op *storev1.CreateStage) (Outcome, error) {
	if _, err := t.api(op.GetApi()); err != nil {
		return Outcome{}, err
	}
	if s, ok := t.next.Stage(op.GetApi(), op.GetStage()); ok {
		return Outcome{}, release.Taken(s.Name())
	}
	if err := t.needRoomForStage(op.GetApi()); err != nil {
		return Outcome{}, err
	}
	values := decodeStageValues(op.GetValues())
	if err := t.needDeployments(op.GetApi(), values); err != nil {
		return Outcome{}, err
	}
	if values.OtherPromoter {
		if err := release.CheckCallerKnown(t.change, release.StageName(op.GetApi(), op.GetStage())); err != nil {
			return Outcome{}, err
		}
	}
	return t.setStage(nil, release.NewStage(t.change, op.GetApi(), op.GetStage(), values))
}

// deployTo puts a new deployment on the stage that the command names, and sets what
// else of the stage the command says. A stage that it has to make needs the permission
// to make one.
func (t *tx) deployTo(op *storev1.CreateDeployment, number uint64) (*release.Stage, error) {
	target, fields := release.Target(op.GetTarget()), op.GetFields()
	values := decodeStageValues(op.GetValues())
	toCanary := slices.Contains(fields, release.FieldCanary)
	_, exists := t.next.Stage(op.GetApi(), op.GetStage())
	if !exists && op.GetIfRevision() == 0 && target != release.TargetCanary && !toCanary {
		if err := t.need(access.StagesManage, op.GetApi(), op.GetStage()); err != nil {
			return nil, err
		}
		if err := t.needRoomForStage(op.GetApi()); err != nil {
			return nil, err
		}
		s, err := release.NewStageWith(t.change, op.GetApi(), op.GetStage(), number, values, fields)
		if err != nil {
			return nil, err
		}
		outcome, err := t.setStage(nil, s)
		return outcome.Stage, err
	}
	outcome, err := t.move(op, func(s *release.Stage) (*release.Stage, error) {
		if len(fields) == 0 {
			return s.Deploy(t.change, number, target)
		}
		return s.DeployWith(t.change, number, target, values, fields)
	})
	return outcome.Stage, err
}

// move puts the stage that a step makes of the present one in its place.
func (t *tx) move(ref stageRef, step func(*release.Stage) (*release.Stage, error)) (Outcome, error) {
	old, err := t.stage(ref)
	if err != nil {
		return Outcome{}, err
	}
	next, err := step(old)
	if err != nil {
		return Outcome{}, err
	}
	return t.setStage(old, next)
}

func (t *tx) updateStage(op *storev1.UpdateStage) (Outcome, error) {
	return t.move(op, func(s *release.Stage) (*release.Stage, error) {
		values := decodeStageValues(op.GetValues())
		if err := t.needDeployments(s.API, values); err != nil {
			return nil, err
		}
		return s.Update(t.change, values, op.GetFields())
	})
}

func (t *tx) deleteStage(op *storev1.DeleteStage) (Outcome, error) {
	s, err := t.stage(op)
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{}, t.dropStage(s)
}

func (t *tx) dropStage(s *release.Stage) error {
	if err := t.needToUnprotect(s, nil); err != nil {
		return err
	}
	t.dropLive(s)
	t.next.stages, _, _ = t.next.stages.Delete(key(s.API, s.ID))
	t.next.promoting, _, _ = t.next.promoting.Delete(key(s.API, s.ID))
	t.touch(s.Name())
	return nil
}

func (t *tx) startCanary(op *storev1.StartCanary) (Outcome, error) {
	return t.move(op, func(s *release.Stage) (*release.Stage, error) {
		canary := decodeCanary(op.GetCanary())
		if err := t.needDeployment(s.API, canary.Deployment); err != nil {
			return nil, err
		}
		return s.StartCanary(t.change, *canary, op.GetReplace())
	})
}

func (t *tx) updateCanary(op *storev1.UpdateCanary) (Outcome, error) {
	return t.move(op, func(s *release.Stage) (*release.Stage, error) {
		canary := decodeCanary(op.GetCanary())
		if err := t.needDeployment(s.API, canary.Deployment); err != nil {
			return nil, err
		}
		return s.UpdateCanary(t.change, *canary, op.GetFields())
	})
}

func (t *tx) abortCanary(op *storev1.AbortCanary) (Outcome, error) {
	return t.move(op, func(s *release.Stage) (*release.Stage, error) {
		return s.AbortCanary(t.change)
	})
}

func (t *tx) promoteCanary(op *storev1.PromoteCanary) (Outcome, error) {
	if s, ok := t.next.Stage(op.GetApi(), op.GetStage()); ok && len(s.Waves) > 0 && !op.GetBreakGlass() {
		return t.open(op, op.GetKeepCanary(), release.SyncOptions{Mode: release.SyncWaves})
	}
	return t.move(op, func(s *release.Stage) (*release.Stage, error) {
		return s.PromoteCanary(t.change, op.GetKeepCanary(), op.GetBreakGlass())
	})
}

func (t *tx) rollbackStage(op *storev1.RollbackStage) (Outcome, error) {
	return t.move(op, func(s *release.Stage) (*release.Stage, error) {
		return s.Rollback(t.change, op.GetToRevision())
	})
}
