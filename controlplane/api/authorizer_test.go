package api

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/identity"
	_ "github.com/fifegateway/fife/gen/fife/discovery/v1" // its descriptors
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

var update = flag.Bool("update", false, "write the matrix of who may call what instead of comparing")

// policy is a Policy of bindings that can be changed.
type policy struct {
	bindings []access.Binding
	tokens   []access.Token
}

func (p *policy) UserToken(id string) (access.Token, bool) {
	i := slices.IndexFunc(p.tokens, func(t access.Token) bool { return t.ID == id })
	if i < 0 {
		return access.Token{}, false
	}
	return p.tokens[i], true
}

func (p *policy) BindingsOf(subjects []access.Subject) iter.Seq[access.Binding] {
	return slices.Values(slices.DeleteFunc(slices.Clone(p.bindings), func(b access.Binding) bool {
		return !slices.Contains(subjects, b.Subject)
	}))
}

// ourServices yields all services whose descriptors are linked in, of Fife's own.
func ourServices(yield func(protoreflect.ServiceDescriptor) bool) {
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			if strings.HasPrefix(string(f.Package()), "fife.") && !yield(f.Services().Get(i)) {
				return false
			}
		}
		return true
	})
}

// errReached is what the services behind an authorizer answer.
var errReached = status.Error(codes.DataLoss, "reached")

func newMessage(d protoreflect.MessageDescriptor) proto.Message {
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		panic(err)
	}
	return t.New().Interface()
}

// echo describes a service whose methods read one request and end with errReached.
func echo(s protoreflect.ServiceDescriptor) *grpc.ServiceDesc {
	desc := &grpc.ServiceDesc{ServiceName: string(s.FullName())}
	for i := range s.Methods().Len() {
		m := s.Methods().Get(i)
		full := fmt.Sprintf("/%s/%s", s.FullName(), m.Name())
		if m.IsStreamingClient() || m.IsStreamingServer() {
			desc.Streams = append(desc.Streams, grpc.StreamDesc{
				StreamName: string(m.Name()), ServerStreams: m.IsStreamingServer(), ClientStreams: m.IsStreamingClient(),
				Handler: func(_ any, stream grpc.ServerStream) error {
					if err := stream.RecvMsg(newMessage(m.Input())); err != nil {
						return err
					}
					return errReached
				},
			})
			continue
		}
		desc.Methods = append(desc.Methods, grpc.MethodDesc{
			MethodName: string(m.Name()),
			Handler: func(srv any, ctx context.Context, dec func(any) error, next grpc.UnaryServerInterceptor) (any, error) {
				in := newMessage(m.Input())
				if err := dec(in); err != nil {
					return nil, err
				}
				return next(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: full}, func(context.Context, any) (any, error) {
					return nil, errReached
				})
			},
		})
	}
	return desc
}

// as says for a call whose certificate its connection is to have shown: CLASS/NAME.
func as(ctx context.Context, who string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "test-caller", who)
}

// known puts the caller of a test's call into its context, as Callers would.
func known(ctx context.Context) context.Context {
	who := metadata.ValueFromIncomingContext(ctx, "test-caller")
	if len(who) == 0 || who[0] == "" {
		return ctx
	}
	class, name, _ := strings.Cut(who[0], "/")
	return identity.NewContext(ctx, identity.Identity{Cluster: "c", Class: identity.Class(class), Name: name})
}

// serveEcho serves all of Fife's services behind an authorizer.
func serveEcho(t *testing.T, p Policy) *grpc.ClientConn {
	t.Helper()
	a := NewAuthorizer(func(context.Context) (Policy, error) { return p, nil })
	logger := slog.New(slog.DiscardHandler)
	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(unaryStatus(logger),
			func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				return handler(known(ctx), req)
			}, a.unary),
		grpc.ChainStreamInterceptor(streamStatus(logger),
			func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
				return handler(srv, calledStream{stream, known(stream.Context())})
			}, a.stream),
	)
	for s := range ourServices {
		server.RegisterService(echo(s), nil)
	}
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	reflection.Register(server)
	if err := CheckMethods(server.GetServiceInfo()); err != nil {
		t.Fatal(err)
	}
	listener := bufconn.Listen(64 << 10)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///bufnet", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close() // the server goes next
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return conn
}

