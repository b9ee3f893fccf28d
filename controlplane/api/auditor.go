package api

import (
	"context"
	"log/slog"
	"net"
	"path"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/store"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// Auditor sees to it that calls are in the audit that came to no command, and so are
// not there by themselves: those that were refused before the log, and changes of who
// is a member or leads. It counts like calls together and writes one command a second
// at most, of a bounded size, so that a flood of refusals fills neither the log nor
// the audit. What a node has not written when it is killed is lost.
type Auditor struct {
	store  *store.Store
	peers  *Peers
	logger *slog.Logger
	wake   chan struct{}

	mu    sync.Mutex
	calls map[auditKey]*fifev1.AuditEntry
}

// auditKey is what like calls have in common.
type auditKey struct {
	actor, host, method, resource, reason string
	code                                  codes.Code
}

const (
	auditPause   = time.Second // between two commands of a node
	auditBatch   = 20          // most entries of one
	auditTimeout = 5 * time.Second
	// maxCallText is the most bytes of a text that a caller who was refused puts into
	// the audit.
	maxCallText = 128
)

// NewAuditor returns an auditor of the node of the given store, which is not running.
func NewAuditor(s *store.Store, p *Peers, logger *slog.Logger) *Auditor {
	return &Auditor{store: s, peers: p, logger: logger, wake: make(chan struct{}, 1), calls: map[auditKey]*fifev1.AuditEntry{}}
}

// Run writes what there is to be written until ctx ends.
func (a *Auditor) Run(ctx context.Context) {
	for {
		select {
		case <-a.wake:
		case <-ctx.Done():
			return
		}
		if err := a.flush(ctx); err != nil && ctx.Err() == nil {
			a.logger.Warn("refused calls are not in the audit yet; trying again", "error", err)
			a.nudge()
		}
		select {
		case <-time.After(auditPause):
		case <-ctx.Done():
			return
		}
	}
}

func (a *Auditor) nudge() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// flush writes what there is, and takes it back if that has failed.
func (a *Auditor) flush(ctx context.Context) error {
	a.mu.Lock()
	calls := a.calls
	a.calls = map[auditKey]*fifev1.AuditEntry{}
	a.mu.Unlock()
	if len(calls) == 0 || a.store.State().AuditLimits() == (store.AuditLimits{}) {
		return nil
	}
	req := &fifev1.RecordCallsRequest{}
	for _, c := range calls {
		req.Calls = append(req.Calls, c)
	}
	err := a.record(ctx, req)
	if err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		for key, c := range calls {
			a.count(key, c)
		}
	}
	return err
}

// record has the leader write calls, over gRPC even if that is this node: there is
// one path.
func (a *Auditor) record(ctx context.Context, req *fifev1.RecordCallsRequest) error {
	leader, ok := a.store.Leader()
	if !ok {
		return store.ErrNotLeader
	}
	conn, err := a.peers.Conn(leader.GRPCAddress)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	_, err = fifev1.NewNodeServiceClient(conn).RecordCalls(ctx, req)
	return err
}

// count adds a call to those like it. Beyond a bound all calls are alike.
func (a *Auditor) count(key auditKey, c *fifev1.AuditEntry) {
	if _, known := a.calls[key]; !known && len(a.calls) >= auditBatch-1 {
		key = auditKey{reason: reasonMany, code: codes.ResourceExhausted}
		c = &fifev1.AuditEntry{
			Time: c.GetTime(), Code: int32(key.code), Reason: key.reason, Count: c.GetCount(),
			Message: "calls that were refused and are not listed one by one, as there were too many",
		}
	}
	if known, ok := a.calls[key]; ok {
		known.Count += c.GetCount()
		return
	}
	a.calls[key] = c
}

// reasonMany is the reason of an entry that stands for calls of all kinds.
const reasonMany = "MANY_REFUSED"

// auditNote is what is known of a call under way. It is in the call's context.
type auditNote struct {
	actor, source string
	logged        bool // whether the log or another node has recorded the call
}

type auditNoteKey struct{}

// noteOf returns the note of a call, or one that nobody reads.
func noteOf(ctx context.Context) *auditNote {
	if n, ok := ctx.Value(auditNoteKey{}).(*auditNote); ok {
		return n
	}
	return &auditNote{}
}

// anonymous is the actor of a call whose caller is not known.
const anonymous = "anonymous"

// actorOf returns who calls, as bindings, the log and the audit name him.
func actorOf(ctx context.Context) string {
	if caller, ok := identity.FromContext(ctx); ok {
		return actorName(caller)
	}
	return anonymous
}

func actorName(id identity.Identity) string { return string(id.Class) + ":" + id.Name }

// sourceHeader carries the address of the caller of a call that a node passes on.
const sourceHeader = "fife-source"

