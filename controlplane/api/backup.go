package api

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	"github.com/fifegateway/fife/controlplane/store"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

const (
	backupPiece = 256 << 10 // bytes of one message of a backup
	maxBackup   = 4 << 30   // bytes of a backup that is taken in
)

// BackupCluster streams the state of this node once it holds all that the leader
// had when the call came.
func (s *clusterService) BackupCluster(
	_ *fifev1.BackupClusterRequest, stream grpc.ServerStreamingServer[fifev1.BackupClusterResponse],
) error {
	state, err := fresh(stream.Context(), s.store, s.peers)
	if err != nil {
		return err
	}
	sum := sha256.New()
	if err := state.Backup(io.MultiWriter(sum, pieceWriter{stream})); err != nil {
		return err
	}
	return stream.Send(&fifev1.BackupClusterResponse{Sha256: sum.Sum(nil), Applied: toVersion(state.Applied())})
}

// pieceWriter sends what is written in pieces.
type pieceWriter struct {
	stream grpc.ServerStreamingServer[fifev1.BackupClusterResponse]
}

func (w pieceWriter) Write(p []byte) (int, error) {
	for sent := 0; sent < len(p); {
		end := min(sent+backupPiece, len(p))
		// A copy, as a message must not be changed after it was given away.
		if err := w.stream.Send(&fifev1.BackupClusterResponse{Data: bytes.Clone(p[sent:end])}); err != nil {
			return sent, err
		}
		sent = end
	}
	return len(p), nil
}

// leaderElsewhereError says that only the leader takes a call that cannot be
// passed on.
type leaderElsewhereError struct{ address string }

func (e *leaderElsewhereError) Error() string {
	return fmt.Sprintf("only the leader, at %s, takes this call", e.address)
}

// RestoreCluster takes a backup in.
func (s *clusterService) RestoreCluster(
	stream grpc.ClientStreamingServer[fifev1.RestoreClusterRequest, fifev1.RestoreClusterResponse],
) error {
	if !s.store.IsLeader() {
		leader, ok := s.store.Leader()
		if !ok {
			return store.ErrNotLeader
		}
		return &leaderElsewhereError{leader.GRPCAddress}
	}
	version, err := s.store.Restore(stream.Context(), io.LimitReader(&pieceReader{stream: stream}, maxBackup), s.checkSecrets)
	if err != nil {
		return err
	}
	s.logger.Info("cluster restored from a backup", "version", version)
	return stream.SendAndClose(&fifev1.RestoreClusterResponse{Version: toVersion(version)})
}

// pieceReader reads what is received in pieces.
type pieceReader struct {
	stream grpc.ClientStreamingServer[fifev1.RestoreClusterRequest, fifev1.RestoreClusterResponse]
	rest   []byte
}

func (r *pieceReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		m, err := r.stream.Recv()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, fmt.Errorf("receive backup: %w", err)
		}
		r.rest = m.GetData()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
