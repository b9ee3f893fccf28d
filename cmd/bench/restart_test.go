//go:build linux

package bench_test

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// TestRestart measures how soon a single node takes writes after kill -9: with a
// log of a few entries, and with one of many.
func TestRestart(t *testing.T) {
	begin(t)
	few, many := "short log, kill -9 to first write", fmt.Sprintf("%d entries, kill -9 to first write", size().entries)
	r := newReport("start, 1 node", quantity{few, seconds, goal{}}, quantity{many, seconds, goal{}})
	type pair struct{ few, many contestant }
	all := map[string]pair{}
	for _, s := range systems() {
		var p pair
		p.few, _ = enter(t, s, 1)
		stop(p.few)
		p.many, _ = enter(t, s, 1)
		if err := fill(t.Context(), p.many, size().entries); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		stop(p.many)
		all[s.name] = p
	}
	for range size().rounds {
		for _, s := range systems() {
			one := round{values: map[string]float64{}}
			var err error
			if one.sync, err = syncTime(t.TempDir()); err != nil {
				t.Fatal(err)
			}
			for label, c := range map[string]contestant{few: all[s.name].few, many: all[s.name].many} {
				took, noise, err := restart(t.Context(), c)
				if err != nil {
					t.Fatalf("%s: %v", s.name, err)
				}
				one.values[label] = took.Seconds()
				one.others = max(one.others, noise)
			}
			r.add(s.name, one)
		}
	}
	r.show(t)
}

func stop(c contestant) {
	for _, p := range c.processes() {
		p.kill()
	}
}

// restart starts a cluster that is down, and kills it once it takes writes.
func restart(ctx context.Context, c contestant) (took time.Duration, noise float64, err error) {
	before, err := usageNow(nil)
	if err != nil {
		return 0, 0, err
	}
	if err := c.restart(ctx); err != nil {
		return 0, 0, err
	}
	took = time.Since(before.at)
	after, err := usageNow(c.processes())
	if err != nil {
		return 0, 0, err
	}
	stop(c)
	return took, others(before, after), nil
}
