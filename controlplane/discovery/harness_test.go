package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/fifegateway/fife/controlplane/bubbletest"
	"github.com/fifegateway/fife/controlplane/controlplanetest"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// bench is a cluster in a bubble of its own. Changes go through n1.
type bench struct {
	*controlplanetest.Cluster
	t     *testing.T
	conns map[string]*grpc.ClientConn
}

// inBubble runs a test on a cluster of n nodes once all of them vote.
func inBubble(t *testing.T, n int, test func(*testing.T, *bench)) {
	t.Helper()
	bubbletest.Test(t, func(t *testing.T) {
		b := &bench{controlplanetest.Start(t, n), t, map[string]*grpc.ClientConn{}}
		for i := range n {
			name := fmt.Sprintf("n%d", i+1)
			b.conns[name] = b.Conn(name)
		}
		for name, conn := range b.conns {
			b.until(name+" knows all voters", func() bool {
				resp, err := fifev1.NewClusterServiceClient(conn).ListMembers(t.Context(), &fifev1.ListMembersRequest{})
				voters := slices.DeleteFunc(resp.GetMembers(), func(m *fifev1.Member) bool { return !m.GetVoter() || m.GetGrpcAddress() == "" })
				return err == nil && len(voters) == n
			})
		}
		test(t, b)
	})
}

// until waits for a condition.
func (b *bench) until(what string, ok func() bool) {
	b.t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	b.t.Fatalf("waited 30 s until %s", what)
}

// must fails the test if a call has.
func must[T any](resp T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
}

func (b *bench) apis() fifev1.ApiServiceClient { return fifev1.NewApiServiceClient(b.conns["n1"]) }
func (b *bench) deployments() fifev1.DeploymentServiceClient {
	return fifev1.NewDeploymentServiceClient(b.conns["n1"])
}
func (b *bench) stages() fifev1.StageServiceClient {
	return fifev1.NewStageServiceClient(b.conns["n1"])
}

// version returns what a node gives its agents to route by.
func (b *bench) version(node string) *fifev1.Version {
	b.t.Helper()
	resp := must(fifev1.NewClusterServiceClient(b.conns[node]).GetCluster(b.t.Context(), &fifev1.GetClusterRequest{}))(b.t)
	return resp.GetCluster().GetVersion()
}

// createAPI makes an API with one route, and deploys it to stage prod.
func (b *bench) createAPI(id string) {
	b.t.Helper()
	must(b.apis().CreateApi(b.t.Context(), &fifev1.CreateApiRequest{ApiId: id}))(b.t)
	b.putRoute(id, "/x", "")
	b.deploy(id)
}

func (b *bench) putRoute(id, path, body string) {
	b.t.Helper()
	must(b.apis().PutRoute(b.t.Context(), &fifev1.PutRouteRequest{Parent: "apis/" + id, Route: &fifev1.Route{
		Method: "GET", Path: path, Integration: &fifev1.Integration{
			Kind: &fifev1.Integration_Mock{Mock: &fifev1.MockIntegration{Status: 200, Body: body}},
		},
	}}))(b.t)
}

func (b *bench) deploy(id string) *fifev1.Version {
	b.t.Helper()
	return must(b.deployments().CreateDeployment(b.t.Context(),
		&fifev1.CreateDeploymentRequest{Parent: "apis/" + id, StageId: "prod"}))(b.t).GetVersion()
}

// setHosts changes an API in a way that agents see.
func (b *bench) setHosts(id string, hosts ...string) *fifev1.Version {
	b.t.Helper()
	return must(b.apis().UpdateApi(b.t.Context(),
		&fifev1.UpdateApiRequest{Api: &fifev1.Api{Name: "apis/" + id, Hosts: hosts}}))(b.t).GetVersion()
}

func (b *bench) deleteStage(id string) *fifev1.Version {
	b.t.Helper()
	return must(b.stages().DeleteStage(b.t.Context(),
		&fifev1.DeleteStageRequest{Name: "apis/" + id + "/stages/prod"}))(b.t).GetVersion()
}

