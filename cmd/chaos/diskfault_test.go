//go:build linux

package chaos_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// takeover is how long writes may stop when the leader's disk goes wrong: the
// watchdog's ten seconds, an election, and the repetition of a write.
const takeover = 15 * time.Second

// TestFrozenDisk lets the leader's disk hang: nothing returns an error, nothing
// returns at all.
func TestFrozenDisk(t *testing.T) {
	need(t, "mkfs.ext4", "mount", "umount", "fsfreeze")
	disks := []*disk{newExt4(t, 1024), newExt4(t, 1024), newExt4(t, 1024)}
	c := startCluster(t, onDisks(loopback(t), func(i int) string { return disks[i].dir }))
	l := newLedger(t, c, "frozen")
	var pauses, exits []time.Duration
	for i := range *cycles {
		n, d := c.nodes[i%3], disks[i%3]
		c.lead(t, n)
		stop, _ := l.start(t.Context(), writers, 0)
		l.awaitWrite(t, patience)
		begin := time.Now()
		if err := d.freeze(); err != nil {
			t.Fatal(err)
		}
		thaw := func() { _ = d.thaw() } // fails the second time
		t.Cleanup(thaw)
		l.awaitWrite(t, takeover)
		await(t, takeover, "the frozen node is dead or dying", func(context.Context) error { return n.gone() })
		exits = append(exits, since(begin))
		pauses = append(pauses, l.standstill())
		thaw()
		revive(t, n)
		stop()
		settle(t, c, l)
	}
	t.Logf("%d cycles, 0 losses; writes stood still for %v, the node ended after %v; %v", *cycles, pauses, exits, l)
}

func since(begin time.Time) time.Duration { return time.Since(begin).Round(time.Millisecond) }

// gone returns nil once the node's process has ended, or can do nothing but end:
// as long as one of its threads hangs in a write, the kernel keeps it as a zombie.
func (n *node) gone() error {
	l := n.alive()
	if l == nil || n.ended() {
		return nil
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", l.process.Pid))
	if err != nil {
		return err
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	if !strings.HasPrefix(state, "Z") {
		return fmt.Errorf("%s is in state %.1s", n.name, state)
	}
	return nil
}

// revive expects a node to end, with an error of its own, and starts it again.
func revive(t *testing.T, n *node) {
	t.Helper()
	state, err := n.end(takeover)
	if err != nil {
		t.Fatal(err)
	}
	if state.ExitCode() != 1 {
		t.Fatalf("%s ended with %v, not by its own decision", n.name, state)
	}
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
}

// settle waits until all nodes agree, and fails the test if a write is lost.
func settle(t *testing.T, c *cluster, l *ledger) {
	t.Helper()
	leader := c.awaitLeader(t)
	if losses := l.audit(t, leader, l.snapshot()); losses > 0 {
		t.Fatalf("%d acknowledged writes are lost; %v", losses, l)
	}
	c.awaitSame(t)
}

// TestDiskError lets the leader's system calls on its disk fail.
func TestDiskError(t *testing.T) {
	need(t, "strace")
	c := startCluster(t, loopback(t))
	l := newLedger(t, c, "eio")
	calls := []string{"fsync", "pwrite64", "fsync,fdatasync,pwrite64"}
	var pauses, exits []time.Duration
	for i := range *cycles {
		n := c.nodes[i%3]
		c.lead(t, n)
		stop, _ := l.start(t.Context(), writers, 0)
		l.awaitWrite(t, patience)
		begin := time.Now()
		inject(t, n, calls[i%len(calls)], "error=EIO")
		l.awaitWrite(t, takeover)
		await(t, takeover, n.name+" has ended", func(context.Context) error { return n.gone() })
		exits = append(exits, since(begin))
		pauses = append(pauses, l.standstill())
		revive(t, n)
		stop()
		settle(t, c, l)
	}
	t.Logf("%d cycles, 0 losses; writes stood still for %v, the node ended after %v; %v", *cycles, pauses, exits, l)
}

// inject makes system calls of a running node, which it uses on its disk only,
// fail until it ends.
func inject(t *testing.T, n *node, calls, how string) {
	t.Helper()
	var said strings.Builder
	strace := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-p", fmt.Sprint(n.alive().process.Pid),
		"-e", "trace="+calls, "-e", "inject="+calls+":"+how)
	strace.Stderr = &said
	if err := strace.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- strace.Wait() }()
	t.Cleanup(func() {
		_ = strace.Process.Kill() // it has ended with the node
		if err := <-ended; err == nil {
			t.Log("strace ended by itself") // killed, it says so
		}
	})
	select {
	case err := <-ended:
		if said.Len() > 0 {
			t.Fatalf("strace: %v: %s", err, said.String())
		}
		ended <- err
	case <-time.After(200 * time.Millisecond):
	}
}

// TestKillWhileLogRotates kills the nodes when their logs have filled a segment
// and are about to begin the next, which they do at the same time, as they hold
// the same entries.
func TestKillWhileLogRotates(t *testing.T) {
	need(t, "strace")
	c := startCluster(t, loopback(t))
	l := newLedger(t, c, "rotate")
	l.padding = strings.Repeat("x", 32<<10)
	killed := 0
	for range *cycles {
		c.awaitLeader(t)
		stop, _ := l.start(t.Context(), writers, 0)
		for _, n := range c.nodes {
			inject(t, n, "fdatasync", "signal=SIGKILL") // the first is that of the log's list of segments
		}
		await(t, 2*time.Minute, "most nodes have filled a segment", func(context.Context) error {
			if down := c.down(); down < 2 {
				return fmt.Errorf("%d nodes are down", down)
			}
			return nil
		})
		killed += c.down()
		for _, n := range c.nodes {
			if err := n.kill(); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		if err := c.startDown(); err != nil {
			t.Fatal(err)
		}
		settle(t, c, l)
	}
	t.Logf("%d cycles, %d nodes killed on the spot, 0 losses; %v", *cycles, killed, l)
}

// down returns how many nodes have ended by themselves.
func (c *cluster) down() (count int) {
	for _, n := range c.nodes {
		if n.ended() {
			count++
		}
	}
	return count
}

// TestFullDisk fills the leader's disk, first to the mark below which it should
// not lead, then whole.
func TestFullDisk(t *testing.T) {
	need(t, "umount")
	small := newTmpfs(t, 512)
	sites := loopback(t)
	sites[0].dir = small.dir
	c := startCluster(t, sites)
	l := newLedger(t, c, "full")
	l.padding = strings.Repeat("x", 4<<10)
	n := c.nodes[0]
	var low, full, exits []time.Duration
	for range *cycles {
		c.lead(t, n)
		stop, _ := l.start(t.Context(), writers, 0)
		l.awaitWrite(t, patience)
		if err := small.fill(64 << 20); err != nil {
			t.Fatal(err)
		}
		pause(t.Context(), 3*time.Second) // nodes look at their disks from time to time
		l.awaitWrite(t, takeover)
		low = append(low, l.standstill())
		begin := time.Now()
		if err := small.fill(0); err != nil {
			t.Fatal(err)
		}
		await(t, patience, "the node with the full disk has ended", func(context.Context) error { return n.gone() })
		exits = append(exits, since(begin))
		l.awaitWrite(t, takeover)
		full = append(full, l.standstill())
		if err := small.drain(); err != nil {
			t.Fatal(err)
		}
		revive(t, n)
		stop()
		settle(t, c, l)
	}
	t.Logf("%d cycles, 0 losses; writes stood still for %v at the low mark and for %v on the full disk, "+
		"the node ended after %v; %v", *cycles, low, full, exits, l)
}
