package controlplane

import (
	"context"
	"time"

	"github.com/fifegateway/fife/controlplane/discovery"
	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// leaderCalls is what a node asks of the leader for its agents, over gRPC even if it
// leads itself: there is one path.
type leaderCalls struct{ *membership }

var _ discovery.Leader = leaderCalls{}

func (l leaderCalls) client() (fifev1.NodeServiceClient, error) {
	n, ok := l.store.Leader()
	if !ok {
		return nil, store.ErrNotLeader
	}
	conn, err := l.peers.Conn(n.GRPCAddress)
	if err != nil {
		return nil, err
	}
	return fifev1.NewNodeServiceClient(conn), nil
}

// RenewGrant implements discovery.Leader.
func (l leaderCalls) RenewGrant(ctx context.Context, applied store.Version) (time.Duration, time.Time, error) {
	client, err := l.client()
	if err != nil {
		return 0, time.Time{}, err
	}
	resp, err := client.RenewGrant(ctx, &fifev1.RenewGrantRequest{
		NodeId: l.config.Name, Applied: &fifev1.Version{Epoch: applied.Epoch, Index: applied.Index},
	})
	if err != nil {
		return 0, time.Time{}, err
	}
	return resp.GetTtl().AsDuration(), resp.GetTime().AsTime(), nil
}

// RegisterAgents implements discovery.Leader.
func (l leaderCalls) RegisterAgents(ctx context.Context, agents []release.Agent) error {
	client, err := l.client()
	if err != nil {
		return err
	}
	req := &fifev1.RegisterAgentsRequest{}
	for _, a := range agents {
		req.Agents = append(req.Agents, &fifev1.AgentRegistration{AgentId: a.ID, Labels: a.Labels})
	}
	_, err = client.RegisterAgents(ctx, req)
	return err
}
