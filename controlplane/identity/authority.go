package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strings"
	"time"
)

// How long certificates last. What is issued never outlasts its issuer.
const (
	rootTTL         = 10 * 365 * 24 * time.Hour
	intermediateTTL = 5 * 365 * 24 * time.Hour
	clockSkew       = 5 * time.Minute // by which the holder's peers may be behind
)

// Authority is a certificate with the key to issue others: a root, or the
// intermediate of a class. It is safe for concurrent use.
type Authority struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// NewClusterName returns a name for a new cluster that no other has.
func NewClusterName() string { return strings.ToLower(rand.Text()) }

// NewKey returns a new private key of the kind that everybody here uses, on P-256.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}

// NewRoot makes the root authority of a cluster.
func NewRoot(cluster string) (Authority, error) {
	key, err := NewKey()
	if err != nil {
		return Authority{}, err
	}
	root := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Fife cluster " + cluster},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: cluster}},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	return Authority{root, key}.sign(root, key, rootTTL)
}

// NewIntermediate makes the authority of a class of a cluster's identities. Its URI,
// spiffe://CLUSTER/CLASS, is what confines it to that class: see Trust.Verify.
func (a Authority) NewIntermediate(cluster string, class Class) (Authority, error) {
	key, err := NewKey()
	if err != nil {
		return Authority{}, err
	}
	return a.sign(intermediate(cluster, class), key, intermediateTTL)
}

func intermediate(cluster string, class Class) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Fife cluster " + cluster + " " + string(class)},
		URIs:                  []*url.URL{classURI(cluster, class)},
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
}

func classURI(cluster string, class Class) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: cluster, Path: "/" + string(class)}
}

// sign makes the certificate of a template and says whose it is by its key.
func (a Authority) sign(template *x509.Certificate, key crypto.Signer, ttl time.Duration) (Authority, error) {
	cert, err := a.certify(template, key.Public(), ttl)
	return Authority{cert, key}, err
}

func (a Authority) certify(template *x509.Certificate, public crypto.PublicKey, ttl time.Duration) (*x509.Certificate, error) {
	now := time.Now()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("choose a serial number: %w", err)
	}
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = now.Add(-clockSkew), now.Add(ttl)
	if end := a.Certificate.NotAfter; a.Certificate != template && template.NotAfter.After(end) {
		template.NotAfter = end
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, public, a.Key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// Issue makes a certificate for the holder of a public key. The authority must be the
// intermediate of the identity's class and cluster.
func (a Authority) Issue(public crypto.PublicKey, id Identity, ttl time.Duration) (*x509.Certificate, error) {
	if _, err := Parse(id.String()); err != nil {
		return nil, err
	}
	if want := classURI(id.Cluster, id.Class).String(); len(a.Certificate.URIs) != 1 || a.Certificate.URIs[0].String() != want {
		return nil, fmt.Errorf("issue %s: the authority is not that of %s", id, want)
	}
	switch key := public.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return nil, fmt.Errorf("%w %s: its key is on %s, must be on P-256", ErrInvalid, id, key.Curve.Params().Name)
		}
	default:
		return nil, fmt.Errorf("%w %s: its key is a %T, must be ECDSA on P-256 or Ed25519", ErrInvalid, id, public)
	}
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if id.Class == Server {
		usage = append(usage, x509.ExtKeyUsageServerAuth)
	}
	return a.certify(&x509.Certificate{
		URIs:                  []*url.URL{id.URI()},
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           usage,
	}, public, ttl)
}

// CertifyIntermediate makes the certificate of the authority of a class, as
// NewIntermediate does, for a key that somebody else has.
func (a Authority) CertifyIntermediate(cluster string, class Class, public crypto.PublicKey) (*x509.Certificate, error) {
	return a.certify(intermediate(cluster, class), public, intermediateTTL)
}

// Check reports what is wrong with the authority of a class under a root: it must be
// the root's, good now, and the class's of the cluster, with the key of its
// certificate.
func (a Authority) Check(trust Trust, class Class) error {
	c, now := a.Certificate, time.Now()
	public, ok := a.Key.Public().(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ok || !public.Equal(c.PublicKey):
		return fmt.Errorf("%w: the key is not that of the certificate of %s", ErrInvalid, c.Subject)
	case !c.IsCA || len(c.URIs) != 1 || c.URIs[0].String() != classURI(trust.Cluster, class).String():
		return fmt.Errorf("%w: %s is not the authority of %s", ErrInvalid, c.Subject, classURI(trust.Cluster, class))
	case trust.RootOf(c) == nil:
		return fmt.Errorf("%w: %s is not by the root", ErrInvalid, c.Subject)
	case len(c.SubjectKeyId) == 0:
		return fmt.Errorf("%w: %s has no id of its key", ErrInvalid, c.Subject)
	case now.Before(c.NotBefore) || now.After(c.NotAfter):
		return fmt.Errorf("%w: %s is valid from %v to %v, not now", ErrInvalid, c.Subject, c.NotBefore, c.NotAfter)
	}
	return nil
}

