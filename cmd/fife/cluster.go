package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/status"

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
				return openEnded(fifev1.NewClusterServiceClient(at).JoinCluster(ctx, req))
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
	i := slices.IndexFunc(members.GetMembers(), func(m *fifev1.Member) bool { return short(m.GetName()) == id })
	if i < 0 {
		return nil, exitf(exitFailed, "no member is called %s\nlist them with: fife cluster members", id)
	}
	m := members.GetMembers()[i]
	if m.GetGrpcAddress() == "" {
		return nil, exitf(exitFailed, "node %s has not said yet where it is reached\nonce it runs, it asks for its vote by itself", id)
	}
	member, err := at.only(m.GetGrpcAddress())
	if err != nil {
		return nil, err
	}
	defer member.Close()
	state, err := fifev1.NewClusterServiceClient(member).GetCluster(ctx, &fifev1.GetClusterRequest{})
	if away := (*unreachableError)(nil); errors.As(err, &away) {
		return nil, exitf(exitUnreachable, "node %s does not answer: %s\nonce it runs, it asks for its vote by itself", id, away.whereAndWhy())
	}
	if err != nil {
		return nil, err
	}
	return openEnded(fifev1.NewClusterServiceClient(at).PromoteMember(ctx, &fifev1.PromoteMemberRequest{
		Name: m.GetName(), Applied: state.GetCluster().GetApplied(),
	}))
}

// only returns the control plane as reached through one address alone. Close
// must be called.
func (n *nodes) only(address string) (*nodes, error) {
	one, err := newNode(address, n.proof)
	if err != nil {
		return nil, exitf(exitFailed, "cannot reach %s: %v", clean(address), err)
	}
	return &nodes{list: []*node{one}, patience: n.patience}, nil
}

func (e *unreachableError) whereAndWhy() string { return clean(strings.Join(e.causes, ", ")) }

// openEnded marks the error of a call that changes the cluster itself, and that
// may or may not have been carried out. Such calls have no request id to find
// out with; the cluster shows what came of them.
func openEnded[R any](response R, err error) (R, error) {
	away := (*unreachableError)(nil)
	st, ok := status.FromError(err)
	why := ""
	switch {
	case errors.As(err, &away) && away.sent:
		why = away.Error()
	case err == nil || !ok:
		return response, err
	case reasonOf(err) == fifev1.ErrorReason_ERROR_REASON_OUTCOME_UNKNOWN:
		why = "the leader cannot tell"
	case reasonOf(err) == noReason && !refusal(st.Code()):
		why = fmt.Sprintf("%s: %s", st.Code(), clean(st.Message()))
	default:
		return response, err
	}
	return response, exitf(exitUnknown, "the change may or may not have been made: %s\nsee what came of it with: fife status", why)
}

func newClusterRemoveCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NODE",
		Short: "Take a node out of the cluster",
		Long: `Take a node out of the cluster. Refused if the voters that remain and can be
reached would be no majority. The node's certificate is void from then on. Stop the node
and remove its data directory after.`,
		Example: "  fife cluster remove n4",
		RunE: func(cmd *cobra.Command, args []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.RemoveMemberResponse, error) {
				return openEnded(fifev1.NewClusterServiceClient(at).RemoveMember(ctx,
					&fifev1.RemoveMemberRequest{Name: "members/" + args[0]}))
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
				return openEnded(fifev1.NewClusterServiceClient(at).TransferLeadership(ctx, req))
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
