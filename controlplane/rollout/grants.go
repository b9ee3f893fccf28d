package rollout

import (
	"sync"
	"time"

	"github.com/fifegateway/fife/controlplane/discovery"
)

// grants is what the leader knows of the grants that nodes hold. It is safe for
// concurrent use.
type grants struct {
	mu    sync.Mutex
	term  uint64               // that the rest is of
	began time.Time            // when this node was sure to lead in term
	given map[string]time.Time // until when, by node id
}

// begin notes that this node leads in a term, if it does not know yet.
func (g *grants) begin(term uint64, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.term != term {
		g.term, g.began, g.given = term, now, map[string]time.Time{}
	}
}

// give notes a grant that a node has asked for at a time.
func (g *grants) give(term uint64, node string, asked time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.term == term {
		g.given[node] = asked.Add(discovery.GrantTTL)
	}
}

// quiet returns when the last lease has run out that a node may have granted which
// does not answer, as this leader or one before it gave it a grant.
func (g *grants) quiet(node string) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	until := g.began.Add(discovery.GrantTTL)
	if given := g.given[node]; given.After(until) {
		until = given
	}
	return until.Add(discovery.LeaseTTL + allowance)
}

// allowance is by how much the clocks of agents, nodes and the leader may run apart
// in the time of a grant and a lease: one part in a hundred.
const allowance = (discovery.GrantTTL + discovery.LeaseTTL) / 100
