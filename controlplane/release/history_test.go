package release_test

import (
	"testing"

	"github.com/fifegateway/fife/controlplane/release"
)

// TestHistoryLimit: a stage keeps its last 100 revisions, numbered without gaps.
func TestHistoryLimit(t *testing.T) {
	s := baseStage()
	for n := 2; n <= 250; n++ {
		s = made(t)(s.Deploy(change(n), uint64(n), release.TargetAuto))
		first := max(1, n-release.HistoryLimit+1)
		if len(s.History) != n-first+1 {
			t.Fatalf("revision %d keeps %d", n, len(s.History))
		}
		for i, r := range s.History {
			if want := uint64(first + i); r.Number != want || r.Config.Deployment != want || r.Change != change(int(want)) {
				t.Fatalf("revision %d: entry %d is %+v, want that of %d", n, i, r, want)
			}
		}
	}
	r := wantRefusal(t, second(s.Rollback(change(251), 150)), release.NoHistory)
	if want := "apis/demo/stages/prod keeps no revision 150; its history has 151 to 250"; r.Message != want {
		t.Errorf("got %q, want %q", r.Message, want)
	}
	if s.Uses(150) || !s.Uses(151) || !s.Uses(250) {
		t.Error("what is used is not what is kept")
	}
}

// TestOtherBaseStaysInReach: however often a percent is changed, a rollback finds
// the base before; once the base changes again, what it needs is what is kept.
func TestOtherBaseStaysInReach(t *testing.T) {
	s := made(t)(baseStage().Deploy(change(2), 2, release.TargetAuto)) // base 1 is revision 1
	s = made(t)(s.StartCanary(change(3), release.Canary{Deployment: 3}, false))
	for n := 4; n <= 350; n++ {
		s = made(t)(s.UpdateCanary(change(n), release.Canary{PartsPerMillion: uint32(n)}, []string{release.FieldPercent}))
		if base, ok := s.RollbackTarget(); !ok || base.Deployment != 1 {
			t.Fatalf("revision %d would roll back to %+v, %v", n, base, ok)
		}
		if len(s.History) > release.HistoryLimit+1 || !s.Uses(1) {
			t.Fatalf("revision %d keeps %d, and base 1: %v", n, len(s.History), s.Uses(1))
		}
	}
	first, last := s.History[0], s.History[len(s.History)-1]
	if first.Number != 1 || s.History[1].Number != 251 || last.Number != 350 {
		t.Errorf("kept are %d, %d to %d", first.Number, s.History[1].Number, last.Number)
	}
	back := made(t)(s.Rollback(change(351), 0))
	if back.Config.Deployment != 1 || back.Config.Canary == nil {
		t.Errorf("rolled back to %+v", back.Config)
	}
	if base, ok := back.RollbackTarget(); !ok || base.Deployment != 2 || len(back.History) != release.HistoryLimit {
		t.Errorf("after the rollback %d are kept, and the next would lead to %+v, %v", len(back.History), base, ok)
	}
	_ = wantRefusal(t, second(s.Rollback(change(351), 200)), release.NoHistory)
}
