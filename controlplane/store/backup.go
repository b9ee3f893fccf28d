package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
)

// ErrNotEmpty says that a backup is not restored over what a cluster holds.
var ErrNotEmpty = errors.New("the cluster is not empty")

// restoreTimeout bounds how long Raft may take over a restore.
const restoreTimeout = time.Minute

// Backup writes a state as a snapshot: whole, checksummed, and consistent, as
// states are immutable. Writes go on meanwhile.
func (s *State) Backup(out io.Writer) error {
	if err := writeSnapshot(out, s); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return nil
}

// Restore makes the state in a backup that of the cluster, under a higher epoch
// than both have had, so that agents follow in order. The cluster's identity and
// what is known of its nodes stay. It must be called on the leader of a cluster without APIs.
//
// What check refuses of the backup is not restored: it may know what the store does
// not, such as whether there is a key for what is sealed.
//
// The error wraps that of check, ErrBadSnapshot, ErrNotEmpty or ErrNotLeader if nothing
// was done.
func (s *Store) Restore(ctx context.Context, in io.Reader, check func(*State) error) (Version, error) {
	if err := s.checkEmpty(); err != nil {
		return Version{}, err // before a long upload
	}
	backup, err := readSnapshot(in)
	if err != nil {
		return Version{}, err
	}
	if err := check(backup); err != nil {
		return Version{}, err
	}
	s.writes.Lock() // nothing may be acknowledged between the look and the leap
	defer s.writes.Unlock()
	if err := s.Sync(ctx); err != nil {
		return Version{}, err
	}
	if err := s.checkEmpty(); err != nil {
		return Version{}, err
	}
	now := s.State()
	restored := *backup
	restored.epoch = max(now.epoch, backup.epoch) + 1
	restored.clusterID, restored.nodes, restored.departed = now.clusterID, now.nodes, now.departed
	restored.keepTrust(now)
	restored.changes = changeLog{}
	restored.changes.floor = restored.routing
	restored.auditLimits = now.auditLimits
	restored.auditTakeover(now, "RestoreCluster", "node/"+s.config.NodeID, s.raft.CurrentTerm())
	var data bytes.Buffer
	if err := writeSnapshot(&data, &restored); err != nil {
		return Version{}, err
	}
	meta := &raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, Index: restored.index, Term: s.raft.CurrentTerm(), Size: int64(data.Len()),
	}
	if err := s.raft.Restore(meta, &data, restoreTimeout); err != nil {
		return Version{}, fmt.Errorf("restore: %w: %w", ErrOutcomeUnknown, err)
	}
	return s.State().Version(), nil
}

func (s *Store) checkEmpty() error {
	if n := s.State().apis.Len(); n > 0 {
		return fmt.Errorf("%w: it has %d APIs; restore into a new cluster", ErrNotEmpty, n)
	}
	return nil
}

// RecoverConfig says how a cluster is recovered that has lost its majority for
// good.
type RecoverConfig struct {
	NodeID      string         // the survivor, which becomes the only member
	GRPCAddress string         // where it will be reached
	Transport   raft.Transport // at the address it will have; nothing is sent
	Storage     *Storage       // of the survivor, whose process must not run
	Logger      *slog.Logger
}

// Recover makes a node that has lost its majority the only member of its cluster,
// with all that its own disk holds, under a higher epoch and as a new cluster:
// lost nodes that come back with their old disks are strangers to it. What only
// they had acknowledged is gone.
func Recover(c RecoverConfig) (Version, error) {
	used, err := c.Storage.Used()
	if err != nil {
		return Version{}, err
	}
	if !used {
		return Version{}, fmt.Errorf("recover: %w", ErrNewDisk)
	}
	if err := c.Storage.identity.claim(c.NodeID); err != nil {
		return Version{}, fmt.Errorf("recover: %w", err)
	}
	f := recoveredFSM{fsm: newFSM(), clusterID: rand.Text(), node: Node{ID: c.NodeID, GRPCAddress: c.GRPCAddress, Schema: Schema}}
	rc := raftConfig(Config{NodeID: c.NodeID, Logger: c.Logger})
	alone := raft.Configuration{Servers: []raft.Server{{ID: rc.LocalID, Address: c.Transport.LocalAddr()}}}
	err = raft.RecoverCluster(rc, f, c.Storage.logs, c.Storage.stable, c.Storage.snapshots, c.Transport, alone)
	if err != nil {
		return Version{}, fmt.Errorf("recover: %w", err)
	}
	if err := c.Storage.identity.learn(f.clusterID); err != nil {
		return Version{}, fmt.Errorf("recover: %w; repeat it", err)
	}
	return f.recovered().Version(), nil
}

// recoveredFSM takes its snapshot, the last thing that a recovery does, of the
// state that the cluster begins again with.
type recoveredFSM struct {
	*fsm
	clusterID string
	node      Node
}

func (f recoveredFSM) recovered() *State {
	next := *f.state.Load()
	next.epoch++
	next.clusterID = f.clusterID
	next.nodes, _, _ = iradix.New[Node]().Insert([]byte(f.node.ID), f.node)
	next.changes = changeLog{}
	next.changes.floor = next.routing
	next.auditTakeover(f.state.Load(), "Recover", "node/"+f.node.ID, 0)
	return &next
}

// Snapshot returns the recovered state.
func (f recoveredFSM) Snapshot() (raft.FSMSnapshot, error) { return snapshot{f.recovered()}, nil }
