package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

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
	callerHeader   = "fife-caller"        // its SPIFFE ID, or nothing for one who has none
	signedInHeader = "fife-caller-oidc"   // the name of one of class identity.SignedIn
	groupHeader    = "fife-caller-group"  // a group of his; there may be several
	issuedHeader   = "fife-caller-issued" // when the certificate was made that he has shown (RFC 3339)
	lastsHeader    = "fife-caller-lasts"  // and for how long
)

// shownKey is where a context has the certificate that the caller has shown.
type shownKey struct{}

// shown is what renewing a certificate asks of the one that was shown.
type shown struct {
	issued time.Time
	lasts  time.Duration
}

func withShown(ctx context.Context, p identity.Peer) context.Context {
	return context.WithValue(ctx, shownKey{}, shown{p.Issued, p.NotAfter.Sub(p.Issued)})
}

// Callers finds out who calls, by the certificate of the connection, and whether
// that class of callers may call the service at all. The caller is then in the
// context: see identity.FromContext. A nil *Callers is for plaintext ports, where
// nobody is known and everybody may call. It is safe for concurrent use.
type Callers struct {
	admits  identity.Check
	bearers *Bearers
	limiter *limiter

	mu      sync.Mutex
	streams map[*openStream]struct{}
}

// NewCallers returns what verifies the callers of a port that speaks TLS by
// identity.ServerConfig. admits has the last word on every call of a certificate's
// holder, as connections outlast what was known when they were made.
//
// Who shows no certificate may show a bearer token. Nobody gets more than limits.
func NewCallers(admits identity.Check, bearers *Bearers, limits Limits) *Callers {
	return &Callers{admits: admits, bearers: bearers, limiter: newLimiter(limits), streams: map[*openStream]struct{}{}}
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
		ctx = withoutHeaders(ctx, clusterHeader, forwardedBy, callerHeader, signedInHeader, groupHeader, issuedHeader, lastsHeader, sourceHeader, tokenHeader)
		if text, shown := bearerOf(ctx); shown && !ok {
			caller, ctx, err = c.bearers.caller(ctx, text)
			return caller, err == nil, ctx, err
		}
		if ok {
			ctx = withShown(ctx, holder)
		}
		return holder.Identity, ok, ctx, nil
	}
	if len(metadata.ValueFromIncomingContext(ctx, forwardedBy)) == 0 {
		return holder.Identity, true, withShown(ctx, holder), nil
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
	issued, lasts := metadata.ValueFromIncomingContext(ctx, issuedHeader), metadata.ValueFromIncomingContext(ctx, lastsHeader)
	if err == nil && len(issued) == 1 && len(lasts) == 1 {
		var of shown
		var wrong error
		of.issued, err = time.Parse(time.RFC3339, issued[0])
		of.lasts, wrong = time.ParseDuration(lasts[0])
		ctx, err = context.WithValue(ctx, shownKey{}, of), errors.Join(err, wrong)
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
	if c == nil {
		return handler(ctx, req)
	}
	verified, err := c.verify(ctx, info.FullMethod)
	if counts(ctx, info.FullMethod) {
		if limited := c.limiter.call(ctx, verified); limited != nil {
			return nil, limited // whoever guesses tokens is to learn of it no faster
		}
	}
	if err != nil {
		return nil, err
	}
	return handler(verified, req)
}

// counts reports whether a call is one of those that are limited. A load balancer's
// question after the health is not to fail for what others behind its address do, and a
// signed request was counted as one whatever calls it takes.
func counts(ctx context.Context, fullMethod string) bool {
	_, signed := ctx.Value(signerKey{}).(signer)
	return !signed && fullMethod != grpc_health_v1.Health_Check_FullMethodName
}

// Count counts a request over HTTP. signed is the context that AsSigner has returned; nil
// if the request was refused. The error is a status that says when to try
// again.
func (c *Callers) Count(signed context.Context, source net.Addr) error {
	return toStatus(c.limiter.call(peer.NewContext(context.Background(), &peer.Peer{Addr: source}), signed))
}

func (c *Callers) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if c == nil {
		return handler(srv, stream)
	}
	ctx, err := c.verify(stream.Context(), info.FullMethod)
	closed, limited := c.limiter.open(stream.Context(), ctx)
	if limited != nil {
		return limited
	}
	defer closed()
	if err != nil {
		return err
	}
	s, end := c.bound(ctx)
	defer end()
	if err := c.recheck(s); err != nil { // what has changed before it was registered
		return err
	}
	return handler(srv, calledStream{stream, context.WithValue(ctx, openStreamKey{}, s)})
}

// calledStream is a stream whose context names its caller.
type calledStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the context with the caller.
func (s calledStream) Context() context.Context { return s.ctx }
