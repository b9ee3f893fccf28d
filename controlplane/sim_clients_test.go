package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

const (
	simClients  = 4
	simPause    = time.Minute      // on average, between two calls of a client
	simCall     = 45 * time.Second // until a client gives an attempt up
	simPatience = 20 * time.Minute // until it gives a request up; outcomes are kept for an hour
)

// simClient makes one call after the other, on objects that all clients share.
type simClient struct {
	name   string
	world  *simWorld
	rng    *rand.Rand
	made   int
	newest *store.State // what it has read last
}

// run goes on until ctx ends.
func (c *simClient) run(ctx context.Context) {
	for {
		select {
		case <-time.After(time.Duration(c.rng.Int64N(int64(2 * simPause)))):
		case <-ctx.Done():
			return
		}
		if c.newest == nil || c.rng.IntN(3) == 0 {
			c.read(ctx)
			continue
		}
		c.write(ctx)
	}
}

// node returns a node to call: mostly one that says it leads, since the others
// only send callers there.
func (c *simClient) node() (*store.Store, bool) {
	var all, leading []*store.Store
	for _, name := range c.world.names(true) {
		if s, ok := c.world.store(name); ok {
			all = append(all, s)
			if s.IsLeader() {
				leading = append(leading, s)
			}
		}
	}
	if len(leading) > 0 && c.rng.IntN(10) > 0 {
		all = leading
	}
	if len(all) == 0 {
		return nil, false
	}
	return all[c.rng.IntN(len(all))], true
}

// read reads what the cluster has agreed on by now.
func (c *simClient) read(ctx context.Context) {
	if s, ok := c.node(); ok {
		c.readFrom(ctx, s)
	}
}

func (c *simClient) readFrom(ctx context.Context, s *store.Store) {
	ctx, cancel := context.WithTimeout(ctx, simCall)
	defer cancel()
	least := c.world.ledger.now()
	if s.Sync(ctx) != nil {
		return // it does not lead
	}
	c.newest = s.State()
	c.world.ledger.read("client "+c.name, c.newest, least)
}

// watch reads from every node that says it leads whenever these are other nodes
// than before: a new leader may not have applied all that the former one has
// acknowledged, and the former one may not know yet that it is deposed.
func (c *simClient) watch(ctx context.Context) {
	before := ""
	for {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return
		}
		now := ""
		var leading []*store.Store
		for _, name := range c.world.names(true) {
			if s, ok := c.world.store(name); ok && s.IsLeader() {
				now, leading = now+" "+name, append(leading, s)
			}
		}
		if now != before {
			for _, s := range leading {
				c.readFrom(ctx, s)
			}
		}
		before = now
	}
}

