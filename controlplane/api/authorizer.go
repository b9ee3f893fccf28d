package api

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// Policy is what was agreed on about who may do what.
type Policy interface {
	BindingsOf(subjects []access.Subject) iter.Seq[access.Binding]
	UserToken(id string) (access.Token, bool)
}

// Policies returns what is agreed on at the time of a call. While nothing is, it waits,
// for a while: nobody has been denied anything yet.
type Policies func(ctx context.Context) (Policy, error)

// Authorizer decides whether a caller, whom Callers has verified, may do what a
// request asks for. It looks at every message of a stream, in both directions; and a
// role that is taken ends the streams that it allowed: see Callers.Recheck. A nil *Authorizer is for plaintext ports,
// where everybody may do everything. It is safe for concurrent use.
type Authorizer struct {
	policy Policies
}

// NewAuthorizer returns an Authorizer that decides by what policy returns at each
// call.
func NewAuthorizer(policy Policies) *Authorizer { return &Authorizer{policy} }

// CheckMethods returns an error if somebody has registered a method of which nothing
// says who may call it.
func CheckMethods(services map[string]grpc.ServiceInfo) error {
	var all []string
	for name := range maps.Keys(services) {
		for _, m := range services[name].Methods {
			all = append(all, "/"+name+"/"+m.Name)
		}
	}
	return access.CheckMethods(all)
}

// grant is what a call was allowed by.
type grant struct {
	caller     access.Caller
	permission access.Permission
	resource   access.Resource
}

type grantKey struct{}

// authorizationOf returns what a command of the call carries: who called, and what
// must still be allowed when the command is applied.
func authorizationOf(ctx context.Context) (actor string, _ *storev1.Authorization) {
	g, ok := ctx.Value(grantKey{}).(grant)
	if !ok {
		return actorOf(ctx), nil
	}
	return string(g.caller.Subject), &storev1.Authorization{
		Groups: g.caller.Groups, Token: g.caller.Token,
		Permission: string(g.permission), Api: g.resource.API, Stage: g.resource.Stage,
	}
}

// callerOf returns who calls as bindings go; ok is false if it is no user.
func callerOf(ctx context.Context) (c access.Caller, ok bool) {
	id, ok := identity.FromContext(ctx)
	switch {
	case ok && id.Class == identity.User:
		token, _ := ctx.Value(tokenKey{}).(string)
		return access.Caller{Subject: access.Subject(access.UserPrefix + id.Name), Token: token}, true
	case ok && id.Class == identity.SignedIn:
		s, _ := ctx.Value(signedInKey{}).(signedIn)
		return access.Caller{Subject: access.Subject(access.OIDCPrefix + id.Name), Groups: s.groups}, true
	}
	return access.Caller{}, false
}

// decide returns the context of a call with what it is allowed by, and what the
// decision was about; nil if there is nothing to decide.
func (a *Authorizer) decide(ctx context.Context, fullMethod string, req any) (*grant, error) {
	m, ok := access.MethodOf(fullMethod)
	if !ok {
		return nil, fmt.Errorf("%w: nobody may call %s", ErrDenied, fullMethod)
	}
	id, known := identity.FromContext(ctx)
	switch {
	case m.Anyone:
		return nil, nil
	case !known:
		return nil, fmt.Errorf("%w: show a client certificate", ErrUnauthenticated)
	case !admitted(m, id.Class):
		return nil, fmt.Errorf("%w: %s is not for %s", ErrDenied, fullMethod, id)
	}
	caller, isUser := callerOf(ctx)
	if !isUser || m.Permission == "" {
		return nil, nil
	}
	g := &grant{caller: caller, permission: m.Permission}
	if message, ok := req.(proto.Message); ok {
		r := message.ProtoReflect()
		g.permission, g.resource = m.Needs(
			func(path string) string { v, _ := fieldOf(r, path); return v.String() },
			func(path string, except []string) bool { return sets(r, path, except) },
		)
	}
	watchGrant(ctx, func() error { return a.allows(ctx, *g) })
	return g, a.allows(ctx, *g)
}

