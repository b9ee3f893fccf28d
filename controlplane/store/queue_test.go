package store

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestQueue: a queue is what a slice would be, and every earlier one stays what it
// was, also when two are made from the same.
func TestQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type version struct {
			queue queue[int]
			model []int
		}
		versions := []version{{}}
		for n := range rapid.IntRange(0, 300).Draw(t, "steps") {
			v := versions[rapid.IntRange(max(0, len(versions)-3), len(versions)-1).Draw(t, "from")]
			if len(v.model) > 0 && rapid.IntRange(0, 2).Draw(t, "op") == 0 {
				v = version{v.queue.pop(), v.model[1:]}
			} else {
				v = version{v.queue.push(n), append(slices.Clip(v.model), n)}
			}
			versions = append(versions, v)
		}
		for _, v := range versions {
			if got := slices.Collect(v.queue.from(0)); !slices.Equal(got, v.model) || v.queue.len() != len(v.model) {
				t.Fatalf("got %v (%d), want %v", got, v.queue.len(), v.model)
			}
		}
	})
}
