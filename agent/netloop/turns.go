//go:build linux

package netloop

import (
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// turns makes busy loops take turns on a core that the system has given to several of
// them. The system changes between busy threads when its clock ticks, every 4 ms in many
// kernels, and a loop may be put off in the middle of its sockets, which it would have
// served within half a millisecond.
//
// A loop gives way to no other but one that is known to wait for the same core: a thread
// that gives way to whoever is there loses much of its share beside strangers that never
// do (since Linux 6.18, all of the slice that it has not used).
type turns struct {
	all  []*Loop
	core atomic.Int32 // where the loop was when it began with its sockets, or none
	held int          // sockets since the loop paused or gave way
}

// none is the core of a loop that has nothing to do.
const none = -1

// pause is called by a loop before it waits for sockets.
func (t *turns) pause() {
	t.core.Store(none)
	t.held = 0
}

// begin is called by a busy loop before it serves n sockets, and reports whether it has
// given way before that.
func (t *turns) begin(n int) bool {
	if len(t.all) < 2 {
		return false
	}
	core := currentCore()
	t.core.Store(core)
	if t.held += n; t.held < batch {
		return false
	}
	t.held = 0
	for _, l := range t.all {
		if &l.turns != t && l.turns.core.Load() == core {
			_, _, _ = syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
			return true
		}
	}
	return false
}

// currentCore returns the core that the calling thread is on.
func currentCore() int32 {
	var core uint32
	_, _, _ = syscall.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&core)), 0, 0)
	return int32(core)
}
