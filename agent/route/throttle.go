package route

import (
	"errors"
	"fmt"
	"time"
)

// The limits of throttles.
const (
	maxMillirate   = 1_000_000_000
	maxBurst       = 1_000_000
	maxConcurrency = 1_000_000
)

// Throttle limits the requests of a stage by a bucket of tokens, of which each request
// takes one, and by how many are served at the same time. It holds no counts. The zero
// Throttle limits nothing.
type Throttle struct {
	// Interval is the time in which the bucket gets a token; 0 means that there is no
	// bucket. It is a whole number of nanoseconds, so that a rate may be passed by
	// 0.1 % at most, and by less the lower it is.
	Interval time.Duration
	// Depth is the time in which an empty bucket fills: Interval times its size.
	Depth time.Duration
	// Concurrency is how many requests are served at the same time; 0 means any number.
	Concurrency int64
}

func checkThrottle(t ThrottleSpec) error {
	switch {
	case t.Millirate > maxMillirate:
		return fmt.Errorf("throttle: %d thousandths of a request per second: at most %d are allowed", t.Millirate, maxMillirate)
	case t.Burst > maxBurst:
		return fmt.Errorf("throttle: bursts of %d: at most %d are allowed", t.Burst, maxBurst)
	case (t.Millirate == 0) != (t.Burst == 0):
		return errors.New("throttle: a rate and a burst need each other")
	case t.Concurrency > maxConcurrency:
		return fmt.Errorf("throttle: %d requests at once: at most %d are allowed", t.Concurrency, maxConcurrency)
	}
	return nil
}

func compileThrottle(t ThrottleSpec) Throttle {
	compiled := Throttle{Concurrency: int64(t.Concurrency)}
	if t.Millirate > 0 {
		compiled.Interval = 1000 * time.Second / time.Duration(t.Millirate)
		compiled.Depth = compiled.Interval * time.Duration(t.Burst)
	}
	return compiled
}
