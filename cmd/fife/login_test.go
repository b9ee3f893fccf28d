package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/signin/signintest"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// secured is a fake control plane that speaks TLS, and an issuer that it believes.
type secured struct {
	*fake
	issuer *signintest.Issuer
	ca     string // file of the cluster's CA
	config string // the user's directory

	mu    sync.Mutex
	shown []string // what calls have shown
}

var person = signintest.Claims{"sub": "1", "email": "ann@example.com"}

// serverOf returns a credential of a server of a cluster.
func serverOf(t *testing.T, root identity.Authority) *identity.Credential {
	t.Helper()
	intermediate, err := root.NewIntermediate("c", identity.Server)
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := intermediate.Issue(key.Public(), identity.Identity{Cluster: "c", Class: identity.Server, Name: "n1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	made, err := identity.NewCredential(key, []*x509.Certificate{cert, intermediate.Certificate}, []*x509.Certificate{root.Certificate})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func newSecured(t *testing.T) *secured {
	t.Helper()
	root, err := identity.NewRoot("c")
	if err != nil {
		t.Fatal(err)
	}
	holder := identity.NewHolder(serverOf(t, root))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &secured{
		fake:   &fake{address: listener.Addr().String(), answers: map[string]answer{}},
		issuer: signintest.Start(t), ca: filepath.Join(dir, "root.crt"), config: filepath.Join(dir, "config"),
	}
	s.issuer.Be(person, time.Hour)
	if err := os.WriteFile(s.ca, identity.EncodeCertificates([]*x509.Certificate{root.Certificate}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FIFE_CONFIG_DIR", s.config)
	s.on("SignInService/GetSignInSettings", reply(&fifev1.GetSignInSettingsResponse{
		Issuer: s.issuer.URL, ClientId: signintest.ClientID, IssuerCa: string(s.issuer.CA),
	}))
	s.on("AccessService/WhoAmI", func(ctx context.Context, _ proto.Message, send func(proto.Message) error) error {
		s.mu.Lock()
		s.shown = append(s.shown, metadata.ValueFromIncomingContext(ctx, "authorization")...)
		s.mu.Unlock()
		return send(&fifev1.WhoAmIResponse{Subject: "oidc:ann@example.com", Groups: []string{"dev"}, Bindings: []*fifev1.Binding{
			{Subject: "group:dev", Role: "viewer", Api: "*", Stage: "*"},
		}})
	})
	s.server = grpc.NewServer(grpc.UnknownServiceHandler(s.handle),
		grpc.Creds(credentials.NewTLS(identity.ServerConfig(holder, true, func(identity.Peer) error { return nil }))))
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(listener) }()
	t.Cleanup(func() {
		s.server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return s
}

// last returns the token that was shown last, and how many were.
func (s *secured) last() (string, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.shown) == 0 {
		return "", 0
	}
	return strings.TrimPrefix(s.shown[len(s.shown)-1], "Bearer "), len(s.shown)
}

// kept returns the session that is kept, and its file; nil if none is.
func (s *secured) kept(t *testing.T) (*session, string) {
	t.Helper()
	path := filepath.Join(s.config, sessionFile([]string{s.address}))
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, path
	}
	if err != nil {
		t.Fatal(err)
	}
	kept := &session{}
	if err := json.Unmarshal(data, kept); err != nil {
		t.Fatal(err)
	}
	return kept, path
}

// login runs fife login while somebody reads what it says, and does something once it
// has named a page.
func (s *secured) login(t *testing.T, browse func(page string), flags ...string) result {
	t.Helper()
	t.Setenv("BROWSER", "false")
	read, write := io.Pipe()
	done := make(chan string, 1)
	go func() {
		var all strings.Builder
		var seen bool
		buf := make([]byte, 4096)
		for {
			n, err := read.Read(buf)
			all.Write(buf[:n])
			for _, word := range strings.Fields(all.String()) {
				complete := strings.HasSuffix(all.String(), "\n")
				if !seen && complete && strings.HasPrefix(word, s.issuer.URL) && strings.Contains(word, "?") {
					seen = true
					browse(word)
				}
			}
			if err != nil {
				done <- all.String()
				return
			}
		}
	}()
	var out strings.Builder
	t.Setenv("FIFE_SERVER", s.address)
	code := run(t.Context(), append([]string{"login", "--ca", s.ca}, flags...), streams{in: strings.NewReader(""), out: &out, err: write})
	_ = write.Close() // pipes do not fail
	return result{code, out.String(), <-done}
}

// browser is what follows redirects; the last page is its answer.
func (s *secured) browser(t *testing.T) func(page string) {
	client, err := issuerClient(string(s.issuer.CA))
	if err != nil {
		t.Fatal(err)
	}
	client.CheckRedirect = nil
	return func(page string) {
		resp, err := client.Get(page)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close() //nolint:errcheck // nothing of it is read
	}
}

// noSecrets fails the test if a result has what a session keeps.
func noSecrets(t *testing.T, what string, r result, sessions ...*session) {
	t.Helper()
	for _, s := range sessions {
		for _, secret := range []string{s.IDToken, s.RefreshToken} {
			if secret != "" && (strings.Contains(r.out, secret) || strings.Contains(r.err, secret)) {
				t.Errorf("%s prints a token: %s%s", what, r.out, r.err)
			}
		}
	}
}

// TestLogin: what a browser has signed in for is kept from others, shown by later
// commands, refreshed when it ends, and given back.
func TestLogin(t *testing.T) {
	s := newSecured(t)
	r := s.login(t, s.browser(t))
	kept, path := s.kept(t)
	if r.code != exitOK || kept == nil || r.out != "signed in to "+s.address+" as oidc:ann@example.com group:dev\n" {
		t.Fatalf("exit %d: %s%s", r.code, r.out, r.err)
	}
	noSecrets(t, "login", r, kept)
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("the session is kept with %v: %v", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("in a directory with %v: %v", info.Mode(), err)
	}
	if kept.RefreshToken == "" || kept.Subject != "1" || kept.Issuer != s.issuer.URL {
		t.Errorf("what is kept: %+v", kept)
	}

	who := func() result { return fife(t, s.address, "whoami") }
	if r := who(); r.code != exitOK || !strings.HasPrefix(r.out, "oidc:ann@example.com group:dev\n") {
		t.Errorf("whoami: exit %d: %s%s", r.code, r.out, r.err)
	}
	if shown, _ := s.last(); shown != kept.IDToken {
		t.Error("whoami has not shown what was signed in for")
	}
	// On another control plane nothing is shown.
	if r := fife(t, refusing(t), "whoami"); r.code != exitUnreachable {
		t.Errorf("elsewhere: exit %d: %s", r.code, r.err)
	}

	expire := func() {
		s, _ := s.kept(t)
		s.Expires = time.Now().Add(margin / 2)
		if err := s.write(); err != nil {
			t.Fatal(err)
		}
	}
	expire()
	if r := who(); r.code != exitOK {
		t.Errorf("whoami with a token that ends: exit %d: %s", r.code, r.err)
	}
	next, _ := s.kept(t)
	if shown, _ := s.last(); shown != next.IDToken || next.IDToken == kept.IDToken || next.RefreshToken == kept.RefreshToken {
		t.Error("the token was not refreshed and kept")
	}

	// Somebody else's token is not taken for a refreshed one.
	expire()
	s.issuer.Take(next.RefreshToken, signintest.Claims{"sub": "2"})
	if r := who(); r.code != exitFailed || !strings.Contains(r.err, "somebody else's") {
		t.Errorf("with a token of another: exit %d: %s", r.code, r.err)
	}
	// The refresh token is used up by that.
	r = who()
	if r.code != exitFailed || !strings.Contains(r.err, "sign in again: fife login") {
		t.Errorf("after the end: exit %d: %s", r.code, r.err)
	}
	noSecrets(t, "whoami", r, kept, next)

	s.login(t, s.browser(t))
	again, _ := s.kept(t)
	r = fife(t, s.address, "logout")
	if gone, _ := s.kept(t); r.code != exitOK || gone != nil || r.err != "" {
		t.Errorf("logout: exit %d: %s, and %v is kept", r.code, r.err, gone)
	}
	if s.issuer.Holds(again.RefreshToken) {
		t.Error("the issuer still takes the refresh token")
	}
	if r := fife(t, s.address, "logout"); r.code != exitOK || !strings.Contains(r.out, "had not signed in") {
		t.Errorf("a second logout: exit %d: %s%s", r.code, r.out, r.err)
	}
}

// TestRefreshOnce: commands that run at the same time use a refresh token once.
func TestRefreshOnce(t *testing.T) {
	s := newSecured(t)
	if r := s.login(t, s.browser(t)); r.code != exitOK {
		t.Fatal(r.err)
	}
	kept, _ := s.kept(t)
	kept.Expires = time.Now()
	if err := kept.write(); err != nil {
		t.Fatal(err)
	}
	before := s.issuer.Requests("/token")
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if _, err := kept.refreshed(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := s.issuer.Requests("/token") - before; n != 1 {
		t.Errorf("the token was refreshed %d times", n)
	}
}

// TestLoginLongCommand: a command that outlasts its token gets another.
func TestLoginLongCommand(t *testing.T) {
	s := newSecured(t)
	if r := s.login(t, s.browser(t)); r.code != exitOK {
		t.Fatal(r.err)
	}
	kept, _ := s.kept(t)
	shows := &signedIn{session: kept}
	ended := *kept
	ended.Expires = time.Now()
	if err := ended.write(); err != nil {
		t.Fatal(err)
	}
	shows.session = &ended
	got, err := shows.GetRequestMetadata(t.Context())
	if err != nil || got["authorization"] == "Bearer "+kept.IDToken || !shows.session.fresh() || !shows.RequireTransportSecurity() {
		t.Errorf("%v, %v", shows.session.Expires, err)
	}
}

func TestLoginByDevice(t *testing.T) {
	s := newSecured(t)
	r := s.login(t, s.browser(t), "--device")
	if kept, _ := s.kept(t); r.code != exitOK || kept == nil || !strings.Contains(r.err, "enter the code") {
		t.Fatalf("exit %d: %s%s", r.code, r.out, r.err)
	}
	s = newSecured(t)
	r = s.login(t, func(page string) { s.browser(t)(page + "&deny=1") }, "--device")
	if kept, _ := s.kept(t); r.code != exitFailed || kept != nil || !strings.Contains(r.err, "access_denied") {
		t.Errorf("denied: exit %d: %s%s", r.code, r.out, r.err)
	}
}

// TestLoginIsDefended: who leads the browser, or listens in, signs nobody in.
func TestLoginIsDefended(t *testing.T) {
	back := func(page string) *url.URL {
		u, err := url.Parse(page)
		if err != nil {
			t.Fatal(err)
		}
		to, err := url.Parse(u.Query().Get("redirect_uri"))
		if err != nil {
			t.Fatal(err)
		}
		return to
	}
	get := func(to *url.URL, query url.Values) int {
		to.RawQuery = query.Encode()
		resp, err := http.Get(to.String())
		if err != nil {
			t.Error(err)
			return 0
		}
		defer resp.Body.Close() //nolint:errcheck // nothing of it is read
		return resp.StatusCode
	}
	// changed has the browser go to the issuer with another parameter.
	changed := func(s *secured, name, value string) func(string) {
		return func(page string) {
			u, err := url.Parse(page)
			if err != nil {
				t.Error(err)
				return
			}
			q := u.Query()
			q.Set(name, value)
			u.RawQuery = q.Encode()
			s.browser(t)(u.String())
		}
	}
	for name, test := range map[string]struct {
		browse func(*secured) func(page string)
		want   string // of the error; empty if it is to succeed
	}{
		"a foreign answer first": {func(s *secured) func(string) {
			return func(page string) {
				for _, state := range []string{"", "x"} {
					if code := get(back(page), url.Values{"code": {"evil"}, "state": {state}}); code != http.StatusBadRequest {
						t.Errorf("state %q is answered %d", state, code)
					}
				}
				other := back(page)
				other.Path = "/other"
				if code := get(other, url.Values{}); code != http.StatusNotFound {
					t.Errorf("another path is answered %d", code)
				}
				s.browser(t)(page)
			}
		}, ""},
		"another's nonce":     {func(s *secured) func(string) { return changed(s, "nonce", "x") }, "nonce"},
		"another's challenge": {func(s *secured) func(string) { return changed(s, "code_challenge", "x") }, "verifier is wrong"},
		"a code that was stolen": {func(s *secured) func(string) {
			return func(page string) {
				u, _ := url.Parse(page) // it was parsed before
				get(back(page), url.Values{"code": {"stolen"}, "state": {u.Query().Get("state")}})
			}
		}, "invalid_grant"},
		"another issuer's answer": {func(s *secured) func(string) {
			return func(page string) {
				u, _ := url.Parse(page)
				get(back(page), url.Values{"code": {"x"}, "state": {u.Query().Get("state")}, "iss": {"https://evil.example"}})
			}
		}, "another issuer"},
		"a refusal": {func(s *secured) func(string) {
			return func(page string) {
				u, _ := url.Parse(page)
				get(back(page), url.Values{"error": {"access_denied"}, "state": {u.Query().Get("state")}})
			}
		}, "access_denied"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSecured(t)
			r := s.login(t, test.browse(s))
			kept, _ := s.kept(t)
			if (test.want == "") != (r.code == exitOK) || (kept != nil) != (test.want == "") || !strings.Contains(r.err, test.want) {
				t.Errorf("exit %d: %s%s", r.code, r.out, r.err)
			}
			if _, n := s.last(); test.want != "" && n > 0 {
				t.Error("something was shown to the control plane")
			}
		})
	}
}

// TestLoginAsksFor: a sign-in is asked for with all that protects it.
func TestLoginAsksFor(t *testing.T) {
	s := newSecured(t)
	var q url.Values
	s.login(t, func(page string) {
		u, err := url.Parse(page)
		if err != nil {
			t.Error(err)
		}
		q = u.Query()
		s.browser(t)(page)
	})
	if q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 || len(q.Get("state")) < 20 || len(q.Get("nonce")) < 20 ||
		q.Get("response_type") != "code" || !strings.HasPrefix(q.Get("redirect_uri"), "http://127.0.0.1:") {
		t.Errorf("asked for with %v", q)
	}
	if got := strings.Fields(q.Get("scope")); !slices.Equal(got, []string{"openid", "email", "profile", "offline_access", "groups"}) {
		t.Errorf("scopes %v", got)
	}
}

func TestLoginRefused(t *testing.T) {
	s := newSecured(t)
	never := func(page string) { t.Errorf("a browser is sent to %s", page) }
	for name, test := range map[string]struct {
		flags []string
		code  int
		want  string
	}{
		"plaintext":      {[]string{"--plaintext"}, exitUsage, "ask nobody"},
		"no CA":          {[]string{"--ca", ""}, exitUsage, "needs the cluster's CA"},
		"bad CA":         {[]string{"--ca", "/nonexistent"}, exitUsage, "read CA"},
		"another issuer": {[]string{"--issuer", "https://evil.example"}, exitFailed, "believes " + s.issuer.URL},
		"no https":       {[]string{"--issuer", "http://evil.example", "--client-id", "x"}, exitFailed, "not an https URL"},
		"bad issuer CA":  {[]string{"--issuer-ca", "/nonexistent"}, exitUsage, "read the CA of the issuer"},
	} {
		if r := s.login(t, never, test.flags...); r.code != test.code || !strings.Contains(r.err, test.want) {
			t.Errorf("%s: exit %d: %s", name, r.code, r.err)
		}
	}
	s.on("AccessService/WhoAmI", refuse(fifeError(codes.Unauthenticated, "UNAUTHENTICATED", "not for you", nil)))
	r := s.login(t, s.browser(t))
	if kept, _ := s.kept(t); r.code != exitFailed || kept != nil || !strings.Contains(r.err, "not for you") {
		t.Errorf("a control plane that does not take it: exit %d: %s", r.code, r.err)
	}
	s.on("SignInService/GetSignInSettings", reply(&fifev1.GetSignInSettingsResponse{}))
	if r := s.login(t, never); r.code != exitFailed || !strings.Contains(r.err, "--oidc-issuer") {
		t.Errorf("without an issuer: exit %d: %s", r.code, r.err)
	}
}