// callMethod calls a method with a request and returns how that ended.
func callMethod(ctx context.Context, conn *grpc.ClientConn, m protoreflect.MethodDescriptor, req proto.Message) error {
	full := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
	if !m.IsStreamingClient() && !m.IsStreamingServer() {
		return conn.Invoke(ctx, full, req, newMessage(m.Output()))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, full)
	if err != nil {
		return err
	}
	_ = stream.SendMsg(req) // what is received says more
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return stream.RecvMsg(newMessage(m.Output()))
}

// about fills the fields that name what a request is about. It knows the API's
// conventions and not the table of permissions.
func about(m protoreflect.MethodDescriptor, api, stage string) proto.Message {
	req := newMessage(m.Input())
	names := map[string]string{
		"ApiService": "apis/" + api, "StageService": "apis/" + api + "/stages/" + stage,
		"DeploymentService": "apis/" + api + "/deployments/1",
	}
	parents := map[string]string{
		"ListStageRevisions":   "apis/" + api + "/stages/" + stage,
		"ListDeploymentRoutes": "apis/" + api + "/deployments/1",
	}
	set := func(r protoreflect.Message, field, value string) {
		if f := r.Descriptor().Fields().ByName(protoreflect.Name(field)); f != nil && f.Kind() == protoreflect.StringKind && value != "" {
			r.Set(f, protoreflect.ValueOfString(value))
		}
	}
	r, service := req.ProtoReflect(), string(m.Parent().Name())
	set(r, "name", names[service])
	set(r, "parent", "apis/"+api)
	set(r, "parent", parents[string(m.Name())])
	set(r, "api_id", api)
	set(r, "stage_id", stage)
	for _, nested := range []string{"api", "stage", "binding"} {
		if f := r.Descriptor().Fields().ByName(protoreflect.Name(nested)); f != nil && f.Message() != nil {
			inner := r.Mutable(f).Message()
			set(inner, "name", names[service])
			if nested == "binding" {
				set(inner, "api", api)
				set(inner, "stage", stage)
			}
		}
	}
	return req
}

// variants returns the requests of a method that differ in what they ask for.
func variants(m protoreflect.MethodDescriptor, api, stage string) map[string]proto.Message {
	plain := about(m, api, stage)
	all := map[string]proto.Message{"": plain}
	fields := plain.ProtoReflect().Descriptor().Fields()
	if f := fields.ByName("break_glass"); f != nil {
		glass := proto.Clone(plain)
		glass.ProtoReflect().Set(f, protoreflect.ValueOfBool(true))
		all[" with break_glass"] = glass
	}
	switch req := proto.Clone(plain).(type) {
	case *fifev1.CreateDeploymentRequest:
		draft, settings, canary := proto.CloneOf(req), proto.CloneOf(req), proto.CloneOf(req)
		draft.StageId = ""
		settings.StageMask = &fieldmaskpb.FieldMask{Paths: []string{"canary", "variables"}}
		canary.StageMask = &fieldmaskpb.FieldMask{Paths: []string{"canary"}}
		all[" without stage_id"], all[" with variables"], all[" with a canary"] = draft, settings, canary
	case *fifev1.EditRoutesRequest:
		req.UpdateMask = &fieldmaskpb.FieldMask{Paths: []string{"description"}}
		all[" with fields of the API"] = req
	case *fifev1.ImportRoutesRequest:
		req.AllowMissing = true
		all[" with allow_missing"] = req
	}
	return all
}

