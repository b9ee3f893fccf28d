package cmd_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fifegateway/fife/agent"
	"github.com/fifegateway/fife/agent/route"
	"github.com/fifegateway/fife/controlplane/bubbletest"
	"github.com/fifegateway/fife/controlplane/controlplanetest"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// edge is an agent in memory, and a client beside it that remembers the newest
// version it has been answered by.
type edge struct {
	name   string
	client *http.Client
	newest route.Version
}

// startEdge starts an agent on a host of its own that knows some nodes. It is stopped when the test
// ends.
func startEdge(t *testing.T, cluster *controlplanetest.Cluster, name string, nodes ...string) *edge {
	t.Helper()
	host := cluster.Network.Host(name)
	a, err := agent.New(agent.Config{
		ID: name, ControlPlane: nodes, StateDir: t.TempDir(),
		HTTPListen: name + ":80", ExposeHeaders: true,
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Build: "test",
		DialOptions: []grpc.DialOption{
			grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(host.Dial),
		},
		Listen: host.Listen,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Errorf("agent %s: %v", name, err)
		}
	})
	transport := &http.Transport{}
	transport.DialContext = func(ctx context.Context, _, address string) (net.Conn, error) {
		return host.Dial(ctx, address)
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
		running.Wait()
	})
	return &edge{name: name, client: &http.Client{Transport: transport}}
}

// get sends a request to the agent. It fails the test if the agent answers by an
// older version than before, or not at all once it has a table.
func (e *edge) get(t *testing.T) string {
	t.Helper()
	resp, err := e.client.Get("http://" + e.name + ":80/prod/hello")
	if err != nil {
		t.Fatalf("agent %s: %v", e.name, err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("agent %s: %v", e.name, err)
	}
	version, err := route.ParseVersion(resp.Header.Get("X-Fife-Version"))
	if err != nil {
		t.Fatalf("agent %s answered %s %q: %v", e.name, resp.Status, body, err)
	}
	if version.Compare(e.newest) < 0 {
		t.Fatalf("agent %s went back from version %v to %v", e.name, e.newest, version)
	}
	e.newest = version
	return string(body)
}

// operator is a client of the control plane that fails the test when refused.
type operator struct {
	t    *testing.T
	conn *grpc.ClientConn
}

func (o operator) deploy(body string) {
	o.t.Helper()
	ctx := o.t.Context()
	_, err := fifev1.NewApiServiceClient(o.conn).PutRoute(ctx, &fifev1.PutRouteRequest{
		Parent: "apis/demo",
		Route: &fifev1.Route{Method: "GET", Path: "/hello", Integration: &fifev1.Integration{
			Kind: &fifev1.Integration_Mock{Mock: &fifev1.MockIntegration{Body: body}},
		}},
	})
	if err != nil {
		o.t.Fatal(err)
	}
	_, err = fifev1.NewDeploymentServiceClient(o.conn).CreateDeployment(ctx,
		&fifev1.CreateDeploymentRequest{Parent: "apis/demo", StageId: "prod"})
	if err != nil {
		o.t.Fatal(err)
	}
}

// promote promotes and returns the version that holds the promotion.
func (o operator) promote() *fifev1.Version {
	o.t.Helper()
	resp, err := fifev1.NewStageServiceClient(o.conn).PromoteCanary(o.t.Context(),
		&fifev1.PromoteCanaryRequest{Name: "apis/demo/stages/prod"})
	if err != nil {
		o.t.Fatal(err)
	}
	return resp.GetVersion()
}

func (o operator) startCanary(percent float64) {
	o.t.Helper()
	_, err := fifev1.NewStageServiceClient(o.conn).StartCanary(o.t.Context(), &fifev1.StartCanaryRequest{
		Name: "apis/demo/stages/prod", Canary: &fifev1.Canary{Percent: percent},
	})
	if err != nil {
		o.t.Fatal(err)
	}
}

// wait waits until the fleet has a version, and returns the last report.
func (o operator) wait(v *fifev1.Version, timeout time.Duration) *fifev1.WaitForVersionResponse {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), timeout)
	defer cancel()
	stream, err := fifev1.NewFleetServiceClient(o.conn).WaitForVersion(ctx, &fifev1.WaitForVersionRequest{Version: v})
	if err != nil {
		o.t.Fatal(err)
	}
	var last *fifev1.WaitForVersionResponse
	for {
		resp, err := stream.Recv()
		if err != nil {
			return last
		}
		last = resp
	}
}

