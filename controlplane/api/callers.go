package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/identity"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// Errors of callers.
var (
	// ErrUnauthenticated says that a caller has not said who it is, or cannot prove it.
	ErrUnauthenticated = errors.New("the caller is not known")
	// ErrDenied says that a caller may not do what it asks for.
	ErrDenied = errors.New("permission denied")
)

// What a node says of the caller of a call that it passes on.
const (
	callerHeader   = "fife-caller"       // its SPIFFE ID, or nothing for one who has none
	signedInHeader = "fife-caller-oidc"  // the name of one of class identity.SignedIn
	groupHeader    = "fife-caller-group" // a group of his; there may be several
)

// Callers finds out who calls, by the certificate of the connection, and whether
// that class of callers may call the service at all. The caller is then in the
// context: see identity.FromContext. A nil *Callers is for plaintext ports, where
// nobody is known and everybody may call. It is safe for concurrent use.
type Callers struct {
	admits  identity.Check
	bearers *Bearers

	mu      sync.Mutex
	streams map[*openStream]struct{}
}

// openStream is a stream that is ended when its caller is no longer admitted.
type openStream struct {
	caller    identity.Peer
	transport interface{ WriteStatus(*status.Status) error }
}

// maxStreamAge is how long a stream may live on the word of the certificate that it
// began with. A tenth more or less keeps those that began together apart.
const maxStreamAge = 50 * time.Minute

// NewCallers returns what verifies the callers of a port that speaks TLS by
// identity.ServerConfig. admits has the last word on every call of a certificate's
// holder, as connections outlast what was known when they were made.
//
// Who shows no certificate may show a bearer token.
func NewCallers(admits identity.Check, bearers *Bearers) *Callers {
	return &Callers{admits: admits, bearers: bearers, streams: map[*openStream]struct{}{}}
}

// admitted reports whether a class of callers may call a method; "" is those who are
// not known.
func admitted(m access.Method, class identity.Class) bool {
	switch class {
	case identity.Server:
		return m.Servers || m.Anyone
	case identity.Agent:
		return m.Agents || m.Anyone
	case identity.User, identity.SignedIn:
		return m.Users || m.Anyone
	}
	return m.Anyone
}

// verify returns the context of a call with its caller in it.
func (c *Callers) verify(ctx context.Context, fullMethod string) (context.Context, error) {
	if c == nil {
		return ctx, nil
	}
	caller, known, ctx, err := c.caller(ctx, fullMethod)
	if err != nil {
		return nil, err
	}
	if known {
		noteOf(ctx).actor = actorName(caller)
	}
	m, ok := access.MethodOf(fullMethod)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: nobody may call %s", ErrDenied, fullMethod)
	case !known && !admitted(m, ""):
		return nil, fmt.Errorf("%w: show a client certificate or a bearer token", ErrUnauthenticated)
	case !known:
		return ctx, nil
	case !admitted(m, caller.Class):
		return nil, fmt.Errorf("%w: %s is not for %s", ErrDenied, fullMethod, caller)
	}
	return identity.NewContext(ctx, caller), nil
}

// caller returns who calls. A node of the cluster is believed when it says for whom;
// what only nodes may say is taken out of the calls of others.
func (c *Callers) caller(ctx context.Context, fullMethod string) (caller identity.Identity, known bool, _ context.Context, err error) {
	if s, ok := ctx.Value(signerKey{}).(signer); ok { // no connection puts it there
		c.bearers.note(s.key, time.Now())
		return s.Identity, true, context.WithValue(ctx, tokenKey{}, s.key), nil
	}
	holder, ok := holderOf(ctx)
	renews := holder.Class == identity.Agent && fullMethod == fifev1.JoinService_IssueCertificate_FullMethodName
	if ok && time.Now().After(holder.NotAfter) && !renews {
		return caller, false, nil, fmt.Errorf("%w: the certificate of %s has expired at %s",
			ErrUnauthenticated, holder, holder.NotAfter.UTC().Format(time.RFC3339))
	}
	if ok {
		if err := c.admits(holder); err != nil {
			return caller, false, nil, fmt.Errorf("%w: %s: %w", ErrUnauthenticated, holder, err)
		}
	}
	if !ok || holder.Class != identity.Server {
		ctx = withoutHeaders(ctx, clusterHeader, forwardedBy, callerHeader, signedInHeader, groupHeader, sourceHeader, tokenHeader)
		if text, shown := bearerOf(ctx); shown && !ok {
			caller, ctx, err = c.bearers.caller(ctx, text)
			return caller, err == nil, ctx, err
		}
		return holder.Identity, ok, ctx, nil
	}
	if len(metadata.ValueFromIncomingContext(ctx, forwardedBy)) == 0 {
		return holder.Identity, true, ctx, nil
	}
	ctx, caller, err = c.behalf(ctx, holder.Identity)
	return caller, caller != identity.Identity{}, ctx, err
}