// agent is an agent that does what its script says.
type agent struct {
	t      *testing.T
	id     string
	stream discoveryv1.DiscoveryService_StreamClient
	frames chan *discoveryv1.Frame // as they come
	leases chan *discoveryv1.Lease // as they come
	end    chan error              // why the stream ended
	leave  context.CancelFunc

	version *discoveryv1.Version             // of the last frame that was applied
	holds   map[string]*discoveryv1.Resource // by name
	cluster string

	renewals uint64 // asked for on this stream
}

// connect opens a stream to a node, and goes on from what old held, if that is
// not nil.
func (b *bench) connect(node, id string, old *agent) *agent {
	b.t.Helper()
	hello := &discoveryv1.Hello{AgentId: id}
	if old != nil {
		hello.Have, hello.Seen, hello.ClusterId = old.version, old.version, old.cluster
	}
	a := b.greet(node, hello)
	if old != nil {
		a.version, a.holds, a.cluster = old.version, maps.Clone(old.holds), old.cluster
	}
	return a
}

// settle connects an agent that holds nothing, and has it take all there is now:
// a node that lags may show it an older state first.
func (b *bench) settle(node, id string) *agent {
	b.t.Helper()
	a := b.connect(node, id, nil)
	a.takeUntil(b.version("n1"))
	return a
}

// greet opens a stream and says hello.
func (b *bench) greet(node string, hello *discoveryv1.Hello) *agent {
	b.t.Helper()
	a := b.open(node)
	a.id = hello.GetAgentId()
	a.say(&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Hello{Hello: hello}})
	return a
}

// open opens a stream and begins to read it.
func (b *bench) open(node string) *agent {
	b.t.Helper()
	ctx, leave := context.WithCancel(b.t.Context())
	b.t.Cleanup(leave)
	stream := must(discoveryv1.NewDiscoveryServiceClient(b.conns[node]).Stream(ctx))(b.t)
	a := &agent{
		t: b.t, stream: stream, leave: leave, frames: make(chan *discoveryv1.Frame, 100), end: make(chan error, 1),
		leases: make(chan *discoveryv1.Lease, 100), holds: map[string]*discoveryv1.Resource{},
	}
	go a.read()
	return a
}

// read puts chunks together and passes frames on.
func (a *agent) read() {
	var pieces []byte
	for {
		m, err := a.stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			a.end <- err
			return
		}
		if l := m.GetLease(); l != nil {
			a.leases <- l
			continue
		}
		frame := m.GetFrame()
		if c := m.GetChunk(); c != nil {
			if len(c.GetData()) > 256<<10 || len(c.GetData()) == 0 {
				a.t.Errorf("agent %s: a chunk of %d bytes", a.id, len(c.GetData()))
			}
			if pieces = append(pieces, c.GetData()...); !c.GetLast() {
				continue
			}
			frame = &discoveryv1.Frame{}
			if err := proto.Unmarshal(pieces, frame); err != nil {
				a.t.Errorf("agent %s: put together: %v", a.id, err)
			}
			pieces = nil
		} else if n := proto.Size(frame); n > 256<<10 {
			a.t.Errorf("agent %s: a frame of %d bytes in one message", a.id, n)
		}
		a.frames <- frame
	}
}

func (a *agent) say(m *discoveryv1.StreamRequest) {
	a.t.Helper()
	if err := a.stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
		a.t.Fatalf("agent %s: %v", a.id, err)
	}
}

func (a *agent) ack(v *discoveryv1.Version) {
	a.t.Helper()
	a.say(&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Ack{Ack: &discoveryv1.Ack{Version: v}}})
}

func (a *agent) nack(v *discoveryv1.Version, reason string, resync bool) {
	a.t.Helper()
	a.say(&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Nack{Nack: &discoveryv1.Nack{
		Version: v, Reason: reason, Resync: resync,
	}}})
}

// next returns the next frame.
func (a *agent) next() *discoveryv1.Frame {
	a.t.Helper()
	select {
	case f := <-a.frames:
		return f
	case err := <-a.end:
		a.t.Fatalf("agent %s: the stream ended: %v", a.id, err)
	case <-time.After(30 * time.Second):
		a.t.Fatalf("agent %s: no frame for 30 s", a.id)
	}
	return nil
}