// IssueHost makes a certificate for a server of HTTPS by the names and addresses of its
// hosts, for clients that know a server by these. It names no identity: nobody here
// takes it for that of anybody. The authority must be the intermediate of servers.
func (a Authority) IssueHost(public crypto.PublicKey, hosts []string, ttl time.Duration) (*x509.Certificate, error) {
	if len(hosts) == 0 {
		return nil, fmt.Errorf("%w: a certificate of a host needs a name", ErrInvalid)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Fife management API"},
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return a.certify(template, public, ttl)
}

// NewRequest returns a PKCS #10 request for a certificate for a key. It proves that
// the asker has the key and says nothing else: the identity is asked for beside it.
func NewRequest(key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request: %w", err)
	}
	return der, nil
}

// RequestedKey returns the public key that a request of PKCS #10 is for, and that
// its maker has proved to hold. Whatever else it asks for is ignored.
func RequestedKey(der []byte) (crypto.PublicKey, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("%w: certificate request: %w", ErrInvalid, err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: certificate request: %w", ErrInvalid, err)
	}
	return csr.PublicKey, nil
}

// Trust is whom the members of a cluster believe.
type Trust struct {
	Cluster string
	Roots   []*x509.Certificate // more than one while a root is being replaced
}

// Verify returns whose certificate a chain is, its holder's first. It must lead to a
// root through the intermediate of the holder's own class, be valid at the given
// time, and name one identity, of this cluster. Names of hosts count for nothing.
func (t Trust) Verify(chain []*x509.Certificate, at time.Time) (Identity, error) {
	if len(chain) == 0 {
		return Identity{}, fmt.Errorf("%w: no certificate", ErrInvalid)
	}
	leaf := chain[0]
	id, err := FromCertificate(leaf)
	if err != nil {
		return Identity{}, err
	}
	if id.Cluster != t.Cluster {
		return Identity{}, fmt.Errorf("%w: %s is not of cluster %s", ErrInvalid, id, t.Cluster)
	}
	if leaf.IsCA {
		return Identity{}, fmt.Errorf("%w: the certificate of %s is an authority's", ErrInvalid, id)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range t.Roots {
		roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	paths, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return Identity{}, fmt.Errorf("%w: certificate of %s: %w", ErrInvalid, id, err)
	}
	want := classURI(id.Cluster, id.Class).String()
	for _, path := range paths {
		if issuer := path[1]; len(issuer.URIs) == 1 && issuer.URIs[0].String() == want {
			return id, nil
		}
	}
	return Identity{}, fmt.Errorf("%w: the certificate of %s was not issued by the authority of its class", ErrInvalid, id)
}

// Pin returns a text that names a root of a cluster beyond doubt, for those who have
// no certificate yet.
func Pin(cluster string, root *x509.Certificate) string {
	h := sha256.New()
	_, _ = h.Write(append([]byte(cluster+"\x00"), root.Raw...)) // a hash never fails
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// ErrNotPinned says that a server is not of the cluster that a pin names.
var ErrNotPinned = errors.New("the server is not of the cluster that was expected")

// VerifyPinned returns whom a chain leads to for someone who knows no more of a
// cluster than the Pin of its root, which must be in the chain.
func VerifyPinned(chain []*x509.Certificate, pin string, at time.Time) (Identity, Trust, error) {
	if len(chain) == 0 {
		return Identity{}, Trust{}, fmt.Errorf("%w: no certificate", ErrInvalid)
	}
	id, err := FromCertificate(chain[0])
	if err != nil {
		return Identity{}, Trust{}, err
	}
	for _, c := range chain[1:] {
		if Pin(id.Cluster, c) == pin {
			trust := Trust{Cluster: id.Cluster, Roots: []*x509.Certificate{c}}
			id, err = trust.Verify(chain, at)
			return id, trust, err
		}
	}
	return Identity{}, Trust{}, ErrNotPinned
}
