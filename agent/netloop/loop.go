//go:build linux

package netloop

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batch = 128 // how many sockets may turn ready before the loop looks for new ones
	// busy is after how many sockets without a pause the loop counts as busy, until it
	// pauses.
	busy = 16
	// share is after how many sockets a busy loop lets others have the processor. It is
	// not after every batch, since the scheduler then looks for another processor for
	// them, which costs more than a small batch.
	share = 4 * batch
	// patience is for how many milliseconds a loop that was busy pauses in a call that
	// blocks, before it waits in the runtime's poller. With much to do the call costs
	// less than the scheduler. With little to do it costs more: the runtime wakes up
	// just to look for threads that are blocked.
	patience = 1
)

// Loop runs coroutines on one goroutine.
type Loop struct {
	epoll int
	file  *os.File // epoll in the runtime's poller
	bell  int      // ends a wait when something was posted

	// Only the loop and its coroutines touch these.
	current *coroutine // the one that runs
	conns   []*Conn    // by descriptor
	turn    int32      // tells a descriptor from an earlier one of the same number
	turns   turns

	mu     sync.Mutex
	posted []func() // to be done on the loop
	waits  bool     // the loop waits, or is about to
	closed bool
}

// coroutine is code that the loop runs until it steps aside.
type coroutine struct {
	next  func() (left, ok bool) // go on with it
	yield func(left bool) bool   // step aside
}

// New makes n loops, which let each other have their turn where they have to share a
// core. None runs anything before its Run.
func New(n int) ([]*Loop, error) {
	var all []*Loop
	for range n {
		l, err := newLoop()
		if err != nil {
			for _, l := range all {
				l.close()
			}
			return nil, err
		}
		all = append(all, l)
	}
	for _, l := range all {
		l.turns.all = all
	}
	return all, nil
}

func newLoop() (*Loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create an epoll instance: %w", err)
	}
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, bell, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(bell)})
	}
	if err == nil {
		err = unix.SetNonblock(epoll, true) // or the runtime's poller would not take it
	}
	if err != nil {
		_ = unix.Close(epoll)
		_ = unix.Close(bell)
		return nil, fmt.Errorf("create an event descriptor: %w", err)
	}
	l := &Loop{epoll: epoll, file: os.NewFile(uintptr(epoll), "epoll"), bell: bell}
	l.turns.pause()
	return l, nil
}

// Run runs the loop until ctx ends. All coroutines must have ended, or left, by then:
// those that have not are never run again, and their sockets stay open.
func (l *Loop) Run(ctx context.Context) error {
	ended := false
	defer context.AfterFunc(ctx, func() { _ = l.post(func() { ended = true }) })()
	defer l.close()
	poller, err := l.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("wait for sockets: %w", err)
	}
	var (
		events [batch]unix.EpollEvent
		n      int    // of them
		failed error  // that it came to no events
		run    int    // sockets since the last pause
		yield  = busy // when run comes to this, others get the processor
	)
	look := func(uintptr) bool {
		if n, failed = ready(l.epoll, events[:]); n == 0 && failed == nil {
			l.turns.pause()
			if run >= busy {
				n, failed = unix.EpollWait(l.epoll, events[:], patience)
			}
			run, yield = 0, busy
		}
		if errors.Is(failed, unix.EINTR) {
			n, failed = 0, nil
		}
		return n > 0 || failed != nil
	}
	for {
		l.work()
		if ended {
			return nil
		}
		if run >= yield {
			yield = run + share
			runtime.Gosched()
		}
		if err := cmp.Or(poller.Read(look), failed); err != nil {
			return fmt.Errorf("wait for sockets: %w", err)
		}
		run += n
		if run >= busy {
			l.turns.begin(n)
		}
		for i := range n {
			if e := &events[i]; int(e.Fd) == l.bell {
				var count [8]byte
				_, _ = unix.Read(l.bell, count[:])
			} else if c := l.conns[e.Fd]; c != nil && c.turn == e.Pad {
				c.ready(e.Events)
			}
		}
	}
}

// ready returns how many sockets have turned ready, and which. It does not block, so the
// scheduler need not be told of it.
func ready(epoll int, events []unix.EpollEvent) (int, error) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// work does what was posted until there is no more.
func (l *Loop) work() {
	for {
		l.mu.Lock()
		posted := l.posted
		l.posted, l.waits = nil, len(posted) == 0
		l.mu.Unlock()
		if len(posted) == 0 {
			return
		}
		for _, f := range posted {
			f()
		}
	}
}

// post has f done on the loop, soon, and reports whether the loop is still there to do
// it. Any goroutine may call it.
func (l *Loop) post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.posted = append(l.posted, f)
	if l.waits {
		l.waits = false
		_, _ = unix.Write(l.bell, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
	return true
}

func (l *Loop) close() {
	for {
		l.work()
		l.mu.Lock()
		l.closed = len(l.posted) == 0
		l.mu.Unlock()
		if l.closed {
			break
		}
	}
	_ = l.file.Close()
	_ = unix.Close(l.bell)
}

// Go runs f as a coroutine. Any goroutine may call it.
func (l *Loop) Go(f func()) {
	_ = l.post(func() {
		co := &coroutine{}
		co.next, _ = iter.Pull(func(yield func(bool) bool) {
			co.yield = yield
			f()
		})
		l.resume(co)
	})
}

// resume goes on with a coroutine until it steps aside, or ends.
func (l *Loop) resume(co *coroutine) {
	l.current = co
	left, ok := co.next()
	l.current = nil
	if left && ok {
		go co.next()
	}
}

// pause steps aside until someone resumes the coroutine that runs.
func (l *Loop) pause() { l.current.yield(false) }

// Await runs f in a goroutine of its own and returns when it has ended. Meanwhile the
// loop goes on. Only coroutines of the loop may call it.
func (l *Loop) Await(f func()) {
	co := l.current
	go func() {
		f()
		_ = l.post(func() { l.resume(co) })
	}()
	l.pause()
}

// Adopt makes a Conn of a TCP connection, which is not to be used any more, whether it
// succeeds or not. Any goroutine may call it; before anything can be read or written, a
// coroutine has to Add the Conn.
func (l *Loop) Adopt(conn net.Conn) (*Conn, error) {
	defer func() { _ = conn.Close() }()
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("adopt a %T: want a TCP connection", conn)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("adopt a connection: %w", err)
	}
	c := &Conn{loop: l, local: conn.LocalAddr(), remote: conn.RemoteAddr()}
	var failed error
	err = raw.Control(func(fd uintptr) { c.fd, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("adopt a connection: %w", err)
	}
	return c, nil
}

// Add begins to watch a connection of the loop. Only coroutines of the loop may call it.
func (l *Loop) Add(c *Conn) error {
	for c.fd >= len(l.conns) {
		l.conns = append(l.conns, make([]*Conn, 256)...)
	}
	l.turn++
	c.turn = l.turn
	// Edges are enough: a Conn remembers what it was told until a read or a write
	// finds that it is over.
	err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff, Fd: int32(c.fd), Pad: c.turn,
	})
	if err != nil {
		return fmt.Errorf("add a connection: %w", err)
	}
	l.conns[c.fd] = c
	return nil
}
