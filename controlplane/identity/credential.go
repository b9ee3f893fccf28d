package identity

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Credential is what a holder shows to others, and whom it believes in turn. It is
// immutable.
type Credential struct {
	Identity Identity
	Key      crypto.Signer
	Chain    []*x509.Certificate // the holder's, then its issuer's
	Trust    Trust
}

// NewCredential puts a credential together. It refuses a key that is not the
// certificate's, and a chain that the holder itself would not believe, unless the
// only thing wrong with it is that it has expired.
func NewCredential(key crypto.Signer, chain, roots []*x509.Certificate) (*Credential, error) {
	if len(chain) == 0 || len(roots) == 0 {
		return nil, fmt.Errorf("%w: a credential needs a certificate and a root", ErrInvalid)
	}
	id, err := FromCertificate(chain[0])
	if err != nil {
		return nil, err
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(chain[0].PublicKey) {
		return nil, fmt.Errorf("%w: the key is not that of the certificate of %s", ErrInvalid, id)
	}
	c := &Credential{Identity: id, Key: key, Chain: chain, Trust: Trust{id.Cluster, roots}}
	at := chain[0].NotBefore.Add(clockSkew) // when its issuer may have begun, too
	if end := chain[0].NotAfter; at.After(end) {
		at = end
	}
	if _, err := c.Trust.Verify(chain, at); err != nil {
		return nil, err
	}
	return c, nil
}

// Leaf returns the holder's certificate.
func (c *Credential) Leaf() *x509.Certificate { return c.Chain[0] }

// RenewAt returns when two thirds of the certificate's life are over.
func (c *Credential) RenewAt() time.Time {
	leaf := c.Leaf()
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3)
}

// The kinds of PEM blocks that a credential has.
const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
)

// Due reports whether it is time to renew the certificate.
func (c *Credential) Due() bool { return time.Now().After(c.RenewAt()) }

// PEM returns the credential as one file: the key, the holder's certificate, those of
// its issuers, and the roots.
func (c *Credential) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	out := pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der})
	return append(append(out, EncodeCertificates(c.Chain)...), EncodeCertificates(c.Trust.Roots)...), nil
}

// EncodeCertificates returns certificates in PEM.
func EncodeCertificates(certs []*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: c.Raw})...)
	}
	return out
}

// ParseCredential reads what PEM has written. The parts may be in files of their
// own, given one after the other. The issuers are told from the roots by their URI,
// which names a class.
func ParseCredential(files ...[]byte) (*Credential, error) {
	key, certs, err := parsePEM(bytes.Join(files, []byte("\n")))
	if err != nil {
		return nil, err
	}
	if key == nil || len(certs) == 0 {
		return nil, fmt.Errorf("%w: a private key and its certificate are needed in PEM", ErrInvalid)
	}
	id, err := FromCertificate(certs[0])
	if err != nil {
		return nil, err
	}
	chain, roots := certs[:1:1], []*x509.Certificate{}
	for _, c := range certs[1:] {
		if len(c.URIs) == 1 && c.URIs[0].String() == classURI(id.Cluster, id.Class).String() {
			chain = append(chain, c)
		} else {
			roots = append(roots, c)
		}
	}
	return NewCredential(key, chain, roots)
}

// ParseRoots reads the roots of a cluster in PEM.
func ParseRoots(data []byte) ([]*x509.Certificate, error) {
	_, roots, err := parsePEM(data)
	if err == nil && len(roots) == 0 {
		err = fmt.Errorf("%w: no certificate in PEM", ErrInvalid)
	}
	return roots, err
}

// ParseAuthority reads the certificate and the key of an authority in PEM.
func ParseAuthority(cert, key []byte) (Authority, error) {
	signer, certs, err := parsePEM(append(append(bytes.Clone(cert), '\n'), key...))
	if err != nil {
		return Authority{}, err
	}
	if signer == nil || len(certs) != 1 {
		return Authority{}, fmt.Errorf("%w: an authority is one certificate and its key in PEM", ErrInvalid)
	}
	if public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(certs[0].PublicKey) {
		return Authority{}, fmt.Errorf("%w: the key is not that of the certificate of %s", ErrInvalid, certs[0].Subject)
	}
	if !certs[0].IsCA {
		return Authority{}, fmt.Errorf("%w: the certificate of %s is not an authority's", ErrInvalid, certs[0].Subject)
	}
	return Authority{certs[0], signer}, nil
}

// Cluster returns the cluster that a root names, or "" if it names none.
func (a Authority) Cluster() string {
	for _, u := range a.Certificate.URIs {
		if u.Scheme == "spiffe" && u.Path == "" && validName.MatchString(u.Host) {
			return u.Host
		}
	}
	return ""
}

// PEM returns the certificate and the key, each as a file.
func (a Authority) PEM() (cert, key []byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode key: %w", err)
	}
	return EncodeCertificates([]*x509.Certificate{a.Certificate}), pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

