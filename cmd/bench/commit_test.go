//go:build linux

package bench_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// TestCommit measures writes through gRPC until they are committed, by one writer
// and by a crowd.
func TestCommit(t *testing.T) {
	begin(t)
	for _, test := range []struct {
		nodes int
		p50   goal
	}{
		{1, atMost(0.65)},
		{3, atMost(1.0)},
	} {
		t.Run(fmt.Sprintf("nodes=%d", test.nodes), func(t *testing.T) {
			begin(t)
			r := newReport(fmt.Sprintf("commit, %d node(s)", test.nodes),
				quantity{writersLabel(1) + "p50", seconds, test.p50},
				quantity{writersLabel(1) + "p99", seconds, goal{}},
				quantity{writersLabel(1) + "writes", perSecond, goal{}},
				quantity{writersLabel(1) + cpuPerWrite, seconds, goal{}},
				quantity{writersLabel(crowd) + "p50", seconds, goal{}},
				quantity{writersLabel(crowd) + "p99", seconds, goal{}},
				quantity{writersLabel(crowd) + "writes", perSecond, atLeast(1.5)},
				quantity{writersLabel(crowd) + cpuPerWrite, seconds, goal{}},
			)
			for range size().rounds {
				for _, s := range systems() {
					c, leave := enter(t, s, test.nodes)
					one, err := commitRound(t.Context(), c, t.TempDir())
					if err != nil {
						t.Fatalf("%s: %v", s.name, err)
					}
					r.add(s.name, one)
					leave()
				}
			}
			r.show(t)
		})
	}
}

// cpuPerWrite is the quantity that suffers least from what else the machine does.
const cpuPerWrite = "processor time of all nodes per write"

func writersLabel(n int) string {
	if n == 1 {
		return "1 writer, "
	}
	return fmt.Sprintf("%d writers, ", n)
}

func commitRound(ctx context.Context, c contestant, dir string) (round, error) {
	one := round{values: map[string]float64{}}
	if err := fill(ctx, c, size().warmUp); err != nil {
		return one, err
	}
	var err error
	if one.sync, err = syncTime(dir); err != nil {
		return one, err
	}
	for _, writers := range []int{1, crowd} {
		f, err := drive(ctx, c, writers, size().phase)
		if err != nil {
			return one, err
		}
		label := writersLabel(writers)
		one.values[label+"p50"] = f.p50.Seconds()
		one.values[label+"p99"] = f.p99.Seconds()
		one.values[label+"writes"] = f.perSecond
		one.values[label+cpuPerWrite] = f.cpu.Seconds()
		one.others = max(one.others, f.others)
	}
	return one, nil
}

// figures are what a phase of writing came to.
type figures struct {
	p50, p99  time.Duration
	perSecond float64
	cpu       time.Duration // of all nodes, per write
	others    float64       // share of the machine that others had
}

// drive lets writers write for a while, each the next as soon as the last is
// committed.
func drive(ctx context.Context, c contestant, writers int, phase time.Duration) (figures, error) {
	latencies := make([][]time.Duration, writers)
	before, err := usageNow(c.processes())
	if err != nil {
		return figures{}, err
	}
	g, ctx := errgroup.WithContext(ctx)
	for w := range writers {
		g.Go(func() error {
			for n := w; n == w || time.Since(before.at) < phase; n += writers {
				begin := time.Now()
				if _, err := c.write(ctx, n); err != nil {
					return err
				}
				latencies[w] = append(latencies[w], time.Since(begin))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return figures{}, err
	}
	after, err := usageNow(c.processes())
	if err != nil {
		return figures{}, err
	}
	all := slices.Concat(latencies...)
	slices.Sort(all)
	return figures{
		p50:       quantile(all, 0.5),
		p99:       quantile(all, 0.99),
		perSecond: float64(len(all)) / after.at.Sub(before.at).Seconds(),
		cpu:       (after.servers - before.servers) / time.Duration(len(all)),
		others:    others(before, after),
	}, nil
}
