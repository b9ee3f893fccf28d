package api

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/identity"
)

// tokenHeader carries the id of the bearer token of a call that a node passes on.
const tokenHeader = "fife-caller-token"

// tokenKey is the context key of the id of the token that the caller has shown.
type tokenKey struct{}

// Bearers finds out who shows a bearer token. It remembers when each token was last
// used on this node, in memory: an entry of the log for each use would cost more than
// the use. It is safe for concurrent use.
type Bearers struct {
	Policy  Policies
	Cluster func() string // the cluster's name in identities

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

// caller returns as whom a token lets its bearer act, and the context with its id.
// Why a token is not good is not told: whoever has guessed an id learns nothing.
func (b *Bearers) caller(ctx context.Context, text string) (identity.Identity, context.Context, error) {
	refused := fmt.Errorf("%w: the bearer token is not known, was deleted or has expired", ErrUnauthenticated)
	id, secret, ok := access.ParseToken(text)
	if !ok {
		return identity.Identity{}, nil, refused
	}
	policy, err := b.Policy(ctx)
	if err != nil {
		return identity.Identity{}, nil, err
	}
	now := time.Now()
	token, ok := policy.UserToken(id)
	if !ok || !token.Fits(secret) || token.Expired(now) {
		return identity.Identity{}, nil, refused
	}
	b.note(id, now)
	return identity.Identity{Cluster: b.Cluster(), Class: identity.User, Name: token.User}, context.WithValue(ctx, tokenKey{}, id), nil
}
