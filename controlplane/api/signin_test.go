package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/bubbletest"
	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/signin"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// people vouches for whoever a token's first part names.
type people map[string]signin.Person

func (p people) Verify(_ context.Context, text string) (signin.Person, error) {
	name, _, _ := strings.Cut(text, ".")
	if name == "away" {
		return signin.Person{}, fmt.Errorf("%w: no answer", signin.ErrUnavailable)
	}
	person, ok := p[name]
	if !ok {
		return signin.Person{}, fmt.Errorf("%w: its signature is wrong", signin.ErrRefused)
	}
	return person, nil
}

func (p people) Settings() signin.Settings {
	return signin.Settings{Issuer: "https://issuer.example", ClientID: "fife", CA: []byte("pem")}
}

// showing returns the context of a call with a bearer token and more.
func showing(ctx context.Context, bearer string, more ...string) context.Context {
	return metadata.NewIncomingContext(ctx, metadata.Pairs(append(more, "authorization", "Bearer "+bearer)...))
}

func peopleCallers(p *policy, vouched people) *Callers {
	b := &Bearers{Policy: func(context.Context) (Policy, error) { return p, nil }, Cluster: func() string { return "c" }}
	if vouched != nil {
		b.People = vouched
	}
	return NewCallers(func(identity.Peer) error { return nil }, b, Limits{})
}

const readsAPI = fifev1.ApiService_GetApi_FullMethodName

// TestSignedIn: whom the issuer vouches for is nobody else, whatever he is called, and
// has the roles of his groups.
func TestSignedIn(t *testing.T) {
	p := &policy{bindings: []access.Binding{
		{Subject: "user:ann", Role: access.Admin, API: "*", Stage: "*"},
		{Subject: "oidc:bob", Role: access.Viewer, API: "*", Stage: "*"},
		{Subject: "group:web", Role: access.Promoter, API: "demo", Stage: "prod"},
	}}
	c := peopleCallers(p, people{
		"ann":   {Name: "ann"},
		"admin": {Name: "user:ann", Groups: []string{"user:ann", "oidc:bob"}},
		"carol": {Name: "carol", Groups: []string{"other", "web"}},
	})
	a := NewAuthorizer(func(context.Context) (Policy, error) { return p, nil })
	may := func(bearer, method string, req any) (access.Caller, error) {
		t.Helper()
		ctx, err := c.verify(showing(t.Context(), bearer+".b.c"), method)
		if err != nil {
			return access.Caller{}, err
		}
		caller, _ := callerOf(ctx)
		g, err := a.decide(ctx, method, req)
		if err == nil {
			ctx = context.WithValue(ctx, grantKey{}, *g)
			actor, authorization := authorizationOf(ctx)
			if actor != string(caller.Subject) || !slices.Equal(authorization.GetGroups(), caller.Groups) || authorization.GetToken() != "" {
				t.Errorf("%s: the command is of %s, by %v", bearer, actor, authorization)
			}
			if actorOf(ctx) != actor {
				t.Errorf("%s: the audit names %s", bearer, actorOf(ctx))
			}
		}
		return caller, err
	}
	read := &fifev1.GetApiRequest{Name: "apis/demo"}
	promote := &fifev1.PromoteCanaryRequest{Name: "apis/demo/stages/prod"}
	deploy := &fifev1.StartCanaryRequest{Name: "apis/demo/stages/prod"}
	if caller, err := may("ann", readsAPI, read); caller.Subject != "oidc:ann" || !isDenied(err) {
		t.Errorf("the namesake of user:ann is %+v: %v", caller, err)
	}
	if caller, err := may("admin", readsAPI, read); len(caller.Groups) != 0 || !isDenied(err) {
		t.Errorf("who is called like a subject is %+v: %v", caller, err)
	}
	caller, err := may("carol", fifev1.StageService_PromoteCanary_FullMethodName, promote)
	if err != nil || caller.Subject != "oidc:carol" || !slices.Equal(caller.Groups, []string{"web"}) {
		t.Errorf("one of the group is %+v: %v", caller, err)
	}
	if _, err := may("carol", fifev1.StageService_StartCanary_FullMethodName, deploy); !isDenied(err) {
		t.Errorf("what the group's role does not have: %v", err)
	}
	p.bindings = p.bindings[:2]
	if caller, err := may("carol", fifev1.StageService_PromoteCanary_FullMethodName, promote); !isDenied(err) || len(caller.Groups) != 0 {
		t.Errorf("a group that has lost its role: %+v, %v", caller, err)
	}
	if _, err := c.verify(showing(t.Context(), "carol.b.c"), fifev1.NodeService_RenewGrant_FullMethodName); !errors.Is(err, ErrDenied) {
		t.Errorf("as a node: %v", err)
	}
}

