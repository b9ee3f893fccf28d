package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"strings"
)

// JoinToken lets its bearer get a first certificate. Its text is
//
//	fife1.ID.SECRET.PIN
//
// with the Pin of the cluster's root, so that the secret is told to nobody else.
type JoinToken struct {
	ID     string
	Secret string
	Pin    string
}

const joinTokenPrefix = "fife1"

// NewJoinToken returns a new token of a cluster, with 130 random bits.
func NewJoinToken(cluster string, root *x509.Certificate) JoinToken {
	return JoinToken{ID: strings.ToLower(rand.Text()[:12]), Secret: rand.Text(), Pin: Pin(cluster, root)}
}

// ParseJoinToken reads a token's text. The error does not repeat it.
func ParseJoinToken(text string) (JoinToken, error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 4 || parts[0] != joinTokenPrefix || parts[1] == "" || parts[2] == "" || parts[3] == "" {
		return JoinToken{}, fmt.Errorf("%w: a join token is %s.ID.SECRET.PIN", ErrInvalid, joinTokenPrefix)
	}
	return JoinToken{parts[1], parts[2], parts[3]}, nil
}

// Text returns the token's text. It holds the secret.
func (t JoinToken) Text() string {
	return strings.Join([]string{joinTokenPrefix, t.ID, t.Secret, t.Pin}, ".")
}

// String returns the token without its secret.
func (t JoinToken) String() string { return joinTokenPrefix + "." + t.ID }

// SecretHash returns what the cluster keeps of the secret. The secret is random, so
// that a plain hash tells nothing of it.
func (t JoinToken) SecretHash() []byte {
	sum := sha256.Sum256([]byte(t.Secret))
	return sum[:]
}
