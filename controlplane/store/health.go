package store

import (
	"context"
	"sync"

	"github.com/hashicorp/raft"
)

// health knows which members the leader has lost touch with.
type health struct {
	raft     *raft.Raft
	observer *raft.Observer
	news     chan raft.Observation

	mu   sync.Mutex
	lost map[raft.ServerID]bool
}

func newHealth(r *raft.Raft) *health {
	h := &health{raft: r, news: make(chan raft.Observation, 64), lost: map[raft.ServerID]bool{}}
	h.observer = raft.NewObserver(h.news, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.FailedHeartbeatObservation, raft.ResumedHeartbeatObservation, raft.LeaderObservation:
			return true
		}
		return false
	})
	r.RegisterObserver(h.observer)
	return h
}

// run follows Raft's observations until ctx ends.
func (h *health) run(ctx context.Context) {
	defer h.raft.DeregisterObserver(h.observer)
	for {
		select {
		case o := <-h.news:
			h.observe(o)
		case <-ctx.Done():
			return
		}
	}
}

func (h *health) observe(o raft.Observation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch data := o.Data.(type) {
	case raft.FailedHeartbeatObservation:
		h.lost[data.PeerID] = true
	case raft.ResumedHeartbeatObservation:
		delete(h.lost, data.PeerID)
	case raft.LeaderObservation:
		clear(h.lost) // a new leader finds out for itself
	}
}

// healthy reports whether the leader is in touch with a member.
func (h *health) healthy(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.lost[raft.ServerID(id)]
}
