//go:build linux

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// outage is a time in which something was broken.
type outage struct {
	fault    string
	edge     string // empty: nodes
	mute     bool   // the agent may leave requests without an answer
	from, to time.Time
}

// breaker breaks agents and nodes at random, and keeps what it did.
type breaker struct {
	cluster *cluster
	edges   []*edge

	mu      sync.Mutex
	outages []outage
	struck  map[string]int
	bugs    []error
}

// edgeFault is something that happens to an agent. It heals it again, even if ctx
// has ended.
type edgeFault struct {
	name   string
	strike func(ctx context.Context, b *breaker, e *edge, r *rand.Rand) error
}

// longest is how long a fault of an agent lasts at most: longer than a lease.
const longest = 16 * time.Second

var edgeFaults = []edgeFault{
	{"cut an agent off", cutAgent(all)},
	{"cut an agent off from the leader", cutAgent(theLeader)},
	{"cut an agent off from a majority", cutAgent(theMajority)},
	{"stop an agent", stopAgent},
	{"kill -9 an agent", killAgent},
	{"have an agent refuse", refuse},
	{"cut an agent off, and stop it", while(cutAgent(all), stopAgent)},
	{"cut an agent off, and kill -9 it", while(cutAgent(all), killAgent)},
}

// nodeFaults are those of the other tests that may pass while promotions go on, and
// some that last longer than what leases rest on.
var nodeFaults = []fault{
	{"kill -9 the leader", kill(theLeader)},
	{"cut the leader off", partition(leaderAlone)},
	{"stop a follower", stop(aFollower, 3*time.Second)},
	{"cut a follower off for long", partitionFor(longest, func(l *node, f []*node) error {
		return errors.Join(cut(f[0], l), cut(f[0], f[1]))
	})},
	{"stop the leader", stop(theLeader, 4*time.Second)},
	{"kill -9 a follower", kill(aFollower)},
	{"the leader speaks and does not hear", partition(func(l *node, f []*node) error {
		return errors.Join(silence(f[0], l), silence(f[1], l))
	})},
	{"hand over to a follower", handOver},
	{"cut the leader off for long", partitionFor(longest, leaderAlone)},
	{"kill -9 a majority", kill(theMajority)},
	{"stop the leader for long", stop(theLeader, longest)},
	{"kill -9 all", kill(all)},
}

func leaderAlone(l *node, f []*node) error { return errors.Join(cut(l, f[0]), cut(l, f[1])) }

// run breaks until ctx ends; then all is well again.
func (b *breaker) run(ctx context.Context, r *rand.Rand) error {
	var breaking sync.WaitGroup
	own := func() *rand.Rand { return rand.New(rand.NewPCG(r.Uint64(), r.Uint64())) }
	const each = 4 // agents, of which one at a time is broken
	for group := range slices.Chunk(b.edges, each) {
		r := own()
		breaking.Go(func() {
			for pause(ctx, between(r, 200*time.Millisecond, 3*time.Second)) {
				f := edgeFaults[r.IntN(len(edgeFaults))]
				b.note(f.name, f.strike(ctx, b, group[r.IntN(len(group))], r))
			}
		})
	}
	nodes := own()
	breaking.Go(func() {
		for i := nodes.IntN(len(nodeFaults)); pause(ctx, between(nodes, time.Second, 6*time.Second)); i++ {
			f := nodeFaults[i%len(nodeFaults)]
			b.note(f.name, b.during(outage{fault: f.name}, func() error { return f.strike(ctx, b.cluster, nodes) }))
		}
	})
	breaking.Wait()
	return errors.Join(b.bugs...)
}

func (b *breaker) note(fault string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.struck[fault]++
	if err != nil {
		b.bugs = append(b.bugs, fmt.Errorf("%s: %w", fault, err))
	}
}

// during notes what is broken while f goes on.
func (b *breaker) during(o outage, f func() error) error {
	o.from = time.Now()
	err := f()
	o.to = time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.outages = append(b.outages, o)
	return err
}

// cutAgent cuts an agent off from nodes for a while. Which of them leads is what the
// first says that answers; without an answer it is one of them.
func cutAgent(which choose) func(context.Context, *breaker, *edge, *rand.Rand) error {
	return func(ctx context.Context, b *breaker, e *edge, r *rand.Rand) error {
		nodes := slices.Clone(b.cluster.nodes)
		r.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		leader := nodes[0]
		if l, err := b.cluster.leader(ctx); err == nil {
			leader = l
		}
		followers := slices.DeleteFunc(nodes, func(n *node) bool { return n == leader })
		from := which(leader, followers)
		var names []string
		for _, n := range from {
			names = append(names, n.name)
		}
		return b.during(outage{fault: fmt.Sprint("cut off from ", names), edge: e.name}, func() error {
			err := e.cutOff(from)
			pause(ctx, between(r, 300*time.Millisecond, longest))
			return errors.Join(err, e.heal())
		})
	}
}

// stopAgent suspends an agent's process, and lets it go on as if nothing had been.
func stopAgent(ctx context.Context, b *breaker, e *edge, r *rand.Rand) error {
	return b.during(outage{fault: "stopped", edge: e.name, mute: true}, func() error {
		e.signal(syscall.SIGSTOP)
		pause(ctx, between(r, 100*time.Millisecond, longest))
		e.signal(syscall.SIGCONT)
		return nil
	})
}

// killAgent ends an agent's process as a crash does, starts it again and waits until
// it answers.
func killAgent(ctx context.Context, b *breaker, e *edge, r *rand.Rand) error {
	return b.during(outage{fault: "killed", edge: e.name, mute: true}, func() error {
		if err := e.kill(); err != nil {
			return err
		}
		pause(ctx, between(r, 0, longest/2))
		if err := e.start(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		for {
			a := asker{address: e.ip + ":" + httpPort, path: "/"}
			got := a.ask(ctx)
			a.close()
			if got.status != 0 {
				return nil
			}
			if !pause(ctx, 20*time.Millisecond) {
				return fmt.Errorf("%s does not answer: %s", e.name, got.failure)
			}
		}
	})
}

// refuse has an agent refuse all that it is sent for a while: it cannot write to its
// disk what it would route by.
func refuse(ctx context.Context, b *breaker, e *edge, r *rand.Rand) error {
	return b.during(outage{fault: "refusing", edge: e.name}, func() error {
		const aside = "table.json.tmp" // where the agent writes its table first
		obstacle := filepath.Join(e.dir, aside)
		for err := os.MkdirAll(filepath.Join(obstacle, "full"), 0o700); err != nil; err = os.MkdirAll(filepath.Join(obstacle, "full"), 0o700) {
			if !errors.Is(err, syscall.ENOTDIR) { // it is writing right now
				return err
			}
			if !pause(ctx, time.Millisecond) {
				return nil
			}
		}
		pause(ctx, between(r, 300*time.Millisecond, 5*time.Second))
		return os.RemoveAll(obstacle)
	})
}

// while lets a second fault happen some time into a first one; which of them ends
// first is left to chance.
func while(first, second func(context.Context, *breaker, *edge, *rand.Rand) error) func(context.Context, *breaker, *edge, *rand.Rand) error {
	return func(ctx context.Context, b *breaker, e *edge, r *rand.Rand) error {
		own := rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
		var err error
		var striking sync.WaitGroup
		striking.Go(func() { err = first(ctx, b, e, own) })
		pause(ctx, between(r, 0, longest/4))
		errSecond := second(ctx, b, e, r)
		striking.Wait()
		return errors.Join(err, errSecond)
	}
}
