package release

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Throttle limits a stage's requests on each agent. The zero Throttle limits nothing.
type Throttle struct {
	Millirate   uint32 // thousandths of a request per second; 0 for no limit
	Burst       uint32 // requests at once after a quiet time; 0 for as many as come in a second
	Concurrency uint32 // requests served at the same time; 0 for no limit
}

// Limits of throttles.
const (
	MaxRate        = 1_000_000 // requests per second
	MaxBurst       = 1_000_000
	MaxConcurrency = 1_000_000

	milli = 1000
)

// NewThrottle returns the throttle of a rate in requests per second, a burst and a
// concurrency, and notes what is wrong with them. Fractions of a thousandth of a
// request per second are rounded, so that every replica keeps the same number.
func NewThrottle(v *Violations, field string, rate float64, burst, concurrency int32) Throttle {
	var t Throttle
	switch millirate := math.Round(rate * milli); {
	case rate == 0:
	case !(millirate >= 1 && millirate <= MaxRate*milli): // NaN fails every comparison
		v.Addf(field+".rate_limit", "%v must be 0 for no limit, or lie between 0.001 and %d requests per second", rate, MaxRate)
	default:
		t.Millirate = uint32(millirate)
	}
	switch {
	case burst < 0 || burst > MaxBurst:
		v.Addf(field+".burst_limit", "%d must lie between 0 and %d", burst, MaxBurst)
	case burst > 0 && rate == 0:
		v.Addf(field+".burst_limit", "%d needs a rate_limit: without one any number of requests may come at once; concurrency_limit bounds those at the same time", burst)
	default:
		t.Burst = uint32(burst)
	}
	if concurrency < 0 || concurrency > MaxConcurrency {
		v.Addf(field+".concurrency_limit", "%d must lie between 0 and %d", concurrency, MaxConcurrency)
	} else {
		t.Concurrency = uint32(concurrency)
	}
	return t
}

// Rate returns the requests per second.
func (t Throttle) Rate() float64 { return float64(t.Millirate) / milli }

// Bucket returns how many requests are let through at once after a quiet time: the
// burst, or else those that come in a second. It is 0 if the rate has no limit.
func (t Throttle) Bucket() uint32 {
	if t.Millirate == 0 || t.Burst != 0 {
		return t.Burst
	}
	return (t.Millirate + milli - 1) / milli
}

// String writes the throttle for a stage's history.
func (t Throttle) String() string {
	var parts []string
	if t.Millirate != 0 {
		parts = append(parts, fmt.Sprintf("%s/s in bursts of %d", strconv.FormatFloat(t.Rate(), 'f', -1, 64), t.Bucket()))
	}
	if t.Concurrency != 0 {
		parts = append(parts, fmt.Sprintf("%d at once", t.Concurrency))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
