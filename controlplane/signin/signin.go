// Package signin says whom an OpenID Connect issuer vouches for. A Verifier keeps the
// issuer's keys at hand, so that a token is verified without a call to the issuer, and
// an issuer that is away holds up nobody for long.
package signin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/fifegateway/fife/controlplane/access"
)

// Errors of a Verifier.
var (
	// ErrRefused says that a token proves nothing, and why.
	ErrRefused = errors.New("the issuer's token is refused")
	// ErrUnavailable says that whether a token is good cannot be known just now.
	ErrUnavailable = errors.New("the issuer of tokens cannot be reached")
)

// Config says whom to believe, and what. Issuer and ClientID are required.
type Config struct {
	Issuer        string // an https URL, to the letter as in the issuer's tokens
	ClientID      string // what the issuer knows Fife's users' command line as
	Audience      string // another audience whose tokens are taken, such as an API's access tokens; empty for none
	UsernameClaim string // names the caller; empty means sub
	GroupsClaim   string // lists the caller's groups; empty for none
	CA            string // PEM file of the CAs of the issuer's own certificate; empty means the system's

	Logger *slog.Logger
	// Transport carries requests to the issuer; nil means HTTPS. CA does not matter to
	// one that is set.
	Transport http.RoundTripper
}

// Person is whom the issuer vouches for.
type Person struct {
	Name    string   // as access.OIDCPrefix has it behind it
	Groups  []string // those that a binding can name
	Expires time.Time
}

// Subject returns whom bindings call the person.
func (p Person) Subject() access.Subject { return access.Subject(access.OIDCPrefix + p.Name) }

const (
	// refreshEvery is how often the issuer is asked for its keys: so long one is
	// believed that it has withdrawn.
	refreshEvery = 15 * time.Minute
	// believeFor is how long keys are believed while the issuer cannot be asked.
	believeFor = 24 * time.Hour
	// askPause is the least time between two times that the issuer is asked, whatever
	// tokens are shown.
	askPause = 10 * time.Second
	// askTimeout bounds what one answer of the issuer takes, and so how long a caller
	// waits whose key is not known.
	askTimeout = 5 * time.Second
	// skew is how far the issuer's clock may be from this node's.
	skew = 30 * time.Second
)

// Verifier verifies the tokens of one issuer. It is safe for concurrent use. It knows
// no keys before it runs.
type Verifier struct {
	config Config
	ca     []byte
	client *http.Client
	keys   atomic.Pointer[keys]
	wanted chan struct{} // holds an element while a key is wanted that is not known
}

// New checks a configuration and reads its files. It asks nobody.
func New(c Config) (*Verifier, error) {
	if err := checkIssuer(c.Issuer); err != nil {
		return nil, err
	}
	if c.ClientID == "" {
		return nil, fmt.Errorf("the issuer %s needs a client id, to know which of its tokens are meant for Fife", c.Issuer)
	}
	if c.UsernameClaim == "" {
		c.UsernameClaim = "sub"
	}
	v := &Verifier{config: c, wanted: make(chan struct{}, 1)}
	v.keys.Store(&keys{superseded: make(chan struct{})})
	if c.CA != "" {
		var err error
		if v.ca, err = os.ReadFile(c.CA); err != nil {
			return nil, fmt.Errorf("read the CAs of the issuer: %w", err)
		}
	}
	client, err := Client(v.ca)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.CA, err)
	}
	if c.Transport != nil {
		client.Transport = c.Transport
	}
	v.client = client
	return v, nil
}

func checkIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil {
		return errors.New("the issuer must be a URL")
	}
	if u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("the issuer %q must be an https URL without user, query and fragment", u.Redacted())
	}
	return nil
}

// Settings are what people need to know to sign in. None of it is secret.
type Settings struct {
	Issuer, ClientID string
	CA               []byte // PEM of the CAs of the issuer's own certificate; nil means the system's
}

// Settings returns what people need to know to sign in; the zero value for nil.
func (v *Verifier) Settings() Settings {
	if v == nil {
		return Settings{}
	}
	return Settings{Issuer: v.config.Issuer, ClientID: v.config.ClientID, CA: v.ca}
}

