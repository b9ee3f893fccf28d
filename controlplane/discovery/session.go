package discovery

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// session is one agent's stream after its hello. The handler's goroutine reads,
// and has no other beside it: whoever has a reason to write calls advance, which
// never blocks, as nothing is written before gRPC has put on the connection all
// that was written before.
type session struct {
	server    *Server
	stream    discoveryv1.DiscoveryService_StreamServer
	transport finisher
	agent     string
	apis      []string
	listing   *fifev1.Agent // what of the agent's record never changes

	written receipt      // of all parcels
	since   atomic.Int64 // when the parcel under way was written, in Unix nanoseconds; 0 if there is none
	waiting atomic.Bool  // whether to advance once it has gone

	mu       sync.Mutex
	cause    error         // why the stream has ended; nil while it has not
	queue    []*message    // of the frame in flight, not yet written
	has      store.Version // what the agent holds; zero for nothing
	done     store.Version // the newest version that needs no frame: answered, or held from the start
	inFlight store.Version // sent and not answered; zero if none
	resynced store.Version // the version that was sent again in full
	retry    retry         // of the version that done is

	trusts [][]byte       // SHA-256 of the roots that the agent trusts; none if it does not tell
	told   *storev1.Trust // whom it was told to trust, or need not be told

	answer     *message  // to the newest Renew, not yet written; nil if there is none
	leased     time.Time // until when the agent has a lease of this node; zero for never
	denied     string    // why its last Renew came to nothing; empty if it did not
	clockError *durationpb.Duration

	// What operators see.
	applied     store.Version // what the agent routes by, by its own word; zero for nothing
	appliedTime time.Time     // when it last applied a frame; zero if it has not
	nack        *fifev1.Nack  // the refusal since then; nil if none
	record      *fifev1.Agent // all of it; nil if it is out of date
}

func newSession(
	server *Server, stream discoveryv1.DiscoveryService_StreamServer, transport finisher,
	hello *discoveryv1.Hello, has store.Version, address string,
) *session {
	s := &session{
		server: server, stream: stream, transport: transport, agent: hello.GetAgentId(), apis: hello.GetApis(),
		has: has, done: has, applied: decodeVersion(hello.GetHave()), trusts: hello.GetRoots(),
		listing: &fifev1.Agent{
			Name:        "agents/" + hello.GetAgentId(),
			Labels:      hello.GetLabels(),
			Address:     address,
			Node:        server.fleet.node,
			ConnectTime: timestamppb.New(time.Now()),
			Build:       hello.GetBuild(),
			Apis:        hello.GetApis(),
		},
	}
	s.written = s.wrote
	s.leased = server.leases.back(s.agent)
	return s
}

// inherit takes over the lease that an earlier stream of the same agent has got.
func (s *session) inherit(older *session) {
	older.mu.Lock()
	until := older.leased
	older.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if until.After(s.leased) {
		s.leased = until
	}
}

// leave keeps what must be known of the agent when its stream has ended.
func (s *session) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server.leases.leave(s.agent, s.leased, s.applied)
}

// errOver ends a session whose handler returns by itself.
var errOver = errors.New("the stream is over")

// end ends the stream with a status, whatever it is doing. The first one counts.
func (s *session) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause == nil {
		s.cause = err
		_ = s.transport.WriteStatus(status.Convert(err)) // it fails if the connection has
	}
}

// close ends the use of the stream: nothing is written to it any more. It returns
// why the stream ended.
func (s *session) close(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause == nil {
		s.cause = errOver
		return err
	}
	return s.cause
}

// receive takes the agent's messages until the stream ends.
func (s *session) receive() error {
	for {
		m, err := s.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil // the agent has closed its side
		}
		if err != nil {
			return fmt.Errorf("agent %s: %w", s.agent, err)
		}
		switch m := m.GetMessage().(type) {
		case *discoveryv1.StreamRequest_Ack:
			err = s.acked(decodeVersion(m.Ack.GetVersion()))
		case *discoveryv1.StreamRequest_Nack:
			err = s.nacked(m.Nack)
		case *discoveryv1.StreamRequest_Renew:
			if err := s.renew(m.Renew); err != nil {
				return err
			}
			s.advance()
			continue
		case *discoveryv1.StreamRequest_Trusting:
			err = s.trusting(m.Trusting.GetRoots())
		default:
			err = status.Errorf(codes.InvalidArgument, "agent %s sent %T, want an answer to a frame or a renew", s.agent, m)
		}
		if err != nil {
			return err
		}
		s.server.fleet.changed()
		s.advance()
	}
}

