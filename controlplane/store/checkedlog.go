package store

import (
	"encoding/binary"
	"errors"

	"github.com/cespare/xxhash/v2"
	"github.com/hashicorp/raft"
)

// ErrDamagedLog says that an entry of the log is not what was written. raft-wal
// looks at its own checksums only where a crash may have torn the log: behind that,
// a bit that has turned over would be applied, and this node would tell something
// else than the others.
var ErrDamagedLog = errors.New("the log on disk is damaged; remove this node and join under a new name with an empty data directory")

// checkedLogs is a log whose entries carry a checksum on disk. It stands behind their
// Extensions, which nothing else uses. raft-wal has a place for another format of
// entries, but v0.4.1 cannot open a log again that was written in one.
type checkedLogs struct{ raft.LogStore }

// checksumSize is how many bytes an entry grows by.
const checksumSize = 8

// checksum sums up all of an entry that Raft relies on.
func checksum(l *raft.Log, extensions []byte) uint64 {
	var head [25]byte
	binary.BigEndian.PutUint64(head[0:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	binary.BigEndian.PutUint64(head[16:], uint64(len(l.Data)))
	head[24] = byte(l.Type)
	sum := xxhash.New()
	_, _ = sum.Write(head[:]) // a hash never fails
	_, _ = sum.Write(l.Data)
	_, _ = sum.Write(extensions)
	return sum.Sum64()
}

func (c checkedLogs) StoreLog(l *raft.Log) error { return c.StoreLogs([]*raft.Log{l}) }

// StoreLogs writes entries. They are Raft's own, which goes on using them, so copies
// are written.
func (c checkedLogs) StoreLogs(logs []*raft.Log) error {
	copies := make([]raft.Log, len(logs))
	out := make([]*raft.Log, len(logs))
	for i, l := range logs {
		copies[i] = *l
		extensions := make([]byte, 0, len(l.Extensions)+checksumSize)
		copies[i].Extensions = binary.BigEndian.AppendUint64(append(extensions, l.Extensions...), checksum(l, l.Extensions))
		out[i] = &copies[i]
	}
	return c.LogStore.StoreLogs(out)
}

// GetLog reads an entry. The error is ErrDamagedLog if it is not as written.
func (c checkedLogs) GetLog(index uint64, l *raft.Log) error {
	if err := c.LogStore.GetLog(index, l); err != nil {
		return err
	}
	body := len(l.Extensions) - checksumSize
	if body < 0 || l.Index != index || binary.BigEndian.Uint64(l.Extensions[body:]) != checksum(l, l.Extensions[:body]) {
		return ErrDamagedLog
	}
	if l.Extensions = l.Extensions[:body]; body == 0 {
		l.Extensions = nil
	}
	return nil
}

// IsMonotonic passes on whether the log must not have holes.
func (c checkedLogs) IsMonotonic() bool { return isMonotonic(c.LogStore) }

func isMonotonic(l raft.LogStore) bool {
	m, ok := l.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}
