package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"

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
	unwritable := func(err error) error { return exitf(exitFailed, "cannot write %s: %v", path, innermost(err)) }
	file, err := os.CreateTemp(filepath.Dir(path), ".fife-backup-*")
	if err != nil {
		return nil, unwritable(err)
	}
	defer func() {
		if err != nil {
			_ = errors.Join(file.Close(), os.Remove(file.Name())) // the first error says more
		}
	}()
	stream, err := fifev1.NewClusterServiceClient(at).BackupCluster(ctx, &fifev1.BackupClusterRequest{})
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	for len(last.GetSha256()) == 0 {
		if last, err = stream.Recv(); errors.Is(err, io.EOF) {
			return nil, exitf(exitFailed, "the backup ended too early; try again")
		} else if err != nil {
			return nil, err
		}
		if _, err := io.MultiWriter(file, sum).Write(last.GetData()); err != nil {
			return nil, unwritable(err)
		}
	}
	if !bytes.Equal(sum.Sum(nil), last.GetSha256()) {
		return nil, exitf(exitFailed, "the backup was damaged on its way; try again")
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return nil, unwritable(err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return nil, unwritable(err)
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return nil, exitf(exitFailed, "%s is written, but a power cut may undo it: %v", path, err)
	}
	return last, nil
}

// syncFolder makes what was renamed in a folder last.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
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
				return unreadable(path, err)
			}
			defer file.Close() //nolint:errcheck // it was only read
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.RestoreClusterResponse, error) {
				return restore(ctx, at, file, path)
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

func unreadable(path string, err error) error {
	return exitf(exitFailed, "cannot read %s: %v", path, innermost(err))
}

// restore sends a backup to the leader, which alone can take it.
func restore(ctx context.Context, at *nodes, from io.Reader, path string) (*fifev1.RestoreClusterResponse, error) {
	members, err := listMembers(ctx, at)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(members.GetMembers(), func(m *fifev1.Member) bool { return m.GetLeader() && m.GetGrpcAddress() != "" })
	if i < 0 {
		return nil, exitf(exitUnreachable, "the cluster has no leader just now, and nobody else takes a backup\nnothing was done; try again in a moment")
	}
	leader, err := at.only(members.GetMembers()[i].GetGrpcAddress())
	if err != nil {
		return nil, err
	}
	defer leader.Close()
	stream, err := fifev1.NewClusterServiceClient(leader).RestoreCluster(ctx)
	if away := (*unreachableError)(nil); errors.As(err, &away) {
		return nil, exitf(exitUnreachable, "only the leader takes a backup, and it does not answer: %s\nnothing was done", away.whereAndWhy())
	}
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
			return nil, unreadable(path, err)
		}
	}
	return openEnded(stream.CloseAndRecv())
}
