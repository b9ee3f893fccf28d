//go:build linux

package bench_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// The quantities of a fan-out.
const (
	toLastAck  = "change to last answer"
	toAccepted = "change to its acceptance"
	cpuUpdate  = "server CPU per stream and update"
	coldStart  = "cold start of all at once"
	cpuConnect = "server CPU per cold start"
	perStream  = "memory per stream"
)

// TestFanOut measures how long it takes until a change has reached all agents,
// each on a connection of its own, and the server knows it; what that costs; and
// how long it takes when all agents come at once. The contestants take turns.
func TestFanOut(t *testing.T) {
	begin(t)
	for _, agents := range size().fleets {
		if *onlyAgents > 0 && agents != *onlyAgents {
			continue
		}
		t.Run(fmt.Sprintf("agents=%d", agents), func(t *testing.T) {
			results := fanoutResults{}
			for range min(size().rounds, size().fanoutRounds) {
				for _, s := range fanoutSystems() {
					one, err := fanoutRound(t.Context(), t.TempDir(), s, agents)
					if err != nil {
						t.Fatalf("%s: %v", s.name, err)
					}
					if results[s.name] == nil {
						results[s.name] = map[string][]float64{}
					}
					for what, v := range one {
						results[s.name][what] = append(results[s.name][what], v)
					}
				}
			}
			fmt.Fprint(t.Output(), results.table(agents))
		})
	}
}

// fanoutRound is one contestant's turn.
func fanoutRound(ctx context.Context, dir string, s fanoutSystem, agents int) (_ map[string]float64, err error) {
	c, err := s.start(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer c.close()
	server := c.processes()[0]
	if err := rest(ctx); err != nil {
		return nil, err
	}
	before, err := server.rss()
	if err != nil {
		return nil, err
	}
	cpu, err := server.exactCPU()
	if err != nil {
		return nil, err
	}
	f, took, err := connect(ctx, c.address(), c.dialect(), agents)
	if err != nil {
		return nil, err
	}
	defer f.leave()
	if _, err := confirm(ctx, c, f, time.Now()); err != nil {
		return nil, err
	}
	used, err := server.exactCPU()
	if err != nil {
		return nil, err
	}
	values := map[string]float64{
		coldStart: took.Seconds(), cpuConnect: (used - cpu).Seconds() / float64(agents),
	}
	if err := rest(ctx); err != nil {
		return nil, err
	}
	var answer, accepted, spent []float64
	for range size().updates {
		u, err := measureUpdate(ctx, c, f)
		if err != nil {
			return nil, err
		}
		answer, accepted = append(answer, u.answer.Seconds()), append(accepted, u.accepted.Seconds())
		spent = append(spent, u.cpu.Seconds()/float64(agents))
	}
	values[toLastAck], values[toAccepted], values[cpuUpdate] = median(answer), median(accepted), median(spent)
	if err := rest(ctx); err != nil {
		return nil, err
	}
	after, err := server.rss()
	if err != nil {
		return nil, err
	}
	values[perStream] = (after - before) / float64(agents)
	return values, nil
}

// update is what one change took.
type update struct{ answer, accepted, cpu time.Duration }

func measureUpdate(ctx context.Context, c broadcaster, f *fleet) (u update, err error) {
	f.expect()
	reaches, err := c.prepare(ctx)
	if err != nil {
		return u, err
	}
	if reaches {
		sent, err := f.wait(ctx)
		if err != nil {
			return u, err
		}
		if _, err := confirm(ctx, c, f, sent); err != nil {
			return u, err
		}
		f.expect()
	}
	server := c.processes()[0]
	before, err := server.exactCPU()
	if err != nil {
		return u, err
	}
	begin := time.Now()
	failed := make(chan error, 1)
	go func() {
		err := c.change(ctx)
		u.accepted = time.Since(begin)
		failed <- err
	}()
	sent, err := f.wait(ctx)
	if err := errors.Join(err, <-failed); err != nil {
		return u, err
	}
	end, err := confirm(ctx, c, f, sent)
	if err != nil {
		return u, err
	}
	u.answer = end.Sub(begin)
	after, err := server.exactCPU()
	u.cpu = after - before
	return u, err
}

// confirm waits until the server has read all answers, and returns when that was:
// at once, if it is told nothing.
func confirm(ctx context.Context, c broadcaster, f *fleet, sent time.Time) (time.Time, error) {
	deadline := time.After(patience)
	for {
		acks, err := c.acks(ctx)
		switch {
		case err != nil:
			return sent, err
		case acks < 0:
			return sent, nil
		case acks >= f.expected.Load():
			return time.Now(), nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-deadline:
			return sent, fmt.Errorf("the server has %d of %d answers after %v", acks, f.expected.Load(), patience)
		}
	}
}

// fanoutResults are by contestant and quantity, one of each round.
type fanoutResults map[string]map[string][]float64

// fanoutGoals are what Fife is to come to, in multiples of others.
var fanoutGoals = []struct {
	quantity, peer string
	most           float64
}{
	{toLastAck, floor, 2}, {toLastAck, "etcd", 0.6}, {toLastAck, linear, 0.35},
	{cpuUpdate, floor, 0}, {cpuUpdate, "etcd", 0}, {cpuUpdate, linear, 0},
	{coldStart, floor, 0}, {coldStart, "etcd", 0}, {coldStart, linear, 0},
	{cpuConnect, floor, 0}, {cpuConnect, "etcd", 0}, {cpuConnect, linear, 0},
	{perStream, "etcd", 0}, {perStream, linear, 0},
}

// mostPerStream is the goal for memory.
const mostPerStream = 34 << 10

func (r fanoutResults) table(agents int) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, "%d agents, medians", agents)
	var names []string
	for _, s := range fanoutSystems() {
		names = append(names, s.name)
		fmt.Fprintf(w, "\t%s", s.name)
	}
	fmt.Fprintln(w)
	for _, q := range []string{toLastAck, toAccepted, cpuUpdate, coldStart, cpuConnect, perStream} {
		fmt.Fprint(w, q)
		for _, name := range names {
			u := seconds
			if q == perStream {
				u = kibibytes
			}
			fmt.Fprintf(w, "\t%s", u.format(median(r[name][q])))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
	for _, g := range fanoutGoals {
		if r[g.peer] == nil {
			continue // it is not installed
		}
		ratios := slices.Clone(r[fife][g.quantity])
		for i, peer := range r[g.peer][g.quantity] {
			ratios[i] /= peer
		}
		fmt.Fprintf(w, "%s\t%.2f x %s\t%.2f to %.2f\t", g.quantity, median(ratios), g.peer, slices.Min(ratios), slices.Max(ratios))
		if g.most > 0 {
			fmt.Fprintf(w, "<= %v: %s", g.most, verdict(median(ratios) <= g.most))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%s\t%s\t\t<= 34 KiB: %s\n", perStream, kibibytes.format(median(r[fife][perStream])),
		verdict(median(r[fife][perStream]) <= mostPerStream))
	_ = w.Flush() // a strings.Builder takes all
	return text.String()
}
