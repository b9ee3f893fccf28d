//go:build linux

package bench_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// updateBytes is what an update carries at every contestant, framing aside.
const updateBytes = 1 << 10

// Those who only take part in the fan-out.
const (
	floor  = "tcp"    // a server that writes bytes to connections and reads answers
	linear = "linear" // go-control-plane's linear cache
)

// broadcaster is a contestant that tells all of its agents of a change.
type broadcaster interface {
	address() string
	dialect() *dialect
	// prepare gets ready to change something, which may reach the agents, and then
	// returns true.
	prepare(ctx context.Context) (reaches bool, err error)
	// change makes the n-th change that is measured, and returns once it is accepted.
	change(ctx context.Context) error
	// acks returns how many answers of agents the server has read; -1 if it is told
	// nothing.
	acks(ctx context.Context) (int64, error)
	processes() []*process
	close()
}

// fanoutSystem is what makes one.
type fanoutSystem struct {
	name  string
	start func(ctx context.Context, dir string) (broadcaster, error)
}

func fanoutSystems() []fanoutSystem {
	all := []fanoutSystem{{floor, startPeer(floor, bareDialect)}, {fife, startFifeFanout}}
	for _, s := range systems() {
		if s.name == "etcd" {
			all = append(all, fanoutSystem{"etcd", startEtcdFanout})
		}
	}
	return append(all, fanoutSystem{linear, startPeer(linear, linearDialect)})
}

// fifeFanout promotes a canary for every change, so that the stage goes from one
// deployment to another. Its variables fill the update up.
type fifeFanout struct {
	*fifeCluster
	deployment int // that the stage has, 1 or 2
}

const fanoutAPI, fanoutStage = "apis/fanout", "apis/fanout/stages/prod"

func startFifeFanout(ctx context.Context, dir string) (broadcaster, error) {
	c := &fifeFanout{fifeCluster: &fifeCluster{}, deployment: 1}
	if err := c.found(ctx, directories(dir, 1)); err != nil {
		c.close()
		return nil, err
	}
	return c, c.furnishFanout(ctx)
}

func (c *fifeFanout) furnishFanout(ctx context.Context) error {
	conn := c.nodes[0].conn
	apis, deployments := fifev1.NewApiServiceClient(conn), fifev1.NewDeploymentServiceClient(conn)
	if _, err := apis.CreateApi(ctx, &fifev1.CreateApiRequest{ApiId: "fanout", Api: &fifev1.Api{}}); err != nil {
		return err
	}
	if _, err := apis.PutRoute(ctx, &fifev1.PutRouteRequest{Parent: fanoutAPI, Route: &fifev1.Route{
		Method: "GET", Path: "/", Integration: &fifev1.Integration{
			Kind: &fifev1.Integration_Mock{Mock: &fifev1.MockIntegration{}},
		},
	}}); err != nil {
		return err
	}
	for range 2 {
		if _, err := deployments.CreateDeployment(ctx, &fifev1.CreateDeploymentRequest{Parent: fanoutAPI}); err != nil {
			return err
		}
	}
	const half = 450 // with what else is in the frame it comes to updateBytes
	_, err := c.stages.CreateStage(ctx, &fifev1.CreateStageRequest{
		Parent: fanoutAPI, StageId: "prod", Stage: &fifev1.Stage{
			Deployment: fanoutAPI + "/deployments/1",
			Variables:  map[string]string{"a": strings.Repeat("a", half), "b": strings.Repeat("b", half)},
		},
	})
	return err
}

func (c *fifeFanout) address() string { return c.nodes[0].grpc() }

func (c *fifeFanout) dialect() *dialect {
	return &dialect{
		method: discoveryv1.DiscoveryService_Stream_FullMethodName,
		hello: func(agent int) []byte {
			return encoded(&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Hello{
				Hello: &discoveryv1.Hello{AgentId: fmt.Sprintf("agent-%d", agent)},
			}})
		},
		answer: func(message []byte) ([]byte, error) {
			var m discoveryv1.StreamResponse
			if err := proto.Unmarshal(message, &m); err != nil {
				return nil, err
			}
			return encoded(&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Ack{
				Ack: &discoveryv1.Ack{Version: m.GetFrame().GetTo()},
			}}), nil
		},
	}
}

