//go:build linux

package chaos_test

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// This file says once more, and independently, what a stage is and which moves it
// makes, and checks histories against that.

// base is what a stage serves beside its canary: a deployment and the value of
// its only variable.
type base struct{ deployment, value uint32 }

// canary is a stage's open canary; the zero value is none.
type canary struct {
	deployment, percent uint32
	value               uint32 // overrides the base's; 0 leaves it
}

// view is all that a client sees of a stage. Revision 0 is a stage that does not
// exist.
type view struct {
	revision uint64
	base     base
	canary   canary
}

// stage is the state of the model: the view, and what a rollback restores.
type stage struct {
	view
	former  base   // the base before the last change of it
	rebased uint64 // the revision that made that change; 0 if none did
}

// keptRevisions is how far back a stage's history goes.
const keptRevisions = 100

// move is one of the calls that clients make.
type move string

const (
	get      move = "get"
	create   move = "create"
	update   move = "update"
	open     move = "open" // a canary
	promote  move = "promote"
	abort    move = "abort"
	rollback move = "rollback"
)

// call is a call on a stage: the input of a step.
type call struct {
	move   move
	stage  string
	etag   uint64 // 0 goes on any revision
	base   base   // of create and update
	canary canary // of open
}

// Refusals, as the reasons of fife.v1 spell them.
const (
	notFound     = "RESOURCE_NOT_FOUND"
	exists       = "RESOURCE_EXISTS"
	staleEtag    = "STALE_ETAG"
	canaryExists = "CANARY_EXISTS"
	noCanary     = "NO_CANARY"
	noHistory    = "NO_HISTORY"
)

// answer is what came of a call: the output of a step.
type answer struct {
	unknown bool   // it may take effect at any time after the call, or never
	refusal string // why nothing was done
	view    view   // the stage after the call; of a stale etag, the current revision
}

// apply returns the stage after a call, or the reason of its refusal.
func (s stage) apply(c call) (next stage, refusal string) {
	next = s
	switch {
	case c.move == create && s.revision > 0:
		return s, exists
	case c.move == create:
		return stage{view: view{revision: 1, base: c.base}}, ""
	case s.revision == 0:
		return s, notFound
	case c.move == get:
		return s, ""
	case c.etag != 0 && c.etag != s.revision:
		return s, staleEtag
	}
	next.revision++
	open := s.canary != canary{}
	switch c.move {
	case update:
		next.rebase(c.base)
	case rollback:
		if s.rebased == 0 || next.revision-s.rebased >= keptRevisions {
			return s, noHistory
		}
		next.rebase(s.former)
	default:
		return s.applyCanary(c, next, open)
	}
	return next, ""
}

func (s stage) applyCanary(c call, next stage, isOpen bool) (stage, string) {
	switch {
	case c.move == open && isOpen:
		return s, canaryExists
	case c.move == open:
		next.canary = c.canary
		return next, ""
	case !isOpen:
		return s, noCanary
	}
	next.canary = canary{}
	if c.move == promote {
		promoted := base{deployment: s.canary.deployment, value: s.base.value}
		if s.canary.value != 0 {
			promoted.value = s.canary.value
		}
		next.rebase(promoted)
	}
	return next, ""
}

func (s *stage) rebase(b base) {
	if b != s.base {
		s.former, s.rebased, s.base = s.base, s.revision, b
	}
}

// evidence is what the definite answers of one stage show of its revisions. It
// tells where a call with an unknown outcome cannot have taken effect, without
// which the checker would have to try all orders of all such calls.
type evidence struct {
	views map[uint64]view
	last  uint64
}

// gather returns the evidence, or an error if one revision was seen with two
// contents.
func gather(history []porcupine.Operation) (evidence, error) {
	e := evidence{views: map[uint64]view{}}
	for _, op := range history {
		a := op.Output.(answer)
		if a.unknown {
			continue
		}
		e.last = max(e.last, a.view.revision)
		if a.refusal != "" {
			continue
		}
		if seen, ok := e.views[a.view.revision]; ok && seen != a.view {
			return e, fmt.Errorf("stage %s had two contents as of one revision: %+v and %+v",
				op.Input.(call).stage, seen, a.view)
		}
		e.views[a.view.revision] = a.view
	}
	return e, nil
}

