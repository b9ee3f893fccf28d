//go:build unix

package cmd_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestHandover restarts agents whose socket was passed to them while clients connect:
// one beside the next, and one after the other. Every connection gets its answer.
func TestHandover(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "fife-agent")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "github.com/fifegateway/fife/cmd/fife-agent").CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close() // from now on the socket lives by its other descriptor
	defer func() { _ = socket.Close() }()

	agents := 0
	start := func() *exec.Cmd {
		agents++
		// Its own process id is a thing that only the process itself knows.
		cmd := exec.CommandContext(t.Context(), "sh", "-c", `export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" "$@"`, bin,
			"--id", fmt.Sprint("edge-", agents), "--state-dir", t.TempDir(), "--control-plane", "127.0.0.1:1",
			"--admin-listen", "", "--access-log", "", "--plaintext")
		cmd.ExtraFiles = []*os.File{socket}
		cmd.Stderr = t.Output()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	end := func(cmd *exec.Cmd) {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("an agent has ended with %v", err)
		}
	}

	var answered atomic.Int64
	var stop atomic.Bool
	var clients sync.WaitGroup
	first := start()
	for range 4 {
		clients.Go(func() {
			for !stop.Load() {
				if err := askOnce(address); err != nil {
					t.Errorf("after %d answers: %v", answered.Load(), err)
					return
				}
				answered.Add(1)
			}
		})
	}
	serves := func() {
		t.Helper()
		for want, by := answered.Load()+100, time.Now().Add(patience); answered.Load() < want && !t.Failed(); {
			if time.Now().After(by) {
				t.Fatalf("no 100 answers within %v", patience)
			}
			if err := askOnce(address); err != nil {
				t.Errorf("no answer: %v", err)
			}
		}
	}
	serves()
	second := start()
	end(first)
	serves()
	for range 3 {
		end(second)
		second = start()
		serves()
	}
	stop.Store(true)
	clients.Wait()
	end(second)
}

// askOnce sends a request on a connection of its own and wants a whole answer, which
// of an agent without a table is a 403.
func askOnce(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "GET /prod/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusForbidden {
		return fmt.Errorf("%s, %w", res.Status, err)
	}
	return nil
}