// sourceOf returns where a call came from. A node that passes a call on is believed:
// see Callers for who may say that it does.
func sourceOf(ctx context.Context) string {
	if said := metadata.ValueFromIncomingContext(ctx, sourceHeader); len(said) == 1 &&
		len(metadata.ValueFromIncomingContext(ctx, forwardedBy)) > 0 {
		return said[0]
	}
	return peerOf(ctx)
}

// peerOf returns the other end of a call's connection.
func peerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}

// audits reports whether a call has to be in the audit.
func audits(fullMethod string, req any, code codes.Code) bool {
	if code == codes.PermissionDenied || code == codes.Unauthenticated {
		return true
	}
	service, method := path.Split(fullMethod)
	if !strings.HasPrefix(service, "/fife.v1.") || service == "/fife.v1.NodeService/" {
		return false
	}
	for _, reads := range []string{"Get", "List", "Watch", "Wait", "Explain", "Export", "Sync", "Test", "Verify", "WhoAmI"} {
		if strings.HasPrefix(method, reads) {
			return false
		}
	}
	dry, ok := req.(changeRequest)
	return !ok || !dry.GetValidateOnly()
}

// observe notes what a call has come to, unless the log has.
func (a *Auditor) observe(n *auditNote, fullMethod string, req any, err error) {
	code := status.Code(err)
	if n.logged || !audits(fullMethod, req, code) {
		return
	}
	c := &fifev1.AuditEntry{
		Time: timestamppb.New(time.Now()), Actor: n.actor, Source: n.source, Method: path.Base(fullMethod), Code: int32(code), Count: 1,
	}
	if m, ok := req.(proto.Message); ok {
		c.Resource = clip(resourceOf(m.ProtoReflect()))
	}
	if err != nil {
		c.Reason, c.Message = reasonOf(err), clip(status.Convert(err).Message())
		if c.Reason == "" {
			c.Reason = strings.ToUpper(code.String())
		}
	}
	host, _, _ := net.SplitHostPort(n.source) // one without a port is none
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count(auditKey{n.actor, host, c.GetMethod(), c.GetResource(), c.GetReason(), code}, c)
	a.nudge()
}

// Refused notes a request that was refused before it became a call, as nobody knows who
// has sent it.
func (a *Auditor) Refused(source, method, message string) {
	n := &auditNote{actor: anonymous, source: source}
	a.observe(n, method, nil, status.Error(codes.Unauthenticated, message))
}

func clip(text string) string {
	if len(text) > maxCallText {
		text = text[:maxCallText]
	}
	return strings.ToValidUTF8(text, "?")
}

// resourceOf returns the name of the resource that a request is about, or an empty
// text.
func resourceOf(m protoreflect.Message) string {
	fields := m.Descriptor().Fields()
	text := func(name protoreflect.Name) string {
		if f := fields.ByName(name); f != nil && f.Kind() == protoreflect.StringKind && !f.IsList() {
			return m.Get(f).String()
		}
		return ""
	}
	if name := text("name"); name != "" {
		return name
	}
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.Kind() != protoreflect.MessageKind || f.IsList() || f.IsMap() || !m.Has(f) {
			continue
		}
		if name := f.Message().Fields().ByName("name"); name != nil && name.Kind() == protoreflect.StringKind {
			if value := m.Get(f).Message().Get(name).String(); value != "" {
				return value
			}
		}
	}
	switch parent := text("parent"); {
	case parent != "" && text("stage_id") != "":
		return parent + "/stages/" + text("stage_id")
	case parent != "":
		return parent
	case text("api_id") != "":
		return "apis/" + text("api_id")
	case text("node_id") != "":
		return "members/" + text("node_id")
	}
	return ""
}

// unary and stream are outside of everything that may refuse a call.
func (a *Auditor) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	n := &auditNote{actor: anonymous, source: peerOf(ctx)}
	resp, err := handler(context.WithValue(ctx, auditNoteKey{}, n), req)
	a.observe(n, info.FullMethod, req, err)
	return resp, err
}

func (a *Auditor) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	n := &auditNote{actor: anonymous, source: peerOf(stream.Context())}
	err := handler(srv, notedStream{stream, context.WithValue(stream.Context(), auditNoteKey{}, n)})
	a.observe(n, info.FullMethod, nil, err)
	return err
}

// noteUnary and noteStream note who calls once that is verified.
func noteUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	n := noteOf(ctx)
	n.actor, n.source = actorOf(ctx), sourceOf(ctx)
	return handler(ctx, req)
}

func noteStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	n := noteOf(stream.Context())
	n.actor, n.source = actorOf(stream.Context()), sourceOf(stream.Context())
	return handler(srv, stream)
}

// notedStream is a stream whose context has the note of its call.
type notedStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the context with the note.
func (s notedStream) Context() context.Context { return s.ctx }
