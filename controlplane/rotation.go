package controlplane

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/api"
	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// nodeTrust is this node's part in the rotations of the cluster's root and key.
type nodeTrust struct {
	*secrets
	callers *api.Callers
	agents  interface{ Trusting() map[string][][]byte }
}

var _ api.NodeTrust = nodeTrust{}

// sightings are the users who have called this node, and by which certificates. It is
// safe for concurrent use.
type sightings struct {
	mu   sync.Mutex
	last map[sighted]sighting
}

type sighted struct {
	name string
	root string // DER
}

type sighting struct{ at, until time.Time }

// maxSighted bounds the users that are remembered.
const maxSighted = 10_000

// see notes that a user has shown a certificate by a root.
func (s *sightings) see(p identity.Peer, root *x509.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := sighted{p.Name, string(root.Raw)}
	if _, known := s.last[key]; !known && len(s.last) >= maxSighted {
		return
	}
	if s.last == nil {
		s.last = map[sighted]sighting{}
	}
	s.last[key] = sighting{time.Now(), p.NotAfter}
}

// report returns the users whose certificates have not expired.
func (s *sightings) report() (out []*fifev1.TrustReport) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, seen := range s.last {
		if time.Now().After(seen.until) {
			delete(s.last, key)
			continue
		}
		sum := sha256.Sum256([]byte(key.root))
		out = append(out, &fifev1.TrustReport{
			Name: string(identity.User) + "/" + key.name, By: sum[:], SeenTime: timestamppb.New(seen.at),
		})
	}
	return out
}

// Report implements api.NodeTrust.
func (n nodeTrust) Report() *fifev1.ReportTrustResponse {
	now := n.holder.Current()
	self := &fifev1.TrustReport{Name: string(now.Identity.Class) + "/" + now.Identity.Name, By: sumOf(now.Root()), Connected: true}
	for _, root := range now.Trust.Roots {
		self.Trusts = append(self.Trusts, sumOf(root))
	}
	resp := &fifev1.ReportTrustResponse{Reports: append(n.users.report(), self)}
	if k := n.key.Load(); k != nil {
		resp.Keys = k.sealer.Keys()
	}
	by := map[string][]byte{}
	for _, p := range n.callers.Streaming() {
		if p.Class == identity.Agent {
			by[p.Name] = sumOf(n.believers.RootOf(p.Issuer))
		}
	}
	for id, trusts := range n.agents.Trusting() {
		resp.Reports = append(resp.Reports, &fifev1.TrustReport{
			Name: string(identity.Agent) + "/" + id, Trusts: trusts, By: by[id], Connected: true,
		})
	}
	return resp
}

func sumOf(c *x509.Certificate) []byte {
	if c == nil {
		return nil
	}
	sum := sha256.Sum256(c.Raw)
	return sum[:]
}

// NewKey implements api.NodeTrust.
func (n nodeTrust) NewKey() (id string, err error) {
	key := identity.NewSealKey()
	return identity.KeyID(key), n.addKeys(key)
}

// addKeys keeps keys beside those that the node has, to open with.
func (s *secrets) addKeys(keys []byte) error {
	s.keying.Lock()
	defer s.keying.Unlock()
	more, err := identity.SplitKeys(keys)
	if err != nil {
		return err
	}
	var all []byte
	if k := s.key.Load(); k != nil {
		all = bytes.Clone(k.key)
		more = slices.DeleteFunc(more, func(key []byte) bool { return slices.Contains(k.sealer.Keys(), identity.KeyID(key)) })
	}
	if len(more) == 0 {
		return nil
	}
	return s.putKeys(append(all, bytes.Join(more, nil)...))
}

// putKeys makes keys those of the node, on disk first.
func (s *secrets) putKeys(keys []byte) error {
	if err := saveKey(s.config.DataDir, keys); err != nil {
		return err
	}
	return s.setKey(keys)
}

// usesKey reports whether something in a state is sealed with a key of the servers, by
// its id.
func usesKey(s *store.State, id string) bool {
	for k := range s.AccessKeys("") {
		if identity.SealedBy(k.Sealed) == id {
			return true
		}
	}
	sealed := func(i *storev1.Issuer) bool { return identity.SealedBy(i.GetSealedKey()) == id }
	if slices.ContainsFunc(s.Trust().GetIssuers(), sealed) || slices.ContainsFunc(s.Trust().GetRotation().GetIssuers(), sealed) {
		return true
	}
	for stage := range s.AllStages("", "") {
		for text := range stage.Sealed() {
			if secret, _ := release.SealedBytes(text); identity.SealedBy(secret) == id {
				return true
			}
		}
	}
	return false
}

// keyGrace is how long a node keeps a key that nothing needs. What was sealed with a key
// just before another took its place may still be on its way to the log, and one that
// was just made is not yet named there.
const keyGrace = 20 * time.Second

// arrangeKeys has the node seal with the key that the cluster seals with, and forget
// all others but the one that is to come, and those that something is still sealed
// with, or was a moment ago.
func (s *secrets) arrangeKeys() error {
	state := s.store.Load().State()
	trust := state.Trust()
	s.keying.Lock()
	defer s.keying.Unlock()
	k := s.key.Load()
	if k == nil || trust.GetKey() == "" || !slices.Contains(k.sealer.Keys(), trust.GetKey()) {
		return nil
	}
	split, err := identity.SplitKeys(k.key)
	if err != nil {
		return err
	}
	var first, rest []byte
	needless := map[string]time.Time{}
	for _, key := range split {
		id := identity.KeyID(key)
		if id == trust.GetKey() {
			first = key
			continue
		}
		if id != trust.GetNextKey() && !usesKey(state, id) {
			since, known := s.needless[id]
			if !known {
				since = time.Now()
			}
			if time.Since(since) >= keyGrace {
				continue
			}
			needless[id] = since
		}
		rest = append(rest, key...)
	}
	s.needless = needless
	if want := append(bytes.Clone(first), rest...); !bytes.Equal(want, k.key) {
		return s.putKeys(want)
	}
	return nil
}