func isDenied(err error) bool {
	var denied *access.Denied
	return errors.As(err, &denied)
}

// TestSignInRefused: what the issuer's word is not taken for, and how that is told.
func TestSignInRefused(t *testing.T) {
	c := peopleCallers(&policy{}, people{"ann": {Name: "ann"}})
	for bearer, want := range map[string]codes.Code{
		"eve.b.c":     codes.Unauthenticated,
		"away.b.c":    codes.Unavailable,
		"ann.b.":      codes.Unauthenticated,
		"ann.b":       codes.Unauthenticated,
		"fife_ann.bc": codes.Unauthenticated,
	} {
		_, err := c.verify(showing(t.Context(), bearer), readsAPI)
		if s := toStatus(err); status.Code(s) != want || reasonOf(s) == "" || strings.Contains(s.Error(), bearer) {
			t.Errorf("%s: %v, want %v", bearer, s, want)
		}
	}
	without := peopleCallers(&policy{}, nil)
	if _, err := without.verify(showing(t.Context(), "ann.b.c"), readsAPI); !errors.Is(err, ErrUnauthenticated) || !strings.Contains(err.Error(), "--oidc-issuer") {
		t.Errorf("on a node that knows no issuer: %v", err)
	}
	// Of a caller who is no node nothing is believed.
	ctx, err := c.verify(showing(t.Context(), "ann.b.c", forwardedBy, "n1", signedInHeader, "root", groupHeader, "admins"), readsAPI)
	if caller, _ := callerOf(ctx); err != nil || caller.Subject != "oidc:ann" || len(caller.Groups) != 0 {
		t.Errorf("who poses as a node is %+v: %v", caller, err)
	}
}

// TestSignedInForwarded: a call that is passed on is that of whoever made it.
func TestSignedInForwarded(t *testing.T) {
	p := &policy{bindings: []access.Binding{{Subject: "group:web ops", Role: access.Viewer, API: "*", Stage: "*"}}}
	c := peopleCallers(p, people{"ann": {Name: "auth0|ann b", Groups: []string{"web ops"}}})
	ctx, err := c.verify(showing(t.Context(), "ann.b.c"), readsAPI)
	if err != nil {
		t.Fatal(err)
	}
	sent, _ := metadata.FromOutgoingContext(onBehalf(ctx))
	if got := sent.Get(callerHeader); len(got) != 0 || len(sent.Get("authorization")) != 0 {
		t.Errorf("what is sent besides: %v", sent)
	}
	sent.Set(forwardedBy, "n2")
	ctx, known, err := c.behalf(metadata.NewIncomingContext(t.Context(), sent), identity.Identity{Cluster: "c", Class: identity.Server, Name: "n2"})
	if err != nil || known.Class != identity.SignedIn {
		t.Fatalf("%v, %v", known, err)
	}
	caller, _ := callerOf(identity.NewContext(ctx, known))
	if caller.Subject != "oidc:auth0|ann b" || !slices.Equal(caller.Groups, []string{"web ops"}) {
		t.Errorf("the leader takes the caller for %+v", caller)
	}
	for _, name := range []string{"", "a\nb", " "} {
		sent.Set(signedInHeader, name)
		if _, known, err := c.behalf(metadata.NewIncomingContext(t.Context(), sent), identity.Identity{Cluster: "c"}); err == nil {
			t.Errorf("%q is taken for %v", name, known)
		}
	}
}

