package controlplane_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// simNetwork carries Raft's messages between the nodes of a simulation. Each
// direction of each pair of nodes can lose messages, or delay them; those from and
// to a paused node are held and released late, even after the sender has given up.
// It is safe for concurrent use.
type simNetwork struct {
	mu     sync.Mutex
	rng    *rand.Rand
	up     map[raft.ServerAddress]*simTransport
	cut    map[simLink]bool
	loss   map[simLink]float64
	slow   map[simLink]time.Duration
	paused map[raft.ServerAddress]chan struct{} // closed when the pause ends

	carried, lost, held, snapshots int
}

// simLink is one direction between two nodes.
type simLink struct{ from, to raft.ServerAddress }

func newSimNetwork(rng *rand.Rand) *simNetwork {
	n := &simNetwork{rng: rng, up: map[raft.ServerAddress]*simTransport{}, paused: map[raft.ServerAddress]chan struct{}{}}
	n.heal()
	return n
}

// heal ends all faults but pauses.
func (n *simNetwork) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut, n.loss, n.slow = map[simLink]bool{}, map[simLink]float64{}, map[simLink]time.Duration{}
}

// change changes the faults.
func (n *simNetwork) change(f func(n *simNetwork)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n)
}

// pause holds what a node sends and is sent, until resume.
func (n *simNetwork) pause(node raft.ServerAddress) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.paused[node] == nil {
		n.paused[node] = make(chan struct{})
	}
}

func (n *simNetwork) resume(node raft.ServerAddress) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if released := n.paused[node]; released != nil {
		close(released)
		delete(n.paused, node)
	}
}

// attach plugs a node in, under its address. The transport is unplugged by close.
func (n *simNetwork) attach(address raft.ServerAddress) *simTransport {
	t := &simTransport{
		network: n, address: address,
		inbox: make(chan raft.RPC), unplugged: make(chan struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.up[address] = t
	return t
}

func (n *simNetwork) detach(t *simTransport) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.up[t.address] == t {
		delete(n.up, t.address)
	}
	t.once.Do(func() { close(t.unplugged) })
}

const simLatency = 20 * time.Millisecond // at most, without a fault

// travel takes the time that one message takes, and reports whether it arrives.
func (n *simNetwork) travel(link simLink) bool {
	n.mu.Lock()
	delay := time.Duration(n.rng.Int64N(int64(simLatency + n.slow[link])))
	arrives := !n.cut[link] && n.rng.Float64() >= n.loss[link]
	n.mu.Unlock()
	<-time.After(delay)
	for {
		n.mu.Lock()
		hold := n.paused[link.from]
		if hold == nil {
			hold = n.paused[link.to]
		}
		switch {
		case hold != nil:
			n.held++
		case arrives:
			n.carried++
		default:
			n.lost++
		}
		n.mu.Unlock()
		if hold == nil {
			return arrives
		}
		<-hold
	}
}

var (
	errSimRefused = errors.New("connection refused")
	errSimTimeout = errors.New("no answer")
)

// deliver takes a request to a node and its answer back. It says nothing if
// either is lost.
func (n *simNetwork) deliver(link simLink, rpc raft.RPC, answer chan<- raft.RPCResponse) {
	if !n.travel(link) {
		return
	}
	n.mu.Lock()
	to := n.up[link.to]
	n.mu.Unlock()
	if to == nil {
		answer <- raft.RPCResponse{Error: errSimRefused}
		return
	}
	response := make(chan raft.RPCResponse, 1)
	rpc.RespChan = response
	select {
	case to.inbox <- rpc:
	case <-to.unplugged:
		return
	}
	select {
	case r := <-response:
		if n.travel(simLink{link.to, link.from}) {
			answer <- r
		}
	case <-to.unplugged:
	}
}

// simTransport is one node's transport.
type simTransport struct {
	network   *simNetwork
	address   raft.ServerAddress
	inbox     chan raft.RPC
	once      sync.Once
	unplugged chan struct{}
}

var (
	_ raft.Transport   = (*simTransport)(nil)
	_ raft.WithPreVote = (*simTransport)(nil)
)

const simTimeout = 10 * time.Second // as store.NewTransport has it

// call sends a request and waits for its answer. What is sent is a copy: Raft
// uses its request again once it has given up, when the copy may still be held.
func (t *simTransport) call(target raft.ServerAddress, request any, data io.Reader) (any, error) {
	answer := make(chan raft.RPCResponse, 1)
	go t.network.deliver(simLink{t.address, target}, raft.RPC{Command: request, Reader: data}, answer)
	select {
	case r := <-answer:
		return r.Response, r.Error
	case <-t.unplugged:
		return nil, errSimRefused
	case <-time.After(simTimeout):
		return nil, errSimTimeout
	}
}

// ask is call for one kind of request.
func ask[Q, A any](t *simTransport, target raft.ServerAddress, request *Q, answer *A, data io.Reader) error {
	sent := *request
	response, err := t.call(target, &sent, data)
	if err == nil {
		*answer = *response.(*A)
	}
	return err
}

func (t *simTransport) Consumer() <-chan raft.RPC { return t.inbox }

func (t *simTransport) LocalAddr() raft.ServerAddress { return t.address }

func (t *simTransport) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }

