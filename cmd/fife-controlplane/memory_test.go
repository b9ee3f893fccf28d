package main

import (
	"runtime"
	"testing"
)

func TestPercentFor(t *testing.T) {
	for _, test := range []struct {
		held uint64
		want int
	}{
		{0, 300},
		{10 << 20, 300},
		{32 << 20, 200},
		{64 << 20, 100},
		{1 << 30, 50},
	} {
		if got := percentFor(test.held); got != test.want {
			t.Errorf("with %d MiB held the percentage is %d, want %d", test.held>>20, got, test.want)
		}
	}
}

// TestHeld: the metrics that held relies on are there.
func TestHeld(t *testing.T) {
	kept := make([]byte, 32<<20)
	runtime.GC()
	if got := held(); got < uint64(len(kept)) {
		t.Errorf("%d bytes are held, with %d in use", got, len(kept))
	}
	runtime.KeepAlive(kept)
}
