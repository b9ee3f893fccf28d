package discovery

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// Over how long agents are to renew their certificates when these are to be by another
// root: a certificate costs the leader under a millisecond, so that it is busy with
// them for a small part of its time.
const (
	renewWithin  = 5 * time.Second
	renewPerHead = 5 * time.Millisecond
)

// maxRoots bounds the roots that an agent may say it trusts.
const maxRoots = 16

// trusts is the Trust of now, encoded once for all agents.
type trusts struct{ current atomic.Pointer[trust] }

type trust struct {
	of      *storev1.Trust
	roots   [][]byte // SHA-256 of each
	message []byte
}

// get returns what agents are told of whom the cluster trusts.
func (t *trusts) get(of *storev1.Trust, agents int) (*trust, error) {
	if known := t.current.Load(); known != nil && known.of == of {
		return known, nil
	}
	told := &trust{of: of, roots: sums(of.GetRoots())}
	issuing := of.GetRoots()[0]
	if of.GetRotation().GetPhase() >= storev1.RotationPhase_ROTATION_PHASE_SWITCH {
		issuing = of.GetRotation().GetRoot()
	}
	sum := sha256.Sum256(issuing)
	var err error
	told.message, err = proto.Marshal(&discoveryv1.StreamResponse{Message: &discoveryv1.StreamResponse_Trust{Trust: &discoveryv1.Trust{
		Roots: of.GetRoots(), Issuing: sum[:], RenewWithin: durationpb.New(renewWithin + time.Duration(agents)*renewPerHead),
	}}})
	if err != nil {
		return nil, fmt.Errorf("encode whom to trust: %w", err)
	}
	t.current.Store(told)
	return told, nil
}

func sums(certificates [][]byte) (out [][]byte) {
	for _, c := range certificates {
		sum := sha256.Sum256(c)
		out = append(out, sum[:])
	}
	return out
}

// nextTrust returns whom to trust, if the agent takes that and has to be told; s.mu
// must be held. Who trusts what it should and has its certificate by the only root has
// not.
func (s *session) nextTrust() *message {
	now := s.server.config.Store.State().Trust()
	if len(s.trusts) == 0 || now == nil || s.told == now {
		return nil
	}
	t, err := s.server.trusts.get(now, s.server.fleet.Len()*max(1, s.server.nodes()))
	if err != nil {
		s.server.config.Logger.Error("agents cannot be told whom to trust", "error", err)
		return nil
	}
	s.told = now
	if now.GetRotation() == nil && sameRoots(s.trusts, t.roots) {
		return nil
	}
	return newMessage(t.message)
}

// nodes returns how many nodes the control plane has, among which agents are spread.
func (s *Server) nodes() (n int) {
	for range s.config.Store.State().Nodes() {
		n++
	}
	return n
}

// sameRoots reports whether two lists are of the same roots, in whatever order.
func sameRoots(a, b [][]byte) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x []byte) bool {
		return !slices.ContainsFunc(b, func(y []byte) bool { return bytes.Equal(x, y) })
	})
}

// trusting takes the agent's word whom it trusts.
func (s *session) trusting(roots [][]byte) error {
	if err := checkRoots(roots); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trusts = roots
	return nil
}

func checkRoots(roots [][]byte) error {
	if len(roots) > maxRoots || slices.ContainsFunc(roots, func(r []byte) bool { return len(r) != sha256.Size }) {
		return status.Errorf(codes.InvalidArgument, "roots must be at most %d sums of SHA-256", maxRoots)
	}
	return nil
}

// Trusting returns the SHA-256 of the roots that each connected agent trusts, by its
// id; none for an agent that does not tell.
func (f *Fleet) Trusting() map[string][][]byte {
	out := map[string][][]byte{}
	for _, s := range f.all() {
		s.mu.Lock()
		out[s.agent] = s.trusts
		s.mu.Unlock()
	}
	return out
}