// TestManyGroups: of the groups that count as many are taken as can be passed on.
func TestManyGroups(t *testing.T) {
	p, person := &policy{}, signin.Person{Name: "ann"}
	for i := range 200 {
		g := fmt.Sprintf("g%d", i)
		person.Groups = append(person.Groups, g)
		p.bindings = append(p.bindings, access.Binding{Subject: access.Subject("group:" + g), Role: access.Viewer, API: "*", Stage: "*"})
	}
	c := peopleCallers(p, people{"ann": person})
	ctx, err := c.verify(showing(t.Context(), "ann.b.c"), readsAPI)
	if caller, _ := callerOf(ctx); err != nil || len(caller.Groups) != maxGroups {
		t.Errorf("%d groups count: %v", len(caller.Groups), err)
	}
}

// TestSignedInStreamEnds: a stream lives no longer than the token that it began with.
func TestSignedInStreamEnds(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := peopleCallers(&policy{}, people{"ann": {Name: "ann", Expires: time.Now().Add(time.Minute)}})
		transport := &statusWriter{ended: make(chan struct{})}
		ctx := grpc.NewContextWithServerTransportStream(showing(t.Context(), "ann.b.c"), transport)
		began := time.Now()
		err := c.stream(nil, &scripted{ctx: ctx}, &grpc.StreamServerInfo{FullMethod: fifev1.StageService_WatchStage_FullMethodName},
			func(any, grpc.ServerStream) error {
				<-transport.ended
				return nil
			})
		if err != nil || time.Since(began) != time.Minute || transport.status.Code() != codes.Unavailable {
			t.Errorf("%v, after %v: %v", err, time.Since(began), transport.status)
		}
	})
}

// statusWriter is a transport's stream that remembers how it was ended.
type statusWriter struct {
	grpc.ServerTransportStream
	status *status.Status
	ended  chan struct{}
}

// WriteStatus notes the final status.
func (w *statusWriter) WriteStatus(s *status.Status) error {
	w.status = s
	close(w.ended)
	return nil
}

// TestNoCertificateForBearers: a token, which ends, gets nobody a certificate, which
// would go on.
func TestNoCertificateForBearers(t *testing.T) {
	s := &joinService{renewals: newUsages(renewalLimit)}
	token := context.WithValue(identity.NewContext(t.Context(), identity.Identity{Class: identity.User, Name: "ci"}), tokenKey{}, "t1")
	person := identity.NewContext(t.Context(), identity.Identity{Class: identity.SignedIn, Name: "ann"})
	for what, ctx := range map[string]context.Context{"a token": token, "the issuer's word": person} {
		if id, err := s.identify(ctx, &fifev1.IssueCertificateRequest{}); !errors.Is(err, ErrDenied) {
			t.Errorf("%s gets a certificate of %v: %v", what, id, err)
		}
	}
}

func TestSignInSettings(t *testing.T) {
	for _, s := range []*signInService{{}, {bearers: &Bearers{}}} {
		if resp, err := s.GetSignInSettings(t.Context(), nil); err != nil || resp.GetIssuer() != "" {
			t.Errorf("%v, %v", resp, err)
		}
	}
	s := &signInService{bearers: &Bearers{People: people{}}}
	resp, err := s.GetSignInSettings(t.Context(), nil)
	if err != nil || resp.GetIssuer() != "https://issuer.example" || resp.GetClientId() != "fife" || resp.GetIssuerCa() != "pem" {
		t.Errorf("%v, %v", resp, err)
	}
}
