package signin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/fifegateway/fife/controlplane/access"
)

// algorithms are those with which whoever can verify cannot sign: a token that is
// signed with the issuer's public key as a secret, or not at all, is none (RFC 8725,
// section 3.1).
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// types are those of ID tokens and of access tokens (RFC 9068). An issuer signs other
// things for the same audience, such as messages that somebody has signed out.
var types = []string{"", "jwt", "at+jwt", "application/at+jwt"}

// Verify returns whom a token vouches for. An error wraps ErrRefused or ErrUnavailable,
// or is that of ctx; it never holds the token.
func (v *Verifier) Verify(ctx context.Context, text string) (Person, error) {
	token, err := jwt.ParseSigned(text, algorithms)
	if err != nil {
		return Person{}, fmt.Errorf("%w: it cannot be read, or is signed with none of the algorithms RS, PS and ES 256 to 512 and EdDSA", ErrRefused)
	}
	header := token.Headers[0]
	if kind, _ := header.ExtraHeaders[jose.HeaderType].(string); !slices.Contains(types, strings.ToLower(kind)) {
		return Person{}, fmt.Errorf("%w: it is a %q, not a token of somebody who calls", ErrRefused, kind)
	}
	var claims jwt.Claims
	if err := token.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return Person{}, fmt.Errorf("%w: its claims cannot be read", ErrRefused)
	}
	// Of what is nobody's business here no key is looked for.
	if err := v.checkClaims(claims); err != nil {
		return Person{}, err
	}
	candidates, err := v.find(ctx, header.KeyID, header.Algorithm)
	if err != nil {
		return Person{}, err
	}
	extra := map[string]any{}
	signed := slices.ContainsFunc(candidates, func(key jose.JSONWebKey) bool {
		claims = jwt.Claims{}
		clear(extra)
		return token.Claims(key.Key, &claims, &extra) == nil
	})
	if !signed {
		return Person{}, fmt.Errorf("%w: its signature is wrong", ErrRefused)
	}
	if err := v.checkClaims(claims); err != nil {
		return Person{}, err
	}
	p := Person{Expires: claims.Expiry.Time()}
	if p.Name, err = v.name(extra); err != nil {
		return Person{}, err
	}
	p.Groups, err = v.groups(extra)
	return p, err
}

func (v *Verifier) checkClaims(c jwt.Claims) error {
	expected := jwt.Expected{Issuer: v.config.Issuer, AnyAudience: jwt.Audience{v.config.ClientID}, Time: time.Now()}
	if v.config.Audience != "" {
		expected.AnyAudience = append(expected.AnyAudience, v.config.Audience)
	}
	if c.Subject == "" || c.Expiry == nil {
		return fmt.Errorf("%w: it does not say whose it is, or when it ends (sub, exp)", ErrRefused)
	}
	switch err := c.ValidateWithLeeway(expected, skew); {
	case errors.Is(err, jwt.ErrExpired):
		return fmt.Errorf("%w: it has expired at %s; sign in again", ErrRefused, c.Expiry.Time().UTC().Format(time.RFC3339))
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return fmt.Errorf("%w: it is of %q, and this node believes %s", ErrRefused, c.Issuer, v.config.Issuer)
	case errors.Is(err, jwt.ErrInvalidAudience):
		return fmt.Errorf("%w: it is meant for %q, not for %q", ErrRefused, c.Audience, expected.AnyAudience)
	case err != nil:
		return fmt.Errorf("%w: it is not valid yet; is a clock wrong?", ErrRefused)
	}
	return nil
}

// name returns what bindings call the bearer. An address is a name only once the issuer
// has seen that it is the bearer's, who could otherwise have chosen that of another.
func (v *Verifier) name(claims map[string]any) (string, error) {
	claim := v.config.UsernameClaim
	name, ok := claims[claim].(string)
	if !ok || name == "" {
		return "", fmt.Errorf("%w: it has no claim %q, which is to name the caller", ErrRefused, claim)
	}
	// Some issuers write the truth as a text.
	if verified := claims["email_verified"]; claim == "email" && verified != true && verified != "true" {
		return "", fmt.Errorf("%w: its email is not verified (email_verified)", ErrRefused)
	}
	if err := (Person{Name: name}).Subject().Check(); err != nil {
		return "", fmt.Errorf("%w: nobody can be given roles by its claim %q: %w", ErrRefused, claim, err)
	}
	return name, nil
}

// groups returns the groups of the bearer that bindings can name. One may be a text of
// its own.
func (v *Verifier) groups(claims map[string]any) ([]string, error) {
	value, ok := claims[v.config.GroupsClaim]
	if v.config.GroupsClaim == "" || !ok || value == nil {
		return nil, nil
	}
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	var all []string
	for _, e := range list {
		g, ok := e.(string)
		if !ok {
			return nil, fmt.Errorf("%w: its claim %q is no list of texts", ErrRefused, v.config.GroupsClaim)
		}
		if access.Subject(access.GroupPrefix+g).Check() == nil && !slices.Contains(all, g) {
			all = append(all, g)
		}
	}
	return all, nil
}
