package cmd_test

import (
	"fmt"
	"net"
	"strconv"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// cmdPoison runs a control plane that sends one good frame and then one that does
// not compile, and puts its address into a variable: poison VAR. With "expect" it
// waits until the agent has refused the second and prints the reason:
// poison expect VAR
func cmdPoison(ts *testscript.TestScript, neg bool, args []string) {
	switch {
	case !neg && len(args) == 1:
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		p := &poisoner{nacks: make(chan *discoveryv1.Nack, 1)}
		server := grpc.NewServer()
		discoveryv1.RegisterDiscoveryServiceServer(server, p)
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.Serve(l) }) // it ends with Stop
		ts.Defer(func() { server.Stop(); serving.Wait() })
		ts.Setenv(args[0], l.Addr().String())
		poisoners.Store(l.Addr().String(), p)
	case !neg && len(args) == 2 && args[0] == "expect":
		found, ok := poisoners.Load(ts.Getenv(args[1]))
		if !ok {
			ts.Fatalf("no poison is at $%s", args[1])
		}
		retry(ts, "refusal", func() error {
			select {
			case nack := <-found.(*poisoner).nacks:
				if nack.GetVersion().GetIndex() != 2 || nack.GetReason() == "" {
					ts.Fatalf("the agent refused with %v", nack)
				}
				_, err := fmt.Fprintln(ts.Stdout(), nack.GetReason())
				return err
			default:
				return fmt.Errorf("no frame has been refused")
			}
		})
	default:
		ts.Fatalf("usage: poison VAR, or poison expect VAR")
	}
}

// poisoners holds the poisoned control planes of all stories, by address.
var poisoners sync.Map

type poisoner struct {
	discoveryv1.UnimplementedDiscoveryServiceServer
	nacks chan *discoveryv1.Nack
}

// Stream sends the two frames and passes on the refusal of the second.
func (p *poisoner) Stream(stream discoveryv1.DiscoveryService_StreamServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	good := []*discoveryv1.Resource{
		{Name: "apis/demo", Revision: 1, Body: &discoveryv1.Resource_Api{Api: &discoveryv1.Api{}}},
		mockDeployment(1, "/hello", `"Hello from Lambda v1"`),
		stageOf(1),
	}
	version := func(n uint64) *discoveryv1.Version { return &discoveryv1.Version{Epoch: 1, Index: n} }
	err := send(stream, &discoveryv1.Frame{To: version(1), Upserts: good, Digest: digest(good)})
	if err != nil {
		return err
	}
	if _, err := answer(stream); err != nil {
		return err
	}
	bad := []*discoveryv1.Resource{mockDeployment(2, "/{a}/{a+}/poison", "never"), stageOf(2)}
	held := append([]*discoveryv1.Resource{good[0], good[1]}, bad...)
	err = send(stream, &discoveryv1.Frame{From: version(1), To: version(2), Upserts: bad, Digest: digest(held)})
	if err != nil {
		return err
	}
	refusal, err := answer(stream)
	if err != nil {
		return err
	}
	p.nacks <- refusal.GetNack()
	<-stream.Context().Done()
	return nil
}

// answer returns what the agent says to a frame. It asks for leases meanwhile.
func answer(stream discoveryv1.DiscoveryService_StreamServer) (*discoveryv1.StreamRequest, error) {
	for {
		m, err := stream.Recv()
		if err != nil || m.GetRenew() == nil {
			return m, err
		}
	}
}

func send(stream discoveryv1.DiscoveryService_StreamServer, f *discoveryv1.Frame) error {
	return stream.Send(&discoveryv1.StreamResponse{Message: &discoveryv1.StreamResponse_Frame{Frame: f}})
}

func mockDeployment(number uint64, path, body string) *discoveryv1.Resource {
	return &discoveryv1.Resource{
		Name: "apis/demo/deployments/" + strconv.FormatUint(number, 10), Revision: number,
		Body: &discoveryv1.Resource_Deployment{Deployment: &discoveryv1.Deployment{
			Routes: []*discoveryv1.Route{{
				Method: "GET", Path: path,
				Integration: &discoveryv1.Route_Mock{Mock: &discoveryv1.MockIntegration{Status: 200, Body: body}},
			}},
		}},
	}
}

func stageOf(deployment uint64) *discoveryv1.Resource {
	return &discoveryv1.Resource{
		Name: "apis/demo/stages/prod", Revision: deployment,
		Body: &discoveryv1.Resource_Stage{Stage: &discoveryv1.Stage{Deployment: deployment}},
	}
}

func digest(held []*discoveryv1.Resource) (sum uint64) {
	for _, r := range held {
		sum += xxhash.Sum64String(fmt.Sprintf("%s@%d", r.GetName(), r.GetRevision()))
	}
	return sum
}
