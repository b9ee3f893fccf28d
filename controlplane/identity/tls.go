package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Certificates here name no hosts, and whom one believes may change while it runs.
// So crypto/tls is told to verify nothing by itself, in either direction, and
// VerifyConnection, which it calls in every handshake, does all of it: an unverified
// chain is never accepted. Sessions are not resumed: every connection shows a
// certificate that is valid by then.

// ErrNoCertificate says that a caller has shown no certificate where one is needed.
var ErrNoCertificate = errors.New("the caller has shown no certificate")

// Check decides on a caller whose certificate is good; nil accepts it.
type Check func(Peer) error

// ServerConfig returns the TLS 1.3 side that is called, by holders of certificates
// and, if anonymous, by others as well, who have to say otherwise who they are. A
// caller whose certificate has expired is taken for who it was only if it is an
// agent and anonymous callers are taken: it has to renew its certificate, and
// Peer.NotAfter says that it may do nothing else.
func ServerConfig(h *Holder, anonymous bool, check Check) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		ClientAuth:             tls.RequestClientCert,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return h.certificate(), nil },
		VerifyConnection: func(state tls.ConnectionState) error {
			chain := state.PeerCertificates
			if len(chain) == 0 {
				if anonymous {
					return nil
				}
				return ErrNoCertificate
			}
			at := time.Now()
			if id, err := FromCertificate(chain[0]); err == nil && id.Class == Agent && anonymous && at.After(chain[0].NotAfter) {
				at = chain[0].NotAfter
			}
			if _, err := h.Current().Trust.Verify(chain, at); err != nil {
				return err
			}
			p, _ := PeerOf(chain)
			return check(p)
		},
	}
}

// ClientConfig returns the TLS 1.3 side that calls a server of the holder's cluster.
func ClientConfig(h *Holder) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // VerifyConnection verifies
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return h.certificate(), nil
		},
		VerifyConnection: func(state tls.ConnectionState) error {
			id, err := h.Current().Trust.Verify(state.PeerCertificates, time.Now())
			return onlyServer(id, err)
		},
	}
}

// AnonymousConfig returns the TLS 1.3 side of a caller who has no certificate and says
// otherwise who it is, to servers under the given roots. A root that names a cluster
// is believed of that cluster alone.
func AnonymousConfig(roots []*x509.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // VerifyConnection verifies
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return ErrNoCertificate
			}
			named, err := FromCertificate(state.PeerCertificates[0])
			if err != nil {
				return err
			}
			var believed []*x509.Certificate
			for _, r := range roots {
				if of := (Authority{Certificate: r}).Cluster(); of == "" || of == named.Cluster {
					believed = append(believed, r)
				}
			}
			id, err := Trust{named.Cluster, believed}.Verify(state.PeerCertificates, time.Now())
			return onlyServer(id, err)
		},
	}
}

// PinnedConfig returns the TLS 1.3 side of a caller who has no certificate and knows
// the Pin of a cluster's root. trusted gets whom to believe from then on.
func PinnedConfig(pin string, trusted func(Trust)) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // VerifyConnection verifies
		VerifyConnection: func(state tls.ConnectionState) error {
			id, trust, err := VerifyPinned(state.PeerCertificates, pin, time.Now())
			if err := onlyServer(id, err); err != nil {
				return err
			}
			trusted(trust)
			return nil
		},
	}
}

func onlyServer(id Identity, err error) error {
	if err == nil && id.Class != Server {
		return fmt.Errorf("%w: %s is no server", ErrInvalid, id)
	}
	return err
}

// Peer is the verified holder of a connection's certificate.
type Peer struct {
	Identity
	Issued   time.Time // when the certificate was made
	NotAfter time.Time // when it expires
	// Issuer is the authority that has signed the certificate; nil if it was not shown.
	Issuer *x509.Certificate
}

// PeerOf returns whose connection it is, which a ServerConfig has accepted; ok is
// false if the caller has shown no certificate.
func PeerOf(chain []*x509.Certificate) (p Peer, ok bool) {
	if len(chain) == 0 {
		return Peer{}, false
	}
	id, err := FromCertificate(chain[0])
	return Peer{id, chain[0].NotBefore.Add(clockSkew), chain[0].NotAfter, issuerOf(chain)}, err == nil
}