func (a *Authorizer) allows(ctx context.Context, g grant) error {
	policy, err := a.policy(ctx)
	if err != nil {
		return err
	}
	return access.Decide(policy.BindingsOf(g.caller.Subjects()), g.caller, g.permission, g.resource)
}

// fieldOf returns a field of a message by its path, and whether it is set.
func fieldOf(m protoreflect.Message, path string) (protoreflect.Value, bool) {
	name, rest, nested := strings.Cut(path, ".")
	field := m.Descriptor().Fields().ByName(protoreflect.Name(name))
	if nested {
		return fieldOf(m.Get(field).Message(), rest)
	}
	return m.Get(field), m.Has(field)
}

// sets reports whether a message sets a field; of a list, to others than some texts.
func sets(m protoreflect.Message, path string, except []string) bool {
	value, set := fieldOf(m, path)
	if !set || len(except) == 0 {
		return set
	}
	for i := range value.List().Len() {
		if !slices.Contains(except, value.List().Get(i).String()) {
			return true
		}
	}
	return false
}

func (a *Authorizer) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if a == nil {
		return handler(ctx, req)
	}
	g, err := a.decide(ctx, info.FullMethod, req)
	if err != nil {
		return nil, err
	}
	if g != nil {
		ctx = context.WithValue(ctx, grantKey{}, *g)
	}
	return handler(ctx, req)
}

func (a *Authorizer) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if a == nil {
		return handler(srv, stream)
	}
	// A request that names nothing needs the permission on everything, if on anything.
	m, _ := access.MethodOf(info.FullMethod)
	if m.Users && (m.Some || m.Name == "" && m.API == "") || !m.Users {
		g, err := a.decide(stream.Context(), info.FullMethod, nil)
		if err != nil {
			return err
		}
		if g == nil {
			return handler(srv, stream)
		}
	}
	return handler(srv, &authorizedStream{ServerStream: stream, authorizer: a, method: info.FullMethod})
}

// authorizedStream decides on every message of a stream.
type authorizedStream struct {
	grpc.ServerStream
	authorizer *Authorizer
	method     string
	grant      *grant // of the last message received
}

// RecvMsg receives a message and decides on what it asks for.
func (s *authorizedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	var err error
	s.grant, err = s.authorizer.decide(s.Context(), s.method, m)
	return err
}

// SendMsg sends a message if what was asked for last is still allowed.
func (s *authorizedStream) SendMsg(m any) error {
	if g := s.grant; g != nil {
		if err := s.authorizer.allows(s.Context(), *g); err != nil {
			return err
		}
	}
	return s.ServerStream.SendMsg(m)
}

// Context returns the context with what the last message was allowed by.
func (s *authorizedStream) Context() context.Context {
	if s.grant == nil {
		return s.ServerStream.Context()
	}
	return context.WithValue(s.ServerStream.Context(), grantKey{}, *s.grant)
}

// visible yields the elements that a caller may see by a permission: all of them if
// the call was not decided on.
func visible[T any](
	ctx context.Context, policy Policy, p access.Permission, all iter.Seq[T], resource func(T) access.Resource,
) iter.Seq[T] {
	g, ok := ctx.Value(grantKey{}).(grant)
	if !ok {
		return all
	}
	bindings := slices.Collect(policy.BindingsOf(g.caller.Subjects()))
	return func(yield func(T) bool) {
		for e := range all {
			if access.Decide(slices.Values(bindings), g.caller, p, resource(e)) == nil && !yield(e) {
				return
			}
		}
	}
}

func resourceOfAPI(a *release.API) access.Resource { return access.Resource{API: a.ID} }

func resourceOfStage(s *release.Stage) access.Resource {
	return access.Resource{API: s.API, Stage: s.ID}
}
