//go:build linux

package chaos_test

import (
	"testing"

	"github.com/anishathalye/porcupine"
)

// TestCheckerTellsRightFromWrong plays histories to the checker whose verdict is
// known: one that finds no fault would prove nothing about the nodes.
func TestCheckerTellsRightFromWrong(t *testing.T) {
	one, two := base{1, 101}, base{2, 102}
	created := view{revision: 1, base: one}
	updated := view{revision: 2, base: two}
	trial := canary{deployment: 2, percent: 10, value: 103}
	opened := view{revision: 2, base: one, canary: trial}
	promoted := view{revision: 3, base: base{2, 103}}
	restored := view{revision: 4, base: one}
	unknown := answer{unknown: true}

	// ops makes a history of calls that follow one another; one with an unknown
	// outcome never returns.
	ops := func(steps ...any) []porcupine.Operation {
		var history []porcupine.Operation
		for i := 0; i < len(steps); i += 2 {
			op := porcupine.Operation{Input: steps[i], Output: steps[i+1], Call: int64(10 * i), Return: int64(10*i + 5)}
			if op.Output.(answer).unknown {
				op.Return = never
			}
			history = append(history, op)
		}
		return history
	}
	begin := func(steps ...any) []porcupine.Operation {
		return ops(append([]any{call{move: create, base: one}, answer{view: created}}, steps...)...)
	}
	set := call{move: update, base: two}
	read := call{move: get}

	tests := []struct {
		name    string
		history []porcupine.Operation
		right   bool
	}{
		{"nothing", nil, true},
		{"read your write", begin(set, answer{view: updated}, read, answer{view: updated}), true},
		{"stale read", begin(set, answer{view: updated}, read, answer{view: created}), false},
		{"lost create", begin(read, answer{refusal: notFound}), false},
		{"created twice", begin(call{move: create, base: two}, answer{view: view{revision: 1, base: two}}), false},
		{"second create refused", begin(call{move: create, base: two}, answer{refusal: exists}), true},
		{"unknown has happened", begin(set, unknown, read, answer{view: updated}), true},
		{"unknown has not happened", begin(set, unknown, read, answer{view: created}), true},
		{"unknown happens late", begin(set, unknown, read, answer{view: created}, read, answer{view: updated}), true},
		{"unknown is undone", begin(set, unknown, read, answer{view: updated}, read, answer{view: created}), false},
		{"unknown happens twice", begin(set, unknown, read, answer{view: view{revision: 3, base: two}}), false},
		{"change out of nothing", begin(read, answer{view: updated}), false},
		{"etag kept", begin(call{move: update, base: two, etag: 1}, answer{view: updated}), true},
		{"etag ignored", begin(set, answer{view: updated},
			call{move: abort, etag: 1}, answer{refusal: noCanary}), false},
		{"etag refused", begin(set, answer{view: updated},
			call{move: update, base: one, etag: 1}, answer{refusal: staleEtag}), true},
		{"etag refused for no reason", begin(set, answer{view: updated},
			call{move: update, base: one, etag: 2}, answer{refusal: staleEtag}), false},
		{"promote and roll back", begin(
			call{move: open, canary: trial}, answer{view: opened},
			call{move: open, canary: trial}, answer{refusal: canaryExists},
			call{move: promote}, answer{view: promoted},
			call{move: promote}, answer{refusal: noCanary},
			call{move: rollback}, answer{view: restored},
		), true},
		{"promoted without overrides", begin(
			call{move: open, canary: trial}, answer{view: opened},
			call{move: promote}, answer{view: view{revision: 3, base: base{2, 101}}},
		), false},
		{"nothing to roll back to", begin(call{move: rollback}, answer{refusal: noHistory}), true},
		{"two contents of a revision", ops(
			call{move: create, base: one}, answer{view: created}, read, answer{view: view{revision: 1, base: two}},
		), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			findings := check(test.history)
			if right := len(findings) == 0; right != test.right {
				t.Fatalf("found right: %v, want %v: %+v", right, test.right, findings)
			}
		})
	}
}
