package api

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// fleetService merges what every node knows of its own agents. Between nodes it
// is called with the node set, which means: only yours.
type fleetService struct {
	fifev1.UnimplementedFleetServiceServer
	store  *store.Store
	fleet  Fleet
	peers  *Peers
	logger *slog.Logger
}

const (
	peerTimeout  = 2 * time.Second // for one answer of another node
	waitInterval = time.Second     // between two messages of WaitForVersion without news
	maxNamed     = 20              // agents named in one message of WaitForVersion
)

func (s *fleetService) ListAgents(
	ctx context.Context, req *fifev1.ListAgentsRequest,
) (*fifev1.ListAgentsResponse, error) {
	var v release.Violations
	start := pageStart(&v, req, 1)
	if err := v.Err(); err != nil {
		return nil, err
	}
	agents, unreachable, err := s.agents(ctx, req.GetNode())
	if err != nil {
		return nil, err
	}
	agents = slices.DeleteFunc(agents, func(a *fifev1.Agent) bool { return a.GetName() < start[0] })
	same := func(a *fifev1.Agent) *fifev1.Agent { return a }
	out, next := page(req, slices.Values(agents), same, func(a *fifev1.Agent) []string { return []string{a.GetName()} })
	return &fifev1.ListAgentsResponse{Agents: out, NextPageToken: next, UnreachableNodes: unreachable}, nil
}

// agents returns the agents of one node, or of all if node is empty, in name
// order, and the nodes that did not answer.
func (s *fleetService) agents(ctx context.Context, node string) (agents []*fifev1.Agent, unreachable []string, err error) {
	if node == s.store.NodeID() {
		agents, _ = s.fleet.Agents()
		return slices.Clone(agents), nil, nil
	}
	var mu sync.Mutex
	err = s.everyNode(node, func(n store.Node) {
		var found []*fifev1.Agent
		var err error
		if n.ID == s.store.NodeID() {
			found, _ = s.fleet.Agents()
		} else {
			found, err = s.agentsOf(ctx, n)
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			s.logger.Warn("node did not list its agents", "node", n.ID, "error", err)
			unreachable = append(unreachable, n.ID)
			return
		}
		agents = append(agents, found...)
	})
	slices.SortFunc(agents, func(a, b *fifev1.Agent) int { return cmp.Compare(a.GetName(), b.GetName()) })
	slices.Sort(unreachable)
	return agents, unreachable, err
}

// everyNode calls f for the named node, or for every member if node is empty,
// at the same time, and returns when all calls have.
func (s *fleetService) everyNode(node string, f func(store.Node)) error {
	members, err := s.store.Members()
	if err != nil {
		return err
	}
	found := false
	var wg sync.WaitGroup
	for _, m := range members {
		if node == "" || node == m.ID {
			found = true
			wg.Go(func() { f(store.Node{ID: m.ID, GRPCAddress: m.GRPCAddress}) })
		}
	}
	wg.Wait()
	if !found {
		return release.Missing("members/" + node)
	}
	return nil
}

// agentsOf asks another node for all its agents.
func (s *fleetService) agentsOf(ctx context.Context, n store.Node) ([]*fifev1.Agent, error) {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	conn, err := s.peers.Conn(n.GRPCAddress)
	if err != nil {
		return nil, err
	}
	client := fifev1.NewFleetServiceClient(conn)
	var agents []*fifev1.Agent
	req := &fifev1.ListAgentsRequest{PageSize: maxPageSize, Node: n.ID}
	for {
		resp, err := client.ListAgents(ctx, req)
		if err != nil {
			return nil, err
		}
		agents = append(agents, resp.GetAgents()...)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return agents, nil
		}
	}
}

// nodeProgress is how far one node's agents have come.
type nodeProgress struct {
	resp      *fifev1.WaitForVersionResponse
	reachable bool
}

func (s *fleetService) WaitForVersion(
	req *fifev1.WaitForVersionRequest, stream grpc.ServerStreamingServer[fifev1.WaitForVersionResponse],
) error {
	want := store.Version{Epoch: req.GetVersion().GetEpoch(), Index: req.GetVersion().GetIndex()}
	if req.GetVersion() == nil {
		var v release.Violations
		v.Addf("version", "is required")
		return v.Err()
	}
	begin := time.Now()
	if req.GetNode() == s.store.NodeID() {
		return s.waitHere(stream.Context(), want, func(p *fifev1.WaitForVersionResponse) error {
			p.Elapsed = durationpb.New(time.Since(begin))
			return stream.Send(p)
		})
	}
	return s.waitEverywhere(stream, req, want, begin)
}