// quiet fails the test if a frame comes, or the stream ends, within d.
func (a *agent) quiet(d time.Duration) {
	a.t.Helper()
	select {
	case f := <-a.frames:
		a.t.Fatalf("agent %s: a frame came: %v", a.id, f)
	case err := <-a.end:
		a.t.Fatalf("agent %s: the stream ended: %v", a.id, err)
	case <-time.After(d):
	}
}

// ended returns why the stream ended.
func (a *agent) ended() error {
	a.t.Helper()
	select {
	case err := <-a.end:
		return err
	case <-time.After(time.Minute):
		a.t.Fatalf("agent %s: the stream did not end within a minute", a.id)
	}
	return nil
}

// depart closes the stream, whether or not it has ended by itself.
func (a *agent) depart() {
	a.t.Helper()
	a.leave()
	if err := a.ended(); err == nil {
		a.t.Errorf("agent %s: the node ended the stream in order", a.id)
	}
}

// apply does with a frame what the protocol says: it takes a step from what it
// holds, or a snapshot, and checks that it then holds what the node means.
func (a *agent) apply(f *discoveryv1.Frame) {
	a.t.Helper()
	switch {
	case f.GetFrom() == nil:
		a.holds = map[string]*discoveryv1.Resource{}
	case !proto.Equal(f.GetFrom(), a.version):
		a.t.Fatalf("agent %s holds %v and was sent a step from %v", a.id, a.version, f.GetFrom())
	}
	if compare(f.GetTo(), a.version) <= 0 {
		a.t.Fatalf("agent %s holds %v and was sent %v", a.id, a.version, f.GetTo())
	}
	for _, r := range f.GetUpserts() {
		a.holds[r.GetName()] = r
	}
	for _, name := range f.GetRemoves() {
		delete(a.holds, name)
	}
	var digest uint64
	for name, r := range a.holds {
		digest += xxhash.Sum64String(fmt.Sprintf("%s@%d", name, r.GetRevision()))
	}
	if digest != f.GetDigest() {
		a.t.Fatalf("agent %s: digest %x, the frame says %x", a.id, digest, f.GetDigest())
	}
	a.version, a.cluster = f.GetTo(), f.GetClusterId()
}

// take applies and acknowledges the next frame, and returns it.
func (a *agent) take() *discoveryv1.Frame {
	a.t.Helper()
	f := a.next()
	a.apply(f)
	a.ack(f.GetTo())
	return f
}

// takeUntil takes frames until the agent holds a version.
func (a *agent) takeUntil(v *fifev1.Version) {
	a.t.Helper()
	for compare(a.version, version(v)) < 0 {
		a.take()
	}
}

func (a *agent) names() string { return strings.Join(slices.Sorted(maps.Keys(a.holds)), " ") }

func (a *agent) wantNames(want ...string) {
	a.t.Helper()
	if got := a.names(); got != strings.Join(want, " ") {
		a.t.Errorf("agent %s holds %s, want %s", a.id, got, strings.Join(want, " "))
	}
}

func version(v *fifev1.Version) *discoveryv1.Version {
	return &discoveryv1.Version{Epoch: v.GetEpoch(), Index: v.GetIndex()}
}

func compare(a, b *discoveryv1.Version) int {
	if a.GetEpoch() != b.GetEpoch() {
		return int(int64(a.GetEpoch()) - int64(b.GetEpoch()))
	}
	return int(int64(a.GetIndex()) - int64(b.GetIndex()))
}

// names of a frame's upserts and removes.
func changed(f *discoveryv1.Frame) (upserts, removes string) {
	var names []string
	for _, r := range f.GetUpserts() {
		names = append(names, r.GetName())
	}
	slices.Sort(names)
	return strings.Join(names, " "), strings.Join(slices.Sorted(slices.Values(f.GetRemoves())), " ")
}

// wantEnd fails the test unless a stream ended with a code, and returns the nodes
// that it was redirected to.
func wantEnd(t testing.TB, what string, err error, want codes.Code) (redirects []string) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("%s: the stream ended with %v, want %v", what, err, want)
	}
	for _, d := range status.Convert(err).Details() {
		switch d := d.(type) {
		case *discoveryv1.Redirect:
			redirects = d.GetAddresses()
		case *errdetails.ErrorInfo:
			t.Errorf("%s: an ErrorInfo of fife.v1 on the agents' stream: %v", what, d)
		}
	}
	slices.Sort(redirects)
	return redirects
}
