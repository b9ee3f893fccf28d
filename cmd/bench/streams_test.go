//go:build linux

package bench_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// TestIdleStreams measures how much memory a node takes for an agent that is
// connected and idle, each on a connection of its own, in plaintext.
func TestIdleStreams(t *testing.T) {
	begin(t)
	const perStream = "resident memory per idle stream"
	r := newReport(fmt.Sprintf("%d streams to 1 node", size().streams),
		quantity{perStream, kibibytes, within(34<<10, "34 KiB")})
	for range min(3, size().rounds) {
		for _, s := range systems() {
			c, leave := enter(t, s, 1)
			memory, err := streamMemory(t.Context(), c)
			if err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			r.add(s.name, round{values: map[string]float64{perStream: memory}})
			leave()
		}
	}
	r.show(t)
}

// streamMemory returns by how much a node grows for each stream.
func streamMemory(ctx context.Context, c contestant) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	node := c.processes()[0]
	if err := rest(ctx); err != nil {
		return 0, err
	}
	before, err := node.rss()
	if err != nil {
		return 0, err
	}
	var g errgroup.Group
	g.SetLimit(16)
	for i := range size().streams {
		g.Go(func() error {
			_, err := c.follow(ctx, 0, fmt.Sprintf("agent-%d", i))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	if err := rest(ctx); err != nil {
		return 0, err
	}
	after, err := node.rss()
	if err != nil {
		return 0, err
	}
	return (after - before) / float64(size().streams), nil
}

// rest gives a process time to come to rest.
func rest(ctx context.Context) error {
	select {
	case <-time.After(size().settle):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
