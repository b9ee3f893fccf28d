package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// voteStore keeps Raft's last vote as one record. Raft writes the term of a vote
// and the candidate one after the other; a crash in between leaves the new term
// with the old candidate, and a node that restarts so may grant that candidate a
// second vote in a term in which it has voted already (hashicorp/raft#661).
type voteStore struct {
	raft.StableStore

	mu   sync.Mutex
	term uint64 // announced by Raft, not yet written: it waits for its candidate
}

// The keys that Raft uses, and the one that takes their place.
var (
	lastVoteTerm      = []byte("LastVoteTerm")
	lastVoteCandidate = []byte("LastVoteCand")
	lastVote          = []byte("FifeLastVote")
)

// ErrBadVote says that the record of the last vote cannot be read. A node that
// does not know whom it has voted for must not vote.
var ErrBadVote = errors.New("the record of the last vote is damaged")

// SetUint64 keeps the term of a vote until its candidate comes.
func (v *voteStore) SetUint64(key []byte, value uint64) error {
	if !bytes.Equal(key, lastVoteTerm) {
		return v.StableStore.SetUint64(key, value)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.term = value
	return nil
}

// Set writes a candidate together with the term announced before it.
func (v *voteStore) Set(key, value []byte) error {
	if !bytes.Equal(key, lastVoteCandidate) {
		return v.StableStore.Set(key, value)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.StableStore.Set(lastVote, append(binary.BigEndian.AppendUint64(nil, v.term), value...))
}

// GetUint64 returns the term of the last vote that was written whole; 0 if none
// was.
func (v *voteStore) GetUint64(key []byte) (uint64, error) {
	if !bytes.Equal(key, lastVoteTerm) {
		return v.StableStore.GetUint64(key)
	}
	term, _, err := v.read()
	return term, err
}

// Get returns the candidate of the last vote that was written whole.
func (v *voteStore) Get(key []byte) ([]byte, error) {
	if !bytes.Equal(key, lastVoteCandidate) {
		return v.StableStore.Get(key)
	}
	_, candidate, err := v.read()
	return candidate, err
}

func (v *voteStore) read() (term uint64, candidate []byte, err error) {
	record, err := v.StableStore.Get(lastVote)
	if (err != nil && err.Error() == "not found") || (err == nil && len(record) == 0) {
		return 0, nil, nil // the two ways in which stores say that there is none
	}
	if err != nil {
		return 0, nil, fmt.Errorf("read last vote: %w", err)
	}
	if len(record) < 8 {
		return 0, nil, fmt.Errorf("%w: it has %d bytes", ErrBadVote, len(record))
	}
	return binary.BigEndian.Uint64(record), record[8:], nil
}