// acked takes the agent's word that it routes by the frame in flight.
func (s *session) acked(version store.Version) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.answered(version); err != nil {
		return err
	}
	s.has, s.done, s.retry = version, version, retry{}
	s.applied, s.appliedTime, s.nack = version, time.Now(), nil
	s.server.metrics.acks.Inc()
	return nil
}

// nacked takes the agent's word that it has refused the frame in flight.
func (s *session) nacked(nack *discoveryv1.Nack) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	version := decodeVersion(nack.GetVersion())
	if err := s.answered(version); err != nil {
		return err
	}
	reason := strings.ToValidUTF8(nack.GetReason(), "?")
	reason = strings.ToValidUTF8(reason[:min(len(reason), maxNackText)], "")
	s.nack = &fifev1.Nack{
		Version: &fifev1.Version{Epoch: version.Epoch, Index: version.Index},
		Reason:  reason,
		Time:    timestamppb.New(time.Now()),
	}
	s.server.metrics.nacks.Inc()
	s.server.config.Logger.Warn("agent refused a version",
		"agent", s.agent, "version", version, "reason", reason, "resync", nack.GetResync())
	if nack.GetResync() && s.resynced != version {
		s.resynced = version
		s.has = store.Version{} // so that the same state goes out again, in full
		return nil
	}
	if s.done != version {
		s.retry = retry{}
	}
	s.done = version
	if nack.GetRetry() {
		s.retry.put(time.Now())
	}
	return nil
}

// retry is when a refused version is sent again to an agent that has asked for it. The
// zero value is for never.
type retry struct {
	at    time.Time
	delay time.Duration
}

// put puts the next one off, for longer each time.
func (r *retry) put(now time.Time) {
	r.delay = min(max(2*r.delay, firstRetry), lastRetry)
	r.at = now.Add(r.delay)
}

func (r *retry) isDue(now time.Time) bool { return !r.at.IsZero() && !now.Before(r.at) }

// The delays of retries.
const (
	firstRetry = 5 * time.Second
	lastRetry  = time.Minute
)

// maxNackText is how much of an agent's reason is kept.
const maxNackText = 4 << 10

// renew grants the agent a lease or says why not. Only the newest Renew is answered.
func (s *session) renew(r *discoveryv1.Renew) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	agent := release.Agent{ID: s.agent, Labels: s.listing.GetLabels()}
	l := s.server.leases.decide(agent, s.applied, s.leased, s.server.config.Store.State)
	answer := &discoveryv1.Lease{
		Sequence: r.GetSequence(), Reason: l.denied,
		ReconnectWithin: durationpb.New(time.Duration(s.server.fleet.Len()) * reconnectCost),
	}
	if !l.until.IsZero() {
		s.leased = l.until
		answer.Ttl = durationpb.New(LeaseTTL)
	}
	if !l.clock.at.IsZero() {
		now := time.Now()
		answer.LeaderTime = timestamppb.New(now.Add(l.clock.offset))
		answer.LeaderTimeError = durationpb.New(l.clock.err + now.Sub(l.clock.at)/clockDrift)
	}
	s.denied, s.clockError, s.record = l.denied, r.GetClockError(), nil
	data, err := proto.Marshal(&discoveryv1.StreamResponse{Message: &discoveryv1.StreamResponse_Lease{Lease: answer}})
	if err != nil {
		return fmt.Errorf("encode a lease: %w", err)
	}
	s.answer = newMessage(data)
	return nil
}

// reconnectCost is what another node is given for each agent that comes to it from a
// node that has gone: about what a new stream costs a core. Agents that come faster
// than they are served overflow the system's queue of connections, and then wait for
// a second or more.
const reconnectCost = 100 * time.Microsecond