// TestMatrix calls every method there is as everybody there is and compares what came
// of it with testdata/permissions.golden. Run with -update after a wanted change, and
// read the difference.
func TestMatrix(t *testing.T) {
	p := &policy{}
	for _, role := range access.Roles() {
		p.bindings = append(p.bindings,
			access.Binding{Subject: access.Subject("user:" + role), Role: role, API: "demo", Stage: "prod"},
			access.Binding{Subject: access.Subject("user:" + role + "-all"), Role: role, API: "*", Stage: "*"})
	}
	conn := serveEcho(t, p)
	letter := func(err error) string {
		switch status.Code(err) {
		case codes.DataLoss:
			return "y"
		case codes.PermissionDenied:
			return "n"
		case codes.Unauthenticated:
			return "?"
		}
		t.Errorf("got %v", err)
		return "!"
	}
	var out strings.Builder
	fmt.Fprint(&out, `# Who may call what. Of nobody (?: not known), an agent, a server and a user without
# a role: whether the call is let through. Of users with a role for stage prod of API
# demo: whether it is on that stage, on another of demo, on one of another API; and
# fourth on any, with the role for everything.
`)
	fmt.Fprintf(&out, "%-68s nobody agent server stranger", "")
	for _, role := range access.Roles() {
		fmt.Fprintf(&out, " %8s", role)
	}
	fmt.Fprintln(&out)
	var lines []string
	for s := range ourServices {
		for i := range s.Methods().Len() {
			m := s.Methods().Get(i)
			for what := range variants(m, "demo", "prod") {
				ask := func(who, api, stage string) string {
					return letter(callMethod(as(t.Context(), who), conn, m, variants(m, api, stage)[what]))
				}
				line := fmt.Sprintf("%-68s %6s %5s %6s %8s", fmt.Sprintf("/%s/%s%s", s.FullName(), m.Name(), what),
					ask("", "demo", "prod"), ask("agent/a", "demo", "prod"), ask("server/s", "demo", "prod"), ask("user/stranger", "demo", "prod"))
				for _, role := range access.Roles() {
					user := "user/" + string(role)
					line += fmt.Sprintf(" %8s", ask(user, "demo", "prod")+ask(user, "demo", "other")+
						ask(user, "other", "prod")+ask(user+"-all", "other", "other"))
				}
				lines = append(lines, line)
			}
		}
	}
	slices.Sort(lines)
	fmt.Fprintln(&out, strings.Join(lines, "\n"))
	const golden = "testdata/permissions.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// TestRows: there are no rows for methods that do not exist.
func TestRows(t *testing.T) {
	exists := map[string]bool{}
	for s := range ourServices {
		for i := range s.Methods().Len() {
			exists[fmt.Sprintf("/%s/%s", s.FullName(), s.Methods().Get(i).Name())] = true
		}
	}
	for _, name := range access.Methods() {
		if strings.HasPrefix(name, "/fife.") && !exists[name] {
			t.Errorf("%s does not exist", name)
		}
	}
	if err := CheckMethods(map[string]grpc.ServiceInfo{"fife.v1.New": {Methods: []grpc.MethodInfo{{Name: "Do"}}}}); err == nil ||
		!strings.Contains(err.Error(), "/fife.v1.New/Do") {
		t.Errorf("a method without a row: %v", err)
	}
}

// TestPathVariants: what is not the name of a method to the letter reaches none,
// whoever calls.
func TestPathVariants(t *testing.T) {
	conn := serveEcho(t, &policy{bindings: []access.Binding{{Subject: "user:root", Role: access.Admin, API: "*", Stage: "*"}}})
	ctx := as(t.Context(), "user/root")
	call := func(path string) error {
		return conn.Invoke(ctx, path, &fifev1.RemoveMemberRequest{}, &fifev1.RemoveMemberResponse{})
	}
	if err := call("/fife.v1.ClusterService/RemoveMember"); status.Code(err) != codes.DataLoss {
		t.Fatalf("the name itself: %v", err)
	}
	for _, path := range []string{
		"fife.v1.ClusterService/RemoveMember", "//fife.v1.ClusterService/RemoveMember",
		"/fife.v1.ClusterService//RemoveMember", "/fife.v1.ClusterService/RemoveMember/",
		"/fife.v1.ClusterService%2FRemoveMember", "%2Ffife.v1.ClusterService/RemoveMember",
		"/fife.v1.ClusterService/Remove%4dember", "/fife.v1.clusterservice/removemember",
		"/fife.v1.ClusterService/RemoveMember?x", "/./fife.v1.ClusterService/RemoveMember", "/", "",
		"/grpc.health.v1.Health/../fife.v1.ClusterService/RemoveMember", "RemoveMember",
	} {
		if err := call(path); err == nil || status.Code(err) == codes.DataLoss {
			t.Errorf("%q reached the method: %v", path, err)
		}
	}
}

// TestNames: a name that is not one of a resource is nobody's own.
func TestNames(t *testing.T) {
	conn := serveEcho(t, &policy{bindings: []access.Binding{
		{Subject: "user:dan", Role: access.Admin, API: "demo", Stage: "*"},
		{Subject: "user:pre", Role: access.Admin, API: "team-*", Stage: "*"},
	}})
	for _, name := range []string{
		"", "apis/", "apis/-", "apis/*", "apis/demo/", "apis//demo", "apis/demo/stages", "apis/demo/stages/", "apis/demo/x/y",
		"demo", "apis/other", "apis/team", "apis/demo2", "/apis/demo", "apis/demo/../other", "apis/DEMO", "apis/team-/x/y",
	} {
		for _, who := range []string{"user/dan", "user/pre"} {
			err := conn.Invoke(as(t.Context(), who), fifev1.ApiService_GetApi_FullMethodName,
				&fifev1.GetApiRequest{Name: name}, &fifev1.GetApiResponse{})
			if status.Code(err) != codes.PermissionDenied {
				t.Errorf("%s on %q: %v", who, name, err)
			}
		}
	}
	for who, name := range map[string]string{"user/dan": "apis/demo", "user/pre": "apis/team-x"} {
		err := conn.Invoke(as(t.Context(), who), fifev1.ApiService_DeleteApi_FullMethodName,
			&fifev1.DeleteApiRequest{Name: name}, &fifev1.DeleteApiResponse{})
		if status.Code(err) != codes.DataLoss {
			t.Errorf("%s on %q: %v", who, name, err)
		}
	}
}

// TestDenialText: who is denied learns what is missing on what, and who gives it.
func TestDenialText(t *testing.T) {
	conn := serveEcho(t, &policy{})
	err := conn.Invoke(as(t.Context(), "user/ann"), fifev1.StageService_PromoteCanary_FullMethodName,
		&fifev1.PromoteCanaryRequest{Name: "apis/demo/stages/prod"}, &fifev1.PromoteCanaryResponse{})
	want := "user:ann has no permission stages.promote on apis/demo/stages/prod; it comes with role promoter, operator or admin, " +
		"which an admin gives: fife access grant user:ann promoter --api 'demo' --stage 'prod'"
	if got := status.Convert(err).Message(); got != want || reasonOf(err) != "PERMISSION_DENIED" {
		t.Errorf("got %s: %s\nwant %s", reasonOf(err), got, want)
	}
}

// TestStreamMessages: every message of a stream is decided on, and a role that is
// taken ends what it allowed.
func TestStreamMessages(t *testing.T) {
	p := &policy{bindings: []access.Binding{{Subject: "user:ann", Role: access.Viewer, API: "demo", Stage: "*"}}}
	a := NewAuthorizer(func(context.Context) (Policy, error) { return p, nil })
	ctx := identity.NewContext(t.Context(), identity.Identity{Class: identity.User, Name: "ann"})
	in := &scripted{ctx: ctx, names: []string{"apis/demo/stages/prod", "apis/other/stages/prod"}}
	var errs []error
	_ = a.stream(nil, in, &grpc.StreamServerInfo{FullMethod: fifev1.StageService_WatchStage_FullMethodName},
		func(_ any, stream grpc.ServerStream) error {
			req := &fifev1.WatchStageRequest{}
			errs = append(errs, stream.RecvMsg(req), stream.SendMsg(req))
			p.bindings = nil
			errs = append(errs, stream.SendMsg(req))
			p.bindings = []access.Binding{{Subject: "user:ann", Role: access.Viewer, API: "demo", Stage: "*"}}
			errs = append(errs, stream.RecvMsg(req))
			return nil
		})
	if len(errs) != 4 || errs[0] != nil || errs[1] != nil || errs[2] == nil || errs[3] == nil {
		t.Errorf("allowed, allowed, taken, foreign: %v", errs)
	}
	if in.sent != 1 {
		t.Errorf("%d messages were sent", in.sent)
	}
}

// scripted is a stream that brings requests about some names.
type scripted struct {
	grpc.ServerStream
	ctx   context.Context
	names []string
	sent  int
}

func (s *scripted) Context() context.Context { return s.ctx }

func (s *scripted) RecvMsg(m any) error {
	if len(s.names) == 0 {
		return io.EOF
	}
	m.(*fifev1.WatchStageRequest).Name, s.names = s.names[0], s.names[1:]
	return nil
}

func (s *scripted) SendMsg(any) error {
	s.sent++
	return nil
}

// TestBearer: a token stands for its user while it lasts and as it was made; and a
// certificate goes before it.
func TestBearer(t *testing.T) {
	p := &policy{tokens: []access.Token{
		{ID: "t1", User: "ci", Hash: access.HashSecret("right"), ExpireTime: time.Now().Add(time.Hour)},
		{ID: "t2", User: "ci", Hash: access.HashSecret("right"), ExpireTime: time.Now().Add(-time.Second)},
	}}
	c := NewCallers(func(identity.Peer) error { return nil }, &Bearers{
		Policy: func(context.Context) (Policy, error) { return p, nil }, Cluster: func() string { return "c" },
	}, Limits{})
	verify := func(bearer string) (context.Context, error) {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", bearer))
		return c.verify(ctx, fifev1.ApiService_ListApis_FullMethodName)
	}
	ctx, err := verify("Bearer fife_t1.right")
	if err != nil {
		t.Fatal(err)
	}
	if caller, ok := callerOf(ctx); !ok || caller.Subject != "user:ci" || caller.Token != "t1" {
		t.Errorf("the token stands for %+v", caller)
	}
	if used := c.bearers.LastUse("t1"); used.IsZero() {
		t.Error("nobody knows that the token was used")
	}
	for _, bad := range []string{
		"", "Bearer", "Bearer ", "fife_t1.right", "Basic fife_t1.right", "Bearer fife_t1.wrong", "Bearer fife_t1.", "Bearer fife_t1",
		"Bearer fife_t2.right", "Bearer fife_t3.right", "Bearer fife_t1.right ", "Bearer eyJ.x.y",
	} {
		if _, err := verify(bad); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%q: %v", bad, err)
		} else if strings.Contains(err.Error(), "right") || strings.Contains(err.Error(), "wrong") {
			t.Errorf("%q: the error has the secret: %v", bad, err)
		}
	}
}

