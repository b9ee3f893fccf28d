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

// evidence is what the definite answers of one stage show of its revisions. It
// tells where a call with an unknown outcome cannot have taken effect, without
// which the checker would have to try all orders of all such calls.
type evidence struct {
	views map[uint64]view
	etags map[uint64]string
	last  uint64
}

// gather returns the evidence, or an error if one revision was seen with two
// contents or etags.
func gather(history []porcupine.Operation) (evidence, error) {
	e := evidence{views: map[uint64]view{}, etags: map[uint64]string{}}
	for _, op := range history {
		a := op.Output.(answer)
		if a.unknown {
			continue
		}
		e.last = max(e.last, a.view.revision)
		if a.refusal != "" {
			continue
		}
		if seen, ok := e.views[a.view.revision]; ok && (seen != a.view || e.etags[a.view.revision] != a.etag) {
			return e, fmt.Errorf("stage %s had two contents as of one revision: %+v and %+v, etags %s and %s",
				op.Input.(call).stage, seen, a.view, e.etags[a.view.revision], a.etag)
		}
		e.views[a.view.revision], e.etags[a.view.revision] = a.view, a.etag
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
	case refusal != "":
		return a.refusal == refusal, s
	}
	return a.refusal == "" && a.view == next.view, next
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
	if porcupine.CheckOperationsTimeout(e.model(), ops, checkTimeout) == porcupine.Ok {
		return nil
	}
	// Once more, slowly, to learn where it fails.
	result, info := porcupine.CheckOperationsVerbose(e.model(), ops, checkTimeout)
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