// clockDrift says how far two clocks may drift apart: one part in this many.
const clockDrift = 100

// slack is by how much an agent with a slow clock may hold a lease for longer than its
// node counts.
const slack = LeaseTTL / clockDrift

// answered takes the frame in flight as answered; s.mu must be held.
func (s *session) answered(version store.Version) error {
	if s.inFlight == (store.Version{}) || version != s.inFlight {
		return status.Errorf(codes.InvalidArgument, "agent %s answered %v, but %v is in flight", s.agent, version, s.inFlight)
	}
	s.inFlight = store.Version{}
	s.record = nil
	return nil
}

// advance writes what there is to write, as long as gRPC takes it at once. It is
// safe for concurrent use.
func (s *session) advance() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.cause == nil && s.clear() {
		m := s.next()
		if m == nil {
			return
		}
		s.since.Store(time.Now().UnixNano())
		if err := s.stream.SendMsg(parcel{m, s.written}); err != nil {
			s.cause = fmt.Errorf("agent %s: %w", s.agent, err)
		}
	}
}

// next takes what is to be written now; nil if that is nothing. What an agent waits
// for belongs before the rest of a frame, which may be long.
func (s *session) next() *message {
	if m := s.answer; m != nil {
		s.answer = nil
		return m
	}
	if m := s.nextTrust(); m != nil {
		return m
	}
	if len(s.queue) == 0 && !s.nextFrame() {
		return nil
	}
	m := s.queue[0]
	if s.queue = s.queue[1:]; len(s.queue) == 0 {
		s.queue = nil
	}
	return m
}

// clear reports whether gRPC has put on the connection all that was written. If
// not, advance is called once it has.
func (s *session) clear() bool {
	if s.since.Load() == 0 {
		return true
	}
	s.waiting.Store(true)
	return s.since.Load() == 0 && s.waiting.Swap(false)
}

// wrote is the receipt of every parcel.
func (s *session) wrote() {
	s.since.Store(0)
	if s.waiting.Swap(false) {
		go s.advance() // short-lived: it does not block
	}
}

// nextFrame queues the step from what the agent has to the newest state; false if
// it has that, has refused it, or has not answered the last one. It needs no timer for
// retries, as agents ask for leases all the time.
func (s *session) nextFrame() bool {
	state := s.server.config.Store.State()
	if s.inFlight != (store.Version{}) {
		return false
	}
	if news := state.Version().Compare(s.done); news < 0 || news == 0 && !s.retry.isDue(time.Now()) {
		return false
	}
	s.retry.at = time.Time{}
	messages, err := s.server.frames.get(state, s.has, s.apis)
	if err != nil {
		s.cause = err
		_ = s.transport.WriteStatus(status.New(codes.Internal, err.Error())) // it fails if the connection has
		return false
	}
	s.queue, s.inFlight = messages, state.Version()
	s.server.metrics.framesSent.Inc()
	return true
}

// stalled reports whether nothing could be written to the stream for too long.
func (s *session) stalled(now time.Time) bool {
	since := s.since.Load()
	return since != 0 && now.Sub(time.Unix(0, since)) >= writeTimeout
}

// agentRecord returns what operators see. It must not be changed.
func (s *session) agentRecord() *fifev1.Agent {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.record != nil {
		return s.record
	}
	l := s.listing
	s.record = &fifev1.Agent{
		Name: l.GetName(), Labels: l.GetLabels(), Address: l.GetAddress(), Node: l.GetNode(),
		ConnectTime: l.GetConnectTime(), Build: l.GetBuild(), Apis: l.GetApis(), LastNack: s.nack,
	}
	if s.applied != (store.Version{}) {
		s.record.Applied = &fifev1.Version{Epoch: s.applied.Epoch, Index: s.applied.Index}
	}
	if left := time.Until(s.leased); left > 0 {
		s.record.Lease = durationpb.New(left)
	}
	s.record.LeaseDenied = s.denied
	if !s.appliedTime.IsZero() {
		s.record.AppliedTime = timestamppb.New(s.appliedTime)
	}
	return s.record
}
