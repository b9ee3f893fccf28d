//go:build linux

package chaos_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// sandboxVariable marks the process that runs in namespaces of its own.
const sandboxVariable = "FIFE_CHAOS_SANDBOX"

func inSandbox() bool { return os.Getenv(sandboxVariable) != "" }

// canSandbox reports whether this process may make the namespaces, and has the tool
// that furnishes them.
func canSandbox() bool {
	if _, err := exec.LookPath("ip"); err != nil || os.Geteuid() != 0 {
		return false
	}
	try := exec.Command("ip", "link", "set", "lo", "up")
	try.SysProcAttr = &syscall.SysProcAttr{Cloneflags: cloneFlags}
	return try.Run() == nil
}

// cloneFlags are the namespaces of the sandbox.
const cloneFlags = syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID

// runInSandbox runs this test binary again as the first process of new
// namespaces. When it ends, however it ends, the kernel ends all processes that
// it has started and takes away their mounts and networks.
func runInSandbox(dir string) (int, error) {
	// The child dies with the thread that starts it, so this one has to stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self := exec.Command("/proc/self/exe", append(os.Args[1:], "-chaos.binary="+*binary, "-chaos.agent="+*agent)...)
	self.Env = append(os.Environ(), sandboxVariable+"=1", "TMPDIR="+dir)
	self.Stdout, self.Stderr = os.Stdout, os.Stderr
	self.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: cloneFlags,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := self.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("run in namespaces of its own: %w", err)
	}
	return 0, nil
}

// furnishSandbox gives the new namespaces what processes expect: mounts that stay
// here, the processes that are here, and a loopback interface.
func furnishSandbox() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := os.MkdirAll(namespaces, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", namespaces, err)
	}
	if err := syscall.Mount("tmpfs", namespaces, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", namespaces, err)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return errors.New("-chaos.faults needs ip for its own network namespace: apt-get install -y iproute2")
	}
	return command("ip", "link", "set", "lo", "up")
}

// namespaces is where ip keeps the network namespaces that have names.
const namespaces = "/run/netns"

// command runs a tool; the error holds what it printed.
func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return nil
}