// untilConnected waits until so many agents hold a stream.
func (o operator) untilConnected(agents int) {
	o.t.Helper()
	for range 6000 {
		resp, err := fifev1.NewFleetServiceClient(o.conn).ListAgents(o.t.Context(), &fifev1.ListAgentsRequest{})
		if err == nil && len(resp.GetAgents()) == agents && len(resp.GetUnreachableNodes()) == 0 {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	o.t.Fatalf("there are not %d agents connected", agents)
}

// TestRemovedNode: the agents of a node that has been taken out of the cluster, and
// still runs, go to the others.
func TestRemovedNode(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		cluster := controlplanetest.Start(t, 3)
		o := operator{t, cluster.Conn("n1")}
		e := startEdge(t, cluster, "edge", controlplanetest.GRPC("n3"))
		if _, err := fifev1.NewApiServiceClient(o.conn).CreateApi(t.Context(),
			&fifev1.CreateApiRequest{ApiId: "demo"}); err != nil {
			t.Fatal(err)
		}
		o.deploy("one")
		o.untilConnected(1)
		if _, err := fifev1.NewClusterServiceClient(o.conn).RemoveMember(t.Context(),
			&fifev1.RemoveMemberRequest{Name: "members/n3"}); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		o.untilConnected(1)
		o.startCanary(50)
		o.deploy("two")
		if got := o.wait(o.promote(), time.Minute); !got.GetDone() || got.GetTotal() != 1 {
			t.Fatalf("after the removal: %v", got)
		}
		if got := e.get(t); got != "two" {
			t.Fatalf("the agent of the removed node answers %s", got)
		}
	})
}

func TestSystemInMemory(t *testing.T) {
	begin := time.Now()
	bubbletest.Test(t, func(t *testing.T) {
		const agents = 10
		cluster := controlplanetest.Start(t, 3)
		o := operator{t, cluster.Conn("n3")}
		var edges []*edge
		for i := range agents {
			edges = append(edges, startEdge(t, cluster, fmt.Sprintf("edge-%d", i), cluster.Addresses()...))
		}
		o.untilConnected(agents)
		if _, err := fifev1.NewApiServiceClient(o.conn).CreateApi(t.Context(),
			&fifev1.CreateApiRequest{ApiId: "demo"}); err != nil {
			t.Fatal(err)
		}
		o.deploy("one")
		o.startCanary(50)
		o.deploy("two")
		promoted := o.promote()
		if got := o.wait(promoted, time.Minute); !got.GetDone() || got.GetTotal() != agents {
			t.Fatalf("after the first promotion: %v", got)
		}
		for _, e := range edges {
			if got := e.get(t); got != "two" {
				t.Fatalf("agent %s answers %s after the promotion", e.name, got)
			}
		}

		// The founder, which leads, is cut off from the other nodes, and three
		// agents from everybody: the others go on without them.
		cluster.Isolate("n1", "client")
		lost := edges[:3]
		for _, e := range lost {
			for _, node := range []string{"n1", "n2", "n3"} {
				cluster.Network.Cut(e.name, node)
			}
		}
		o.startCanary(50)
		o.deploy("three")
		promoted = o.promote()
		if got := o.wait(promoted, 20*time.Second); got.GetDone() {
			t.Fatalf("the wait ended although a node cannot be asked: %v", got)
		}
		for _, e := range lost {
			if got := e.get(t); got != "two" {
				t.Fatalf("agent %s, cut off, answers %s", e.name, got)
			}
		}

		// Healed, everybody follows, and nobody has ever gone back.
		cluster.Heal("n1", "client")
		for _, e := range lost {
			for _, node := range []string{"n1", "n2", "n3"} {
				cluster.Network.Join(e.name, node)
			}
		}
		<-time.After(30 * time.Second) // longer than any back-off of an agent
		o.untilConnected(agents)
		if got := o.wait(promoted, time.Minute); !got.GetDone() || got.GetTotal() != agents {
			t.Fatalf("after healing: %v", got)
		}
		for _, e := range edges {
			if got := e.get(t); got != "three" {
				t.Fatalf("agent %s answers %s after healing", e.name, got)
			}
		}

		// A node that restarts does not serve agents from its past.
		cluster.StopNode("n2")
		o.startCanary(50)
		o.deploy("four")
		cluster.StartNode("n2")
		promoted = o.promote()
		<-time.After(30 * time.Second)
		o.untilConnected(agents)
		if got := o.wait(promoted, time.Minute); !got.GetDone() || got.GetTotal() != agents {
			t.Fatalf("after the restart: %v", got)
		}
		for _, e := range edges {
			if got := e.get(t); got != "four" {
				t.Fatalf("agent %s answers %s after the restart", e.name, got)
			}
		}
	})
	t.Logf("wall time %v", time.Since(begin))
}
