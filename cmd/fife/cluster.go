package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newClusterCommand(c *cli) *cobra.Command {
	return newGroup("cluster", "Look at the nodes of the control plane", newClusterMembersCommand(c))
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
