package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// KeySize is the size of a Sealer's key in bytes.
const KeySize = 32

// ErrSealed says that something cannot be opened: it was sealed with another key or
// for another context, or it is damaged.
var ErrSealed = errors.New("it was sealed with another key or for another use, or is damaged")

// Sealer seals what only the servers of a cluster may read, with AES-256-GCM under a
// random nonce of 96 bits; one key is good for 2^32 seals (NIST SP 800-38D, 8.3). It
// is safe for concurrent use.
type Sealer struct{ aead cipher.AEAD }

// NewSealKey returns a new key for a Sealer.
func NewSealKey() []byte {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // it never fails
	return key
}

// NewSealer returns the sealer of a key of KeySize bytes.
func NewSealer(key []byte) (*Sealer, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("a cluster key has %d bytes, this one %d", KeySize, len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Sealer{aead}, nil
}

// Seal returns plain so that only Open with the same key and context reads it. The
// context says what it is for, such as a name, so that nobody can put it elsewhere;
// it is not part of the result.
func (s *Sealer) Seal(plain []byte, context string) []byte {
	return s.aead.Seal(nil, nil, plain, []byte(context))
}

// Open returns what was sealed. The error wraps ErrSealed.
func (s *Sealer) Open(sealed []byte, context string) ([]byte, error) {
	plain, err := s.aead.Open(nil, nil, sealed, []byte(context))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", context, ErrSealed)
	}
	return plain, nil
}

// SealAuthority returns the key of a class's authority, sealed.
func (s *Sealer) SealAuthority(a Authority, class Class) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.Key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return s.Seal(der, sealedFor(class)), nil
}

// OpenAuthority returns the authority of a class from its certificate in DER and its
// sealed key.
func (s *Sealer) OpenAuthority(cert, sealed []byte, class Class) (Authority, error) {
	c, err := x509.ParseCertificate(cert)
	if err != nil {
		return Authority{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	der, err := s.Open(sealed, sealedFor(class))
	if err != nil {
		return Authority{}, err
	}
	key, err := parseKey(&pem.Block{Type: pemKey, Bytes: der})
	if err != nil {
		return Authority{}, fmt.Errorf("%w: private key: %w", ErrInvalid, err)
	}
	return Authority{c, key}, nil
}

func sealedFor(class Class) string { return "authority/" + string(class) }
