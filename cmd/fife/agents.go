package main

import (
	"context"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newAgentsCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agents",
		Short: "List the agents, the version each routes by and its lease",
		Long: `List the agents that are connected, and those that were not long ago. BEHIND counts
the versions from what an agent routes by to the cluster's.`,
		Example: "  fife agents\n  fife agents --node n1",
	}
	node := cmd.Flags().String("node", "", "only the agents of this control plane `NODE`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var newest *fifev1.Version
		return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.ListAgentsResponse, error) {
			newest = newestVersion(ctx, at)
			return listAgents(*node)(ctx, at)
		}, func(w io.Writer, r *fifev1.ListAgentsResponse) {
			if len(r.GetAgents()) == 0 {
				linef(w, "no agents are connected")
			} else {
				writeAgents(w, r.GetAgents(), newest)
			}
			writeAway(w, r.GetUnreachableNodes())
		})
	}
	cmd.AddCommand(newAgentsGetCommand(c))
	return cmd
}

func newAgentsGetCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "get AGENT",
		Short:   "Show one agent",
		Example: "  fife agents get edge-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			var newest *fifev1.Version
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.GetAgentResponse, error) {
				newest = newestVersion(ctx, at)
				return fifev1.NewFleetServiceClient(at).GetAgent(ctx, &fifev1.GetAgentRequest{Name: "agents/" + args[0]})
			}, func(w io.Writer, r *fifev1.GetAgentResponse) {
				writeAgent(w, r.GetAgent(), newest)
				writeAway(w, r.GetUnreachableNodes())
			})
		},
	}
}

// listAgents returns the call that lists the agents of a node; "" is all nodes.
func listAgents(node string) func(context.Context, *nodes) (*fifev1.ListAgentsResponse, error) {
	return func(ctx context.Context, at *nodes) (*fifev1.ListAgentsResponse, error) {
		client := fifev1.NewFleetServiceClient(at)
		all, err := allPages(func(token string) (*fifev1.ListAgentsResponse, error) {
			return client.ListAgents(ctx, &fifev1.ListAgentsRequest{PageSize: pageSize, PageToken: token, Node: node})
		})
		if err == nil {
			// Every page names them anew.
			slices.Sort(all.UnreachableNodes)
			all.UnreachableNodes = slices.Compact(all.UnreachableNodes)
		}
		return all, err
	}
}

// newestVersion is what agents are compared with, nil if it cannot be read: how far
// they are behind is then left out, and the agents are shown all the same.
func newestVersion(ctx context.Context, at *nodes) *fifev1.Version {
	r, err := fifev1.NewClusterServiceClient(at).GetCluster(ctx, &fifev1.GetClusterRequest{})
	if err != nil {
		return nil
	}
	return r.GetCluster().GetVersion()
}

func writeAgents(w io.Writer, agents []*fifev1.Agent, newest *fifev1.Version) {
	row(w, "AGENT", "NODE", "ADDRESS", "APPLIED", "BEHIND", "LEASE", "CONNECTED", "BUILD", "LABELS")
	for _, a := range agents {
		row(w, short(a.GetName()), a.GetNode(), a.GetAddress(), versionText(a.GetApplied()), behindText(a.GetApplied(), newest),
			leaseText(a), timeText(a.GetConnectTime()), a.GetBuild(), pairsText(a.GetLabels()))
	}
	for _, a := range agents {
		if a.GetLastNack() != nil {
			linef(w, "%s", refusalText(a))
		}
		if a.GetLeaseDenied() != "" {
			linef(w, "%s is denied its lease: %s", clean(short(a.GetName())), clean(a.GetLeaseDenied()))
		}
	}
}

func writeAgent(w io.Writer, a *fifev1.Agent, newest *fifev1.Version) {
	row(w, "agent", short(a.GetName()))
	row(w, "node", a.GetNode())
	row(w, "address", a.GetAddress())
	row(w, "connected", timeText(a.GetConnectTime()))
	row(w, "applied", versionText(a.GetApplied()))
	row(w, "applied at", timeText(a.GetAppliedTime()))
	row(w, "behind", behindText(a.GetApplied(), newest))
	row(w, "lease", leaseText(a))
	row(w, "lease denied", a.GetLeaseDenied())
	row(w, "build", a.GetBuild())
	row(w, "apis", strings.Join(a.GetApis(), ", "))
	row(w, "labels", pairsText(a.GetLabels()))
	if a.GetLastNack() != nil {
		row(w, "refusal", refusalText(a))
	}
}

func writeAway(w io.Writer, away []string) {
	if len(away) > 0 {
		linef(w, "agents of unreachable nodes are missing here: %s", clean(strings.Join(away, ", ")))
	}
}

// behindText counts versions. It is nothing where there is nothing to compare, and
// an agent of another epoch is not behind by any number.
func behindText(applied, newest *fifev1.Version) string {
	switch {
	case applied == nil || newest == nil:
		return ""
	case !older(applied, newest):
		return "0"
	case applied.GetEpoch() != newest.GetEpoch():
		return "an epoch"
	}
	return strconv.FormatUint(newest.GetIndex()-applied.GetIndex(), 10)
}

func leaseText(a *fifev1.Agent) string {
	switch {
	case a.GetAbsent():
		return "absent"
	case a.GetLease() != nil:
		return a.GetLease().AsDuration().Round(100 * time.Millisecond).String()
	case a.GetLeaseDenied() != "":
		return "denied"
	}
	return "none"
}
