package proxy

import (
	"crypto/tls"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fifegateway/fife/agent/netloop"
)

// isQuiet reports whether an idle connection is open and has nothing to say. On TLS
// it is the one below that is looked at.
func isQuiet(conn net.Conn) bool {
	if l, ok := conn.(*netloop.Conn); ok && l.Left() == nil {
		return l.Quiet()
	}
	ready, ok := poll(conn, unix.POLLIN|unix.POLLRDHUP)
	return !ok || ready == 0
}

// hasHungUp reports whether the peer has ended a connection, though there may still
// be something to read from it.
func hasHungUp(conn net.Conn) bool {
	if l, ok := conn.(*netloop.Conn); ok && l.Left() == nil {
		return l.HungUp()
	}
	ready, _ := poll(conn, unix.POLLRDHUP)
	return ready&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}

// poll returns what of events has come about, without waiting. It fails on what is
// no socket.
func poll(conn net.Conn, events int16) (ready int16, ok bool) {
	if t, secure := conn.(*tls.Conn); secure {
		conn = t.NetConn()
	}
	if l, ok := conn.(*netloop.Conn); ok {
		conn = l.Left()
	}
	s, ok := conn.(syscall.Conn)
	if !ok {
		return 0, false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(fd uintptr) {
		fds := [1]unix.PollFd{{Fd: int32(fd), Events: events}}
		if _, err := unix.Poll(fds[:], 0); err == nil {
			ready = fds[0].Revents
		}
	})
	return ready, err == nil
}
