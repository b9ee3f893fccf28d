package release_test

import (
	"reflect"
	"testing"

	"github.com/fifegateway/fife/controlplane/release"
)

// by returns a change of a verified caller.
func by(caller string) release.Change {
	c := change(2)
	c.Actor, c.Caller = caller, caller
	return c
}

// protected is a stage that requires another promoter, with a canary of user:ann.
func protected(t *testing.T) *release.Stage {
	t.Helper()
	s := made(t)(baseStage().Update(by("user:root"), release.StageValues{OtherPromoter: true}, []string{release.FieldOtherPromoter}))
	return made(t)(s.StartCanary(by("user:ann"), release.Canary{Deployment: 2, PartsPerMillion: 5}, false))
}

// TestAuthors: who starts a canary or changes what it serves is one of its authors,
// whichever way; who changes its share is not.
func TestAuthors(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(*release.Stage, release.Change) (*release.Stage, error)
		want []string
	}{
		"percent": {func(s *release.Stage, c release.Change) (*release.Stage, error) {
			return s.UpdateCanary(c, release.Canary{PartsPerMillion: 9}, []string{release.FieldPercent})
		}, []string{"user:ann"}},
		"the same deployment": {func(s *release.Stage, c release.Change) (*release.Stage, error) {
			return s.UpdateCanary(c, release.Canary{Deployment: 2}, []string{release.FieldDeployment})
		}, []string{"user:ann"}},
		"overrides": {func(s *release.Stage, c release.Change) (*release.Stage, error) {
			return s.UpdateCanary(c, release.Canary{Overrides: vars("a", "1")}, []string{release.FieldVariableOverrides})
		}, []string{"user:ann", "user:bob"}},
		"deployment": {func(s *release.Stage, c release.Change) (*release.Stage, error) {
			return s.UpdateCanary(c, release.Canary{Deployment: 3}, []string{release.FieldDeployment})
		}, []string{"user:ann", "user:bob"}},
		"deploy": {func(s *release.Stage, c release.Change) (*release.Stage, error) {
			return s.Deploy(c, 3, release.TargetAuto)
		}, []string{"user:ann", "user:bob"}},
		"deploy with settings": {func(s *release.Stage, c release.Change) (*release.Stage, error) {
			return s.DeployWith(c, 3, release.TargetAuto, release.StageValues{Description: "x"}, []string{release.FieldDescription})
		}, []string{"user:ann", "user:bob"}},
		"update of the stage": {func(s *release.Stage, c release.Change) (*release.Stage, error) {
			return s.Update(c, release.StageValues{Canary: &release.Canary{Deployment: 2, Overrides: vars("a", "1")}}, []string{release.FieldCanary})
		}, []string{"user:ann", "user:bob"}},
		"replace": {func(s *release.Stage, c release.Change) (*release.Stage, error) {
			return s.StartCanary(c, release.Canary{Deployment: 2}, true)
		}, []string{"user:bob"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := protected(t)
			next := made(t)(tt.do(s, by("user:bob")))
			if got := next.Config.Canary.Authors; !reflect.DeepEqual(got, tt.want) {
				t.Errorf("the authors are %v, want %v", got, tt.want)
			}
			if got := s.Config.Canary.Authors; !reflect.DeepEqual(got, []string{"user:ann"}) {
				t.Errorf("the stage before has other authors now: %v", got)
			}
			unknown := made(t)(tt.do(s, change(3)))
			if got := unknown.Config.Canary.Authors; len(tt.want) == 1 && tt.want[0] == "user:ann" {
				if len(got) != 1 {
					t.Errorf("a share that nobody known has changed leaves %v", got)
				}
			} else if len(got) != 0 {
				t.Errorf("somebody unknown has changed it, and the authors are %v", got)
			}
		})
	}
}

// TestOtherPromoter: a canary's author promotes it by no move of the stage, and without
// the rule by any.
func TestOtherPromoter(t *testing.T) {
	moves := map[string]func(*release.Stage, release.Change) (*release.Stage, error){
		"promote": func(s *release.Stage, c release.Change) (*release.Stage, error) {
			return s.PromoteCanary(c, false, false)
		},
		"promote keep": func(s *release.Stage, c release.Change) (*release.Stage, error) {
			return s.PromoteCanary(c, true, false)
		},
		"open": func(s *release.Stage, c release.Change) (*release.Stage, error) {
			return s.OpenPromotion(c, 7, false, release.SyncOptions{Mode: release.SyncVersion})
		},
	}
	for name, move := range moves {
		s := protected(t)
		_, err := move(s, by("user:ann"))
		if r := wantRefusal(t, err, release.SamePromoter); r.Metadata["subject"] != "user:ann" || r.Metadata["authors"] != "user:ann" {
			t.Errorf("%s: the refusal says %v", name, r.Metadata)
		}
		_, err = move(s, change(9))
		_ = wantRefusal(t, err, release.CallersUnknown)
		done := made(t)(move(s, by("user:bob")))
		last := done.History[len(done.History)-1].Change
		if last.Actor != "user:bob" || last.Note != "canary of user:ann" || last.Caller != "" {
			t.Errorf("%s: the history says %+v", name, last)
		}
		free := made(t)(s.Update(by("user:root"), release.StageValues{}, []string{release.FieldOtherPromoter}))
		made(t)(move(free, by("user:ann")))
	}
	broken := made(t)(protected(t).PromoteCanary(by("user:ann"), false, true))
	if note := broken.History[len(broken.History)-1].Change.Note; note != "break glass: all agents at once; no other promoter; canary of user:ann" {
		t.Errorf("who breaks the glass leaves %q", note)
	}
}
