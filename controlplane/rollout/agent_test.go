package rollout_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/fifegateway/fife/controlplane/controlplanetest"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// fleet is a set of agents without a data path, and what must hold between them.
type fleet struct {
	t       testing.TB
	cluster *controlplanetest.Cluster

	mu     sync.Mutex
	agents []*agent
	wrong  []string
}

// agent follows one node at a time. What it has applied outlives its streams.
type agent struct {
	fleet  *fleet
	id     string
	labels map[string]string
	nodes  []string

	// How it behaves; guarded by fleet.mu, as all that follows.
	mute   bool // answers no frame
	refuse bool // refuses every frame
	sloth  time.Duration
	drift  time.Duration // how much longer its clock takes over a lease
	crash  int           // its stream breaks at this message from now; 0 for none
	after  bool          // then it has applied the message and not answered it

	have    *discoveryv1.Version
	stage   *discoveryv1.Stage
	lease   time.Time // its own view
	flipped map[uint64]time.Time
	stop    context.CancelFunc
	done    chan struct{}
}

// join starts an agent on nodes, which it tries in turn.
func (f *fleet) join(id string, labels map[string]string, nodes ...string) *agent {
	a := &agent{fleet: f, id: id, labels: labels, nodes: nodes, flipped: map[uint64]time.Time{}}
	f.mu.Lock()
	f.agents = append(f.agents, a)
	f.mu.Unlock()
	a.start()
	return a
}

func (a *agent) start() {
	ctx, cancel := context.WithCancel(context.Background())
	a.stop, a.done = cancel, make(chan struct{})
	go func() {
		defer close(a.done)
		for i := 0; ctx.Err() == nil; i++ {
			_ = a.follow(ctx, a.nodes[i%len(a.nodes)]) // it goes on with the next
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
}

func (a *agent) leave() {
	a.stop()
	<-a.done
}

func (a *agent) follow(ctx context.Context, node string) error {
	conn, err := grpc.NewClient("passthrough:///"+controlplanetest.GRPC(node),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(a.fleet.cluster.Network.Host(a.id).Dial))
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it has nothing left to say
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := discoveryv1.NewDiscoveryServiceClient(conn).Stream(ctx)
	if err != nil {
		return err
	}
	var sending sync.Mutex
	send := func(m *discoveryv1.StreamRequest) error {
		sending.Lock()
		defer sending.Unlock()
		return stream.Send(m)
	}
	a.fleet.mu.Lock()
	hello := &discoveryv1.Hello{AgentId: a.id, Labels: a.labels, Have: a.have, Seen: a.have}
	a.fleet.mu.Unlock()
	if err := send(&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Hello{Hello: hello}}); err != nil {
		return err
	}
	asked := map[uint64]time.Time{}
	var renewing sync.WaitGroup
	defer renewing.Wait()
	defer cancel()
	renewing.Go(func() {
		for n := uint64(1); ctx.Err() == nil; n++ {
			a.fleet.mu.Lock()
			asked[n] = time.Now()
			a.fleet.mu.Unlock()
			renew := &discoveryv1.Renew{Sequence: n}
			if send(&discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Renew{Renew: renew}}) != nil {
				return
			}
			select {
			case <-time.After(3 * time.Second):
			case <-ctx.Done():
			}
		}
	})
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		crashes, after := a.crashes()
		if crashes && !after {
			return errCrash
		}
		switch m := m.GetMessage().(type) {
		case *discoveryv1.StreamResponse_Lease:
			a.fleet.mu.Lock()
			if ttl := m.Lease.GetTtl(); ttl != nil {
				a.lease = asked[m.Lease.GetSequence()].Add(ttl.AsDuration() + a.drift)
			}
			a.fleet.mu.Unlock()
		case *discoveryv1.StreamResponse_Frame:
			if answer := a.take(ctx, m.Frame); answer != nil && !crashes {
				if err := send(answer); err != nil {
					return err
				}
			}
		}
		if crashes {
			return errCrash
		}
	}
}

var errCrash = errors.New("the stream has broken")

// crashes counts a message, and reports whether the stream breaks at it.
func (a *agent) crashes() (now, after bool) {
	a.fleet.mu.Lock()
	defer a.fleet.mu.Unlock()
	if a.crash == 0 {
		return false, false
	}
	a.crash--
	return a.crash == 0, a.after
}

// take applies a frame as an agent does, or does with it what it is told to.
func (a *agent) take(ctx context.Context, f *discoveryv1.Frame) *discoveryv1.StreamRequest {
	a.fleet.mu.Lock()
	sloth := a.sloth
	a.fleet.mu.Unlock()
	select {
	case <-time.After(sloth):
	case <-ctx.Done():
		return nil
	}
	a.fleet.mu.Lock()
	defer a.fleet.mu.Unlock()
	if a.refuse {
		return &discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Nack{
			Nack: &discoveryv1.Nack{Version: f.GetTo(), Reason: "will not compile"},
		}}
	}
	if a.mute {
		return nil
	}
	a.have = f.GetTo()
	for _, r := range f.GetUpserts() {
		if s := r.GetStage(); s != nil {
			a.stage = proto.CloneOf(s)
			if s.GetPromoted() != 0 && a.flipped[s.GetPromoted()].IsZero() {
				a.flipped[s.GetPromoted()] = time.Now()
				a.fleet.checkPrepared(a, s.GetPromoted())
			}
		}
	}
	return &discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Ack{Ack: &discoveryv1.Ack{Version: f.GetTo()}}}
}

// checkPrepared notes who may serve, by its own view, and does not hold what another
// agent has changed over to.
func (f *fleet) checkPrepared(by *agent, number uint64) {
	for _, a := range f.agents {
		if time.Now().Before(a.lease) && a.have.GetIndex() < number {
			f.wrong = append(f.wrong, by.id+" changed over while "+a.id+" had a lease and was not prepared")
		}
	}
}

// checkComplete notes who may serve and has not changed over.
func (f *fleet) checkComplete(number uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.agents {
		if time.Now().Before(a.lease) && a.flipped[number].IsZero() {
			f.wrong = append(f.wrong, "complete while "+a.id+" has a lease and has not changed over")
		}
	}
	for _, text := range f.wrong {
		f.t.Error(text)
	}
	f.wrong = nil
}

func (f *fleet) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fleet) stop() {
	for _, a := range f.agents {
		a.leave()
	}
}
