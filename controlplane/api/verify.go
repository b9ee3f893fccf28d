package api

import (
	"context"
	"sync"

	"google.golang.org/grpc/status"

	"github.com/fifegateway/fife/controlplane/store"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// VerifyCluster runs on the leader: it puts a checkpoint in the log and asks every
// member for the hash of its state as of that entry.
func (s *clusterService) VerifyCluster(
	ctx context.Context, _ *fifev1.VerifyClusterRequest,
) (*fifev1.VerifyClusterResponse, error) {
	s.verifying.Lock()
	defer s.verifying.Unlock()
	checkpoint, err := s.store.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	members, err := s.store.Members()
	if err != nil {
		return nil, err
	}
	resp := &fifev1.VerifyClusterResponse{Index: checkpoint.Index, Members: make([]*fifev1.MemberHash, len(members))}
	var asking sync.WaitGroup
	for i, m := range members {
		asking.Go(func() {
			hash, err := s.hashOf(ctx, m, checkpoint)
			resp.Members[i] = &fifev1.MemberHash{Name: "members/" + m.ID, Hash: hash}
			if err != nil {
				resp.Members[i].Error = status.Convert(toStatus(err)).Message()
			}
		})
	}
	asking.Wait()
	resp.Consistent = true
	for _, m := range resp.GetMembers() {
		if m.GetError() != "" || m.GetHash() != resp.GetMembers()[0].GetHash() {
			resp.Consistent = false
		}
	}
	return resp, nil
}

func (s *clusterService) hashOf(ctx context.Context, m store.Member, checkpoint store.Version) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*peerTimeout)
	defer cancel()
	if m.ID == s.store.NodeID() {
		return s.store.StateHash(ctx, checkpoint)
	}
	conn, err := s.peers.Conn(m.GRPCAddress)
	if err != nil {
		return 0, err
	}
	resp, err := fifev1.NewClusterServiceClient(conn).GetStateHash(ctx, &fifev1.GetStateHashRequest{
		Checkpoint: toVersion(checkpoint),
	})
	return resp.GetHash(), err
}

// GetStateHash answers another node's VerifyCluster.
func (s *clusterService) GetStateHash(
	ctx context.Context, req *fifev1.GetStateHashRequest,
) (*fifev1.GetStateHashResponse, error) {
	at := fromVersion(req.GetCheckpoint())
	hash, err := s.store.StateHash(ctx, at)
	if err != nil {
		return nil, err
	}
	return &fifev1.GetStateHashResponse{Hash: hash}, nil
}

// SyncCluster tells a node how far it must come to hold all that is acknowledged.
func (s *clusterService) SyncCluster(
	ctx context.Context, _ *fifev1.SyncClusterRequest,
) (*fifev1.SyncClusterResponse, error) {
	if err := s.store.Sync(ctx); err != nil {
		return nil, err
	}
	return &fifev1.SyncClusterResponse{Applied: toVersion(s.store.State().Applied())}, nil
}
