package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newClusterBackupCommand(c *cli) *cobra.Command {
	path := ""
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Write a copy of all that the cluster holds to a file",
		Long: `Write a consistent copy of all that the cluster holds to a file, without stopping
writes. It holds secrets such as override keys: the file is made for its owner alone.`,
		Example: "  fife cluster backup -f fife.backup",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return usagef(cmd, "-f is required: where to write the backup")
			}
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.BackupClusterResponse, error) {
				return backUp(ctx, at, path)
			}, func(w io.Writer, r *fifev1.BackupClusterResponse) {
				linef(w, "backup as of %s written to %s", versionText(r.GetApplied()), path)
			})
		},
	}
	cmd.Flags().StringVarP(&path, "file", "f", "", "the `FILE` to write; it is replaced as a whole")
	return cmd
}

// backUp writes a backup aside, checks it against the control plane's checksum,
// and puts it in place. It returns the last message, which says what it holds.
func backUp(ctx context.Context, at *nodes, path string) (last *fifev1.BackupClusterResponse, err error) {
	stream, err := fifev1.NewClusterServiceClient(at).BackupCluster(ctx, &fifev1.BackupClusterRequest{})
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".fife-backup-*")
	if err != nil {
		return nil, exitf(exitFailed, "cannot write the backup: %v", err)
	}
	defer func() {
		if err != nil {
			_ = errors.Join(file.Close(), os.Remove(file.Name())) // the first error says more
		}
	}()
	sum := sha256.New()
	for last == nil {
		piece, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if len(piece.GetSha256()) > 0 {
			last = piece
		}
		if _, err := io.MultiWriter(file, sum).Write(piece.GetData()); err != nil {
			return nil, exitf(exitFailed, "cannot write the backup: %v", err)
		}
	}
	if !bytes.Equal(sum.Sum(nil), last.GetSha256()) {
		return nil, exitf(exitFailed, "the backup was damaged on its way; try again")
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return nil, exitf(exitFailed, "cannot write the backup: %v", err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return nil, exitf(exitFailed, "cannot write the backup: %v", err)
	}
	return last, nil
}

func newClusterRestoreCommand(c *cli) *cobra.Command {
	path := ""
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Fill a new cluster from a backup",
		Long: `Fill a new cluster, which must have no APIs, from a backup. The epoch is raised, so that
agents take what the backup holds for newer than what they have.`,
		Example: "  fife cluster restore -f fife.backup",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return usagef(cmd, "-f is required: the backup to restore")
			}
			file, err := os.Open(path)
			if err != nil {
				return exitf(exitFailed, "cannot read the backup: %v", err)
			}
			defer file.Close() //nolint:errcheck // it was only read
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.RestoreClusterResponse, error) {
				return restore(ctx, at, file)
			}, func(w io.Writer, r *fifev1.RestoreClusterResponse) {
				linef(w, "restored from %s, version %s", path, versionText(r.GetVersion()))
			})
		},
	}
	cmd.Flags().StringVarP(&path, "file", "f", "", "the `FILE` to read")
	return cmd
}

// backupPiece is how many bytes travel in one message.
const backupPiece = 256 << 10

// restore sends a backup to the leader, which alone can take it.
func restore(ctx context.Context, at *nodes, from io.Reader) (*fifev1.RestoreClusterResponse, error) {
	members, err := listMembers(ctx, at)
	if err != nil {
		return nil, err
	}
	for _, m := range members.GetMembers() {
		if !m.GetLeader() {
			continue
		}
		leader, err := newNode(m.GetGrpcAddress())
		if err != nil {
			return nil, fmt.Errorf("reach the leader at %s: %w", m.GetGrpcAddress(), err)
		}
		defer leader.conn.Close() //nolint:errcheck // it has nothing left to say
		return sendBackup(ctx, fifev1.NewClusterServiceClient(leader.conn), from)
	}
	return nil, exitf(exitUnreachable, "the cluster has no leader just now; try again")
}

func sendBackup(ctx context.Context, to fifev1.ClusterServiceClient, from io.Reader) (*fifev1.RestoreClusterResponse, error) {
	stream, err := to.RestoreCluster(ctx)
	if err != nil {
		return nil, err
	}
	for piece := make([]byte, backupPiece); ; {
		n, err := io.ReadFull(from, piece)
		if n > 0 {
			if err := stream.Send(&fifev1.RestoreClusterRequest{Data: bytes.Clone(piece[:n])}); err != nil {
				break // the answer says why
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return nil, exitf(exitFailed, "cannot read the backup: %v", err)
		}
	}
	return stream.CloseAndRecv()
}
