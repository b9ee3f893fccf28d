package api

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

type clusterService struct {
	fifev1.UnimplementedClusterServiceServer
	store  *store.Store
	sealer Sealer
	fleet  Fleet
	peers  *Peers
	build  string
	logger *slog.Logger

	verifying sync.Mutex // a node keeps one checkpoint
}

func (s *clusterService) GetCluster(context.Context, *fifev1.GetClusterRequest) (*fifev1.GetClusterResponse, error) {
	state := s.store.State()
	c := &fifev1.Cluster{
		ClusterId: state.ClusterID(),
		Node:      s.store.NodeID(),
		Version:   toVersion(state.Version()),
		Applied:   toVersion(state.Applied()),
		Build:     s.build,
		Agents:    int32(s.fleet.Len()),
	}
	if leader, ok := s.store.Leader(); ok {
		c.Leader = leader.ID
	}
	return &fifev1.GetClusterResponse{Cluster: c}, nil
}

func (s *clusterService) ListMembers(
	_ context.Context, req *fifev1.ListMembersRequest,
) (*fifev1.ListMembersResponse, error) {
	var v release.Violations
	start := pageStart(&v, req, 1)
	if err := v.Err(); err != nil {
		return nil, err
	}
	members, err := s.store.Members()
	if err != nil {
		return nil, err
	}
	members = slices.DeleteFunc(members, func(m store.Member) bool { return m.ID < start[0] })
	out, next := page(req, slices.Values(members), toMember, func(m store.Member) []string { return []string{m.ID} })
	return &fifev1.ListMembersResponse{Members: out, NextPageToken: next}, nil
}

func toMember(m store.Member) *fifev1.Member {
	return &fifev1.Member{
		Name:        "members/" + m.ID,
		RaftAddress: m.RaftAddress,
		GrpcAddress: m.GRPCAddress,
		Voter:       m.Voter,
		Leader:      m.Leader,
	}
}

func (s *clusterService) JoinCluster(
	ctx context.Context, req *fifev1.JoinClusterRequest,
) (*fifev1.JoinClusterResponse, error) {
	var v release.Violations
	release.CheckNodeID(&v, "node_id", req.GetNodeId())
	checkAddress(&v, "raft_address", req.GetRaftAddress())
	checkAddress(&v, "grpc_address", req.GetGrpcAddress())
	if err := v.Err(); err != nil {
		return nil, err
	}
	if err := onlySelf(ctx, req.GetNodeId()); err != nil {
		return nil, err
	}
	node := store.Node{ID: req.GetNodeId(), GRPCAddress: req.GetGrpcAddress(), Schema: req.GetSchema()}
	if node.Schema == 0 {
		// An operator names a node that does not run yet: it is taken for one of this
		// build until it says otherwise, or it would keep others from joining.
		node.Schema = store.Schema
	}
	if err := s.store.Join(ctx, node, req.GetRaftAddress(), calledByMember(ctx)); err != nil {
		return nil, err
	}
	state := s.store.State()
	return &fifev1.JoinClusterResponse{ClusterId: state.ClusterID(), Applied: toVersion(state.Applied())}, nil
}

// onlySelf refuses a node that calls for another one.
func onlySelf(ctx context.Context, node string) error {
	if caller, ok := identity.FromContext(ctx); ok && caller.Class == identity.Server && caller.Name != node {
		return fmt.Errorf("%w: %s calls for member %s", ErrDenied, caller, node)
	}
	return nil
}

// calledByMember reports whether a node of this cluster calls for itself: it names
// the cluster, which it knows from its disk, and nobody has passed the call on.
func calledByMember(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, clusterHeader)) > 0 &&
		len(metadata.ValueFromIncomingContext(ctx, forwardedBy)) == 0
}

// checkAddress notes whether an address is one that others can dial.
func checkAddress(v *release.Violations, field, address string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" || port == "0" {
		v.Addf(field, "%q must be host:port", address)
		return
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		v.Addf(field, "%q names no host that others can reach; advertise one", address)
	}
}

func (s *clusterService) PromoteMember(
	ctx context.Context, req *fifev1.PromoteMemberRequest,
) (*fifev1.PromoteMemberResponse, error) {
	var v release.Violations
	id := parseMember(&v, "name", req.GetName())
	if err := v.Err(); err != nil {
		return nil, err
	}
	if err := onlySelf(ctx, id); err != nil {
		return nil, err
	}
	if err := s.store.Sync(ctx); err != nil {
		return nil, err
	}
	applied := fromVersion(req.GetApplied())
	if now := s.store.State().Applied(); applied.Epoch != now.Epoch || applied.Index+maxLag < now.Index {
		return nil, &store.MemberError{Member: id, Err: fmt.Errorf(
			"%w: it has applied %v, the cluster %v; it tries again by itself", store.ErrNotCaughtUp, applied, now)}
	}
	m, err := s.store.Promote(ctx, id)
	if err != nil {
		return nil, err
	}
	return &fifev1.PromoteMemberResponse{Member: toMember(m)}, nil
}

// maxLag is how many commands a member may lack when it gets its vote: what the
// others commit while its word travels.
const maxLag = 1000

func (s *clusterService) RemoveMember(
	ctx context.Context, req *fifev1.RemoveMemberRequest,
) (*fifev1.RemoveMemberResponse, error) {
	var v release.Violations
	id := parseMember(&v, "name", req.GetName())
	if err := v.Err(); err != nil {
		return nil, err
	}
	if err := s.store.Remove(ctx, id, s.confirms); err != nil {
		return nil, err
	}
	return &fifev1.RemoveMemberResponse{}, nil
}

// confirmPause is the time between two questions to a member.
const confirmPause = 20 * time.Millisecond

// confirms asks a member until it has applied a version.
func (s *clusterService) confirms(ctx context.Context, m store.Member, applied store.Version) bool {
	conn, err := s.peers.Conn(m.GRPCAddress)
	if err != nil {
		return false
	}
	client := fifev1.NewClusterServiceClient(conn)
	for ctx.Err() == nil {
		resp, err := client.GetCluster(ctx, &fifev1.GetClusterRequest{})
		if err == nil && fromVersion(resp.GetCluster().GetApplied()).Compare(applied) >= 0 {
			return true
		}
		select {
		case <-time.After(confirmPause):
		case <-ctx.Done():
		}
	}
	return false
}

func (s *clusterService) TransferLeadership(
	ctx context.Context, req *fifev1.TransferLeadershipRequest,
) (*fifev1.TransferLeadershipResponse, error) {
	var v release.Violations
	id := ""
	if req.GetName() != "" {
		id = parseMember(&v, "name", req.GetName())
	}
	if err := v.Err(); err != nil {
		return nil, err
	}
	if err := s.store.TransferLeadership(ctx, id); err != nil {
		return nil, err
	}
	return &fifev1.TransferLeadershipResponse{}, nil
}
