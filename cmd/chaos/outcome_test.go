//go:build linux

package chaos_test

import (
	"context"
	"crypto/rand"
	"errors"
	"syscall"
	"testing"
	"time"
)

// TestNothingDoneIsTheTruth leaves a leader without followers while it takes a
// change: the change is in its log, and nobody can say what will come of it. A
// node that answers that nothing was done must be right when they are back.
func TestNothingDoneIsTheTruth(t *testing.T) {
	c := startCluster(t, loopback(t))
	prepare(t, c, "outcome")
	leader := c.awaitLeader(t)
	first := write(t, leader, "outcome", call{move: create, stage: "s", base: base{deployment: 1, value: 1}})
	followers := c.others(leader)
	for _, n := range followers {
		n.signal(syscall.SIGSTOP)
		defer n.signal(syscall.SIGCONT)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patientTimeout)
	defer cancel()
	begin := time.Now()
	a, err := leader.do(ctx, "outcome", call{move: update, stage: "s", base: base{deployment: 2, value: 2}}, rand.Text())
	took := time.Since(begin).Round(time.Millisecond)
	if err == nil && !a.unknown {
		t.Fatalf("a leader without followers answered %+v", a)
	}
	if err != nil && !errors.Is(err, errNothingDone) {
		t.Fatal(err)
	}
	followers[0].signal(syscall.SIGCONT) // which has not the change, and so cannot be elected
	var after answer
	await(t, patience, "a read", func(ctx context.Context) (err error) {
		after, err = leader.do(ctx, "outcome", call{move: get, stage: "s"}, "")
		if err == nil && after.unknown {
			err = errors.New("no answer")
		}
		return err
	})
	t.Logf("answered after %v: nothing done %v, unknown %v; then the stage is %+v", took, err != nil, a.unknown, after.view)
	if err != nil && after.view != first {
		t.Fatalf("nothing was done, said the node, and yet the stage went from %+v to %+v", first, after.view)
	}
}
