//go:build linux

package edge_test

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// controlPlane is all that an agent needs of one: it sends one state as a full
// snapshot, and after each publish the step to the next.
type controlPlane struct {
	discoveryv1.UnimplementedDiscoveryServiceServer
	address string

	mu      sync.Mutex
	index   uint64
	names   []string // in order
	state   map[string]*discoveryv1.Resource
	changed chan struct{} // closed by the next publish
	acked   map[string]uint64
	refused error
}

func startControlPlane(t *testing.T, resources ...*discoveryv1.Resource) *controlPlane {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &controlPlane{
		address: l.Addr().String(), state: map[string]*discoveryv1.Resource{},
		changed: make(chan struct{}), acked: map[string]uint64{},
	}
	c.publish(resources...)
	// Agents ping as often as real nodes let them.
	server := grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}))
	discoveryv1.RegisterDiscoveryServiceServer(server, c)
	go func() { _ = server.Serve(l) }() // it ends with Stop
	t.Cleanup(server.Stop)
	return c
}

// publish puts resources, as one committed change, and returns its index.
func (c *controlPlane) publish(resources ...*discoveryv1.Resource) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index++
	for _, r := range resources {
		r = proto.CloneOf(r)
		r.Revision = c.index
		if c.state[r.GetName()] == nil {
			c.names = append(c.names, r.GetName())
		}
		c.state[r.GetName()] = r
	}
	close(c.changed)
	c.changed = make(chan struct{})
	return c.index
}

// Stream serves one agent until its stream ends. It grants no leases: agents then
// route on.
func (c *controlPlane) Stream(stream discoveryv1.DiscoveryService_StreamServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	agent := first.GetHello().GetAgentId()
	said := make(chan *discoveryv1.StreamRequest)
	go func() {
		defer close(said)
		for {
			request, err := stream.Recv()
			if err != nil {
				return
			}
			select {
			case said <- request:
			case <-stream.Context().Done():
				return
			}
		}
	}()
	for sent, acked := uint64(0), uint64(0); ; {
		frame, changed := c.step(acked)
		if sent == acked && frame != nil {
			sent = frame.GetTo().GetIndex()
			if err := stream.Send(&discoveryv1.StreamResponse{Message: &discoveryv1.StreamResponse_Frame{Frame: frame}}); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case request, ok := <-said:
			switch {
			case !ok:
				return nil
			case request.GetRenew() != nil:
				lease := &discoveryv1.Lease{Sequence: request.GetRenew().GetSequence(), Reason: "there are none here"}
				if err := stream.Send(&discoveryv1.StreamResponse{Message: &discoveryv1.StreamResponse_Lease{Lease: lease}}); err != nil {
					return err
				}
			default:
				acked = sent
				c.note(agent, sent, request.GetNack())
			}
		}
	}
}

// step returns the frame that leads to the newest state, or nil at the newest, and
// what is closed when there is a newer one.
func (c *controlPlane) step(from uint64) (*discoveryv1.Frame, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if from == c.index {
		return nil, c.changed
	}
	f := &discoveryv1.Frame{To: &discoveryv1.Version{Epoch: 1, Index: c.index}, ClusterId: "edge"}
	if from > 0 {
		f.From = &discoveryv1.Version{Epoch: 1, Index: from}
	}
	for _, name := range c.names {
		r := c.state[name]
		f.Digest += xxhash.Sum64String(fmt.Sprintf("%s@%d", r.GetName(), r.GetRevision()))
		if r.GetRevision() > from {
			f.Upserts = append(f.Upserts, r)
		}
	}
	return f, c.changed
}

func (c *controlPlane) note(agent string, index uint64, nack *discoveryv1.Nack) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if nack != nil {
		c.refused = fmt.Errorf("agent %s refused version %d: %s", agent, index, nack.GetReason())
		return
	}
	c.acked[agent] = index
}

// hasAcked returns nil once an agent routes by the state of an index.
func (c *controlPlane) hasAcked(agent string, index uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused != nil {
		return c.refused
	}
	if c.acked[agent] < index {
		return fmt.Errorf("agent %s routes by %d, not yet by %d", agent, c.acked[agent], index)
	}
	return nil
}

func apiResource() *discoveryv1.Resource {
	return &discoveryv1.Resource{Name: "apis/edge", Body: &discoveryv1.Resource_Api{Api: &discoveryv1.Api{}}}
}

func deploymentResource(number int, routes ...*discoveryv1.Route) *discoveryv1.Resource {
	return &discoveryv1.Resource{
		Name: fmt.Sprintf("apis/edge/deployments/%d", number),
		Body: &discoveryv1.Resource_Deployment{Deployment: &discoveryv1.Deployment{Routes: routes}},
	}
}

func stageResource(name string, s *discoveryv1.Stage) *discoveryv1.Resource {
	return &discoveryv1.Resource{Name: "apis/edge/stages/" + name, Body: &discoveryv1.Resource_Stage{Stage: s}}
}

func httpRoute(method, path, uri string) *discoveryv1.Route {
	return &discoveryv1.Route{Method: method, Path: path, Integration: &discoveryv1.Route_Http{
		Http: &discoveryv1.HttpIntegration{Uri: uri},
	}}
}
