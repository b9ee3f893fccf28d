package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// Member is one node of the cluster.
type Member struct {
	ID          string
	RaftAddress string
	GRPCAddress string // empty until the node has said so
	Voter       bool
	Leader      bool
}

// Errors of the membership methods, beside those of Apply.
var (
	// ErrMemberConflict says that an id or address belongs to another member.
	ErrMemberConflict = errors.New("belongs to another member")
	// ErrNotCaughtUp says that a member has not applied what it would need.
	ErrNotCaughtUp = errors.New("the member is not caught up")
	// ErrNoMember says that no member has the given id.
	ErrNoMember = errors.New("no such member")
	// ErrQuorumAtRisk says that a removal would leave the cluster without voters,
	// or without a majority of voters that can be reached.
	ErrQuorumAtRisk = errors.New("the cluster would lose its majority")
)

// MemberError says which member an error of the membership methods is about.
type MemberError struct {
	Member string
	Err    error
}

// Error names the member.
func (e *MemberError) Error() string { return fmt.Sprintf("member %s: %v", e.Member, e.Err) }

// Unwrap returns the error itself.
func (e *MemberError) Unwrap() error { return e.Err }

// NodeID returns this node's id.
func (s *Store) NodeID() string { return s.config.NodeID }

// IsLeader reports whether this node leads, as far as it knows.
func (s *Store) IsLeader() bool { return s.raft.State() == raft.Leader }

// Leader returns the leader as far as this node knows; ok is false if it knows
// of none or not where it is reached.
func (s *Store) Leader() (n Node, ok bool) {
	_, id := s.raft.LeaderWithID()
	if id == "" {
		return Node{}, false
	}
	return s.State().Node(string(id))
}

// Members returns the nodes of the newest configuration in id order.
func (s *Store) Members() ([]Member, error) {
	future := s.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	_, leader := s.raft.LeaderWithID()
	state := s.State()
	var members []Member
	for _, server := range future.Configuration().Servers {
		n, _ := state.Node(string(server.ID))
		members = append(members, Member{
			ID:          string(server.ID),
			RaftAddress: string(server.Address),
			GRPCAddress: n.GRPCAddress,
			Voter:       server.Suffrage == raft.Voter,
			Leader:      server.ID == leader,
		})
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return members, nil
}

// Join adds a node that does not vote yet and records where it is reached.
// Repeating it is harmless. A member, known to be one by its disk, may come with
// another address than before. A voter that comes without its past is refused: it
// has forgotten whom it voted for. It must be called on the leader.
func (s *Store) Join(ctx context.Context, node Node, raftAddress string, member bool) error {
	members, err := s.Members()
	if err != nil {
		return err
	}
	known := false
	for _, m := range members {
		switch {
		case m.ID == node.ID && m.Voter && !member:
			return &MemberError{m.ID, fmt.Errorf(
				"id %s %w, which votes; if its disk is lost, remove it and join under a new name", node.ID, ErrMemberConflict)}
		case m.ID == node.ID && m.RaftAddress == raftAddress:
			known = true
		case m.ID == node.ID && member:
			known = true
			if err := s.moveMember(ctx, m, raftAddress); err != nil {
				return err
			}
		case m.ID == node.ID:
			return &MemberError{m.ID, fmt.Errorf("id %s %w, at %s", node.ID, ErrMemberConflict, m.RaftAddress)}
		case m.RaftAddress == raftAddress:
			return &MemberError{m.ID, fmt.Errorf("address %s %w", raftAddress, ErrMemberConflict)}
		case m.GRPCAddress == node.GRPCAddress:
			return &MemberError{m.ID, fmt.Errorf("address %s %w", node.GRPCAddress, ErrMemberConflict)}
		}
	}
	if !known {
		err := s.await(ctx, func() raft.Future {
			return s.raft.AddNonvoter(raft.ServerID(node.ID), raft.ServerAddress(raftAddress), 0, enqueueTimeout)
		})
		if err != nil {
			return fmt.Errorf("add member %s: %w", node.ID, err)
		}
	}
	return s.RecordNode(ctx, node)
}

// moveMember records that a member replicates at another address.
func (s *Store) moveMember(ctx context.Context, m Member, raftAddress string) error {
	s.config.Logger.Info("member has moved", "member", m.ID, "from", m.RaftAddress, "to", raftAddress)
	change := s.raft.AddNonvoter
	if m.Voter {
		change = s.raft.AddVoter
	}
	err := s.await(ctx, func() raft.Future {
		return change(raft.ServerID(m.ID), raft.ServerAddress(raftAddress), 0, enqueueTimeout)
	})
	if err != nil {
		return fmt.Errorf("move member %s: %w", m.ID, err)
	}
	return nil
}

// moveSelf is moveMember for the leader, if its own address has changed.
func (s *Store) moveSelf(ctx context.Context) error {
	members, err := s.Members()
	if err != nil {
		return err
	}
	address := string(s.config.Transport.LocalAddr())
	for _, m := range members {
		if m.ID == s.config.NodeID && m.RaftAddress != address {
			return s.moveMember(ctx, m, address)
		}
	}
	return nil
}

// Promote gives a member its vote. It must be called on the leader, once the
// member has caught up: a voter that is behind can stop the cluster.
func (s *Store) Promote(ctx context.Context, id string) (Member, error) {
	members, err := s.Members()
	if err != nil {
		return Member{}, err
	}
	i := slices.IndexFunc(members, func(m Member) bool { return m.ID == id })
	if i < 0 {
		return Member{}, &MemberError{id, ErrNoMember}
	}
	m := members[i]
	if !m.Voter {
		err := s.await(ctx, func() raft.Future {
			return s.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(m.RaftAddress), 0, enqueueTimeout)
		})
		if err != nil {
			return Member{}, fmt.Errorf("promote %s: %w", id, err)
		}
		m.Voter = true
	}
	return m, nil
}

