package store

import (
	"iter"
	"slices"
)

// queue is a persistent first-in-first-out list: push and pop return another one
// and leave this one as it is, at the cost of copying a chunk now and then. The
// zero queue is empty.
type queue[T any] struct {
	full [][]T // of queueChunk entries each, never changed
	tail []T   // of fewer, never changed
	head int   // entries of the first chunk that are gone
}

// queueChunk weighs what a push copies against what a full chunk does.
const queueChunk = 32

func (q queue[T]) len() int { return len(q.full)*queueChunk + len(q.tail) - q.head }

func (q queue[T]) push(v T) queue[T] {
	q.tail = append(append(make([]T, 0, len(q.tail)+1), q.tail...), v)
	if len(q.tail) == queueChunk {
		q.full = append(slices.Clip(q.full), q.tail)
		q.tail = nil
	}
	return q
}

// pop drops the oldest entry, which there must be.
func (q queue[T]) pop() queue[T] {
	q.head++
	if q.head == queueChunk {
		q.head = 0
		q.full = q.full[1:]
	}
	return q
}

// at returns an entry, the oldest being 0.
func (q queue[T]) at(i int) T {
	i += q.head
	if chunk := i / queueChunk; chunk < len(q.full) {
		return q.full[chunk][i%queueChunk]
	}
	return q.tail[i-len(q.full)*queueChunk]
}

// from yields the entries from one on, oldest first.
func (q queue[T]) from(i int) iter.Seq[T] {
	return func(yield func(T) bool) {
		for ; i < q.len(); i++ {
			if !yield(q.at(i)) {
				return
			}
		}
	}
}