func (c *fifeFanout) prepare(ctx context.Context) (bool, error) {
	c.deployment = 3 - c.deployment
	_, err := c.stages.StartCanary(ctx, &fifev1.StartCanaryRequest{Name: fanoutStage, Canary: &fifev1.Canary{
		Deployment: fmt.Sprintf("%s/deployments/%d", fanoutAPI, c.deployment),
	}})
	return true, err
}

func (c *fifeFanout) change(ctx context.Context) error {
	_, err := c.stages.PromoteCanary(ctx, &fifev1.PromoteCanaryRequest{Name: fanoutStage})
	return err
}

func (c *fifeFanout) acks(ctx context.Context) (int64, error) {
	page, err := call(ctx, http.MethodGet, "http://"+net.JoinHostPort(c.nodes[0].host, "7402")+"/metrics")
	if err != nil {
		return 0, err
	}
	return metric(page, "fife_discovery_acks_total")
}

// etcdFanout puts a value for every change. Its agents watch, and have no way to
// say that they have seen it.
type etcdFanout struct{ *etcdCluster }

var etcdUpdate = strings.Repeat("v", updateBytes)

func startEtcdFanout(ctx context.Context, dir string) (broadcaster, error) {
	c, err := startEtcd(ctx, dir, 1)
	if err != nil {
		return nil, err
	}
	return etcdFanout{c.(*etcdCluster)}, nil
}

func (c etcdFanout) address() string { return c.nodes[0].endpoint() }

func (c etcdFanout) dialect() *dialect {
	return &dialect{
		method: "/etcdserverpb.Watch/Watch",
		hello: func(int) []byte {
			return encoded(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
				CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte(etcdPrefix + "stage")},
			}})
		},
		answer: func([]byte) ([]byte, error) { return nil, nil },
	}
}

func (c etcdFanout) prepare(context.Context) (bool, error) { return false, nil }

func (c etcdFanout) change(ctx context.Context) error {
	_, err := c.client.Put(ctx, etcdPrefix+"stage", etcdUpdate)
	return err
}

func (c etcdFanout) acks(context.Context) (int64, error) { return -1, nil }

// peer is a server of this test's own binary.
type peer struct {
	host  string
	speak func() *dialect
	*process
}

func startPeer(kind string, speak func() *dialect) func(context.Context, string) (broadcaster, error) {
	return func(ctx context.Context, dir string) (broadcaster, error) {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		p := &peer{host: nextHost(), speak: speak}
		p.process, err = start(kind, filepath.Join(dir, kind+".log"), self,
			"-bench.serve", kind, "-bench.listen", p.address(), "-bench.control", p.control())
		if err != nil {
			return nil, err
		}
		return p, await(ctx, kind+" starts", p.processes(), func(ctx context.Context) error {
			_, err := p.acks(ctx)
			return err
		})
	}
}

func linearDialect() *dialect {
	request := &discoveryv3.DiscoveryRequest{TypeUrl: resource.EndpointType, ResourceNames: []string{linearName}}
	return &dialect{
		method: "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints",
		hello:  func(int) []byte { return encoded(request) },
		answer: func(message []byte) ([]byte, error) {
			var m discoveryv3.DiscoveryResponse
			if err := proto.Unmarshal(message, &m); err != nil {
				return nil, err
			}
			return encoded(&discoveryv3.DiscoveryRequest{
				TypeUrl: request.GetTypeUrl(), ResourceNames: request.GetResourceNames(),
				VersionInfo: m.GetVersionInfo(), ResponseNonce: m.GetNonce(),
			}), nil
		},
	}
}

func (p *peer) address() string   { return net.JoinHostPort(p.host, "7400") }
func (p *peer) control() string   { return net.JoinHostPort(p.host, "7402") }
func (p *peer) dialect() *dialect { return p.speak() }

func (p *peer) prepare(context.Context) (bool, error) { return false, nil }

func (p *peer) change(ctx context.Context) error {
	_, err := call(ctx, http.MethodPost, "http://"+p.control())
	return err
}

func (p *peer) acks(ctx context.Context) (int64, error) {
	body, err := call(ctx, http.MethodGet, "http://"+p.control())
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(body, 10, 64)
}

func (p *peer) processes() []*process { return []*process{p.process} }
func (p *peer) close()                { p.kill() }

func encoded(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err) // none that is made here fails
	}
	return b
}