// behalf returns whom a node passes a call on for, and the context with what else it
// says of him; nobody if the caller is not known.
func (c *Callers) behalf(ctx context.Context, node identity.Identity) (context.Context, identity.Identity, error) {
	if said := metadata.ValueFromIncomingContext(ctx, signedInHeader); len(said) == 1 {
		caller := identity.Identity{Cluster: node.Cluster, Class: identity.SignedIn, Name: said[0]}
		s := signedIn{groups: metadata.ValueFromIncomingContext(ctx, groupHeader)}
		return context.WithValue(ctx, signedInKey{}, s), caller, access.Subject(access.OIDCPrefix + caller.Name).Check()
	}
	said := metadata.ValueFromIncomingContext(ctx, callerHeader)
	if len(said) != 1 || said[0] == "" {
		return ctx, identity.Identity{}, nil
	}
	caller, err := identity.Parse(said[0])
	if err == nil && caller.Cluster != node.Cluster {
		err = fmt.Errorf("%w: %s is of another cluster than %s", ErrUnauthenticated, caller, node)
	}
	if token := metadata.ValueFromIncomingContext(ctx, tokenHeader); len(token) == 1 {
		ctx = context.WithValue(ctx, tokenKey{}, token[0])
	}
	return ctx, caller, err
}

// holderOf returns whose certificate the connection of a call has shown, if any.
func holderOf(ctx context.Context) (identity.Peer, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return identity.Peer{}, false
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return identity.Peer{}, false
	}
	return identity.PeerOf(info.State.PeerCertificates)
}

func withoutHeaders(ctx context.Context, names ...string) context.Context {
	md, ok := metadata.FromIncomingContext(ctx) // a copy
	if !ok {
		return ctx
	}
	for _, name := range names {
		md.Delete(name)
	}
	return metadata.NewIncomingContext(ctx, md)
}

func (c *Callers) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, err := c.verify(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (c *Callers) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if c == nil {
		return handler(srv, stream)
	}
	ctx, err := c.verify(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	defer c.bound(ctx)()
	return handler(srv, calledStream{stream, ctx})
}

// bound ends a stream when its caller has to prove anew who it is, or is no longer
// admitted: its client opens another. The returned function must be called at its end.
func (c *Callers) bound(ctx context.Context) (end func()) {
	caller, certified := holderOf(ctx)
	proven := caller.NotAfter
	if !certified {
		person, _ := ctx.Value(signedInKey{}).(signedIn)
		proven = person.expires
	}
	s := &openStream{caller: caller}
	var ok bool
	if s.transport, ok = grpc.ServerTransportStreamFromContext(ctx).(interface {
		WriteStatus(*status.Status) error
	}); !ok || proven.IsZero() {
		return func() {}
	}
	age := maxStreamAge - maxStreamAge/10 + rand.N(maxStreamAge/5)
	timer := time.AfterFunc(min(age, time.Until(proven)), func() {
		s.end(status.New(codes.Unavailable, "the stream is as old as it may be; open another"))
	})
	if !certified {
		return func() { timer.Stop() }
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams[s] = struct{}{}
	return func() {
		timer.Stop()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.streams, s)
	}
}

// end gives the stream its final status, whereupon its handler's calls return.
func (s *openStream) end(why *status.Status) {
	_ = s.transport.WriteStatus(why) // it fails if the stream is over
}

// Streaming returns whose certificates the open streams began with.
func (c *Callers) Streaming() (out []identity.Peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.streams {
		out = append(out, s.caller)
	}
	return out
}

// Recheck ends the streams whose callers are no longer admitted.
func (c *Callers) Recheck() {
	c.mu.Lock()
	open := slices.Collect(maps.Keys(c.streams))
	c.mu.Unlock()
	for _, s := range open {
		if err := c.admits(s.caller); err != nil {
			s.end(status.New(codes.Unauthenticated, fmt.Sprintf("%s: %v", s.caller, err)))
		}
	}
}

// calledStream is a stream whose context names its caller.
type calledStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the context with the caller.
func (s calledStream) Context() context.Context { return s.ctx }
