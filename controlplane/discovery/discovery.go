// Package discovery is the agents' face of the control plane: one stream per
// agent, over which the routing state flows as atomic frames. The protocol is
// specified in proto/fife/discovery/v1/discovery.proto.
//
// A stream keeps no queue and has no goroutine but the handler's, which reads.
// Whenever something has happened, an answer of the agent or a newer state, the
// newest state is loaded and the step to it from what the agent has is written.
// That never blocks: nothing is written before all that was written is on the
// connection. A slow agent skips versions and costs the others nothing.
package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

const (
	catchUpWait  = 2 * time.Second  // for this node to reach what an agent has seen
	writeTimeout = 15 * time.Second // for one message to get on the connection
	helloTimeout = 10 * time.Second // for an agent's first message
)

// Config says what a Server works on. All fields are required.
type Config struct {
	Store      *store.Store
	Leader     Leader
	Ready      <-chan struct{} // closed once the node has caught up after its start
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Sealer returns what opens secrets for agents; nil, or nil returned, stands for a
	// node that cannot, which sends no stage that has some.
	Sealer func() (*identity.Sealer, error)
}

// Server serves fife.discovery.v1, on a gRPC server with the ServerOption.
type Server struct {
	discoveryv1.UnimplementedDiscoveryServiceServer
	config   Config
	fleet    *Fleet
	frames   frames
	trusts   trusts
	leases   *leases
	metrics  metrics
	draining chan struct{}
	touch    touch
}

// New returns a server without streams.
func New(c Config) *Server {
	s := &Server{config: c, frames: frames{open: c.Sealer}, fleet: newFleet(c.Store.NodeID()), leases: newLeases(c.Leader), draining: make(chan struct{})}
	s.touch.lost = make(chan struct{})
	s.metrics = newMetrics(c.Registerer, s.fleet)
	return s
}

// Fleet returns the agents that hold a stream.
func (s *Server) Fleet() *Fleet { return s.fleet }

// Drain ends all streams and refuses new ones, with the addresses of the other
// nodes. It must be called once.
func (s *Server) Drain() {
	close(s.draining)
	s.endAll(s.redirect(whyDraining))
}

func (s *Server) endAll(err error) {
	for _, session := range s.fleet.all() {
		session.end(err)
	}
}

// closed returns why this node serves no agents, if it does not.
func (s *Server) closed() error {
	select {
	case <-s.draining:
		return s.redirect(whyDraining)
	case <-s.outOfTouch():
		return s.redirect(whyOutOfTouch)
	default:
		return nil
	}
}

// touch is whether this node is in touch with its cluster.
type touch struct {
	mu   sync.Mutex
	out  bool
	lost chan struct{} // closed while out
}

// SetInTouch says whether this node is in touch with its cluster. One that is not
// ends its streams and takes no others, so that its agents go to nodes that are:
// what it has would grow old, and nobody who waits for a version would ask it.
func (s *Server) SetInTouch(in bool) {
	s.touch.mu.Lock()
	switch {
	case !in && !s.touch.out:
		close(s.touch.lost)
	case in && s.touch.out:
		s.touch.lost = make(chan struct{})
	}
	s.touch.out = !in
	s.touch.mu.Unlock()
	if !in {
		s.endAll(s.redirect(whyOutOfTouch))
	}
}

func (s *Server) outOfTouch() <-chan struct{} {
	s.touch.mu.Lock()
	defer s.touch.mu.Unlock()
	return s.touch.lost
}

const (
	whyOutOfTouch = "this node is out of touch with its cluster"
	whyDraining   = "this node shuts down"
)

// Stream serves one agent. Its goroutine is there for as long as the agent is, and
// with it all of its stack: what is needed only at first is in functions that have
// returned by then.
func (s *Server) Stream(stream discoveryv1.DiscoveryService_StreamServer) error {
	session, err := s.greet(stream)
	if err != nil {
		return err
	}
	s.connect(session)
	defer s.fleet.disconnect(session)
	defer session.leave()
	// What ends all streams ends those that are in the fleet by then.
	if err := s.closed(); err != nil {
		return session.close(err)
	}
	session.advance()
	return s.ended(session, session.close(session.receive()))
}

// greet takes the agent's hello, and waits until this node may serve it.
func (s *Server) greet(stream discoveryv1.DiscoveryService_StreamServer) (*session, error) {
	transport, ok := grpc.ServerTransportStreamFromContext(stream.Context()).(finisher)
	if !ok {
		return nil, status.Error(codes.Internal, "streams of this gRPC transport cannot be ended")
	}
	hello, err := readHello(stream, transport)
	if err != nil {
		return nil, err
	}
	if caller, ok := identity.FromContext(stream.Context()); ok && caller.Name != hello.GetAgentId() {
		return nil, status.Errorf(codes.PermissionDenied, "agent_id %q is not that of the certificate of %s", hello.GetAgentId(), caller)
	}
	if err := s.checkAPIs(stream.Context(), hello); err != nil {
		return nil, err
	}
	has, err := s.admit(stream.Context(), hello)
	if err != nil {
		return nil, err
	}
	address := ""
	if p, ok := peer.FromContext(stream.Context()); ok {
		address = p.Addr.String()
	}
	return newSession(s, stream, transport, hello, has, address), nil
}

// checkAPIs refuses an agent that wants more than the APIs that its join token was for.
func (s *Server) checkAPIs(ctx context.Context, hello *discoveryv1.Hello) error {
	caller, ok := identity.FromContext(ctx)
	if !ok {
		return nil
	}
	e, _ := s.config.Store.State().Enrolment(string(caller.Class) + "/" + caller.Name)
	allowed := e.GetApis()
	if len(allowed) == 0 {
		return nil
	}
	for _, api := range hello.GetApis() {
		if !slices.Contains(allowed, api) {
			return status.Errorf(codes.PermissionDenied, "agent %s may hold the APIs %v, not %s", caller.Name, allowed, api)
		}
	}
	if len(hello.GetApis()) == 0 {
		return status.Errorf(codes.PermissionDenied, "agent %s may not hold all APIs: start it with --api and one or more of %v", caller.Name, allowed)
	}
	return nil
}

// connect puts a session into the fleet.
func (s *Server) connect(session *session) {
	if older := s.fleet.connect(session); older != nil {
		older.end(status.Errorf(codes.AlreadyExists, "agent %s has opened a newer stream", session.agent))
	}
	s.config.Logger.Info("agent connected", "agent", session.agent, "address", session.listing.GetAddress(),
		"have", session.has)
}

// ended logs that a stream has ended, as nothing else does, and returns the reason.
func (s *Server) ended(session *session, why error) error {
	reason := "the agent has ended it"
	if why != nil {
		reason = why.Error()
	}
	s.config.Logger.Info("agent disconnected", "agent", session.agent, "reason", reason)
	return why
}

// finisher is a gRPC stream whose final status any goroutine may give, whereupon
// calls of Recv and Send under way return. It takes the place of a goroutine per
// stream that would do nothing but wait for a reason to end it.
type finisher interface {
	WriteStatus(*status.Status) error
}

func readHello(stream discoveryv1.DiscoveryService_StreamServer, transport finisher) (*discoveryv1.Hello, error) {
	late := status.Newf(codes.DeadlineExceeded, "no hello within %v", helloTimeout)
	patience := time.AfterFunc(helloTimeout, func() { _ = transport.WriteStatus(late) }) // it fails if the connection has
	m, err := stream.Recv()
	if !patience.Stop() {
		return nil, late.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("read hello: %w", err)
	}
	return checkHello(m.GetHello())
}

// Limits of a Hello.
const (
	maxAgentID   = 128
	maxLabels    = 32
	maxLabelText = 128
	maxAPIs      = 1000
)

func checkHello(h *discoveryv1.Hello) (*discoveryv1.Hello, error) {
	id := h.GetAgentId()
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	switch {
	case h == nil:
		return nil, status.Error(codes.InvalidArgument, "the first message must be a hello")
	case len(id) < 1 || len(id) > maxAgentID || strings.Trim(id, allowed) != "":
		return nil, status.Errorf(codes.InvalidArgument, "agent_id %q must have 1 to %d characters of [A-Za-z0-9._-]", id, maxAgentID)
	case len(h.GetLabels()) > maxLabels:
		return nil, status.Errorf(codes.InvalidArgument, "%d labels, at most %d are allowed", len(h.GetLabels()), maxLabels)
	case len(h.GetApis()) > maxAPIs:
		return nil, status.Errorf(codes.InvalidArgument, "%d apis, at most %d are allowed", len(h.GetApis()), maxAPIs)
	}
	for what, text := range map[string]string{"build": h.GetBuild(), "cluster_id": h.GetClusterId()} {
		if len(text) > maxLabelText {
			return nil, status.Errorf(codes.InvalidArgument, "%s is longer than %d bytes", what, maxLabelText)
		}
	}
	for _, api := range h.GetApis() {
		var v release.Violations
		if release.CheckAPIID(&v, "apis", api[:min(len(api), maxLabelText)]); len(v) > 0 {
			return nil, status.Error(codes.InvalidArgument, v.Err().Error())
		}
	}
	for k, v := range h.GetLabels() {
		if len(k) > maxLabelText || len(v) > maxLabelText {
			return nil, status.Errorf(codes.InvalidArgument, "label %q is longer than %d bytes", k[:min(len(k), maxLabelText)], maxLabelText)
		}
	}
	return h, checkRoots(h.GetRoots())
}

// admit waits until this node may serve an agent, and returns what the agent holds.
// It never shows an agent an older state than the agent has had.
func (s *Server) admit(ctx context.Context, hello *discoveryv1.Hello) (has store.Version, err error) {
	deadline := time.After(catchUpWait)
	if err := s.closed(); err != nil {
		return has, err
	}
	select {
	case <-s.config.Ready:
	case <-s.draining:
		return has, s.redirect(whyDraining)
	case <-deadline:
		return has, s.redirect("this node has not caught up since its start")
	case <-ctx.Done():
		return has, context.Cause(ctx)
	}
	if has, err = s.heldHere(hello); err != nil {
		return has, err
	}
	for seen := decodeVersion(hello.GetSeen()); ; {
		state := s.config.Store.State()
		if state.Version().Compare(seen) >= 0 {
			return has, nil
		}
		select {
		case <-state.Changed():
		case <-s.draining:
			return has, s.redirect(whyDraining)
		case <-deadline:
			return has, s.redirect(fmt.Sprintf("this node is at version %v, the agent has seen %v", state.Version(), seen))
		case <-ctx.Done():
			return has, context.Cause(ctx)
		}
	}
}

// heldHere returns what the agent holds of this cluster: nothing, if it comes from
// another one and this one's epoch is higher.
func (s *Server) heldHere(hello *discoveryv1.Hello) (store.Version, error) {
	state := s.config.Store.State()
	if hello.GetClusterId() == "" || hello.GetClusterId() == state.ClusterID() {
		return decodeVersion(hello.GetHave()), nil
	}
	if now, seen := state.Version().Epoch, hello.GetSeen().GetEpoch(); now <= seen {
		return store.Version{}, status.Errorf(codes.FailedPrecondition,
			"agent %s follows cluster %s under epoch %d; this is cluster %s under epoch %d: restore a backup, or found it under a higher epoch",
			hello.GetAgentId(), hello.GetClusterId(), seen, state.ClusterID(), now)
	}
	return store.Version{}, nil
}

// redirect returns an UNAVAILABLE that names the other nodes.
func (s *Server) redirect(why string) error {
	r := &discoveryv1.Redirect{}
	for n := range s.config.Store.State().Nodes() {
		if n.ID != s.config.Store.NodeID() {
			r.Addresses = append(r.Addresses, n.GRPCAddress)
		}
	}
	st, err := status.New(codes.Unavailable, why).WithDetails(r)
	if err != nil {
		return status.Error(codes.Unavailable, why)
	}
	return st.Err()
}

// Register adds the service to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) { discoveryv1.RegisterDiscoveryServiceServer(r, s) }