// followKey gets the key that the servers are to share, from whichever node has it.
func (s *secrets) followKey(ctx context.Context, m *membership) error {
	trust := s.store.Load().State().Trust()
	k := s.key.Load()
	if k == nil {
		return nil // renew gets it
	}
	lacks := func(id string) bool { return id != "" && !slices.Contains(s.key.Load().sealer.Keys(), id) }
	if !lacks(trust.GetKey()) && !lacks(trust.GetNextKey()) {
		return nil
	}
	members, err := s.store.Load().Members()
	if err != nil {
		return err
	}
	var errs []error
	for _, member := range members {
		if member.ID == s.config.Name {
			continue
		}
		conn, err := m.peers.Conn(member.GRPCAddress)
		if err != nil {
			return err
		}
		call, cancel := context.WithTimeout(ctx, memberTimeout)
		resp, err := fifev1.NewAuthorityServiceClient(conn).GetClusterKeys(call, &fifev1.GetClusterKeysRequest{})
		cancel()
		if err == nil {
			err = s.addKeys(resp.GetKeys())
		}
		if err == nil && !lacks(trust.GetKey()) && !lacks(trust.GetNextKey()) {
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("no node that could be asked has the cluster key that is to come; if none is left, begin again: %w", errors.Join(errs...))
}

// believe makes the roots that the cluster trusts those that this node does. Until it
// has caught up it changes nothing: what its own log says may be past.
func (s *secrets) believe(m *membership) error {
	select {
	case <-m.ready:
	default:
		return nil
	}
	trust := s.store.Load().State().Trust()
	if trust == nil {
		return nil
	}
	roots, err := identity.ParseCertificates(trust.GetRoots())
	if err != nil {
		return err
	}
	now := s.holder.Current().Trust.Roots
	if slices.EqualFunc(roots, now, (*x509.Certificate).Equal) {
		return nil
	}
	if err := s.holder.Believe(roots); err != nil {
		return fmt.Errorf("this node's certificate is by a root that the cluster has dropped, others refuse it: %w", err)
	}
	s.config.Logger.Info("the cluster's roots have changed", "roots", len(roots))
	return nil
}

// moves reports whether this node is to have its certificate by the new root now.
func (s *secrets) moves() bool {
	r := s.store.Load().State().Trust().GetRotation()
	root := s.holder.Current().Root()
	return r.GetPhase() == storev1.RotationPhase_ROTATION_PHASE_RETIRE && root != nil && !bytes.Equal(root.Raw, r.GetRoot())
}

// conclude takes rotations that need nobody's word to their end, where this node leads:
// that of the root once all servers have their certificates by the new one, that of
// the cluster's key once all have it.
func (s *secrets) conclude(ctx context.Context, m *membership, own func() *fifev1.ReportTrustResponse) error {
	st := s.store.Load()
	trust := st.State().Trust()
	retires := trust.GetRotation().GetPhase() == storev1.RotationPhase_ROTATION_PHASE_RETIRE
	if !st.IsLeader() || (!retires && trust.GetNextKey() == "") {
		return nil
	}
	view, err := api.ViewTrust(ctx, st, m.peers, own)
	if err != nil {
		return err
	}
	var errs []error
	apply := func(cmd *storev1.Command) {
		cmd.Time, cmd.Actor = timestamppb.New(time.Now()), "server/"+s.config.Name
		outcome, err := st.Apply(ctx, cmd)
		if err == nil && outcome.Refusal != nil {
			err = outcome.Refusal
		}
		errs = append(errs, err)
	}
	if retires && view.ServersBy(trust.GetRotation().GetRoot()) {
		apply(&storev1.Command{Method: "DropRoot", Op: &storev1.Command_MoveRotation{MoveRotation: &storev1.MoveRotation{
			Root: trust.GetRotation().GetRoot(), From: storev1.RotationPhase_ROTATION_PHASE_RETIRE,
		}}})
	}
	if next := trust.GetNextKey(); next != "" && view.HaveKey(next) {
		op, err := s.reseal(trust, next)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		apply(&storev1.Command{Method: "ResealAuthorities", Op: &storev1.Command_ResealAuthorities{ResealAuthorities: op}})
	}
	return errors.Join(errs...)
}

// reseal returns what puts the authorities' keys in place as the next key seals them.
func (s *secrets) reseal(trust *storev1.Trust, next string) (*storev1.ResealAuthorities, error) {
	k := s.key.Load()
	split, err := identity.SplitKeys(k.key)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(split, func(key []byte) bool { return identity.KeyID(key) == next })
	if i < 0 {
		return nil, fmt.Errorf("this node has no key %s", next)
	}
	sealer, err := identity.NewSealer(append(bytes.Clone(split[i]), k.key...))
	if err != nil {
		return nil, err
	}
	op := &storev1.ResealAuthorities{Key: next}
	if op.Issuers, err = api.Reseal(trust.GetIssuers(), sealer); err != nil {
		return nil, err
	}
	op.NextIssuers, err = api.Reseal(trust.GetRotation().GetIssuers(), sealer)
	return op, err
}
