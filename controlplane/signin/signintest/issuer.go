// Package signintest has an OpenID Connect issuer for tests, in this process: it signs
// tokens, lets people sign in with a browser or on another device, and is as strict as
// a good issuer is.
package signintest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// ClientID is the id of the issuer's one client.
const ClientID = "fife"

// Claims are the claims of a token.
type Claims map[string]any

// Issuer is an OpenID Connect issuer. It is safe for concurrent use.
type Issuer struct {
	URL string // of the issuer
	CA  []byte // PEM of the issuer's own certificate, if it has a server

	mu       sync.Mutex
	person   Claims        // who sits at the browser
	lifetime time.Duration // of tokens
	away     bool
	keys     []jose.JSONWebKey // with their private halves; the last one signs
	requests map[string]int    // by path
	codes    map[string]grant
	refresh  map[string]grant
	devices  map[string]*device
}

// grant is what a code or a refresh token stands for.
type grant struct {
	person                       Claims
	nonce, challenge, redirectTo string
}

type device struct {
	userCode, challenge string
	polls               int
	person              Claims // nil until approved
	denied              bool
}

// New returns an issuer that nothing serves: see Transport.
func New(url string) *Issuer {
	i := &Issuer{
		URL: url, lifetime: time.Hour, person: Claims{"sub": "ann"}, requests: map[string]int{},
		codes: map[string]grant{}, refresh: map[string]grant{}, devices: map[string]*device{},
	}
	i.Rotate()
	return i
}

// Start returns an issuer that is served over HTTPS until the test ends.
func Start(t testing.TB) *Issuer {
	t.Helper()
	i, stop := Serve()
	t.Cleanup(stop)
	return i
}

// Serve returns an issuer that is served over HTTPS until it is stopped.
func Serve() (i *Issuer, stop func()) {
	i = New("")
	server := httptest.NewTLSServer(i)
	i.URL = server.URL
	i.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return i, server.Close
}

// RoundTrip implements http.RoundTripper: it answers requests without a connection.
func (i *Issuer) RoundTrip(req *http.Request) (*http.Response, error) {
	i.mu.Lock()
	away := i.away
	i.mu.Unlock()
	if away {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	recorder := httptest.NewRecorder()
	i.ServeHTTP(recorder, req)
	return recorder.Result(), nil
}

// Be says who sits at the browser from now on, and how long his tokens last.
func (i *Issuer) Be(person Claims, lifetime time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.person, i.lifetime = person, lifetime
}

// Leave has requests of a Transport unanswered, or no longer.
func (i *Issuer) Leave(away bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.away = away
}

// Rotate has the issuer sign with another key, and publish both.
func (i *Issuer) Rotate() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, jose.JSONWebKey{Key: key, KeyID: fmt.Sprintf("key-%d", len(i.keys)+1), Algorithm: "ES256", Use: "sig"})
}

// Withdraw has the issuer no longer publish any key but the one that signs.
func (i *Issuer) Withdraw() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = i.keys[len(i.keys)-1:]
}

// Key returns the key that signs, with its private half.
func (i *Issuer) Key() jose.JSONWebKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[len(i.keys)-1]
}

// Requests returns how often a path below the issuer's URL was asked for.
func (i *Issuer) Requests(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.requests[path]
}

// Claims returns those of a good token of a person, who may have claims that
// take their place; a nil one is left out.
func (i *Issuer) Claims(person Claims) Claims {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.claims(person)
}

func (i *Issuer) claims(person Claims) Claims {
	now := time.Now()
	all := Claims{
		"iss": i.URL, "aud": ClientID, "sub": "ann", "iat": now.Unix(), "exp": now.Add(i.lifetime).Unix(), "jti": rand.Text(),
	}
	maps.Copy(all, person)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	return all
}

// Token returns a token of a person: see Claims.
func (i *Issuer) Token(person Claims) string { return Sign(i.Key(), i.Claims(person), nil) }

// Sign returns a token that is signed with a key by the algorithm that the key names.
func Sign(key jose.JSONWebKey, claims Claims, header map[jose.HeaderKey]any) string {
	options := (&jose.SignerOptions{}).WithType("JWT")
	for name, value := range header {
		options.ExtraHeaders[name] = value
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key}, options)
	if err != nil {
		panic(err)
	}
	text, err := jwt.Signed(signer).Claims(map[string]any(claims)).Serialize()
	if err != nil {
		panic(err)
	}
	return text
}

// ServeHTTP implements http.Handler.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	base, _ := url.Parse(i.URL) // it was parsed for the request
	path := strings.TrimPrefix(r.URL.Path, base.Path)
	i.requests[path]++
	switch path {
	case "/.well-known/openid-configuration":
		answer(w, http.StatusOK, map[string]any{
			"issuer": i.URL, "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL + "/authorize",
			"token_endpoint": i.URL + "/token", "device_authorization_endpoint": i.URL + "/device",
			"revocation_endpoint":                   i.URL + "/revoke",
			"id_token_signing_alg_values_supported": []string{"ES256"},
			"scopes_supported":                      []string{"openid", "email", "groups", "offline_access"},
		})
	case "/keys":
		var set jose.JSONWebKeySet
		for _, key := range i.keys {
			set.Keys = append(set.Keys, key.Public())
		}
		answer(w, http.StatusOK, set)
	case "/authorize":
		i.authorize(w, r)
	case "/token":
		i.token(w, r)
	case "/device":
		i.device(w, r)
	case "/approve":
		i.approve(w, r)
	case "/revoke":
		delete(i.refresh, r.PostFormValue("token"))
	default:
		http.NotFound(w, r)
	}
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // whoever asked has gone
}

func refuse(w http.ResponseWriter, why, description string) {
	answer(w, http.StatusBadRequest, map[string]string{"error": why, "error_description": description})
}

// authorize lets the person at the browser in at once.
func (i *Issuer) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	to, err := url.Parse(q.Get("redirect_uri"))
	switch {
	case err != nil || to.Scheme != "http" || to.Hostname() != "127.0.0.1" || q.Get("client_id") != ClientID:
		http.Error(w, "unknown client or redirect_uri", http.StatusBadRequest)
		return
	case q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("state") == "" || q.Get("nonce") == "":
		http.Error(w, "the code flow with PKCE, state and nonce is required", http.StatusBadRequest)
		return
	}
	code := rand.Text()
	i.codes[code] = grant{i.person, q.Get("nonce"), q.Get("code_challenge"), q.Get("redirect_uri")}
	to.RawQuery = url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {i.URL}}.Encode()
	http.Redirect(w, r, to.String(), http.StatusFound)
}
