package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A node may allocate some memory between two collections whatever it holds: it
// mostly holds little, and with Go's rule of as much again as it holds would spend a
// third of its processor time under load on collecting. With thousands of agents it
// holds much, and that rule would have it take as much again for nothing.
const (
	headroom   = 64 << 20 // bytes
	leastGrown = 50       // percent of what is held, so that collections stay rare
	mostGrown  = 300
)

// tendMemory keeps to this until ctx ends, unless the environment has its own rule.
func tendMemory(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	percent := mostGrown
	debug.SetGCPercent(percent)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if p := percentFor(held()); p != percent {
			percent = p
			debug.SetGCPercent(percent)
		}
	}
}

// percentFor returns how much to allocate between two collections, in percent of
// what is held. It goes in steps, as every change stops the process for a moment.
func percentFor(held uint64) int {
	const step = 25
	p := headroom * 100 / max(held, 1) / step * step
	return int(min(max(p, leastGrown), mostGrown))
}

// held returns how much the last collection has left, stacks included.
func held() uint64 {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}}
	metrics.Read(samples)
	var sum uint64
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 { // a later Go may know neither
			sum += s.Value.Uint64()
		}
	}
	return sum
}
