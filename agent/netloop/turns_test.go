//go:build linux

package netloop

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTurns holds two loops on one core and wants a busy one to give way to the other
// after a batch, and only while the other is in the middle of its sockets there.
func TestTurns(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	var one unix.CPUSet
	one.Set(int(currentCore()))
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	loops, err := New(2)
	if err != nil {
		t.Fatal(err)
	}
	defer loops[0].close()
	defer loops[1].close()
	a, b := &loops[0].turns, &loops[1].turns
	step := func(what string, got, want bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: gave way: %t, want %t", what, got, want)
		}
	}
	step("a whole batch while the other waits", a.begin(batch), false)
	step("the other's first socket", b.begin(1), false)
	step("less than a batch", a.begin(batch-1), false)
	step("a batch", a.begin(1), true)
	step("the next socket", a.begin(1), false)
	a.pause()
	step("less than a batch since a pause", a.begin(batch-1), false)
	b.core.Store(b.core.Load() + 1)
	step("the other is elsewhere", a.begin(1), false)
	b.pause()
	step("the other has come to its pause", a.begin(batch), false)
}
