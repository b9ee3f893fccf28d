//go:build linux

package chaos_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a program that is started, broken and started again. Its methods are
// called from one goroutine, but for alive.
type process struct {
	name, ip string
	logFile  string   // of all its lives
	prefix   []string // what its command begins with, to run it in a namespace

	mu   sync.Mutex
	life *life // nil while it is down
}

// life is one run of a process.
type life struct {
	process *os.Process
	ended   chan struct{}
	state   *os.ProcessState // set once ended
}

// run starts the program.
func (p *process) run(program string, args ...string) error {
	log, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the process has its own copy
	line := append(append(append([]string{}, p.prefix...), program), args...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	l := &life{process: cmd.Process, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in the state
		l.state = cmd.ProcessState
		close(l.ended)
	}()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.life = l
	return nil
}

// alive returns its present life, or nil if it is down.
func (p *process) alive() *life {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life
}

// signal sends a signal to the process, if it is up.
func (p *process) signal(s syscall.Signal) {
	if l := p.alive(); l != nil {
		_ = l.process.Signal(s) // it has ended, which whoever waits for it sees
	}
}

// end waits until the process has ended, by itself or by a signal, and returns
// how.
func (p *process) end(patience time.Duration) (*os.ProcessState, error) {
	l := p.alive()
	if l == nil {
		return nil, fmt.Errorf("%s is down already", p.name)
	}
	select {
	case <-l.ended:
	case <-time.After(patience):
		return nil, fmt.Errorf("%s has not ended within %v", p.name, patience)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.life = nil
	return l.state, nil
}

// kill ends the process at once, as a crash would.
func (p *process) kill() error {
	if p.alive() == nil {
		return nil
	}
	p.signal(syscall.SIGKILL)
	_, err := p.end(patience)
	return err
}

// ended reports whether the process has ended by itself.
func (p *process) ended() bool {
	l := p.alive()
	if l == nil {
		return false
	}
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

// complaint returns why its log shows a bug, or nil.
func (p *process) complaint() error {
	log, err := os.ReadFile(p.logFile)
	if err != nil {
		return nil // it never ran
	}
	for _, mark := range []string{"panic:", "WARNING: DATA RACE", "handler panicked"} {
		if i := bytes.Index(log, []byte(mark)); i >= 0 {
			return fmt.Errorf("%s: %s", p.name, log[i:min(len(log), i+2000)])
		}
	}
	return nil
}

// lastWords returns the end of its log, without what it says of each call.
func (p *process) lastWords() string {
	log, err := os.ReadFile(p.logFile)
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(log)) {
		if !strings.Contains(line, `msg="finished call"`) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-20):], "")
}
