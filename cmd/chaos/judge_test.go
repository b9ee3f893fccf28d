//go:build linux

package chaos_test

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// evidenceOfStep is all that was seen of promotions and of what agents replied.
type evidenceOfStep struct {
	replies    map[asked][]reply
	roamed     map[int][]reply
	promotions []*promotion
	outages    []outage
	calm       time.Time // from when on nothing is broken and every agent has its lease
}

// verdict is what the evidence shows.
type verdict struct {
	requests   int
	answered   int
	withheld   int // 503 on the stage that fails closed
	down       int // without an answer of an agent that was stopped or killed
	stale      int // answered by an older configuration, by agents that the report names
	violations []string
}

const maxViolations = 1000

func (v *verdict) violate(format string, args ...any) {
	if len(v.violations) < maxViolations {
		v.violations = append(v.violations, fmt.Sprintf(format, args...))
	}
}

// judge looks for what must not be.
func judge(e evidenceOfStep) *verdict {
	v := &verdict{}
	for what, replies := range e.replies {
		slices.SortFunc(replies, func(a, b reply) int { return a.sent.Compare(b.sent) })
		for _, r := range replies {
			v.requests++
			switch {
			case r.status == http.StatusOK:
				v.answered++
				v.judgeAnswer(e, what, r)
			case r.status == http.StatusServiceUnavailable && what.stage == closing && r.sent.Before(e.calm):
				v.withheld++
			case r.status == 0 && e.isOut(what.edge, r):
				v.down++
			default:
				v.violate("%s failed: %s; %s", describeReply(what, r), cmp.Or(r.failure, http.StatusText(r.status)), e.around(what.edge, r))
			}
		}
		v.judgeOrder(what, replies)
	}
	for i, replies := range e.roamed {
		base := uint64(0)
		for _, r := range replies {
			if r.status != http.StatusOK || r.variant != "base" {
				continue
			}
			if r.deployment < base {
				v.violate("client %d that brings its version along was answered by base %d after base %d", i, r.deployment, base)
			}
			base = max(base, r.deployment)
		}
	}
	return v
}

// judgeAnswer compares one answer with the promotions of its stage.
func (v *verdict) judgeAnswer(e evidenceOfStep, what asked, r reply) {
	old := false
	for _, p := range e.promotions {
		if p.stage != what.stage {
			continue
		}
		if r.by(p) && (p.committed.IsZero() || r.received.Before(p.committed)) {
			v.violate("%s by %v, which was committed at %s", describeReply(what, r), p, clock(p.committed))
		}
		if p.completed.IsZero() || !r.sent.After(p.completed) || !r.before(p) {
			continue
		}
		old = true
		report := p.last.GetReport()
		named := slices.Concat(report.GetStale(), report.GetFenced(), report.GetRefused())
		if what.stage == closing || !slices.Contains(named, what.edge) {
			v.violate("%s after %v was complete at %s; named were %v; %s", describeReply(what, r), p, clock(p.completed), named, e.around(what.edge, r))
		}
	}
	if old {
		v.stale++
	}
}

// by reports whether a request was answered by what a promotion led to.
func (r reply) by(p *promotion) bool { return r.variant == "base" && r.deployment == p.deployment }

// before reports whether a request was answered by what was before a promotion.
// Deployments are numbered in the order in which they are put on a stage, first as
// its canary.
func (r reply) before(p *promotion) bool {
	return r.deployment < p.deployment || (r.deployment == p.deployment && r.variant == "canary")
}

// judgeOrder looks for answers of one agent that go back, given all in the order in
// which the requests were sent. Of two that overlap nobody can say which was first.
func (v *verdict) judgeOrder(what asked, sent []reply) {
	received := slices.SortedFunc(slices.Values(sent), func(a, b reply) int { return a.received.Compare(b.received) })
	var index, base uint64
	for _, r := range sent {
		for ; len(received) > 0 && received[0].received.Before(r.sent); received = received[1:] {
			index = max(index, received[0].index())
			if received[0].variant == "base" {
				base = max(base, received[0].deployment)
			}
		}
		if i := r.index(); i != 0 && i < index {
			v.violate("%s by version %s, after one with index %d", describeReply(what, r), r.version, index)
		}
		if r.variant == "base" && r.deployment < base {
			v.violate("%s, after one by base %d", describeReply(what, r), base)
		}
	}
}

// index returns the index in a reply's version, which may be followed by a promotion.
func (r reply) index() uint64 {
	_, text, _ := strings.Cut(r.version, ".")
	text, _, _ = strings.Cut(text, "-")
	index, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return index
}

// isOut reports whether an agent may have left a request without an answer.
func (e evidenceOfStep) isOut(edge string, r reply) bool {
	const waking = 500 * time.Millisecond // an agent that was stopped ends connections whose time ran out meanwhile
	return slices.ContainsFunc(e.outages, func(o outage) bool {
		return o.edge == edge && o.mute && o.from.Before(r.received) && o.to.Add(waking).After(r.sent)
	})
}

// around describes what broke around a reply, and the agent.
func (e evidenceOfStep) around(edge string, r reply) string {
	text := "faults around:"
	for _, o := range e.outages {
		if (o.edge == edge || o.edge == "") && o.from.Before(r.received.Add(time.Second)) && o.to.After(r.sent.Add(-20*time.Second)) {
			text += fmt.Sprintf(" %s %s to %s,", o.fault, clock(o.from), clock(o.to))
		}
	}
	return strings.TrimSuffix(text, ",")
}

// window returns for how long both configurations were in use: from the first answer
// by a promotion to the last request that agents answered by what was before. On the
// stage that fails closed these are all agents, on the other those that the report
// does not name.
func (e evidenceOfStep) window(p *promotion) time.Duration {
	var first, last time.Time
	report := p.last.GetReport()
	named := slices.Concat(report.GetStale(), report.GetFenced(), report.GetRefused())
	for what, replies := range e.replies {
		if what.stage != p.stage {
			continue
		}
		for _, r := range replies {
			switch {
			case r.status != http.StatusOK:
			case r.by(p):
				if first.IsZero() || r.received.Before(first) {
					first = r.received
				}
			case r.before(p) && r.sent.After(last) && (p.stage == closing || !slices.Contains(named, what.edge)):
				last = r.sent
			}
		}
	}
	if first.IsZero() {
		return 0
	}
	return max(0, last.Sub(first))
}

func describeReply(what asked, r reply) string {
	return fmt.Sprintf("%s/%s: request of %s to %s, answered %d by %s %d, version %q", what.edge, what.stage,
		clock(r.sent), clock(r.received), r.status, r.variant, r.deployment, r.version)
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }
