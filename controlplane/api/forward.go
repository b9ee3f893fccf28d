package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/store"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

const (
	// forwardedBy marks a call that another node has passed on, so that none goes
	// round in circles.
	forwardedBy = "fife-forwarded-by"
	// forwardBudget bounds how long a node looks for a leader.
	forwardBudget = 10 * time.Second
	// forwardPause is the time between two attempts.
	forwardPause = 50 * time.Millisecond
)

// Forwarder lets any node answer: what only the leader can do is passed on to it,
// and tried again while leadership moves. Handlers never know.
type Forwarder struct {
	store *store.Store
	peers *Peers
}

// NewForwarder returns a Forwarder for the node of the given store.
func NewForwarder(s *store.Store, p *Peers) *Forwarder { return &Forwarder{store: s, peers: p} }

// needsLeader reports whether a method is passed on. What every node knows, or is
// asked of one node, is not.
func needsLeader(fullMethod string) bool {
	switch fullMethod {
	case fifev1.ClusterService_GetCluster_FullMethodName, fifev1.ClusterService_ListMembers_FullMethodName,
		fifev1.ClusterService_GetStateHash_FullMethodName,
		fifev1.AccessService_WhoAmI_FullMethodName, fifev1.AccessService_TestPermissions_FullMethodName,
		fifev1.SignInService_GetSignInSettings_FullMethodName,
		fifev1.AuthorityService_ReportTrust_FullMethodName, fifev1.AuthorityService_GetClusterKeys_FullMethodName:
		return false
	}
	return strings.HasPrefix(fullMethod, "/fife.v1.") && !strings.HasPrefix(fullMethod, "/fife.v1.FleetService/") &&
		!strings.HasPrefix(fullMethod, "/fife.v1.NodeService/")
}

// Unary is a grpc.UnaryServerInterceptor.
func (f *Forwarder) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if read, ok := req.(readRequest); !needsLeader(info.FullMethod) ||
		(ok && read.GetConsistency() == fifev1.ReadConsistency_READ_CONSISTENCY_STALE) {
		return handler(ctx, req)
	}
	if len(metadata.ValueFromIncomingContext(ctx, forwardedBy)) > 0 {
		return handler(ctx, req)
	}
	message := req.(proto.Message)
	mintRequestID(message)
	budget, cancel := context.WithTimeout(ctx, forwardBudget)
	defer cancel()
	var unknown error // of the last attempt that may have been carried out
	for {
		resp, err := f.attempt(ctx, message, info, handler)
		if err == nil || !repeatable(message, err) {
			return resp, err
		}
		if errors.Is(err, store.ErrOutcomeUnknown) || reasonOf(err) == reasonOutcomeUnknown {
			unknown = err
		} else if unknown != nil {
			err = unknown // that the last attempt did nothing says nothing of the first
		}
		select {
		case <-time.After(forwardPause):
		case <-budget.Done():
			return nil, err
		}
	}
}

// attempt carries a call out here if this node leads, and at the leader if not.
func (f *Forwarder) attempt(
	ctx context.Context, req proto.Message, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	if f.store.IsLeader() {
		return handler(ctx, req)
	}
	leader, ok := f.store.Leader()
	if !ok {
		return nil, store.ErrNotLeader
	}
	if leader.ID == f.store.NodeID() {
		return handler(ctx, req)
	}
	resp, err := newResponse(info.FullMethod)
	if err != nil {
		return nil, err
	}
	conn, err := f.peers.Conn(leader.GRPCAddress)
	if err != nil {
		return nil, err
	}
	if !ready(ctx, conn) {
		return nil, fmt.Errorf("%w: the leader, %s, cannot be reached", store.ErrNotLeader, leader.ID)
	}
	note := noteOf(ctx)
	ctx = metadata.AppendToOutgoingContext(onBehalf(ctx), forwardedBy, f.store.NodeID(), sourceHeader, note.source)
	err = conn.Invoke(ctx, info.FullMethod, req, resp)
	note.logged = err == nil || reasonOf(err) != "" // by the leader
	if err != nil {
		return nil, unanswered(leader.ID, req, err)
	}
	return resp, nil
}

// unanswered says what the error of a call to the leader means that may be this node's
// own: if the connection broke, or the caller waits no longer, then whether the leader
// got the call is open.
func unanswered(leader string, req proto.Message, err error) error {
	if reasonOf(err) != "" {
		return err
	}
	switch code := status.Code(err); {
	case code == codes.Unavailable, (code == codes.Canceled || code == codes.DeadlineExceeded) && requestID(req) != nil:
		return fmt.Errorf("%w: leader %s: %w", store.ErrOutcomeUnknown, leader, err)
	case code == codes.Canceled:
		return context.Canceled
	case code == codes.DeadlineExceeded:
		return context.DeadlineExceeded
	}
	return err
}

// onBehalf returns the context of a call to the leader that says whose call it is.
func onBehalf(ctx context.Context) context.Context {
	caller, _ := identity.FromContext(ctx)
	if caller.Class == identity.SignedIn {
		s, _ := ctx.Value(signedInKey{}).(signedIn)
		said := []string{signedInHeader, caller.Name}
		for _, g := range s.groups {
			said = append(said, groupHeader, g)
		}
		return metadata.AppendToOutgoingContext(ctx, said...)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, callerHeader, caller.String())
	if token, ok := ctx.Value(tokenKey{}).(string); ok {
		ctx = metadata.AppendToOutgoingContext(ctx, tokenHeader, token)
	}
	if of, ok := ctx.Value(shownKey{}).(shown); ok {
		ctx = metadata.AppendToOutgoingContext(ctx, issuedHeader, of.issued.UTC().Format(time.RFC3339), lastsHeader, of.lasts.String())
	}
	return ctx
}

// ready waits for a connection to stand, for a while. A call that is made on one
// that does not may fail with the same code as one that was lost underway; so it
// is not made.
func ready(ctx context.Context, conn *grpc.ClientConn) bool {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	for {
		state := conn.GetState()
		if state == connectivity.Ready {
			return true
		}
		conn.Connect()
		if state == connectivity.TransientFailure || !conn.WaitForStateChange(ctx, state) {
			return false
		}
	}
}

// repeatable reports whether a call may be tried again after err: when nothing
// was done, or when a second attempt would find the outcome of the first.
func repeatable(req proto.Message, err error) bool {
	reason := reasonOf(err)
	if errors.Is(err, store.ErrNotLeader) || reason == reasonNoLeader {
		return true
	}
	if !errors.Is(err, store.ErrOutcomeUnknown) && reason != reasonOutcomeUnknown {
		return false
	}
	field := requestID(req)
	return field == nil || req.ProtoReflect().Get(field).String() != ""
}

// mintRequestID gives a change an id if its caller has not, so that it can be
// tried again without being done twice.
func mintRequestID(req proto.Message) {
	field := requestID(req)
	if dry, ok := req.(changeRequest); ok && dry.GetValidateOnly() {
		return
	}
	if field != nil && !req.ProtoReflect().Has(field) {
		req.ProtoReflect().Set(field, protoreflect.ValueOfString(rand.Text()))
	}
}

// requestID returns the request_id field of a request, or nil if it is a read or
// may be repeated as it is.
func requestID(req proto.Message) protoreflect.FieldDescriptor {
	return req.ProtoReflect().Descriptor().Fields().ByName("request_id")
}

// newResponse returns an empty response of a method.
func newResponse(fullMethod string) (proto.Message, error) {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(fullMethod, "/"), "/", "."))
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil, fmt.Errorf("find method %s: %w", fullMethod, err)
	}
	method, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, fmt.Errorf("find method %s: it is no method", fullMethod)
	}
	t, err := protoregistry.GlobalTypes.FindMessageByName(method.Output().FullName())
	if err != nil {
		return nil, fmt.Errorf("find response of %s: %w", fullMethod, err)
	}
	return t.New().Interface(), nil
}