// model returns the checker's model of one stage.
func (e evidence) model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return stage{} },
		Step: func(state, input, output any) (bool, any) {
			return e.step(state.(stage), input.(call), output.(answer))
		},
		DescribeOperation: func(input, output any) string { return describe(input.(call), output.(answer)) },
		DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
	}
}

func (e evidence) step(s stage, c call, a answer) (bool, stage) {
	next, refusal := s.apply(c)
	switch {
	case a.unknown && s.revision >= e.last:
		return true, s // whatever it does from here on, nobody has seen it: as well never
	case a.unknown:
		seen, ok := e.views[next.revision]
		return refusal == "" && (!ok || seen == next.view), next
	case refusal == staleEtag:
		return a.refusal == staleEtag && a.view.revision == s.revision, s
	case refusal != "":
		return a.refusal == refusal, s
	}
	return a.refusal == "" && a.view == next.view, next
}

func describe(c call, a answer) string {
	question := fmt.Sprintf("%s etag %d", c.move, c.etag)
	switch c.move {
	case create, update:
		question += fmt.Sprintf(" %v", c.base)
	case open:
		question += fmt.Sprintf(" %v", c.canary)
	}
	switch {
	case a.unknown:
		return question + " -> ?"
	case a.refusal != "":
		return fmt.Sprintf("%s -> %s at %d", question, a.refusal, a.view.revision)
	}
	return fmt.Sprintf("%s -> %d: %v %v", question, a.view.revision, a.view.base, a.view.canary)
}

// checkTimeout bounds the check of one stage's history.
const checkTimeout = time.Minute

// finding is a stage whose history no order of moves explains.
type finding struct {
	stage  string
	reason string
	draw   func(w io.Writer) error // a picture of the history, as HTML
}

// check returns the stages that could not have made their moves one at a time,
// each between its call and its answer.
func check(history []porcupine.Operation) []finding {
	byStage := map[string][]porcupine.Operation{}
	for _, op := range history {
		name := op.Input.(call).stage
		byStage[name] = append(byStage[name], op)
	}
	names := slices.Sorted(maps.Keys(byStage))
	results := make([]*finding, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { results[i] = checkStage(name, byStage[name]) })
	}
	wg.Wait()
	var findings []finding
	for _, f := range results {
		if f != nil {
			findings = append(findings, *f)
		}
	}
	return findings
}

func checkStage(name string, ops []porcupine.Operation) *finding {
	e, err := gather(ops)
	if err != nil {
		return &finding{stage: name, reason: err.Error()}
	}
	result, info := porcupine.CheckOperationsVerbose(e.model(), ops, checkTimeout)
	if result == porcupine.Ok {
		return nil
	}
	return &finding{
		stage:  name,
		reason: fmt.Sprintf("the history of %d calls is %s: %s", len(ops), result, firstOdd(ops, info)),
		draw:   func(w io.Writer) error { return porcupine.Visualize(e.model(), info, w) },
	}
}

// firstOdd describes the calls around the first that the checker could not place.
func firstOdd(ops []porcupine.Operation, info porcupine.LinearizationInfo) string {
	placed := map[string]bool{}
	for _, partition := range info.PartialLinearizationsOperations() {
		for _, order := range partition {
			for _, op := range order {
				placed[fmt.Sprint(op.ClientId, op.Call)] = true
			}
		}
	}
	ops = slices.SortedFunc(slices.Values(ops), func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	odd := slices.IndexFunc(ops, func(op porcupine.Operation) bool { return !placed[fmt.Sprint(op.ClientId, op.Call)] })
	var text strings.Builder
	for i := max(0, odd-8); i < min(len(ops), odd+3); i++ {
		mark := " "
		if i == odd {
			mark = ">"
		}
		op := ops[i]
		fmt.Fprintf(&text, "\n%s %v to %v client %d: %s", mark, time.Duration(op.Call), time.Duration(op.Return),
			op.ClientId, describe(op.Input.(call), op.Output.(answer)))
	}
	return text.String()
}