func parsePEM(data []byte) (key crypto.Signer, certs []*x509.Certificate, err error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case pemCertificate:
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
			}
			certs = append(certs, c)
		case pemKey, "EC PRIVATE KEY":
			if key, err = parseKey(block); err != nil {
				return nil, nil, fmt.Errorf("%w: private key: %w", ErrInvalid, err)
			}
		}
	}
	return key, certs, nil
}

func parseKey(block *pem.Block) (crypto.Signer, error) {
	if block.Type != pemKey {
		return x509.ParseECPrivateKey(block.Bytes)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("it cannot sign")
	}
	return signer, nil
}

// Holder holds a credential that is renewed now and then, and the file it is kept
// in. It is safe for concurrent use.
type Holder struct {
	path    string // empty in memory
	current atomic.Pointer[Credential]
	early   atomic.Pointer[time.Time] // when to renew, if that is to be sooner than RenewAt

	mu   sync.Mutex // held by who changes it
	seen os.FileInfo
}

// NewHolder returns a holder of a credential that is kept in no file.
func NewHolder(c *Credential) *Holder {
	h := &Holder{}
	h.current.Store(c)
	return h
}

// OpenHolder reads a credential from a file. The error wraps fs.ErrNotExist if there
// is none yet.
func OpenHolder(path string) (*Holder, error) {
	h := &Holder{path: path}
	_, err := h.Reload()
	return h, err
}

// CreateHolder puts a credential into a file, in place of what is there.
func CreateHolder(path string, c *Credential) (*Holder, error) {
	h := &Holder{path: path}
	return h, h.Replace(c)
}

// Current returns the credential of now.
func (h *Holder) Current() *Credential { return h.current.Load() }

// RenewBy says that the credential is to be renewed at a time, although it would last.
// Another credential takes that back.
func (h *Holder) RenewBy(at time.Time) { h.early.Store(&at) }

// Due reports whether it is time to renew the credential.
func (h *Holder) Due() bool {
	early := h.early.Load()
	return h.Current().Due() || (early != nil && !time.Now().Before(*early))
}

// Believe makes others the roots that are believed, in the file first. It refuses
// those under which the holder would not believe its own certificate.
func (h *Holder) Believe(roots []*x509.Certificate) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	next, err := h.Current().WithRoots(roots)
	if err != nil {
		return err
	}
	return h.replace(next)
}

// Replace makes a credential the current one, in the file first.
func (h *Holder) Replace(c *Credential) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.early.Store(nil)
	return h.replace(c)
}

// replace does so with h.mu held.
func (h *Holder) replace(c *Credential) error {
	if h.path != "" {
		data, err := c.PEM()
		if err != nil {
			return err
		}
		if err := WriteSecret(h.path, data); err != nil {
			return err
		}
		if h.seen, err = os.Stat(h.path); err != nil {
			return fmt.Errorf("look at credential: %w", err)
		}
	}
	h.current.Store(c)
	return nil
}

// Reload reads the file again if it has changed, and reports whether it had. What
// cannot be read changes nothing.
func (h *Holder) Reload() (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.path == "" {
		return false, nil
	}
	info, err := os.Stat(h.path)
	if err != nil {
		return false, fmt.Errorf("look at credential: %w", err)
	}
	if h.seen != nil && os.SameFile(h.seen, info) && h.seen.ModTime().Equal(info.ModTime()) {
		return false, nil
	}
	data, err := os.ReadFile(h.path)
	if err != nil {
		return false, fmt.Errorf("read credential: %w", err)
	}
	c, err := ParseCredential(data)
	if err != nil {
		return false, fmt.Errorf("read credential %s: %w", h.path, err)
	}
	if old := h.current.Load(); old != nil && old.Identity != c.Identity {
		return false, fmt.Errorf("read credential %s: %w: it is of %s, was of %s", h.path, ErrInvalid, c.Identity, old.Identity)
	}
	h.seen = info
	h.early.Store(nil)
	h.current.Store(c)
	return true, nil
}

// certificate returns what is shown to others. The root goes with it for those who
// know no more than its Pin.
func (h *Holder) certificate() *tls.Certificate {
	c := h.Current()
	shown := &tls.Certificate{PrivateKey: c.Key, Leaf: c.Leaf()}
	for _, cert := range c.Chain {
		shown.Certificate = append(shown.Certificate, cert.Raw)
	}
	if c.Identity.Class == Server {
		for _, root := range c.Trust.Roots {
			shown.Certificate = append(shown.Certificate, root.Raw)
		}
	}
	return shown
}

// WriteSecret writes a file that only its owner may read, as a whole: a power cut
// leaves the old or the new one.
func WriteSecret(path string, data []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name()) // it was never a file of its own
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err = os.Rename(file.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
