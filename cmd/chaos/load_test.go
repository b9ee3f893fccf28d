//go:build linux

package chaos_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// load asks all agents for all stages without pause and keeps what they replied.
type load struct {
	edges  []*edge
	stages []string

	mu      sync.Mutex
	replies map[asked][]reply
	roamed  map[int][]reply // by client that goes from agent to agent
}

// asked is what a client asks: one agent for one stage.
type asked struct{ edge, stage string }

const (
	steadyPause = 25 * time.Millisecond  // between two requests over one connection
	knockPause  = 250 * time.Millisecond // between two requests over new connections
	roamPause   = 10 * time.Millisecond
	roamers     = 4
)

// run asks until ctx ends. Beside the client that waits for its answer there is one
// that does not: it has requests sent to an agent that is stopped.
func (l *load) run(ctx context.Context, r *rand.Rand) {
	var asking sync.WaitGroup
	defer asking.Wait()
	for _, e := range l.edges {
		for _, stage := range l.stages {
			what := asked{e.name, stage}
			asking.Go(func() {
				a := asker{address: e.ip + ":" + httpPort, path: "/" + stage + "/"}
				defer a.close()
				for pause(ctx, steadyPause) {
					l.keep(what, a.ask(context.Background()))
				}
			})
			asking.Go(func() {
				for pause(ctx, knockPause) {
					asking.Go(func() {
						a := asker{address: e.ip + ":" + httpPort, path: "/" + stage + "/"}
						defer a.close()
						l.keep(what, a.ask(context.Background()))
					})
				}
			})
		}
	}
	for i := range roamers {
		own := rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
		asking.Go(func() { l.roam(ctx, i, own) })
	}
}

// roam asks one agent after the other for the stage that fails closed, and brings
// along what it was answered by last.
func (l *load) roam(ctx context.Context, i int, r *rand.Rand) {
	version := ""
	for pause(ctx, roamPause) {
		e := l.edges[r.IntN(len(l.edges))]
		a := asker{address: e.ip + ":" + httpPort, path: "/" + closing + "/", version: version}
		got := a.ask(context.Background())
		a.close()
		if got.status == 200 {
			version = got.version
		}
		l.mu.Lock()
		l.roamed[i] = append(l.roamed[i], got)
		l.mu.Unlock()
	}
}

func (l *load) keep(what asked, r reply) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replies[what] = append(l.replies[what], r)
}
