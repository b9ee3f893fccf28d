package signin_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/fifegateway/fife/controlplane/bubbletest"
	"github.com/fifegateway/fife/controlplane/signin"
	"github.com/fifegateway/fife/controlplane/signin/signintest"
)

type claims = signintest.Claims

const issuerURL = "https://issuer.example/realm"

// start runs a Verifier of an issuer until the test ends.
func start(t testing.TB, issuer *signintest.Issuer, change func(*signin.Config)) *signin.Verifier {
	t.Helper()
	c := signin.Config{
		Issuer: issuer.URL, ClientID: signintest.ClientID, UsernameClaim: "email", GroupsClaim: "groups",
		Logger: slog.New(slog.DiscardHandler),
	}
	if issuer.CA == nil {
		c.Transport = issuer
	}
	if change != nil {
		change(&c)
	}
	v, err := signin.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		v.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return v
}

var ann = claims{"sub": "1", "email": "ann@example.com", "email_verified": true, "groups": []string{"dev", "/ops/on call"}}

// with returns claims with others in their place.
func with(base claims, changes claims) claims {
	all := claims{}
	for _, c := range []claims{base, changes} {
		for k, v := range c {
			all[k] = v
		}
	}
	return all
}

// unsigned returns a token with a header that is signed by nobody.
func unsigned(header, body any, signature string) string {
	encode := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	return encode(header) + "." + encode(body) + "." + signature
}

func TestVerify(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		issuer := signintest.New(issuerURL)
		v := start(t, issuer, func(c *signin.Config) { c.Audience = "fife-api" })
		now := time.Now()
		public, err := x509.MarshalPKIXPublicKey(issuer.Key().Key.(*ecdsa.PrivateKey).Public())
		if err != nil {
			t.Fatal(err)
		}
		publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
		stranger := signintest.New(issuerURL).Key() // of the same id
		good := issuer.Token(ann)
		parts := strings.Split(good, ".")
		other := strings.Split(issuer.Token(with(ann, claims{"email": "eve@example.com"})), ".")
		for name, test := range map[string]struct {
			token string
			want  string // of the error; empty if the token is good
		}{
			"good":                     {good, ""},
			"of the other audience":    {issuer.Token(with(ann, claims{"aud": []string{"x", "fife-api"}})), ""},
			"access token":             {signintest.Sign(issuer.Key(), issuer.Claims(ann), map[jose.HeaderKey]any{"typ": "at+jwt"}), ""},
			"expired within the skew":  {issuer.Token(with(ann, claims{"exp": now.Add(-20 * time.Second).Unix()})), ""},
			"email verified as text":   {issuer.Token(with(ann, claims{"email_verified": "true"})), ""},
			"without a key's id":       {signintest.Sign(withoutID(issuer.Key()), issuer.Claims(ann), nil), ""},
			"expired":                  {issuer.Token(with(ann, claims{"exp": now.Add(-time.Minute).Unix()})), "expired at"},
			"not valid yet":            {issuer.Token(with(ann, claims{"nbf": now.Add(time.Minute).Unix()})), "not valid yet"},
			"issued in the future":     {issuer.Token(with(ann, claims{"iat": now.Add(time.Minute).Unix()})), "not valid yet"},
			"without an end":           {issuer.Token(with(ann, claims{"exp": nil})), "sub, exp"},
			"without a subject":        {issuer.Token(with(ann, claims{"sub": nil})), "sub, exp"},
			"wrong audience":           {issuer.Token(with(ann, claims{"aud": "other"})), "meant for"},
			"no audience":              {issuer.Token(with(ann, claims{"aud": nil})), "meant for"},
			"wrong issuer":             {issuer.Token(with(ann, claims{"iss": "https://evil.example"})), "believes " + issuerURL},
			"issuer with a slash more": {issuer.Token(with(ann, claims{"iss": issuerURL + "/"})), "believes " + issuerURL},
			"email not verified":       {issuer.Token(with(ann, claims{"email_verified": false})), "not verified"},
			"email of who knows whom":  {issuer.Token(with(ann, claims{"email_verified": nil})), "not verified"},
			"without a name":           {issuer.Token(with(ann, claims{"email": nil})), `no claim "email"`},
			"name of many lines":       {issuer.Token(with(ann, claims{"email": "ann\nroot"})), "given roles"},
			"groups of no texts":       {issuer.Token(with(ann, claims{"groups": []any{1}})), "no list of texts"},
			"message of another kind":  {signintest.Sign(issuer.Key(), issuer.Claims(ann), map[jose.HeaderKey]any{"typ": "logout+jwt"}), "logout+jwt"},
			"stranger's signature":     {signintest.Sign(stranger, issuer.Claims(ann), nil), "signature is wrong"},
			"claims of another token":  {parts[0] + "." + other[1] + "." + parts[2], "signature is wrong"},
			"none":                     {unsigned(claims{"alg": "none"}, issuer.Claims(ann), ""), "none of the algorithms"},
			"none with a signature":    {unsigned(claims{"alg": "none", "kid": issuer.Key().KeyID}, issuer.Claims(ann), parts[2]), "none of the algorithms"},
			"HS256 with the public key": {
				signintest.Sign(jose.JSONWebKey{Key: publicPEM, KeyID: issuer.Key().KeyID, Algorithm: "HS256"}, issuer.Claims(ann), nil),
				"none of the algorithms",
			},
			"a key of its own": {
				signintest.Sign(stranger, issuer.Claims(ann), map[jose.HeaderKey]any{"jwk": stranger.Public()}), "signature is wrong",
			},
			"no token": {"a.b.c", "cannot be read"},
		} {
			p, err := v.Verify(t.Context(), test.token)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("%s: %v", name, err)
			case test.want == "" && (p.Name != "ann@example.com" || !slices.Equal(p.Groups, []string{"dev", "/ops/on call"})):
				t.Errorf("%s: it vouches for %+v", name, p)
			case test.want != "" && (!errors.Is(err, signin.ErrRefused) || !strings.Contains(err.Error(), test.want)):
				t.Errorf("%s: %v; want %q", name, err, test.want)
			case err != nil && strings.Contains(err.Error(), parts[2]):
				t.Errorf("%s: the error has the token: %v", name, err)
			}
		}
		if n := issuer.Requests("/keys"); n != 1 {
			t.Errorf("the keys were fetched %d times", n)
		}
	})
}

