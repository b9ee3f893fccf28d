package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newStatusCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the cluster, its stages and how far the agents are",
		Long: `Show the cluster, its open promotions, its stages and how far the agents are. What a
cluster without a leader can still tell is shown, and the command ends with code 3.
--watch shows it again and again until it is interrupted, which is code 0.`,
		Example: "  fife status\n  fife status --watch",
	}
	watch := cmd.Flags().Bool("watch", false, "show it anew every --interval, in place on a terminal")
	interval := cmd.Flags().Duration("interval", 2*time.Second, "pause between two looks of --watch")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *interval < 100*time.Millisecond {
			return usagef(cmd, "--interval %s is below 100ms", *interval)
		}
		at, err := c.dial(cmd)
		if err != nil {
			return err
		}
		defer at.Close()
		if *watch {
			return c.watchStatus(cmd.Context(), at, *interval)
		}
		return c.showStatus(cmd.Context(), at)
	}
	return cmd
}

// showStatus prints what can be read, and returns why the rest could not.
func (c *cli) showStatus(ctx context.Context, at *nodes) error {
	s, err := timed(ctx, c.timeout, at, getStatus)
	if s.cluster != nil {
		if err := c.print(s, s.write); err != nil {
			return err
		}
	}
	if err != nil {
		return explain(err, nil)
	}
	return nil
}

// clusterStatus is what several calls returned; parts that could not be read
// are nil.
type clusterStatus struct {
	cluster *fifev1.GetClusterResponse
	members *fifev1.ListMembersResponse
	stages  *fifev1.ListStagesResponse
	agents  *fifev1.WaitForVersionResponse
}

// getStatus reads as much as it can, in the order of what needs the least, and
// returns the first error together with the rest.
func getStatus(ctx context.Context, at *nodes) (s clusterStatus, _ error) {
	var errs [4]error
	s.cluster, errs[0] = fifev1.NewClusterServiceClient(at).GetCluster(ctx, &fifev1.GetClusterRequest{})
	if errs[0] != nil {
		return clusterStatus{}, errs[0]
	}
	s.members, errs[1] = listMembers(ctx, at)
	s.agents, errs[2] = agentsNow(ctx, at, s.cluster.GetCluster().GetVersion())
	s.stages, errs[3] = listStages("-")(ctx, at)
	for _, err := range errs {
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

// agentsNow says how many agents have a version: the first message of a wait,
// which comes at once. So status and --wait never count in different ways.
func agentsNow(ctx context.Context, at *nodes, version *fifev1.Version) (*fifev1.WaitForVersionResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := fifev1.NewFleetServiceClient(at).WaitForVersion(ctx, &fifev1.WaitForVersionRequest{Version: version})
	if err != nil {
		return nil, err
	}
	m, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil, errEarlyEnd
	}
	return m, err
}

// MarshalJSON joins what could be read into one document.
func (s clusterStatus) MarshalJSON() ([]byte, error) {
	doc := struct {
		Cluster raw   `json:"cluster"`
		Members []raw `json:"members,omitzero"`
		Stages  []raw `json:"stages,omitzero"`
		Agents  *raw  `json:"agents,omitzero"`
	}{Cluster: raw{s.cluster.GetCluster()}}
	if s.members != nil {
		doc.Members = rawList(s.members.GetMembers())
	}
	if s.stages != nil {
		doc.Stages = rawList(s.stages.GetStages())
	}
	if s.agents != nil {
		doc.Agents = &raw{s.agents}
	}
	return json.Marshal(doc)
}

// raw is a message that encoding/json writes as protojson.
type raw struct{ proto.Message }

func (r raw) MarshalJSON() ([]byte, error) { return marshal(r.Message) }

func rawList[M proto.Message](messages []M) []raw {
	list := make([]raw, 0, len(messages))
	for _, m := range messages {
		list = append(list, raw{m})
	}
	return list
}

func (s clusterStatus) write(w io.Writer) {
	cluster := s.cluster.GetCluster()
	row(w, "cluster", cluster.GetClusterId())
	row(w, "leader", none(cluster.GetLeader()))
	row(w, "answered by", cluster.GetNode()+", build "+cluster.GetBuild())
	row(w, "version", versionText(cluster.GetVersion()))
	switch {
	case s.agents == nil:
		row(w, "agents", "unknown")
	case s.agents.GetTotal() == 0 && len(s.agents.GetUnreachableNodes()) == 0:
		row(w, "agents", "no agents are connected")
	default:
		row(w, "agents", progressText(s.agents))
	}
	for _, agent := range s.agents.GetRefused() {
		row(w, "refusal", refusalText(agent))
	}
	if s.members != nil {
		linef(w, "")
		writeMembers(w, s.members.GetMembers())
	}
	if s.stages != nil {
		writeOpenPromotions(w, s.stages.GetStages())
		linef(w, "")
		writeStages(w, s.stages.GetStages()...)
	}
}
