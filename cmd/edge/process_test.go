//go:build linux

package edge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is a proxy that runs, with the children that it has.
type process struct {
	name    string
	logFile string
	pid     int
	process *os.Process
	ended   chan struct{}
}

// start runs a command until the test ends. Its output goes to a log file, which
// is shown if the test fails.
func start(t *testing.T, name string, command ...string) *process {
	t.Helper()
	return startWith(t, name, nil, command...)
}

// startWith starts a process that gets a listening socket, unless that is nil.
func startWith(t *testing.T, name string, socket *os.File, command ...string) *process {
	t.Helper()
	if socket != nil {
		// Its own process id is a thing that only the process itself knows.
		command = append([]string{"sh", "-c", `export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" "$@"`}, command...)
	}
	p := &process{name: name, logFile: filepath.Join(t.TempDir(), name+".log"), ended: make(chan struct{})}
	log, err := os.Create(p.logFile)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() //nolint:errcheck // the process has its own copy
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if socket != nil {
		cmd.ExtraFiles = []*os.File{socket}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	p.pid, p.process = cmd.Process.Pid, cmd.Process
	go func() {
		_ = cmd.Wait() // whoever needs the process sees that it is gone
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the end of %s's log:\n%s", name, p.logTail())
		}
	})
	return p
}

// kill ends the process and its children as a crash would.
func (p *process) kill() {
	_ = syscall.Kill(-p.pid, syscall.SIGKILL) // it may have ended by itself
	<-p.ended
}

// terminate asks the process to end, and waits until it has.
func (p *process) terminate() error {
	if err := p.process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("end %s: %w", p.name, err)
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%s has not ended within %v of SIGTERM", p.name, patience)
	}
}

func (p *process) logTail() []byte {
	log, _ := os.ReadFile(p.logFile) // if it is gone there is nothing to show
	return log[max(0, len(log)-4000):]
}

// tick is the unit in which Linux counts processor time for user space.
const tick = 10 * time.Millisecond

// family returns the process and its children of all generations.
func (p *process) family() []int {
	all := []int{p.pid}
	for i := 0; i < len(all); i++ {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i]))
		for _, task := range tasks {
			text, _ := os.ReadFile(task) // a thread that has ended has no children
			for _, pid := range strings.Fields(string(text)) {
				if n, err := strconv.Atoi(pid); err == nil {
					all = append(all, n)
				}
			}
		}
	}
	return all
}

// cpu returns the processor time of the process and its children, to the
// nanosecond where the kernel tells it so.
func (p *process) cpu() (time.Duration, error) {
	var sum time.Duration
	for _, pid := range p.family() {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil {
			return 0, err
		}
		fine := len(threads) > 0
		var own time.Duration
		for _, thread := range threads {
			text, err := os.ReadFile(thread)
			f := strings.Fields(string(text))
			if err != nil || len(f) == 0 {
				fine = false
				break
			}
			ns, _ := strconv.ParseInt(f[0], 10, 64) // the kernel wrote it
			own += time.Duration(ns)
		}
		if !fine {
			if own, err = ticksOf(pid); err != nil {
				return 0, fmt.Errorf("processor time of %s: %w", p.name, err)
			}
		}
		sum += own
	}
	return sum, nil
}

func ticksOf(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(data, []byte(") ")) // the name may hold anything else
	fields := strings.Fields(string(rest))
	const user, system = 11, 12 // of the fields after the name, see proc(5)
	if len(fields) <= system {
		return 0, fmt.Errorf("cannot read %q", data)
	}
	u, err1 := strconv.ParseInt(fields[user], 10, 64)
	s, err2 := strconv.ParseInt(fields[system], 10, 64)
	return time.Duration(u+s) * tick, errors.Join(err1, err2)
}

// rss returns how much memory is resident, in bytes.
func (p *process) rss() (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(data))
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// fds returns how many file descriptors the process has.
func (p *process) fds() (int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid))
	return len(entries), err
}

// patience is how long anything waits for what has to happen.
const patience = 20 * time.Second

// await calls f until it succeeds, one of the processes has ended, or patience is
// over.
func await(ctx context.Context, what string, f func() error, processes ...*process) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		for _, p := range processes {
			select {
			case <-p.ended:
				return fmt.Errorf("%s: %s has ended:\n%s", what, p.name, p.logTail())
			default:
			}
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s: not within %v", what, patience), err)
		}
	}
}

// awaitPort waits until somebody listens.
func awaitPort(t *testing.T, address string, p *process) {
	t.Helper()
	if err := await(t.Context(), "listen on "+address, func() error {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}, p); err != nil {
		t.Fatal(err)
	}
}

// freePort returns a loopback address that nobody listens on. Its port is below those
// that outgoing connections get by themselves (32768 and up on Linux): one of them could
// take it before the process does that is to listen there.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(8000))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close() // the address is all that is wanted
			return address
		}
	}
	t.Fatal("there is no free port")
	return ""
}
