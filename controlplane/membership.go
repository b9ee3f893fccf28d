package controlplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/fifegateway/fife/controlplane/api"
	"github.com/fifegateway/fife/controlplane/store"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// membership brings a node into the cluster after its start: it joins if it is
// new, catches up with the leader, and asks for its vote.
type membership struct {
	config  Config
	storage *store.Storage
	store   *store.Store
	peers   *api.Peers
	ready   chan struct{} // closed once the node has what the leader had after its start
}

func newMembership(c Config, disk *store.Storage, s *store.Store, p *api.Peers) *membership {
	return &membership{config: c, storage: disk, store: s, peers: p, ready: make(chan struct{})}
}

// toucher is told whether the node is in touch with its cluster.
type toucher interface{ SetInTouch(in bool) }

const (
	memberPause   = 50 * time.Millisecond // between two attempts
	memberTimeout = 5 * time.Second       // for one call
)

// run makes the node a full member and then watches, until ctx ends, whether it is
// in touch with the others. Not reaching them is no error: it goes on trying. A
// cluster that refuses to take the node in is one.
func (m *membership) run(ctx context.Context, healthy *health.Server, streams toucher) error {
	if err := m.insist(ctx, "join the cluster", m.join); err != nil {
		return err
	}
	if err := m.insist(ctx, "catch up with the leader", m.catchUp); err != nil {
		return err
	}
	close(m.ready)
	healthy.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	m.config.Logger.Info("node is ready", "version", m.store.State().Version())
	if err := m.insist(ctx, "record own address", m.announce); err != nil {
		return err
	}
	if err := m.insist(ctx, "become a voter", m.vote); err != nil {
		return err
	}
	m.watch(ctx, healthy, streams)
	return nil
}

// outOfTouch is how long a node may not have heard from a leader and still serve.
const outOfTouch = 10 * time.Second

// watch tells the agents' streams and the health service when the node gets out of
// touch, or is no member any more, and when it is back.
func (m *membership) watch(ctx context.Context, healthy *health.Server, streams toucher) {
	in := true
	for {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return
		}
		now := m.inTouch()
		if now == in {
			continue
		}
		in = now
		serving := grpc_health_v1.HealthCheckResponse_SERVING
		if !in {
			serving = grpc_health_v1.HealthCheckResponse_NOT_SERVING
		}
		m.config.Logger.Warn("node's touch with its cluster has changed", "in_touch", in)
		healthy.SetServingStatus("", serving)
		streams.SetInTouch(in)
	}
}

func (m *membership) inTouch() bool {
	if m.store.Age() > outOfTouch {
		return false
	}
	members, err := m.store.Members()
	return err == nil && slices.ContainsFunc(members, func(member store.Member) bool { return member.ID == m.config.Name })
}

// errRefused says that the cluster does not take the node as it is, and will not
// however often it asks.
var errRefused = errors.New("the cluster refuses this node")

// insist repeats a step until it succeeds, is refused, or ctx ends, which is no
// error, and says from time to time why it has not.
func (m *membership) insist(ctx context.Context, what string, do func(context.Context) error) error {
	nextWord := time.Now().Add(memberTimeout)
	for {
		attempt, cancel := context.WithTimeout(ctx, memberTimeout)
		err := do(attempt)
		cancel()
		if err == nil {
			return nil
		}
		if errors.Is(err, errRefused) {
			return fmt.Errorf("%s: %w", what, err)
		}
		if now := time.Now(); now.After(nextWord) {
			nextWord = now.Add(memberTimeout)
			m.config.Logger.Warn("node is not yet a full member", "step", what, "error", err)
		}
		select {
		case <-time.After(memberPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// join asks the members named in the configuration to take a new node in. A node
// with a past is a member already.
func (m *membership) join(ctx context.Context) error {
	if m.storage.ClusterID() != "" {
		return nil
	}
	var errs []error
	for _, address := range m.config.Join {
		conn, err := m.cluster(address)
		if err != nil {
			return err
		}
		resp, err := conn.JoinCluster(ctx, m.self())
		switch code := status.Code(err); {
		case err == nil && resp.GetClusterId() == "":
			err = errNotFounded
		case err == nil:
			return m.storage.JoinCluster(resp.GetClusterId())
		case code == codes.AlreadyExists, code == codes.InvalidArgument, code == codes.FailedPrecondition:
			return fmt.Errorf("%w: %s: %w", errRefused, address, err)
		}
		errs = append(errs, fmt.Errorf("%s: %w", address, err))
	}
	return errors.Join(errs...)
}

func (m *membership) self() *fifev1.JoinClusterRequest {
	return &fifev1.JoinClusterRequest{
		NodeId: m.config.Name, RaftAddress: m.config.RaftAdvertise, GrpcAddress: m.config.GRPCAdvertise,
		Schema: store.Schema,
	}
}

func (m *membership) cluster(address string) (fifev1.ClusterServiceClient, error) {
	conn, err := m.peers.Conn(address)
	if err != nil {
		return nil, err
	}
	return fifev1.NewClusterServiceClient(conn), nil
}

// leader returns a client of the leader.
func (m *membership) leader() (fifev1.ClusterServiceClient, error) {
	n, ok := m.store.Leader()
	if !ok {
		return nil, store.ErrNotLeader
	}
	return m.cluster(n.GRPCAddress)
}

var errNotFounded = errors.New("the cluster has no identity yet")

// catchUp waits until this node has applied all that the leader had when asked
// now: what it finds on its own disk may be older than what agents have seen.
func (m *membership) catchUp(ctx context.Context) error {
	if m.store.IsLeader() {
		if err := m.store.Sync(ctx); err != nil {
			return err
		}
		if m.store.State().ClusterID() == "" {
			return errNotFounded
		}
		return nil
	}
	leader, err := m.leader()
	if err != nil {
		return err
	}
	resp, err := leader.SyncCluster(ctx, &fifev1.SyncClusterRequest{})
	if err != nil {
		return err
	}
	goal := resp.GetApplied()
	if goal.GetEpoch() == 0 {
		return errNotFounded
	}
	_, err = m.store.Reach(ctx, store.Version{Epoch: goal.GetEpoch(), Index: goal.GetIndex()})
	return err
}

// announce tells the leader where this node is reached, if that has changed. A
// leader records its own address.
func (m *membership) announce(ctx context.Context) error {
	self := store.Node{ID: m.config.Name, GRPCAddress: m.config.GRPCAdvertise, Schema: store.Schema}
	known, ok := m.store.State().Node(self.ID)
	members, err := m.store.Members()
	if err != nil {
		return err
	}
	moved := slices.ContainsFunc(members, func(member store.Member) bool {
		return member.ID == self.ID && member.RaftAddress != m.config.RaftAdvertise
	})
	if (ok && known == self && !moved) || m.store.IsLeader() {
		return nil
	}
	leader, err := m.leader()
	if err != nil {
		return err
	}
	_, err = leader.JoinCluster(ctx, m.self())
	return err
}

// vote asks the leader for a vote, unless this node has one.
func (m *membership) vote(ctx context.Context) error {
	members, err := m.store.Members()
	if err != nil {
		return err
	}
	for _, member := range members {
		if member.ID == m.config.Name && member.Voter {
			return nil
		}
	}
	leader, err := m.leader()
	if err != nil {
		return err
	}
	applied := m.store.State().Applied()
	_, err = leader.PromoteMember(ctx, &fifev1.PromoteMemberRequest{
		Name: "members/" + m.config.Name, Applied: &fifev1.Version{Epoch: applied.Epoch, Index: applied.Index},
	})
	return err
}