// waitHere reports on this node's agents at every change, and ends when all have
// the version.
func (s *fleetService) waitHere(
	ctx context.Context, want store.Version, send func(*fifev1.WaitForVersionResponse) error,
) error {
	for {
		agents, changed := s.fleet.Agents()
		p := progress(agents, want)
		if err := send(p); err != nil || p.GetDone() {
			return err
		}
		select {
		case <-changed:
		case <-time.After(waitInterval):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// progress counts the agents that have come to a version.
func progress(agents []*fifev1.Agent, want store.Version) *fifev1.WaitForVersionResponse {
	p := &fifev1.WaitForVersionResponse{Total: int32(len(agents))}
	for _, a := range agents {
		has := store.Version{Epoch: a.GetApplied().GetEpoch(), Index: a.GetApplied().GetIndex()}
		if has.Compare(want) >= 0 {
			p.Applied++
			continue
		}
		if len(p.Laggards) < maxNamed {
			p.Laggards = append(p.Laggards, a.GetName())
		}
		if a.GetLastNack() != nil && len(p.Refused) < maxNamed {
			p.Refused = append(p.Refused, a)
		}
	}
	p.Done = p.GetApplied() == p.GetTotal()
	return p
}

// waitEverywhere follows every node's report and sends their sum. A node that
// does not answer keeps the wait open: its agents may be serving anything.
func (s *fleetService) waitEverywhere(
	stream grpc.ServerStreamingServer[fifev1.WaitForVersionResponse],
	req *fifev1.WaitForVersionRequest, want store.Version, begin time.Time,
) error {
	ctx, cancel := context.WithCancel(stream.Context())
	var followers sync.WaitGroup
	defer followers.Wait()
	defer cancel()

	var mu sync.Mutex
	nodes := map[string]nodeProgress{}
	news := make(chan struct{}, 1)
	report := func(id string, p nodeProgress) {
		mu.Lock()
		nodes[id] = p
		mu.Unlock()
		select {
		case news <- struct{}{}:
		default:
		}
	}
	members, err := s.store.Members()
	if err != nil {
		return err
	}
	for _, m := range members {
		if req.GetNode() != "" && req.GetNode() != m.ID {
			continue
		}
		nodes[m.ID] = nodeProgress{}
		followers.Go(func() { s.follow(ctx, store.Node{ID: m.ID, GRPCAddress: m.GRPCAddress}, req, want, report) })
	}
	if len(nodes) == 0 {
		return release.Missing("members/" + req.GetNode())
	}
	grace := time.After(peerTimeout) // until then a node without an answer is only slow
	for {
		select {
		case <-news:
		case <-time.After(waitInterval):
		case <-grace:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		mu.Lock()
		sum := merge(nodes)
		mu.Unlock()
		sum.Elapsed = durationpb.New(time.Since(begin))
		if len(sum.GetUnreachableNodes()) > 0 && time.Since(begin) < peerTimeout {
			continue
		}
		if err := stream.Send(sum); err != nil || sum.GetDone() {
			return err
		}
	}
}

// follow reports one node's progress until ctx ends, and asks again when the
// node cannot be reached.
func (s *fleetService) follow(
	ctx context.Context, n store.Node, req *fifev1.WaitForVersionRequest, want store.Version,
	report func(string, nodeProgress),
) {
	for ctx.Err() == nil {
		send := func(p *fifev1.WaitForVersionResponse) error {
			report(n.ID, nodeProgress{resp: p, reachable: true})
			return nil
		}
		var err error
		if n.ID == s.store.NodeID() {
			err = s.waitHere(ctx, want, send)
		} else {
			err = s.waitThere(ctx, n, req, send)
		}
		if err == nil {
			return // done, and reported so
		}
		report(n.ID, nodeProgress{})
		select {
		case <-time.After(waitInterval):
		case <-ctx.Done():
		}
	}
}

func (s *fleetService) waitThere(
	ctx context.Context, n store.Node, req *fifev1.WaitForVersionRequest,
	send func(*fifev1.WaitForVersionResponse) error,
) error {
	conn, err := s.peers.Conn(n.GRPCAddress)
	if err != nil {
		return err
	}
	stream, err := fifev1.NewFleetServiceClient(conn).WaitForVersion(ctx,
		&fifev1.WaitForVersionRequest{Version: req.GetVersion(), Node: n.ID})
	if err != nil {
		return err
	}
	for {
		p, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := send(p); err != nil || p.GetDone() {
			return err
		}
	}
}

// merge adds up what the nodes have reported.
func merge(nodes map[string]nodeProgress) *fifev1.WaitForVersionResponse {
	sum := &fifev1.WaitForVersionResponse{Done: true}
	for id, n := range nodes {
		if !n.reachable {
			sum.UnreachableNodes = append(sum.UnreachableNodes, id)
			sum.Done = false
			continue
		}
		sum.Total += n.resp.GetTotal()
		sum.Applied += n.resp.GetApplied()
		sum.Laggards = append(sum.Laggards, n.resp.GetLaggards()...)
		sum.Refused = append(sum.Refused, n.resp.GetRefused()...)
		sum.Done = sum.GetDone() && n.resp.GetDone()
	}
	slices.Sort(sum.GetUnreachableNodes())
	slices.Sort(sum.GetLaggards())
	sum.Laggards = sum.GetLaggards()[:min(len(sum.GetLaggards()), maxNamed)]
	sum.Refused = sum.GetRefused()[:min(len(sum.GetRefused()), maxNamed)]
	return sum
}
