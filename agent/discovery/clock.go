package discovery

import "time"

// drift is how far clocks may run apart: one part in this many.
const drift = 100

// estimate is what is known of the leader's clock. The zero value is nothing.
type estimate struct {
	at     time.Time // by the own clock, with its monotonic reading
	leader time.Time // by the leader's, at that moment
	off    time.Duration
}

// estimateOf takes an answer: the leader's clock was read somewhere between sending
// and receipt, so that the middle is wrong by half of the time between at most.
func estimateOf(sent, received, leader time.Time, off time.Duration) estimate {
	half := received.Sub(sent) / 2
	return estimate{at: sent.Add(half), leader: leader, off: half + off}
}

func (e *estimate) known() bool { return !e.at.IsZero() }

// now returns the leader's clock at a moment of the own one; zero if nothing is known.
func (e *estimate) now(own time.Time) time.Time {
	if !e.known() {
		return time.Time{}
	}
	return e.leader.Add(own.Sub(e.at))
}

// wrong returns how far now may be wrong: what it was at first, and what both clocks
// may have run apart since.
func (e *estimate) wrong(own time.Time) time.Duration {
	return e.off + own.Sub(e.at)/drift
}

// better returns the estimate to go on with: the one that may be less wrong. Two that
// cannot both be right are of two leaders, and then the newer one counts.
func (e *estimate) better(newer estimate, own time.Time) estimate {
	if !e.known() {
		return newer
	}
	apart := e.now(own).Sub(newer.now(own)).Abs()
	if apart > e.wrong(own)+newer.wrong(own) || newer.wrong(own) <= e.wrong(own) {
		return newer
	}
	return *e
}