// Remove takes a member out of the cluster. It must be called on the leader. The
// error wraps ErrQuorumAtRisk if the cluster could not go on without it: most of the
// voters that would remain must confirm that they have a change made just now.
func (s *Store) Remove(ctx context.Context, id string, confirms Confirms) error {
	members, err := s.Members()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(members, func(m Member) bool { return m.ID == id })
	if i < 0 {
		if _, known := s.State().Node(id); known {
			return s.forget(ctx, id) // an earlier removal came half the way
		}
		return &MemberError{id, ErrNoMember}
	}
	if err := s.checkQuorumWithout(ctx, members, id, confirms); err != nil {
		return &MemberError{id, err}
	}
	if members[i].ID == s.config.NodeID {
		if err := s.TransferLeadership(ctx, ""); err != nil {
			return fmt.Errorf("remove the leader: %w", err)
		}
		return fmt.Errorf("remove %s: %w: it has handed leadership over", id, ErrNotLeader)
	}
	err = s.await(ctx, func() raft.Future { return s.raft.RemoveServer(raft.ServerID(id), 0, enqueueTimeout) })
	if err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	return s.forget(ctx, id)
}

// forget removes what is recorded of a node that has left.
func (s *Store) forget(ctx context.Context, id string) error {
	cmd := s.command("RemoveMember")
	cmd.Op = &storev1.Command_DeleteNode{DeleteNode: &storev1.DeleteNode{Id: id}}
	if _, err := s.Apply(ctx, cmd); err != nil {
		return fmt.Errorf("forget address of %s: %w", id, err)
	}
	return nil
}

// Confirms asks another member whether it has applied a version, and waits for that
// until ctx ends.
type Confirms func(ctx context.Context, m Member, applied Version) bool

// confirmTimeout is how soon a member must confirm a change.
const confirmTimeout = time.Second

