package discovery

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// diskKey seals the tables on the agent's disk, with AES-256-GCM under a random nonce of
// 96 bits. Its key is this agent's own and travels nowhere: whoever gets hold of a table
// without it, as of a backup of the directory that leaves the key out, reads nothing.
type diskKey struct{ aead cipher.AEAD }

const (
	keyName = "state.key" // in the agent's directory, unless told otherwise
	keySize = 32
)

// openDiskKey reads the key in a file, which only its owner should be able to read. It
// makes one if there is none.
func openDiskKey(path string) (*diskKey, error) {
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, keySize)
		_, _ = rand.Read(key) // it never fails
		if err = writeFile(path, key); err == nil {
			err = syncDir(filepath.Dir(path)) // else the tables would outlive it
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open the key of the agent's state: %w", err)
	}
	if len(key) != keySize {
		return nil, fmt.Errorf("open the key of the agent's state: %s has %d bytes, want %d; remove it to have another made", path, len(key), keySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &diskKey{aead}, err
}

// The first line of a table file: of one that is sealed, and of one that an older build
// has written in the clear, where the SHA-256 of the rest ends it.
const (
	sealedFormat = "fife-table 2"
	clearFormat  = "fife-table 1 "
)

func (k *diskKey) seal(document []byte) []byte {
	line := []byte(sealedFormat + "\n")
	return k.aead.Seal(line, nil, document, []byte(sealedFormat))
}

// open returns the document in a table file, and whether that was in the clear.
func (k *diskKey) open(data []byte) (document []byte, inClear bool, err error) {
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	if want, ok := strings.CutPrefix(string(line), clearFormat); ok {
		if sum := sha256.Sum256(rest); hex.EncodeToString(sum[:]) != want {
			return nil, true, errors.New("the checksum does not match")
		}
		return rest, true, nil
	}
	if string(line) != sealedFormat {
		return nil, false, fmt.Errorf("begins with %.40q, not with %q", line, sealedFormat)
	}
	if document, err = k.aead.Open(nil, nil, rest, line); err != nil {
		return nil, false, errors.New("it is damaged, or was sealed with another key")
	}
	return document, false, nil
}
