// Package bubbletest runs tests in a bubble of testing/synctest that the race detector
// stands.
package bubbletest

import (
	"runtime"
	"testing"
	"testing/synctest"
)

// Test is synctest.Test on one processor: goroutines of a bubble take turns. On several,
// each that finds a timer due runs it itself, and all do so under the one context that the
// race detector has for the bubble's timers, which now and then crashes Go 1.26
// (https://go.dev/issue/78156). Tests that run beside it are on one processor meanwhile.
func Test(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, f)
}