func (t *simTransport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

func (t *simTransport) SetHeartbeatHandler(func(raft.RPC)) {}

func (t *simTransport) AppendEntries(
	_ raft.ServerID, to raft.ServerAddress, q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse,
) error {
	return ask(t, to, q, a, nil)
}

func (t *simTransport) RequestVote(
	_ raft.ServerID, to raft.ServerAddress, q *raft.RequestVoteRequest, a *raft.RequestVoteResponse,
) error {
	return ask(t, to, q, a, nil)
}

func (t *simTransport) RequestPreVote(
	_ raft.ServerID, to raft.ServerAddress, q *raft.RequestPreVoteRequest, a *raft.RequestPreVoteResponse,
) error {
	return ask(t, to, q, a, nil)
}

func (t *simTransport) TimeoutNow(
	_ raft.ServerID, to raft.ServerAddress, q *raft.TimeoutNowRequest, a *raft.TimeoutNowResponse,
) error {
	return ask(t, to, q, a, nil)
}

func (t *simTransport) InstallSnapshot(
	_ raft.ServerID, to raft.ServerAddress, q *raft.InstallSnapshotRequest, a *raft.InstallSnapshotResponse, data io.Reader,
) error {
	whole, err := io.ReadAll(data) // the sender closes it once it has given up
	if err != nil {
		return err
	}
	t.network.change(func(n *simNetwork) { n.snapshots++ })
	return ask(t, to, q, a, bytes.NewReader(whole))
}

func (t *simTransport) AppendEntriesPipeline(_ raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	p := &simPipeline{
		transport: t, to: to,
		sent: make(chan *simAppend, 1), done: make(chan raft.AppendFuture), closed: make(chan struct{}),
	}
	go p.run()
	return p, nil
}

// simPipeline sends one request after the other, like a connection does.
type simPipeline struct {
	transport *simTransport
	to        raft.ServerAddress
	sent      chan *simAppend
	done      chan raft.AppendFuture
	once      sync.Once
	closed    chan struct{}
}

func (p *simPipeline) run() {
	for {
		select {
		case f := <-p.sent:
			f.err = ask(p.transport, p.to, f.request, f.response, nil)
			close(f.ready)
			select {
			case p.done <- f:
			case <-p.closed:
				return
			}
		case <-p.closed:
			return
		}
	}
}

func (p *simPipeline) AppendEntries(q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	f := &simAppend{start: time.Now(), request: q, response: a, ready: make(chan struct{})}
	select {
	case p.sent <- f:
		return f, nil
	case <-p.closed:
		return nil, raft.ErrPipelineShutdown
	case <-time.After(simTimeout):
		return nil, errSimTimeout
	}
}

func (p *simPipeline) Consumer() <-chan raft.AppendFuture { return p.done }

func (p *simPipeline) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

type simAppend struct {
	start    time.Time
	request  *raft.AppendEntriesRequest
	response *raft.AppendEntriesResponse
	ready    chan struct{}
	err      error
}

func (f *simAppend) Error() error {
	<-f.ready
	return f.err
}
func (f *simAppend) Start() time.Time                      { return f.start }
func (f *simAppend) Request() *raft.AppendEntriesRequest   { return f.request }
func (f *simAppend) Response() *raft.AppendEntriesResponse { return f.response }
