//go:build linux

package bench_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestFollowerLag measures when a write shows on a connection to a follower, and
// on one to the leader, counted from the moment that the leader has acknowledged
// it to its writer. Both may be seen before that.
func TestFollowerLag(t *testing.T) {
	begin(t)
	r := newReport("seen after the acknowledgement, 3 nodes",
		quantity{"on a follower, p50", seconds, within(0.005, "5 ms")},
		quantity{"on a follower, p99", seconds, goal{}},
		quantity{"on the leader, p50", seconds, goal{}},
		quantity{"on the leader, p99", seconds, goal{}},
		quantity{"call to sight on a follower, p50", seconds, goal{}},
		quantity{"call to acknowledgement, p50", seconds, goal{}},
	)
	for range min(3, size().rounds) {
		for _, s := range systems() {
			c, leave := enter(t, s, 3)
			one, err := lagRound(t.Context(), c, t.TempDir())
			if err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			r.add(s.name, one)
			leave()
		}
	}
	r.show(t)
}

func lagRound(ctx context.Context, c contestant, dir string) (round, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	one := round{values: map[string]float64{}}
	if err := fill(ctx, c, size().warmUp); err != nil {
		return one, err
	}
	var err error
	if one.sync, err = syncTime(dir); err != nil {
		return one, err
	}
	leader, err := c.follow(ctx, 0, "at-leader")
	if err != nil {
		return one, err
	}
	follower, err := c.follow(ctx, 1, "at-follower")
	if err != nil {
		return one, err
	}
	before, err := usageNow(c.processes())
	if err != nil {
		return one, err
	}
	var writes, there, here, whole []time.Duration
	for n := range size().lags {
		begin := time.Now()
		revision, err := c.write(ctx, n)
		if err != nil {
			return one, err
		}
		acknowledged := time.Now()
		writes = append(writes, acknowledged.Sub(begin))
		if here, err = appendLag(here, leader, revision, acknowledged); err != nil {
			return one, fmt.Errorf("on the leader: %w", err)
		}
		if there, err = appendLag(there, follower, revision, acknowledged); err != nil {
			return one, fmt.Errorf("on a follower: %w", err)
		}
		whole = append(whole, writes[n]+there[n])
	}
	after, err := usageNow(c.processes())
	if err != nil {
		return one, err
	}
	one.others = others(before, after)
	for label, lags := range map[string][]time.Duration{
		"on a follower, ": there, "on the leader, ": here,
		"call to sight on a follower, ": whole, "call to acknowledgement, ": writes,
	} {
		slices.Sort(lags)
		one.values[label+"p50"] = quantile(lags, 0.5).Seconds()
		one.values[label+"p99"] = quantile(lags, 0.99).Seconds()
	}
	return one, nil
}

// appendLag waits until a revision is seen, and adds how long after a moment that
// was.
func appendLag(
	lags []time.Duration, seen <-chan sighting, revision uint64, since time.Time,
) ([]time.Duration, error) {
	deadline := time.After(patience)
	for {
		select {
		case s, ok := <-seen:
			if !ok {
				return nil, errors.New("the connection ended")
			}
			if s.revision >= revision {
				return append(lags, s.at.Sub(since)), nil
			}
		case <-deadline:
			return nil, fmt.Errorf("revision %d is not seen within %v", revision, patience)
		}
	}
}