// Client returns what asks an issuer: over HTTPS alone, for a bounded time. ca is the
// PEM of the CAs that its certificate may be under; nil means the system's.
func Client(ca []byte) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if len(ca) > 0 {
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("the CAs of the issuer hold no PEM certificate")
		}
	}
	return &http.Client{
		Transport: transport,
		Timeout:   askTimeout,
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Scheme != "https" || len(via) > 3 {
				return fmt.Errorf("the issuer leads to %s", req.URL.Redacted())
			}
			return nil
		},
	}, nil
}

// Run keeps the keys fresh until ctx ends.
func (v *Verifier) Run(ctx context.Context) {
	for {
		now := v.ask(ctx)
		wait := time.Until(now.fetched.Add(refreshEvery))
		if now.err != nil || wait < askPause {
			wait = askPause
		}
		due := time.After(wait)
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return
			case <-due:
				waiting = false
			case <-v.wanted:
				waiting = !now.mayAsk(time.Now()) // the wish may be older than the keys
			}
		}
	}
}

// ask asks the issuer for its keys, and keeps the ones at hand if that fails.
func (v *Verifier) ask(ctx context.Context) *keys {
	before := v.keys.Load()
	next := &keys{superseded: make(chan struct{})}
	bounded, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	next.all, next.err = fetch(bounded, v.client, v.config.Issuer)
	next.asked, next.fetched = time.Now(), time.Now()
	switch {
	case next.err != nil:
		next.all, next.fetched = before.all, before.fetched
		if before.err == nil && ctx.Err() == nil {
			v.config.Logger.Warn("the issuer of tokens gives no keys", "issuer", v.config.Issuer, "error", next.err)
		}
	case before.err != nil || before.asked.IsZero():
		v.config.Logger.Info("keys of the issuer of tokens fetched", "issuer", v.config.Issuer, "keys", len(next.all))
	}
	v.keys.Store(next)
	close(before.superseded)
	return next
}

// keys are what the issuer was last known to sign with. They do not change.
type keys struct {
	all        []jose.JSONWebKey
	fetched    time.Time // when the issuer has given them; zero if it never has
	asked      time.Time // when it was asked last; zero if it never was
	err        error     // why it gave none then
	superseded chan struct{}
}

// mayAsk reports whether the issuer may be asked again.
func (k *keys) mayAsk(now time.Time) bool { return now.Sub(k.asked) >= askPause }

// of returns the keys that a token may be signed with, by the id and the algorithm
// that it names. A token without an id may be signed with any.
func (k *keys) of(id string, algorithm string) []jose.JSONWebKey {
	return slices.DeleteFunc(slices.Clone(k.all), func(key jose.JSONWebKey) bool {
		return (id != "" && key.KeyID != id) || (key.Algorithm != "" && key.Algorithm != algorithm)
	})
}

// find returns the keys that a token may be signed with. If none is known it has the
// issuer asked and waits for that, unless that was done a moment ago: a flood of
// tokens with made-up keys asks the issuer for nothing.
func (v *Verifier) find(ctx context.Context, id, algorithm string) ([]jose.JSONWebKey, error) {
	now := v.keys.Load()
	if found := now.of(id, algorithm); len(found) == 0 && now.mayAsk(time.Now()) {
		select {
		case v.wanted <- struct{}{}:
		default: // another wants one, too
		}
		patience := time.NewTimer(askTimeout)
		defer patience.Stop()
		select {
		case <-now.superseded:
		case <-patience.C:
			return nil, fmt.Errorf("%w: %s has not answered in %v; try again", ErrUnavailable, v.config.Issuer, askTimeout)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		now = v.keys.Load()
	}
	found := now.of(id, algorithm)
	switch {
	case len(found) > 0 && time.Since(now.fetched) < believeFor:
		return found, nil
	case now.err != nil:
		return nil, fmt.Errorf("%w: %s gives no keys, and the node's log says why; try again in a while, or use a certificate",
			ErrUnavailable, v.config.Issuer)
	}
	return nil, fmt.Errorf("%w: it is signed with key %q, which %s has not published; if that is new, try again in %v",
		ErrRefused, id, v.config.Issuer, askPause)
}