// TestWhatACommandCarries: a command says who has called, by what token or in which
// groups, and all that was decided on, so that it can be decided again.
func TestWhatACommandCarries(t *testing.T) {
	p := &policy{bindings: []access.Binding{
		{Subject: "user:ann", Role: access.Promoter, API: "demo", Stage: "prod"}, {Subject: "group:web", Role: access.Promoter, API: "demo", Stage: "prod"},
	}}
	a := NewAuthorizer(func(context.Context) (Policy, error) { return p, nil })
	for want, ctx := range map[string]context.Context{
		`user:ann groups [] token "t1"`: context.WithValue(identity.NewContext(t.Context(),
			identity.Identity{Class: identity.User, Name: "ann"}), tokenKey{}, "t1"),
		`oidc:bob groups [web] token ""`: context.WithValue(identity.NewContext(t.Context(),
			identity.Identity{Class: identity.SignedIn, Name: "bob"}), signedInKey{}, signedIn{groups: []string{"web"}}),
	} {
		_, err := a.unary(ctx, &fifev1.PromoteCanaryRequest{Name: "apis/demo/stages/prod"},
			&grpc.UnaryServerInfo{FullMethod: fifev1.StageService_PromoteCanary_FullMethodName},
			func(ctx context.Context, _ any) (any, error) {
				actor, auth := authorizationOf(ctx)
				if got := fmt.Sprintf("%s groups %v token %q", actor, auth.GetGroups(), auth.GetToken()); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
				if auth.GetPermission() != "stages.promote" || auth.GetApi() != "demo" || auth.GetStage() != "prod" {
					t.Errorf("it carries %v", auth)
				}
				return nil, nil
			})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestVisible: a list holds what the caller may see, and all of it where nobody is asked.
func TestVisible(t *testing.T) {
	p := &policy{bindings: []access.Binding{{Subject: "user:ann", Role: access.Viewer, API: "a*", Stage: "*"}}}
	all := slices.Values([]string{"a1", "b", "a2"})
	resource := func(id string) access.Resource { return access.Resource{API: id} }
	asked := context.WithValue(t.Context(), grantKey{}, grant{caller: access.Caller{Subject: "user:ann"}})
	if got := slices.Collect(visible(asked, p, access.APIsRead, all, resource)); !slices.Equal(got, []string{"a1", "a2"}) {
		t.Errorf("ann sees %v", got)
	}
	if got := slices.Collect(visible(asked, p, access.AuditRead, all, resource)); len(got) > 0 {
		t.Errorf("by another permission ann sees %v", got)
	}
	if got := slices.Collect(visible(t.Context(), p, access.APIsRead, all, resource)); len(got) != 3 {
		t.Errorf("where nobody is asked there are %v", got)
	}
}
