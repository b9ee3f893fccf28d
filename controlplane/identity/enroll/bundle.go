package enroll

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/fifegateway/fife/controlplane/identity"
)

// Bundle is whom the holder of a credential believes, for an agent that is told so by
// the control plane.
type Bundle struct{ Holder *identity.Holder }

// Roots returns the SHA-256 of each root that is believed.
func (b Bundle) Roots() (out [][]byte) {
	for _, root := range b.Holder.Current().Trust.Roots {
		sum := sha256.Sum256(root.Raw)
		out = append(out, sum[:])
	}
	return out
}

// Believe makes others the roots that are believed, in the file of the credential
// first. If its certificate is not by the root with the SHA-256 issuing it is renewed
// within a time, at a random moment, by a Keeper of the same holder.
func (b Bundle) Believe(roots [][]byte, issuing []byte, within time.Duration) error {
	now := b.Holder.Current()
	if root := now.Root(); root != nil {
		if sum := sha256.Sum256(root.Raw); !bytes.Equal(sum[:], issuing) {
			b.Holder.RenewBy(time.Now().Add(rand.N(max(within, time.Nanosecond))))
		}
	}
	parsed, err := identity.ParseCertificates(roots)
	if err != nil {
		return err
	}
	if slices.EqualFunc(parsed, now.Trust.Roots, func(x, y *x509.Certificate) bool { return x.Equal(y) }) {
		return nil
	}
	return b.Holder.Believe(parsed)
}