func withoutID(key jose.JSONWebKey) jose.JSONWebKey {
	key.KeyID = ""
	return key
}

// TestNames: how a person is called is up to the configuration.
func TestNames(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		issuer := signintest.New(issuerURL)
		v := start(t, issuer, func(c *signin.Config) { c.UsernameClaim, c.GroupsClaim = "", "" })
		p, err := v.Verify(t.Context(), issuer.Token(with(ann, claims{"email_verified": false})))
		if err != nil || p.Subject() != "oidc:1" || p.Groups != nil {
			t.Errorf("%+v, %v", p, err)
		}
		v = start(t, issuer, func(c *signin.Config) { c.UsernameClaim, c.GroupsClaim = "preferred_username", "role" })
		// What would name nobody that can be bound is no group.
		p, err = v.Verify(t.Context(), issuer.Token(claims{"preferred_username": "ann", "role": "dev"}))
		if err != nil || p.Name != "ann" || !slices.Equal(p.Groups, []string{"dev"}) {
			t.Errorf("%+v, %v", p, err)
		}
		p, err = v.Verify(t.Context(), issuer.Token(claims{"preferred_username": "ann", "role": []string{"a", "", "b\n", "a", "c"}}))
		if err != nil || !slices.Equal(p.Groups, []string{"a", "c"}) {
			t.Errorf("%+v, %v", p, err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	nothing := filepath.Join(t.TempDir(), "nothing.pem")
	if err := os.WriteFile(nothing, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]signin.Config{
		"http":          {Issuer: "http://issuer.example", ClientID: "fife"},
		"no URL":        {Issuer: "issuer.example", ClientID: "fife"},
		"a password":    {Issuer: "https://a:b@issuer.example", ClientID: "fife"},
		"a query":       {Issuer: "https://issuer.example?x=1", ClientID: "fife"},
		"no client":     {Issuer: issuerURL},
		"no CA":         {Issuer: issuerURL, ClientID: "fife", CA: "/nonexistent"},
		"no CA in a CA": {Issuer: issuerURL, ClientID: "fife", CA: nothing},
	} {
		if _, err := signin.New(c); err == nil {
			t.Errorf("%s: is taken", name)
		} else if strings.Contains(err.Error(), "a:b") {
			t.Errorf("%s: the error has the password: %v", name, err)
		}
	}
}

// TestOverHTTPS: the issuer's certificate counts, and so do the files that say whose.
func TestOverHTTPS(t *testing.T) {
	issuer := signintest.Start(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, issuer.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	v := start(t, issuer, func(c *signin.Config) { c.CA = ca })
	if p, err := v.Verify(t.Context(), issuer.Token(ann)); err != nil || p.Name != "ann@example.com" {
		t.Errorf("%+v, %v", p, err)
	}
	if s := v.Settings(); s.Issuer != issuer.URL || s.ClientID != "fife" || string(s.CA) != string(issuer.CA) {
		t.Errorf("to sign in one needs to know %+v", s)
	}
	var log lockedBuffer
	v = start(t, issuer, func(c *signin.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	if _, err := v.Verify(t.Context(), issuer.Token(ann)); !errors.Is(err, signin.ErrUnavailable) || !strings.Contains(log.String(), "certificate") {
		t.Errorf("an issuer under an unknown CA: %v; the log says %s", err, log.String())
	}
}

// lockedBuffer is what a Verifier logs to while a test reads.
type lockedBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// TestUsableKeys: what is no good for signatures does no harm beside what is.
func TestUsableKeys(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	issuer := signintest.New(issuerURL)
	signing := issuer.Key()
	good := signing.Public()
	encrypts := good
	encrypts.Use = "enc"
	set := func(keys ...any) []byte {
		data, err := json.Marshal(map[string]any{"keys": keys})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	bad := []any{
		jose.JSONWebKey{Key: []byte("secret"), KeyID: "s"}, issuer.Key(), encrypts,
		jose.JSONWebKey{Key: &weak.PublicKey, KeyID: "w"}, map[string]any{"kty": "new"}, "x",
	}
	if keys, err := signin.Usable(set(append(bad, good)...)); err != nil || len(keys) != 1 || !keys[0].IsPublic() {
		t.Errorf("%v, %v", keys, err)
	}
	for _, data := range [][]byte{set(bad...), set(), []byte("{"), set(slices.Repeat([]any{good}, 65)...)} {
		if keys, err := signin.Usable(data); err == nil {
			t.Errorf("%s: %v", data, keys)
		}
	}
}
