package main

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newAgentsCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "agents",
		Short:   "List the connected agents and the version each routes by",
		Example: "  fife agents",
	}
	node := cmd.Flags().String("node", "", "only the agents of this control plane `NODE`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.ListAgentsResponse, error) {
			client := fifev1.NewFleetServiceClient(at)
			all, err := allPages(func(token string) (*fifev1.ListAgentsResponse, error) {
				return client.ListAgents(ctx, &fifev1.ListAgentsRequest{PageSize: pageSize, PageToken: token, Node: *node})
			})
			if err == nil {
				// Every page names them anew.
				slices.Sort(all.UnreachableNodes)
				all.UnreachableNodes = slices.Compact(all.UnreachableNodes)
			}
			return all, err
		}, func(w io.Writer, r *fifev1.ListAgentsResponse) {
			if len(r.GetAgents()) == 0 {
				linef(w, "no agents are connected")
			} else {
				writeAgents(w, r.GetAgents())
			}
			if away := r.GetUnreachableNodes(); len(away) > 0 {
				linef(w, "agents of unreachable nodes are missing here: %s", clean(strings.Join(away, ", ")))
			}
		})
	}
	return cmd
}

func writeAgents(w io.Writer, agents []*fifev1.Agent) {
	row(w, "AGENT", "NODE", "ADDRESS", "APPLIED", "CONNECTED", "BUILD", "LABELS")
	for _, a := range agents {
		row(w, short(a.GetName()), a.GetNode(), a.GetAddress(), versionText(a.GetApplied()),
			timeText(a.GetConnectTime()), a.GetBuild(), pairsText(a.GetLabels()))
	}
	for _, a := range agents {
		if a.GetLastNack() != nil {
			linef(w, "%s", refusalText(a))
		}
	}
}
