//go:build linux

package bench_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// fifeCluster is a control plane of real processes. A write moves the weight of a
// stage's canary; a follower is an agent that applies nothing.
type fifeCluster struct {
	nodes  []*fifeNode
	stages fifev1.StageServiceClient // of the leader
	names  [stages]string
}

type fifeNode struct {
	name, host, dir string
	process         *process
	conn            *grpc.ClientConn
}

var _ contestant = (*fifeCluster)(nil)

func startFife(ctx context.Context, dir string, nodes int) (contestant, error) {
	c := &fifeCluster{}
	if err := c.found(ctx, directories(dir, nodes)); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// found starts one node after the other, so that the first leads.
func (c *fifeCluster) found(ctx context.Context, directories []string) error {
	for i, dir := range directories {
		n := &fifeNode{name: filepath.Base(dir), host: nextHost(), dir: dir}
		c.nodes = append(c.nodes, n)
		var err error
		if n.conn, err = grpc.NewClient("passthrough:///"+n.grpc(), dialOptions()...); err != nil {
			return err
		}
		begin := []string{"--bootstrap"}
		switch {
		case len(directories) == 1:
			begin = []string{"--single-node"}
		case i > 0:
			begin = []string{"--join", c.nodes[0].grpc()}
		}
		if err := n.start(begin...); err != nil {
			return err
		}
		if err := await(ctx, "all nodes vote", c.processes(), c.complete); err != nil {
			return err
		}
	}
	c.stages = fifev1.NewStageServiceClient(c.nodes[0].conn)
	return c.furnish(ctx)
}

func (n *fifeNode) grpc() string { return net.JoinHostPort(n.host, "7400") }

// start runs a node with the settings that it has by itself.
func (n *fifeNode) start(begin ...string) (err error) {
	n.process, err = start(n.name, n.dir+".log", append([]string{
		*binary, "--name", n.name, "--data-dir", n.dir, "--grpc-listen", n.grpc(),
		"--raft-listen", net.JoinHostPort(n.host, "7401"), "--admin-listen", net.JoinHostPort(n.host, "7402"), "--plaintext",
	}, begin...)...)
	return err
}

// complete reports whether the nodes that were started vote and the first leads.
func (c *fifeCluster) complete(ctx context.Context) error {
	cluster := fifev1.NewClusterServiceClient(c.nodes[0].conn)
	resp, err := cluster.ListMembers(ctx, &fifev1.ListMembersRequest{})
	if err != nil {
		return err
	}
	voters := 0
	for _, m := range resp.GetMembers() {
		if m.GetVoter() {
			voters++
		}
		if m.GetLeader() != (m.GetName() == "members/"+c.nodes[0].name) {
			return fmt.Errorf("%s does not lead", c.nodes[0].name)
		}
	}
	if voters != len(c.nodes) {
		return fmt.Errorf("%d of %d nodes vote", voters, len(c.nodes))
	}
	return nil
}

// furnish makes an API with a deployment and the stages, each with a canary.
func (c *fifeCluster) furnish(ctx context.Context) error {
	apis, deployments := fifev1.NewApiServiceClient(c.nodes[0].conn), fifev1.NewDeploymentServiceClient(c.nodes[0].conn)
	const api, deployment = "apis/bench", "apis/bench/deployments/1"
	err := await(ctx, "the first change", c.processes(), func(ctx context.Context) error {
		_, err := apis.CreateApi(ctx, &fifev1.CreateApiRequest{ApiId: "bench", Api: &fifev1.Api{}})
		return err
	})
	if err != nil {
		return err
	}
	route := &fifev1.Route{Method: "GET", Path: "/", Integration: &fifev1.Integration{
		Kind: &fifev1.Integration_Mock{Mock: &fifev1.MockIntegration{}},
	}}
	if _, err := apis.PutRoute(ctx, &fifev1.PutRouteRequest{Parent: api, Route: route}); err != nil {
		return err
	}
	if _, err := deployments.CreateDeployment(ctx, &fifev1.CreateDeploymentRequest{Parent: api}); err != nil {
		return err
	}
	for i := range stages {
		id := fmt.Sprintf("stage-%d", i)
		c.names[i] = api + "/stages/" + id
		if _, err := c.stages.CreateStage(ctx, &fifev1.CreateStageRequest{
			Parent: api, StageId: id, Stage: &fifev1.Stage{Deployment: deployment},
		}); err != nil {
			return err
		}
		if _, err := c.stages.StartCanary(ctx, &fifev1.StartCanaryRequest{
			Name: c.names[i], Canary: &fifev1.Canary{},
		}); err != nil {
			return err
		}
	}
	return nil
}

func (c *fifeCluster) write(ctx context.Context, n int) (uint64, error) {
	resp, err := c.stages.UpdateCanary(ctx, &fifev1.UpdateCanaryRequest{
		Name:       c.names[n%stages],
		Canary:     &fifev1.Canary{Percent: float64(n / stages % 100)},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"percent"}},
	})
	return resp.GetVersion().GetIndex(), err
}

func (c *fifeCluster) follow(ctx context.Context, node int, name string) (<-chan sighting, error) {
	conn, err := grpc.NewClient("passthrough:///"+c.nodes[node].grpc(), dialOptions()...)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() }) // nothing is left to be lost
	stream, err := discoveryv1.NewDiscoveryServiceClient(conn).Stream(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Hello{
		Hello: &discoveryv1.Hello{AgentId: name},
	}}); err != nil {
		return nil, err
	}
	first, err := nextFrame(stream)
	if err != nil {
		return nil, fmt.Errorf("first frame: %w", err)
	}
	seen := make(chan sighting, 1)
	seen <- first
	go func() {
		defer close(seen)
		for {
			s, err := nextFrame(stream)
			if err != nil {
				return
			}
			select {
			case seen <- s:
			case <-ctx.Done():
				return
			}
		}
	}()
	return seen, nil
}

// nextFrame takes a frame and says that it is applied.
func nextFrame(stream discoveryv1.DiscoveryService_StreamClient) (sighting, error) {
	m, err := stream.Recv()
	at := time.Now()
	if err != nil {
		return sighting{}, err
	}
	to := m.GetFrame().GetTo()
	if to == nil {
		return sighting{}, errors.New("got a chunk, the frames here are small")
	}
	err = stream.Send(&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Ack{
		Ack: &discoveryv1.Ack{Version: to},
	}})
	return sighting{to.GetIndex(), at}, err
}

func (c *fifeCluster) restart(ctx context.Context) error {
	if err := c.nodes[0].start("--single-node"); err != nil {
		return err
	}
	return await(ctx, "a write after the start", c.processes(), func(ctx context.Context) error {
		_, err := c.write(ctx, 0)
		return err
	})
}

func (c *fifeCluster) processes() []*process {
	var all []*process
	for _, n := range c.nodes {
		if n.process != nil {
			all = append(all, n.process)
		}
	}
	return all
}

func (c *fifeCluster) close() {
	for _, n := range c.nodes {
		if n.process != nil {
			n.process.kill()
		}
		if n.conn != nil {
			_ = n.conn.Close() // nothing is left to be lost
		}
	}
}
