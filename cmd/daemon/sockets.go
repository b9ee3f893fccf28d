package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
)

// firstSocket is the first descriptor that a supervisor passes, behind the standard
// three: SD_LISTEN_FDS_START of sd_listen_fds(3).
const firstSocket = 3

// Sockets returns the listening sockets that whoever started this process has opened
// for it, in the order in which they were passed: the variables LISTEN_PID, which must
// be pid, and LISTEN_FDS say how many there are (sd_listen_fds(3)). Without them there
// are none. Children of this process do not inherit the sockets.
func Sockets(getenv func(string) string, pid int) ([]net.Listener, error) {
	if getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, nil // passed to a parent, which has used them or did not want them
	}
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n < 0 {
		return nil, fmt.Errorf("LISTEN_FDS is %q: want the number of sockets that are passed", getenv("LISTEN_FDS"))
	}
	listeners := make([]net.Listener, 0, n)
	for fd := firstSocket; fd < firstSocket+n; fd++ {
		l, err := socket(fd)
		if err != nil {
			for _, l := range listeners {
				err = errors.Join(err, l.Close())
			}
			return nil, err
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

func socket(fd int) (net.Listener, error) {
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "socket "+strconv.Itoa(fd))
	l, err := net.FileListener(f) // it has a descriptor of its own
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("descriptor %d, which LISTEN_FDS counts, is no listening socket: %w", fd, err)
	}
	return l, nil
}
