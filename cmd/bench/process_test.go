//go:build linux

package bench_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// process is a server under measurement. Its methods are called from one
// goroutine.
type process struct {
	name    string
	logFile string
	pid     int
	process *os.Process
	ended   chan struct{}
}

// start runs a command whose output goes to the end of a log file.
func start(name, logFile string, command ...string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the process has its own copy
	if *pin != "" {
		command = append([]string{"taskset", "--cpu-list", *pin}, command...)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, logFile: logFile, pid: cmd.Process.Pid, process: cmd.Process, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // whoever needs the process sees that it is gone
		close(p.ended)
	}()
	return p, nil
}

// kill ends the process as a crash would.
func (p *process) kill() {
	_ = p.process.Kill() // it may have ended by itself
	<-p.ended
}

// check returns an error with the end of the log if the process has ended.
func (p *process) check() error {
	select {
	case <-p.ended:
		log, _ := os.ReadFile(p.logFile) // if it is gone there is nothing to add
		return fmt.Errorf("%s has ended:\n%s", p.name, log[max(0, len(log)-2000):])
	default:
		return nil
	}
}

// tick is the unit in which Linux counts processor time for user space.
const tick = 10 * time.Millisecond

// cpu returns the processor time that the process has used.
func (p *process) cpu() (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return 0, fmt.Errorf("processor time of %s: %w", p.name, err)
	}
	_, rest, _ := bytes.Cut(data, []byte(") ")) // the name may hold anything else
	fields := strings.Fields(string(rest))
	const user, system = 11, 12 // of the fields after the name, see proc(5)
	if len(fields) <= system {
		return 0, fmt.Errorf("processor time of %s: cannot read %q", p.name, data)
	}
	return ticks(fields[user], fields[system])
}

// exactCPU returns the processor time that the threads of the process have used,
// to the nanosecond. A thread that has ended does not count; Go's do not end.
func (p *process) exactCPU() (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.pid))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, name := range threads {
		data, err := os.ReadFile(name)
		if err != nil {
			return 0, fmt.Errorf("processor time of %s: %w", p.name, err)
		}
		var used int64
		if _, err := fmt.Sscan(string(data), &used); err != nil {
			return 0, fmt.Errorf("processor time of %s: cannot read %q", p.name, data)
		}
		sum += time.Duration(used)
	}
	return sum, nil
}

// ticks adds up counts of processor time.
func ticks(counts ...string) (time.Duration, error) {
	var sum time.Duration
	for _, c := range counts {
		n, err := strconv.ParseInt(c, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read processor time: %w", err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// rss returns how much memory of the process is resident, in bytes.
func (p *process) rss() (float64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid))
	if err != nil {
		return 0, fmt.Errorf("memory of %s: %w", p.name, err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "Rss:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("memory of %s: the kernel does not tell", p.name)
}

// hosts counts the addresses that nodes were given.
var hosts atomic.Int64

// nextHost returns a loopback address of its own for a node, so that no two
// tests on this machine want the same port.
func nextHost() string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 192+pid/250%60, 1+pid%250, 1+hosts.Add(1)%250)
}

// patience is how long a measurement waits for what has to happen.
const patience = 60 * time.Second

// await calls f until it succeeds, the processes have ended or patience is over.
func await(ctx context.Context, what string, processes []*process, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		attempt, stop := context.WithTimeout(ctx, 5*time.Second)
		err := f(attempt)
		stop()
		if err == nil {
			return nil
		}
		for _, p := range processes {
			if ended := p.check(); ended != nil {
				return fmt.Errorf("%s: %w", what, ended)
			}
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s: not within %v", what, patience), err)
		}
	}
}
