package cmd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// daemonUnderNoise is a running process with the ports that strangers reach.
type daemonUnderNoise struct {
	cmd   *exec.Cmd
	log   *lockedBuffer
	admin string
	ports []string
}

// lockedBuffer keeps what a process writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startUnderNoise starts a daemon and waits until its admin port answers.
func startUnderNoise(t *testing.T, bin, admin string, ports []string, args ...string) *daemonUnderNoise {
	t.Helper()
	d := &daemonUnderNoise{log: &lockedBuffer{}, admin: admin, ports: append(ports, admin)}
	d.cmd = exec.CommandContext(t.Context(), bin, append(args, "--admin-listen", admin)...)
	d.cmd.Stderr = d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill() // it has ended by then unless the test has failed
		_ = d.cmd.Wait()
	})
	d.until(t, "it is up", func() error { _, err := d.metric("go_goroutines"); return err })
	return d
}

func (d *daemonUnderNoise) until(t *testing.T, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %s: %v\n%s", d.cmd.Path, patience, what, err, d.log)
		}
		<-time.After(50 * time.Millisecond)
	}
}

func (d *daemonUnderNoise) metric(name string) (float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	text, err := get(ctx, "http://"+d.admin+"/metrics")
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("no %s", name)
	}
	return strconv.ParseFloat(m[1], 64)
}

// beginnings lead noise past the first look of the protocols spoken.
var beginnings = []string{
	"",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x20\x01\x05\x00\x00\x00\x01",
	"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	"GET /metrics HTTP/1.1\r\nHost: x\r\n",
	"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
	"fife-raft 1\n", "\x00", "\x01\xff\xff\xff\xff", "\x03", "\x04",
}

// noise sends random bytes to an address, reads what comes back for a moment, and
// hangs up. That the other end does so first is as good.
func noise(address string, r *rand.Rand) ([]byte, error) {
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	data := []byte(beginnings[r.IntN(len(beginnings))])
	for range r.IntN(2000) {
		data = append(data, byte(r.Uint32()))
	}
	if err := c.SetDeadline(time.Now().Add(time.Duration(20+r.IntN(100)) * time.Millisecond)); err != nil {
		return nil, err
	}
	_, _ = c.Write(data)
	answer, _ := io.ReadAll(io.LimitReader(c, 1<<20))
	return answer, nil
}

// TestNoise: random bytes of strangers at every port of a node and of an agent crash
// nothing, leave nothing behind, and learn nothing: not the cluster's name, and no
// table.
func TestNoise(t *testing.T) {
	const connections = 200 // to each port
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin+"/",
		"github.com/fifegateway/fife/cmd/fife-controlplane", "github.com/fifegateway/fife/cmd/fife-agent")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the daemons: %v\n%s", err, out)
	}
	node := func(name string, more ...string) *daemonUnderNoise {
		grpc, raft := freeAddress(), freeAddress()
		return startUnderNoise(t, filepath.Join(bin, "fife-controlplane"), freeAddress(), []string{grpc, raft},
			append(more, "--name", name, "--data-dir", t.TempDir(), "--grpc-listen", grpc, "--raft-listen", raft)...)
	}
	secure, open := node("secure", "--bootstrap"), node("open", "--bootstrap", "--plaintext")
	traffic := freeAddress()
	agent := startUnderNoise(t, filepath.Join(bin, "fife-agent"), freeAddress(), []string{traffic},
		"--id", "edge-1", "--state-dir", t.TempDir(), "--control-plane", open.ports[0], "--http-listen", traffic,
		"--access-log", "", "--plaintext")
	cluster := regexp.MustCompile(`cluster=([a-z0-9]+)`).FindStringSubmatch(secure.log.String())
	if cluster == nil {
		t.Fatalf("no cluster's name in\n%s", secure.log)
	}

	for _, d := range []*daemonUnderNoise{secure, open, agent} {
		before := map[string]float64{}
		for _, name := range []string{"go_goroutines", "process_open_fds"} {
			value, err := d.metric(name)
			if err != nil {
				t.Fatal(err)
			}
			before[name] = value
		}
		for p, port := range d.ports {
			var senders sync.WaitGroup
			for sender := range 4 {
				senders.Go(func() {
					r := rand.New(rand.NewPCG(uint64(p), uint64(sender)))
					for i := range connections / 4 {
						answer, err := noise(port, r)
						if err != nil {
							t.Errorf("%s, port %d of %s, connection %d of sender %d: %v", d.cmd.Path, p, port, i, sender, err)
							return
						}
						if d == secure && port != d.admin && bytes.Contains(answer, []byte(cluster[1])) {
							t.Errorf("port %d of the node tells strangers its cluster: %q", p, answer)
						}
					}
				})
			}
			senders.Wait()
		}
		d.until(t, "what strangers held is let go", func() error {
			for name, was := range before {
				if is, err := d.metric(name); err != nil || is > was+20 {
					return fmt.Errorf("%s was %v and is %v: %w", name, was, is, errors.Join(err))
				}
			}
			return nil
		})
		if text := d.log.String(); strings.Contains(text, "panic") || strings.Contains(text, "goroutine ") {
			t.Errorf("%s:\n%s", d.cmd.Path, text)
		}
	}
	for _, d := range []*daemonUnderNoise{agent, open, secure} {
		if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := d.cmd.Wait(); err != nil {
			t.Errorf("%s has ended with %v\n%s", d.cmd.Path, err, d.log)
		}
	}
}
