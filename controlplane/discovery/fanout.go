package discovery

import (
	"context"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Fan-out goes over the streams in batches. After each, whatever else the node has
// to do has its turn: to answer the change that is being fanned out, and to keep
// up Raft's heartbeat. The time that a turn takes is the time by which everything
// on this node runs late, the heartbeat too; if it is long the fan-out pauses for
// as long.
const (
	batch    = 64
	lateTurn = 20 * time.Millisecond
	maxPause = 200 * time.Millisecond // so that it does go on
)

// Run sends every new state to the agents, also whom to trust, and keeps this node's grant, until ctx
// ends. It is called once.
func (s *Server) Run(ctx context.Context) {
	var granting sync.WaitGroup
	defer granting.Wait()
	granting.Go(func() { s.leases.run(ctx, s.config.Store) })
	sweep := time.NewTicker(time.Second)
	defer sweep.Stop()
	for told := s.config.Store.State().Trust(); ; {
		state := s.config.Store.State()
		begin := time.Now()
		s.fanOut(ctx)
		// Changes that come faster than the agents can be gone over are merged.
		rest := time.After(time.Since(begin))
		for waiting := true; waiting; {
			select {
			case <-state.Rerouted():
				waiting = false
			case now := <-sweep.C:
				s.endStalled(now)
				if trust := s.config.Store.State().Trust(); trust != told {
					told, waiting = trust, false
				}
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-rest:
		case <-ctx.Done():
			return
		}
	}
}

// fanOut sends the newest state to all agents that can take it. The others get it
// with their next answer.
func (s *Server) fanOut(ctx context.Context) {
	for i, session := range s.fleet.all() {
		if i%batch == 0 && !giveTurn(ctx) {
			return
		}
		session.advance()
	}
}

// giveTurn lets all other goroutines run; false once ctx has ended.
func giveTurn(ctx context.Context) bool {
	begin := time.Now()
	runtime.Gosched()
	took := time.Since(begin)
	if took < lateTurn {
		return ctx.Err() == nil
	}
	select {
	case <-time.After(min(took, maxPause)):
		return true
	case <-ctx.Done():
		return false
	}
}

// endStalled ends the streams that could not be written for too long.
func (s *Server) endStalled(now time.Time) {
	for _, session := range s.fleet.all() {
		if session.stalled(now) {
			session.end(status.Errorf(codes.DeadlineExceeded, "agent %s has not read for %v", session.agent, writeTimeout))
		}
	}
}
