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

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// evidenceOfStep is all that was seen of promotions and of what agents replied.
type evidenceOfStep struct {
	replies    map[asked][]reply
	roamed     map[int][]reply
	promotions []*promotion
	eras       map[string][]era // by stage
	rings      map[string]int   // by agent: which wave it is in, counted from 0
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
	for _, eras := range e.eras {
		slices.SortFunc(eras, func(a, b era) int { return cmp.Compare(a.index, b.index) })
	}
	for what, replies := range e.replies {
		slices.SortFunc(replies, func(a, b reply) int { return a.sent.Compare(b.sent) })
		for i := range replies {
			r := &replies[i]
			v.requests++
			switch {
			case r.status == http.StatusOK:
				v.answered++
				v.judgeAnswer(e, what, r)
			case r.status == http.StatusServiceUnavailable && what.stage == closing && r.sent.Before(e.calm):
				v.withheld++
			case r.status == 0 && e.isOut(what.edge, *r):
				v.down++
			default:
				v.violate("%s failed: %s; %s", describeReply(what, *r), cmp.Or(r.failure, http.StatusText(r.status)), e.around(what.edge, *r))
			}
		}
		v.judgeOrder(what, replies)
	}
	for i, replies := range e.roamed {
		v.judgeRoamer(e.eras[closing], i, replies)
	}
	for _, p := range e.promotions {
		reported := p.last.GetReport().GetWindow().AsDuration()
		if w := e.window(p); !p.completed.IsZero() && w > reported {
			v.violate("%v: both configurations were in use for %v, and its report says %v", p, w, reported)
		}
	}
	return v
}

// judgeAnswer compares one answer with what the agent's version of its stage serves,
// and with the promotions of the stage. It notes the answer's position.
func (v *verdict) judgeAnswer(e evidenceOfStep, what asked, r *reply) {
	var fault string
	if r.position, fault = e.locate(what, *r); fault != "" {
		v.violate("%s, but %s; %s", describeReply(what, *r), fault, e.around(what.edge, *r))
		return
	}
	old := false
	for _, p := range e.promotions {
		if p.stage != what.stage || p.completed.IsZero() || !r.sent.After(p.completed) || r.position >= p.last.GetCommitted().GetIndex() {
			continue
		}
		old = true
		if what.stage == closing || !slices.Contains(p.named(), what.edge) {
			v.violate("%s after %v was complete at %s; named were %v; %s",
				describeReply(what, *r), p, clock(p.completed), p.named(), e.around(what.edge, *r))
		}
	}
	if old {
		v.stale++
	}
}

// named are the agents that the report of a promotion names.
func (p *promotion) named() []string {
	report := p.last.GetReport()
	return slices.Concat(report.GetStale(), report.GetFenced(), report.GetRefused())
}

// locate returns the index of the change that put in place what an answer was given
// by, or what is wrong with it.
func (e evidenceOfStep) locate(what asked, r reply) (position uint64, fault string) {
	eras := e.eras[what.stage]
	n, exact := slices.BinarySearchFunc(eras, r.index(), func(one era, index uint64) int { return cmp.Compare(one.index, index) })
	if !exact {
		n--
	}
	if n < 0 {
		return 0, "its version is older than the stage"
	}
	now := eras[n]
	wave, fault := e.wave(what, r)
	switch {
	case fault != "":
		return 0, fault
	case wave != 0:
		return wave, ""
	case r.by(now):
		if p := now.promotion; p != nil && r.received.Before(p.committed) {
			return 0, fmt.Sprintf("%v was committed at %s", p, clock(p.committed))
		}
		return now.index, ""
	case n > 0 && now.promotion != nil && now.promotion.options.GetMode() == fifev1.SyncMode_SYNC_MODE_TIMED && r.by(eras[n-1]):
		return eras[n-1].index, ""
	}
	return 0, fmt.Sprintf("at that version the stage serves base %d and canary %d", now.base, now.canary)
}

// by reports whether a request was answered by what a stage serves in an era.
func (r reply) by(one era) bool {
	return (r.variant == "base" && r.deployment == one.base) || (r.variant == "canary" && r.deployment == one.canary)
}

