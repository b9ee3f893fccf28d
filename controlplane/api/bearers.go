package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/signin"
)

// tokenHeader carries the id of the bearer token of a call that a node passes on.
const tokenHeader = "fife-caller-token"

// tokenKey is the context key of the id of the token that the caller has shown.
type tokenKey struct{}

// People verifies the tokens of an OpenID Connect issuer. A *signin.Verifier does.
type People interface {
	Verify(ctx context.Context, text string) (signin.Person, error)
	Settings() signin.Settings
}

// Bearers finds out who shows a bearer token. It remembers when each token was last
// used on this node, in memory: an entry of the log for each use would cost more than
// the use. It is safe for concurrent use.
type Bearers struct {
	Policy  Policies
	Cluster func() string // the cluster's name in identities
	People  People        // nil if nobody can sign in

	mu   sync.Mutex
	used map[string]time.Time // by token id
}

// LastUse returns when a token was last used on this node; the zero time if it was
// not since the node's start.
func (b *Bearers) LastUse(id string) time.Time {
	if b == nil {
		return time.Time{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used[id]
}

// note remembers that a token was used. There are as many as tokens that were good.
func (b *Bearers) note(id string, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used == nil {
		b.used = map[string]time.Time{}
	}
	b.used[id] = at
}

// bearerOf returns what a caller has shown, without `Bearer `.
func bearerOf(ctx context.Context) (text string, ok bool) {
	all := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(all) != 1 {
		return "", false
	}
	return strings.CutPrefix(all[0], "Bearer ")
}

// stillGood returns an error if a token that was good is no longer.
func (b *Bearers) stillGood(ctx context.Context, id string) error {
	policy, err := b.Policy(ctx)
	if err != nil {
		return err
	}
	if token, ok := policy.UserToken(id); !ok || token.Expired(time.Now()) {
		return fmt.Errorf("%w: token %s was deleted or has expired", ErrUnauthenticated, id)
	}
	return nil
}

// caller returns as whom a token lets its bearer act, and the context with what else is
// known of that.
func (b *Bearers) caller(ctx context.Context, text string) (identity.Identity, context.Context, error) {
	switch access.KindOf(text) {
	case access.BearerToken:
		return b.holder(ctx, text)
	case access.BearerJWT:
		if b.People == nil {
			return identity.Identity{}, nil, fmt.Errorf("%w: nobody can sign in on this node, as it was started without --oidc-issuer", ErrUnauthenticated)
		}
		return b.person(ctx, text)
	}
	return identity.Identity{}, nil, errBadToken
}

var errBadToken = fmt.Errorf("%w: the bearer token is not known, was deleted or has expired", ErrUnauthenticated)

// holder returns who holds one of Fife's own tokens. Why a token is not good is not
// told: whoever has guessed an id learns nothing.
func (b *Bearers) holder(ctx context.Context, text string) (identity.Identity, context.Context, error) {
	id, secret, _ := access.ParseToken(text)
	policy, err := b.Policy(ctx)
	if err != nil {
		return identity.Identity{}, nil, err
	}
	now := time.Now()
	token, ok := policy.UserToken(id)
	if !ok || !token.Fits(secret) || token.Expired(now) {
		return identity.Identity{}, nil, errBadToken
	}
	b.note(id, now)
	return identity.Identity{Cluster: b.Cluster(), Class: identity.User, Name: token.User}, context.WithValue(ctx, tokenKey{}, id), nil
}

// person returns whom the issuer vouches for, in those of his groups that count: others
// would travel and be kept in the log for nothing.
func (b *Bearers) person(ctx context.Context, text string) (identity.Identity, context.Context, error) {
	p, err := b.People.Verify(ctx, text)
	switch {
	case errors.Is(err, signin.ErrRefused):
		return identity.Identity{}, nil, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	case err != nil:
		return identity.Identity{}, nil, err
	}
	policy, err := b.Policy(ctx)
	if err != nil {
		return identity.Identity{}, nil, err
	}
	s := signedIn{expires: p.Expires}
	for _, g := range p.Groups {
		for range policy.BindingsOf([]access.Subject{access.Subject(access.GroupPrefix + g)}) {
			s.groups = append(s.groups, g)
			break
		}
		if len(s.groups) == maxGroups {
			break
		}
	}
	return identity.Identity{Cluster: b.Cluster(), Class: identity.SignedIn, Name: p.Name}, context.WithValue(ctx, signedInKey{}, s), nil
}

// maxGroups is how many groups of a caller count at most: as many as go with a call
// that is passed on.
const maxGroups = 64

// signedIn is what is known of a caller of class identity.SignedIn besides the name.
type signedIn struct {
	groups  []string  // that bindings name
	expires time.Time // zero if another node has verified the token
}

type signedInKey struct{}
