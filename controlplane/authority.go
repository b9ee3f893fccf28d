package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/api"
	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/identity/enroll"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// keyFile is the key that the servers of a cluster share, in a data directory. It
// seals the keys of the intermediate authorities, which are in the log.
const keyFile = "cluster.key"

// loadKey makes the key in the data directory the node's, if there is one.
func (s *secrets) loadKey() error {
	key, err := os.ReadFile(filepath.Join(s.config.DataDir, keyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the leader gives it to servers
	}
	if err != nil {
		return fmt.Errorf("read cluster key: %w", err)
	}
	return s.setKey(key)
}

type clusterKey struct {
	key    []byte
	sealer *identity.Sealer
}

func (s *secrets) setKey(key []byte) error {
	sealer, err := identity.NewSealer(key)
	if err != nil {
		return fmt.Errorf("read cluster key: %w", err)
	}
	s.key.Store(&clusterKey{key, sealer})
	return nil
}

// clusterKey implements api.ClusterKey.
func (s *secrets) clusterKey() (key []byte, sealer *identity.Sealer, ok bool) {
	if s == nil {
		return nil, nil, false
	}
	k := s.key.Load()
	if k == nil {
		return nil, nil, false
	}
	return k.key, k.sealer, true
}

// sealer returns what seals and opens the secrets of stages; nil on a plaintext node.
func (s *secrets) sealer() (*identity.Sealer, error) {
	if s == nil {
		return nil, nil
	}
	if k := s.key.Load(); k != nil {
		key := s.store.Load().State().Trust().GetKey()
		if key == "" || k.sealer.Keys()[0] == key {
			return k.sealer, nil
		}
		if err := s.arrangeKeys(); err != nil { // what is sealed from now on must not need a key that others forget
			return nil, err
		}
		return s.key.Load().sealer, nil
	}
	return nil, fmt.Errorf("%w: this node has not got the cluster's key yet", api.ErrNoKey)
}

// saveKey keeps the key that the leader has given.
func saveKey(dir string, key []byte) error {
	return identity.WriteSecret(filepath.Join(dir, keyFile), key)
}

// joinTrust gets a first credential with the join token, and the cluster's key.
func (n *Node) joinTrust(ctx context.Context) error {
	c := n.config
	credential, key, err := enroll.Joiner{
		Addresses: c.Join, Token: c.Security.JoinToken, Name: string(identity.Server) + "/" + c.Name,
		Logger: c.Logger, Dial: c.Network.Dial,
	}.Join(ctx)
	if err != nil {
		return fmt.Errorf("join the cluster: %w", err)
	}
	if err := saveKey(c.DataDir, key); err != nil {
		return err
	}
	_, err = identity.CreateHolder(filepath.Join(c.DataDir, nodeFile), credential)
	return err
}

// trustPause is the time between two looks at what there is to do for the trust.
const trustPause = time.Second

// keep sees to it until ctx ends that the cluster has its authorities, that this node
// has the cluster's key and a certificate that is valid, and that whoever is no longer
// admitted to the raft port is cut off there.
func (s *secrets) keep(ctx context.Context, m *membership, trust nodeTrust) {
	said := time.Time{}
	root := s.holder.Current().Root()
	for before := s.store.Load().State(); ; {
		err := errors.Join(s.establish(ctx), s.believe(m), s.renew(ctx, m), s.followKey(ctx, m), s.arrangeKeys())
		if now := s.holder.Current().Root(); now != nil && !now.Equal(root) {
			root = now
			m.peers.Renew()
		}
		err = errors.Join(err, s.conclude(ctx, m, trust.Report), s.resealAccessKeys(ctx))
		if err != nil && ctx.Err() == nil && time.Since(said) > time.Minute {
			said = time.Now()
			s.config.Logger.Warn("the node's part in the cluster's trust is not complete", "error", err)
		}
		if _, err := s.holder.Reload(); err != nil && time.Since(said) > time.Minute {
			said = time.Now()
			s.config.Logger.Error("credential cannot be read: the old one stays", "error", err)
		}
		pause := time.After(trustPause)
		for waiting := true; waiting; {
			now := s.store.Load().State()
			if now.Trust() != before.Trust() {
				if err := s.believe(m); err != nil {
					s.config.Logger.Error("the cluster's roots cannot be taken", "error", err)
				}
				trust.callers.Recheck()
			}
			before = now
			select {
			case <-now.Changed():
			case <-pause:
				waiting = false
			case <-ctx.Done():
				return
			}
		}
		s.raft.recheck(s.admitsToRaft)
	}
}

// cutOff ends, until ctx ends, the streams of those whom a change shuts out: whose
// certificate was revoked, whose token was deleted, whose role was taken.
func (s *secrets) cutOff(ctx context.Context, callers *api.Callers) {
	for before := s.store.Load().State(); ; {
		now := s.store.Load().State()
		if !now.SameAccess(before) {
			callers.Recheck()
		}
		before = now
		select {
		case <-now.Changed():
		case <-ctx.Done():
			return
		}
	}
}

// establish records the cluster's authorities, once: the leader makes them where the
// root's key is at hand.
func (s *secrets) establish(ctx context.Context) error {
	st := s.store.Load()
	_, sealer, ok := s.clusterKey()
	if !st.IsLeader() || st.State().ClusterID() == "" || st.State().Trust() != nil || !ok {
		return nil
	}
	root, err := s.config.root()
	if err != nil {
		return fmt.Errorf("the cluster has no authorities, and the key to make them is not here: %w", err)
	}
	cluster := s.holder.Current().Identity.Cluster
	trust := &storev1.Trust{Cluster: cluster, Roots: [][]byte{root.Certificate.Raw}}
	for _, class := range []identity.Class{identity.Server, identity.Agent, identity.User} {
		made, err := root.NewIntermediate(cluster, class)
		if err != nil {
			return err
		}
		sealed, err := sealer.SealAuthority(made, class)
		if err != nil {
			return err
		}
		trust.Issuers = append(trust.Issuers, &storev1.Issuer{Class: string(class), Certificate: made.Certificate.Raw, SealedKey: sealed})
	}
	_, err = st.Apply(ctx, &storev1.Command{
		Time: timestamppb.New(time.Now()), Actor: "server/" + s.config.Name, Method: "EstablishTrust",
		Op: &storev1.Command_PutTrust{PutTrust: &storev1.PutTrust{Trust: trust}},
	})
	return err
}

// renew gets this node another certificate, and the cluster's key if it lacks that,
// from the leader.
func (s *secrets) renew(ctx context.Context, m *membership) error {
	_, _, has := s.clusterKey()
	if (has && !s.holder.Due() && !s.moves()) || s.store.Load().State().Trust() == nil {
		return nil
	}
	leader, ok := s.store.Load().Leader()
	if !ok {
		return nil // there will be one
	}
	conn, err := m.peers.Conn(leader.GRPCAddress)
	if err != nil {
		return err
	}
	key, err := enroll.Renew(ctx, conn, s.holder)
	if err != nil || has {
		return err
	}
	return s.addKeys(key)
}