// checkQuorumWithout refuses to lose a member if those voters that remain and work
// are no majority of those that remain. What a leader knows of the others is as old
// as its last heartbeat, so they are asked, and for something new: a node whose disk
// hangs still answers heartbeats.
func (s *Store) checkQuorumWithout(ctx context.Context, members []Member, id string, confirms Confirms) error {
	voters := slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return m.ID == id || !m.Voter })
	if len(voters) == 0 {
		return fmt.Errorf("%w: it is the only voter", ErrQuorumAtRisk)
	}
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	if err := s.putNode(ctx, s.self()); err != nil {
		return fmt.Errorf("%w: no change is taken now: %w", ErrQuorumAtRisk, err)
	}
	applied := s.State().Applied()
	var working atomic.Int32
	var asked sync.WaitGroup
	for _, m := range voters {
		asked.Go(func() {
			if m.ID == s.config.NodeID || confirms(ctx, m, applied) {
				working.Add(1)
			}
		})
	}
	asked.Wait()
	if int(working.Load()) <= len(voters)/2 {
		return fmt.Errorf("%w: %d voters would remain, of which %d work", ErrQuorumAtRisk, len(voters), working.Load())
	}
	return nil
}

// TransferLeadership gives leadership to a voter, or to the best one if id is
// empty. It must be called on the leader.
func (s *Store) TransferLeadership(ctx context.Context, id string) error {
	members, err := s.Members()
	if err != nil {
		return err
	}
	if id == "" {
		if !slices.ContainsFunc(members, func(m Member) bool { return m.Voter && m.ID != s.config.NodeID }) {
			return &MemberError{s.config.NodeID, fmt.Errorf("%w to hand over to: it is the only voter", ErrNoMember)}
		}
		if err := s.await(ctx, s.raft.LeadershipTransfer); err != nil {
			return fmt.Errorf("transfer leadership: %w", err)
		}
		return nil
	}
	i := slices.IndexFunc(members, func(m Member) bool { return m.ID == id && m.Voter })
	if i < 0 {
		return &MemberError{id, fmt.Errorf("%w that votes", ErrNoMember)}
	}
	if members[i].ID == s.config.NodeID {
		return nil
	}
	err = s.await(ctx, func() raft.Future {
		return s.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(members[i].RaftAddress))
	})
	if err != nil {
		return fmt.Errorf("transfer leadership to %s: %w", id, err)
	}
	return nil
}

// RecordNode records where a node is reached, unless that is recorded already.
func (s *Store) RecordNode(ctx context.Context, n Node) error {
	n.Schema = max(n.Schema, 1) // a build that does not say reads the first schema
	if known, ok := s.State().Node(n.ID); !ok || known != n {
		if err := s.putNode(ctx, n); err != nil {
			return err
		}
	}
	return s.configureAudit(ctx)
}

// configureAudit has the cluster keep as much audit as this node is told to. While a
// node runs a build that knows of none, it is tried again with the next one that
// says what it can read.
func (s *Store) configureAudit(ctx context.Context) error {
	limits := s.config.Audit
	if limits == (AuditLimits{}) || limits == s.State().AuditLimits() {
		return nil
	}
	cmd := s.command("ConfigureAudit")
	cmd.Op = &storev1.Command_ConfigureAudit{ConfigureAudit: &storev1.ConfigureAudit{Limits: encodeAuditLimits(limits)}}
	if _, err := s.Apply(ctx, cmd); err != nil && !errors.Is(err, ErrNotSupported) {
		return fmt.Errorf("configure audit: %w", err)
	}
	return nil
}

func (s *Store) putNode(ctx context.Context, n Node) error {
	cmd := s.command("RecordNode")
	cmd.Op = &storev1.Command_PutNode{PutNode: &storev1.PutNode{Node: encodeNode(n)}}
	if _, err := s.Apply(ctx, cmd); err != nil {
		return fmt.Errorf("record address of %s: %w", n.ID, err)
	}
	return nil
}
