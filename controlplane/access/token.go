package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"strings"
	"time"
)

// Token is what is kept of a bearer token: never its secret. The secret is random and
// as long as the hash, so that the hash needs no salt and need not be slow.
type Token struct {
	ID         string
	User       string // name of the user that it acts as
	Hash       [sha256.Size]byte
	CreateTime time.Time
	ExpireTime time.Time
}

// TokenPrefix begins the text of every token, so that what looks for leaked secrets
// knows it.
const TokenPrefix = "fife_"

// TokenText returns the text that a caller shows for a token.
func TokenText(id, secret string) string { return TokenPrefix + id + "." + secret }

// ParseToken takes a token's text apart. ok is false if it is none.
func ParseToken(text string) (id, secret string, ok bool) {
	rest, ok := strings.CutPrefix(text, TokenPrefix)
	if !ok {
		return "", "", false
	}
	id, secret, ok = strings.Cut(rest, ".")
	return id, secret, ok && id != "" && secret != ""
}

// BearerKind is what a bearer token is, by the looks of it.
type BearerKind int

// The kinds of bearer tokens.
const (
	BearerUnknown BearerKind = iota
	BearerToken              // a token of Fife's own: see ParseToken
	BearerJWT                // a JSON Web Token that is signed, in its compact form
)

// KindOf says what a bearer token is. No text is of two kinds: what begins like one of
// Fife's own tokens is that or nothing. Whether the token is good is not looked at.
func KindOf(text string) BearerKind {
	if strings.HasPrefix(text, TokenPrefix) {
		if _, _, ok := ParseToken(text); ok {
			return BearerToken
		}
		return BearerUnknown
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return BearerUnknown
	}
	for _, part := range parts {
		// RFC 7515, section 7.1: three parts in base64url without padding. Without the
		// last it is not signed.
		if part == "" || strings.Trim(part, base64URL) != "" {
			return BearerUnknown
		}
	}
	return BearerJWT
}

const base64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// HashSecret returns what is kept of a secret.
func HashSecret(secret string) [sha256.Size]byte { return sha256.Sum256([]byte(secret)) }

// Fits reports whether a secret is the token's. It takes as long either way.
func (t Token) Fits(secret string) bool {
	sum := HashSecret(secret)
	return subtle.ConstantTimeCompare(sum[:], t.Hash[:]) == 1
}

// Expired reports whether the token has ended by a time.
func (t Token) Expired(at time.Time) bool { return !at.Before(t.ExpireTime) }

// Subject returns whom the token acts as.
func (t Token) Subject() Subject { return Subject(UserPrefix + t.User) }
