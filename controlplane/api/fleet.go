package api

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

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

// peerTimeout bounds how long one answer of another node may take.
const peerTimeout = 2 * time.Second

func (s *fleetService) ListAgents(
	ctx context.Context, req *fifev1.ListAgentsRequest,
) (*fifev1.ListAgentsResponse, error) {
	var v release.Violations
	start := pageStart(&v, req, 2)
	if err := v.Err(); err != nil {
		return nil, err
	}
	agents, unreachable, err := s.agents(ctx, req.GetNode())
	if err != nil {
		return nil, err
	}
	if req.GetNode() == "" {
		agents = s.withAbsent(agents)
	}
	first := &fifev1.Agent{Name: start[0], Node: start[1]}
	agents = slices.DeleteFunc(agents, func(a *fifev1.Agent) bool { return compareAgents(a, first) < 0 })
	same := func(a *fifev1.Agent) *fifev1.Agent { return a }
	out, next := page(req, slices.Values(agents), same,
		func(a *fifev1.Agent) []string { return []string{a.GetName(), a.GetNode()} })
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
	slices.SortFunc(agents, compareAgents)
	slices.Sort(unreachable)
	return agents, unreachable, err
}

// withAbsent adds the agents on the record that hold no stream. The agents are in
// name order, and so is the result.
func (s *fleetService) withAbsent(agents []*fifev1.Agent) []*fifev1.Agent {
	found := map[string]bool{}
	for _, a := range agents {
		found[a.GetName()] = true
	}
	for a := range s.store.State().Agents() {
		if name := agentPrefix + a.ID; !found[name] {
			agents = append(agents, &fifev1.Agent{Name: name, Labels: a.Labels, Absent: true})
		}
	}
	slices.SortFunc(agents, compareAgents)
	return agents
}

const agentPrefix = "agents/"

func (s *fleetService) GetAgent(ctx context.Context, req *fifev1.GetAgentRequest) (*fifev1.GetAgentResponse, error) {
	var v release.Violations
	if !strings.HasPrefix(req.GetName(), agentPrefix) {
		v.Addf("name", "%q must have the form agents/{agent}", req.GetName())
	}
	if err := v.Err(); err != nil {
		return nil, err
	}
	agents, unreachable, err := s.agents(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, a := range s.withAbsent(agents) {
		if a.GetName() == req.GetName() {
			return &fifev1.GetAgentResponse{Agent: a, UnreachableNodes: unreachable}, nil
		}
	}
	return nil, release.Missing(req.GetName())
}

// compareAgents orders by name and node: an agent that has moved is on two nodes
// until the old one has noticed.
func compareAgents(a, b *fifev1.Agent) int {
	return cmp.Or(cmp.Compare(a.GetName(), b.GetName()), cmp.Compare(a.GetNode(), b.GetNode()))
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
