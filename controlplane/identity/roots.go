package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
)

// Fingerprint names a certificate beyond doubt, for people: its SHA-256 in hexadecimal
// digits.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// ParseCertificates reads certificates in DER. The error wraps ErrInvalid.
func ParseCertificates(ders [][]byte) ([]*x509.Certificate, error) {
	out := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		var err error
		if out[i], err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return out, nil
}

// RootOf returns the root that has signed the authority of a class, or nil if none of
// those that are believed has.
func (t Trust) RootOf(issuer *x509.Certificate) *x509.Certificate {
	for _, root := range t.Roots {
		if issuer != nil && bytes.Equal(issuer.RawIssuer, root.RawSubject) && issuer.CheckSignatureFrom(root) == nil {
			return root
		}
	}
	return nil
}

// Has reports whether a root is believed.
func (t Trust) Has(root *x509.Certificate) bool {
	return slices.ContainsFunc(t.Roots, root.Equal)
}

// Root returns the root that the holder's certificate is by.
func (c *Credential) Root() *x509.Certificate { return c.Trust.RootOf(issuerOf(c.Chain)) }

// issuerOf returns the certificate in a chain that the key of the holder's issuer is
// in, by the ids that the issuer has put into both: who has made the holder's
// certificate is part of what is signed, whatever else the chain holds.
func issuerOf(chain []*x509.Certificate) *x509.Certificate {
	id := chain[0].AuthorityKeyId
	for _, c := range chain[1:] {
		if len(id) > 0 && bytes.Equal(c.SubjectKeyId, id) {
			return c
		}
	}
	return nil
}

// WithRoots returns the credential with others to believe. It refuses roots by which
// the holder would not believe its own certificate, as NewCredential does.
func (c *Credential) WithRoots(roots []*x509.Certificate) (*Credential, error) {
	return NewCredential(c.Key, c.Chain, roots)
}

// Believers remembers which authorities are under the roots that a holder believes, as
// that is asked for with every call. It is safe for concurrent use.
type Believers struct {
	holder *Holder

	mu    sync.Mutex
	of    *Credential
	roots map[string]*x509.Certificate // by the authority's DER
}

// NewBelievers returns what knows whom a holder believes now.
func NewBelievers(h *Holder) *Believers { return &Believers{holder: h} }

// maxBelieved bounds the authorities that are remembered: each class has few, but by
// the root's key anybody can make others.
const maxBelieved = 10_000

// RootOf returns the root that has signed an authority, or nil if the holder believes
// none that has.
func (b *Believers) RootOf(issuer *x509.Certificate) *x509.Certificate {
	if issuer == nil {
		return nil
	}
	now := b.holder.Current()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of != now || len(b.roots) >= maxBelieved {
		b.of, b.roots = now, map[string]*x509.Certificate{}
	}
	root, known := b.roots[string(issuer.Raw)]
	if !known {
		root = now.Trust.RootOf(issuer)
		b.roots[string(issuer.Raw)] = root
	}
	return root
}
