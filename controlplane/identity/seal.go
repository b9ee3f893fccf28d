package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
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