// write makes one request, and makes it again until its outcome is known.
func (c *simClient) write(ctx context.Context) {
	c.made++
	request := fmt.Sprintf("%s-%d", c.name, c.made)
	cmd := c.draw(request)
	cmd.RequestId, cmd.Fingerprint, cmd.Actor, cmd.Method = request, []byte(request), request, "Simulation"
	unknown, deadline := false, time.Now().Add(simPatience)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		if s, ok := c.node(); ok {
			cmd.Time = timestamppb.Now()
			attempt, cancel := context.WithTimeout(ctx, simCall)
			outcome, err := s.Apply(attempt, cmd)
			cancel()
			switch {
			case err == nil:
				c.world.ledger.acknowledge(request, outcome)
				return
			case errors.Is(err, store.ErrOutcomeUnknown):
				unknown = true
				c.world.ledger.unknown()
			case errors.Is(err, store.ErrNotLeader) && !unknown && c.rng.IntN(4) == 0:
				c.world.ledger.never(request, err) // and lets it be
				return
			case !errors.Is(err, store.ErrNotLeader):
				c.world.t.Errorf("request %s: %v", request, err)
				return
			}
		}
		<-time.After(time.Duration(c.rng.Int64N(int64(10 * time.Second))))
	}
	if !unknown {
		c.world.ledger.never(request, store.ErrNotLeader)
	}
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// draw returns a request that makes sense, or did when its client last read.
func (c *simClient) draw(request string) *storev1.Command {
	api := pick(c.rng, []string{"a", "b"})
	a, ok := c.newest.API(api)
	if !ok {
		return &storev1.Command{Op: &storev1.Command_CreateApi{CreateApi: &storev1.CreateApi{
			Api: &storev1.Api{Id: api, Description: request},
		}}}
	}
	routes := 0
	for range c.newest.Routes(api, "", "") {
		routes++
	}
	if routes == 0 || c.rng.IntN(8) == 0 {
		path := fmt.Sprintf("/%s/%d", api, c.rng.IntN(4))
		return &storev1.Command{Op: &storev1.Command_PutRoute{PutRoute: &storev1.PutRoute{Api: api, Route: &storev1.Route{
			Method: "GET", Path: path,
			Integration: &storev1.Route_Mock{Mock: &storev1.MockIntegration{Status: 200, Body: request}},
		}}}}
	}
	switch c.rng.IntN(8) {
	case 0:
		return &storev1.Command{Op: &storev1.Command_UpdateApi{UpdateApi: &storev1.UpdateApi{
			Api: &storev1.Api{Id: api, Description: request}, Fields: []string{release.FieldDescription},
			IfRevision: c.etag(a.Revision),
		}}}
	case 1:
		stage := pick(c.rng, []string{"", "dev", "prod"})
		return &storev1.Command{Op: &storev1.Command_CreateDeployment{CreateDeployment: &storev1.CreateDeployment{
			Api: api, Description: request, Stage: stage,
		}}}
	}
	stages := slices.Collect(c.newest.Stages(api, ""))
	if len(stages) == 0 {
		return &storev1.Command{Op: &storev1.Command_CreateDeployment{CreateDeployment: &storev1.CreateDeployment{
			Api: api, Description: request, Stage: "dev",
		}}}
	}
	return c.move(pick(c.rng, stages), a.LastDeployment)
}

// etag returns a revision to insist on, or none.
func (c *simClient) etag(revision uint64) uint64 {
	if c.rng.IntN(3) == 0 {
		return 0
	}
	return revision
}

// move returns a request for a stage's next revision.
func (c *simClient) move(s *release.Stage, deployments uint64) *storev1.Command {
	etag := c.etag(s.Index)
	canary := &storev1.Canary{
		Deployment: 1 + c.rng.Uint64N(deployments), PartsPerMillion: c.rng.Uint32N(1_000_001), Salt: c.rng.Uint64(),
	}
	if s.Config.Canary == nil {
		if c.rng.IntN(4) == 0 {
			return &storev1.Command{Op: &storev1.Command_RollbackStage{RollbackStage: &storev1.RollbackStage{
				Api: s.API, Stage: s.ID, IfRevision: etag,
			}}}
		}
		return &storev1.Command{Op: &storev1.Command_StartCanary{StartCanary: &storev1.StartCanary{
			Api: s.API, Stage: s.ID, Canary: canary, IfRevision: etag,
		}}}
	}
	switch c.rng.IntN(5) {
	case 0:
		return &storev1.Command{Op: &storev1.Command_AbortCanary{AbortCanary: &storev1.AbortCanary{
			Api: s.API, Stage: s.ID, IfRevision: etag,
		}}}
	case 1:
		return &storev1.Command{Op: &storev1.Command_PromoteCanary{PromoteCanary: &storev1.PromoteCanary{
			Api: s.API, Stage: s.ID, KeepCanary: c.rng.IntN(2) == 0, IfRevision: etag,
		}}}
	}
	return &storev1.Command{Op: &storev1.Command_UpdateCanary{UpdateCanary: &storev1.UpdateCanary{
		Api: s.API, Stage: s.ID, Canary: canary, Fields: []string{release.FieldPercent}, IfRevision: etag,
	}}}
}
