package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newClusterCommand(c *cli) *cobra.Command {
	return newGroup("cluster", "Look after the nodes of the control plane",
		newClusterMembersCommand(c),
		newClusterJoinCommand(c),
		newClusterPromoteCommand(c),
		newClusterRemoveCommand(c),
		newClusterTransferCommand(c),
		newClusterVerifyCommand(c),
		newClusterBackupCommand(c),
		newClusterRestoreCommand(c),
	)
}

func newClusterMembersCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "members",
		Short:   "List the nodes of the control plane",
		Example: "  fife cluster members",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return read(c, cmd, listMembers, func(w io.Writer, r *fifev1.ListMembersResponse) { writeMembers(w, r.GetMembers()) })
		},
	}
}

func listMembers(ctx context.Context, at *nodes) (*fifev1.ListMembersResponse, error) {
	client := fifev1.NewClusterServiceClient(at)
	return allPages(func(token string) (*fifev1.ListMembersResponse, error) {
		return client.ListMembers(ctx, &fifev1.ListMembersRequest{PageSize: pageSize, PageToken: token})
	})
}

func writeMembers(w io.Writer, members []*fifev1.Member) {
	row(w, "NODE", "LEADER", "VOTER", "GRPC", "RAFT")
	for _, m := range members {
		row(w, short(m.GetName()), yesNo(m.GetLeader()), yesNo(m.GetVoter()), m.GetGrpcAddress(), m.GetRaftAddress())
	}
}

func newClusterJoinCommand(c *cli) *cobra.Command {
	req := &fifev1.JoinClusterRequest{}
	cmd := &cobra.Command{
		Use:   "join NODE",
		Short: "Add a node that does not vote yet",
		Long: `Add a node that does not vote yet. A node that is started with --join does this for
itself, and asks for its vote once it has caught up.`,
		Example: "  fife cluster join n4 --raft-address 10.0.0.4:7401 --grpc-address 10.0.0.4:7400",
		RunE: func(cmd *cobra.Command, args []string) error {
			req.NodeId = args[0]
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.JoinClusterResponse, error) {
				return fifev1.NewClusterServiceClient(at).JoinCluster(ctx, req)
			}, func(w io.Writer, r *fifev1.JoinClusterResponse) {
				linef(w, "node %s joined cluster %s; it does not vote yet", args[0], r.GetClusterId())
			})
		},
	}
	cmd.Flags().StringVar(&req.RaftAddress, "raft-address", "", "where nodes replicate to it, `HOST:PORT`")
	cmd.Flags().StringVar(&req.GrpcAddress, "grpc-address", "", "where clients and agents reach it, `HOST:PORT`")
	return cmd
}

func newClusterPromoteCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "promote NODE",
		Short:   "Give a node its vote",
		Example: "  fife cluster promote n4",
		RunE: func(cmd *cobra.Command, args []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.PromoteMemberResponse, error) {
				return promoteMember(ctx, at, args[0])
			}, func(w io.Writer, _ *fifev1.PromoteMemberResponse) { linef(w, "node %s votes", args[0]) })
		},
	}
}

// promoteMember asks the member how far it has come, and the leader for its vote.
func promoteMember(ctx context.Context, at *nodes, id string) (*fifev1.PromoteMemberResponse, error) {
	members, err := listMembers(ctx, at)
	if err != nil {
		return nil, err
	}
	for _, m := range members.GetMembers() {
		if short(m.GetName()) != id || m.GetGrpcAddress() == "" {
			continue
		}
		member, err := newNode(m.GetGrpcAddress())
		if err != nil {
			return nil, fmt.Errorf("reach %s at %s: %w", id, m.GetGrpcAddress(), err)
		}
		defer member.conn.Close() //nolint:errcheck // it has nothing left to say
		state, err := fifev1.NewClusterServiceClient(member.conn).GetCluster(ctx, &fifev1.GetClusterRequest{})
		if err != nil {
			return nil, fmt.Errorf("ask %s at %s how far it is: %w", id, m.GetGrpcAddress(), err)
		}
		return fifev1.NewClusterServiceClient(at).PromoteMember(ctx, &fifev1.PromoteMemberRequest{
			Name: m.GetName(), Applied: state.GetCluster().GetApplied(),
		})
	}
	return nil, exitf(exitFailed, "no member is called %s; list them with: fife cluster members", id)
}

func newClusterRemoveCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NODE",
		Short: "Take a node out of the cluster",
		Long: `Take a node out of the cluster. Refused if the voters that remain and can be
reached would be no majority. Stop the node and remove its data directory after.`,
		Example: "  fife cluster remove n4",
		RunE: func(cmd *cobra.Command, args []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.RemoveMemberResponse, error) {
				return fifev1.NewClusterServiceClient(at).RemoveMember(ctx,
					&fifev1.RemoveMemberRequest{Name: "members/" + args[0]})
			}, func(w io.Writer, _ *fifev1.RemoveMemberResponse) { linef(w, "node %s removed", args[0]) })
		},
	}
}

func newClusterTransferCommand(c *cli) *cobra.Command {
	to := ""
	cmd := &cobra.Command{
		Use:     "transfer-leader",
		Short:   "Make another node the leader",
		Example: "  fife cluster transfer-leader --to n2",
		RunE: func(cmd *cobra.Command, _ []string) error {
			req := &fifev1.TransferLeadershipRequest{}
			if to != "" {
				req.Name = "members/" + to
			}
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.TransferLeadershipResponse, error) {
				return fifev1.NewClusterServiceClient(at).TransferLeadership(ctx, req)
			}, func(w io.Writer, _ *fifev1.TransferLeadershipResponse) { linef(w, "leadership transferred") })
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the `NODE` that is to lead (default the best one)")
	return cmd
}

func newClusterVerifyCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Compare the states of all nodes",
		Long: `Compare the states of all nodes as of one entry of the log, by their hashes. The exit
code is 1 if they differ, or a node did not answer.`,
		Example: "  fife cluster verify",
		RunE: func(cmd *cobra.Command, _ []string) error {
			consistent := false
			err := read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.VerifyClusterResponse, error) {
				r, err := fifev1.NewClusterServiceClient(at).VerifyCluster(ctx, &fifev1.VerifyClusterRequest{})
				consistent = r.GetConsistent()
				return r, err
			}, func(w io.Writer, r *fifev1.VerifyClusterResponse) {
				row(w, "NODE", "INDEX", "HASH")
				for _, m := range r.GetMembers() {
					hash := fmt.Sprintf("%016x", m.GetHash())
					if m.GetError() != "" {
						hash = clean(m.GetError())
					}
					row(w, short(m.GetName()), fmt.Sprint(r.GetIndex()), hash)
				}
			})
			if err == nil && !consistent {
				return exitf(exitFailed, "the nodes' states differ, or some are not known: see above")
			}
			return err
		},
	}
}
