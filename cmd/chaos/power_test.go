//go:build linux

package chaos_test

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestPowerCut cuts the power of all nodes at once, under load, and looks for
// what was acknowledged before.
func TestPowerCut(t *testing.T) {
	need(t, "mkfs.ext4", "mount", "umount")
	disks := []*disk{newExt4(t, 1024), newExt4(t, 1024), newExt4(t, 1024)}
	c := startCluster(t, onDisks(loopback(t), func(i int) string { return disks[i].dir }))
	l := newLedger(t, c, "power")
	r := rand.New(rand.NewPCG(*seed, 1))
	losses := 0
	for range *cycles {
		stop, _ := l.start(t.Context(), writers, 0)
		l.awaitWrite(t, patience)
		pause(t.Context(), between(r, 200*time.Millisecond, 2*time.Second))
		// An fsync that meets a disk without power may say that all is well: what is
		// acknowledged from here on does not count.
		acknowledged := l.snapshot()
		for _, d := range disks {
			if err := d.cutPower(); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range c.nodes {
			if err := n.kill(); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		l.reset(acknowledged)
		for _, d := range disks {
			if err := d.unmount(); err != nil {
				t.Fatal(err)
			}
			if err := d.mount(); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.startDown(); err != nil {
			t.Fatal(err)
		}
		losses += l.audit(t, c.awaitLeader(t), acknowledged)
		c.awaitSame(t)
	}
	t.Logf("%d cycles, %d losses; %v", *cycles, losses, l)
	if losses > 0 {
		t.Fatalf("%d acknowledged writes are lost", losses)
	}
}
