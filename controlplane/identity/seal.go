package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// KeySize is the size of one key of a Sealer in bytes.
const KeySize = 32

// keyIDSize is how many bytes of what is sealed say by which key.
const keyIDSize = 8

// ErrSealed says that something cannot be opened: it was sealed with another key or
// for another context, or it is damaged.
var ErrSealed = errors.New("it was sealed with another key or for another use, or is damaged")

// Sealer seals what only the servers of a cluster may read, with AES-256-GCM under a
// random nonce of 96 bits; one key is good for 2^32 seals (NIST SP 800-38D, 8.3). It
// has one key to seal with and may have others to open with: what is sealed begins
// with the id of its key. It is safe for concurrent use.
type Sealer struct {
	ids   []string // that of the key which seals first
	aeads map[string]cipher.AEAD
}

// NewSealKey returns a new key for a Sealer.
func NewSealKey() []byte {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // it never fails
	return key
}

// KeyID returns the name of a key, which tells nothing else of it.
func KeyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("fife cluster key\x00"), key...))
	return hex.EncodeToString(sum[:keyIDSize])
}

// SplitKeys returns the keys that follow one another in the text of a Sealer's keys.
func SplitKeys(keys []byte) ([][]byte, error) {
	if len(keys) == 0 || len(keys)%KeySize != 0 {
		return nil, fmt.Errorf("a cluster key has %d bytes, or several keys a multiple of that; here are %d", KeySize, len(keys))
	}
	return slices.Collect(slices.Chunk(keys, KeySize)), nil
}

// NewSealer returns the sealer of one or more keys of KeySize bytes, one after the
// other. The first seals, all of them open.
func NewSealer(keys []byte) (*Sealer, error) {
	split, err := SplitKeys(keys)
	if err != nil {
		return nil, err
	}
	s := &Sealer{aeads: map[string]cipher.AEAD{}}
	for _, key := range split {
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		id := KeyID(key)
		s.ids, s.aeads[id] = append(s.ids, id), aead
	}
	return s, nil
}

// Keys returns the ids of the keys, that of the one which seals first. They must not
// be changed.
func (s *Sealer) Keys() []string { return s.ids }

// SealedBy returns the id of the key that something was sealed with; empty if it is
// too short to say.
func SealedBy(sealed []byte) string {
	if len(sealed) < keyIDSize {
		return ""
	}
	return hex.EncodeToString(sealed[:keyIDSize])
}

// Seal returns plain so that only Open with the same key and context reads it. The
// context says what it is for, such as a name, so that nobody can put it elsewhere;
// it is not part of the result.
func (s *Sealer) Seal(plain []byte, context string) []byte {
	id, _ := hex.DecodeString(s.ids[0]) // KeyID has made it
	return s.aeads[s.ids[0]].Seal(id, nil, plain, []byte(context))
}

// Open returns what was sealed with any of the keys. The error wraps ErrSealed.
func (s *Sealer) Open(sealed []byte, context string) ([]byte, error) {
	aead, ok := s.aeads[SealedBy(sealed)]
	if !ok {
		return nil, fmt.Errorf("open %s, sealed with key %q: %w", context, SealedBy(sealed), ErrSealed)
	}
	plain, err := aead.Open(nil, nil, sealed[keyIDSize:], []byte(context))
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