// wave returns the number of the promotion that an agent answered by because it is in
// a wave that the promotion had reached; 0 if it answered otherwise.
func (e evidenceOfStep) wave(what asked, r reply) (number uint64, fault string) {
	for _, p := range e.promotions {
		end := cmp.Or(p.last.GetCommitted().GetIndex(), p.ended)
		if p.stage != what.stage || p.options != nil || r.index() < p.number || r.index() >= end {
			continue
		}
		ring, leads := e.rings[what.edge], r.variant == "base" && r.deployment == p.deployment
		switch {
		case leads && (ring >= len(p.reached) || r.received.Before(p.reached[ring])):
			return 0, fmt.Sprintf("%v had not reached wave %d: those that it did were reached at %v", p, ring, p.reached)
		case leads:
			return p.number, ""
		case ring < len(p.waves) && r.index() >= p.waves[ring]:
			return 0, fmt.Sprintf("%v had reached wave %d by index %d", p, ring, p.waves[ring])
		}
	}
	return 0, ""
}

// judgeRoamer looks for answers that take a client back which brings along what it was
// answered by.
func (v *verdict) judgeRoamer(eras []era, client int, replies []reply) {
	newest := uint64(0)
	for _, r := range replies {
		if r.status != http.StatusOK {
			continue
		}
		_, text, promoted := strings.Cut(r.version, "-")
		number := newest // an answer by what was before a timed promotion names none
		if promoted {
			number, _ = strconv.ParseUint(text, 10, 64) // 0 is older than any
		}
		if number < newest {
			v.violate("client %d that brings its version along was answered by %s after promotion %d", client, r.version, newest)
		}
		newest = max(newest, number)
		if r.variant == "base" && !slices.Contains(basesSince(eras, number, promoted), r.deployment) {
			v.violate("client %d that brings its version along was answered by base %d as %s after promotion %d",
				client, r.deployment, r.version, newest)
		}
	}
}

// basesSince returns what has been the base since the commit of a promotion, until that
// of the next or till the end.
func basesSince(eras []era, number uint64, untilNext bool) (bases []uint64) {
	at := uint64(0)
	for _, one := range eras {
		if one.promotion != nil {
			at = one.promotion.number
		}
		if at == number || (at > number && !untilNext) {
			bases = append(bases, one.base)
		}
	}
	return bases
}

// judgeOrder looks for answers of one agent that go back, given all in the order in
// which the requests were sent. Of two that overlap nobody can say which was first.
func (v *verdict) judgeOrder(what asked, sent []reply) {
	received := slices.SortedFunc(slices.Values(sent), func(a, b reply) int { return a.received.Compare(b.received) })
	var index, position uint64
	for _, r := range sent {
		for ; len(received) > 0 && received[0].received.Before(r.sent); received = received[1:] {
			index = max(index, received[0].index())
			position = max(position, received[0].position)
		}
		if i := r.index(); i != 0 && i < index {
			v.violate("%s by version %s, after one with index %d", describeReply(what, r), r.version, index)
		}
		if r.position != 0 && r.position < position {
			v.violate("%s, which is as of index %d, after one as of %d", describeReply(what, r), r.position, position)
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
	return slices.ContainsFunc(e.outages, func(o outage) bool {
		return o.edge == edge && o.mute && o.from.Before(r.received) && o.to.After(r.sent)
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
// by a promotion (in waves, from its commit) to the last request that agents answered
// by what was before. On the stage that fails closed these are all agents, on the
// others those that the report does not name.
func (e evidenceOfStep) window(p *promotion) time.Duration {
	var first, last time.Time
	if p.options == nil {
		first = p.committed
	}
	commit, named := p.last.GetCommitted().GetIndex(), p.named()
	for what, replies := range e.replies {
		if what.stage != p.stage {
			continue
		}
		for _, r := range replies {
			switch {
			case r.position == 0:
			case r.position >= commit:
				if first.IsZero() || r.received.Before(first) {
					first = r.received
				}
			case r.sent.After(last) && (p.stage == closing || !slices.Contains(named, what.edge)):
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
