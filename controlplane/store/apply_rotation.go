package store

import (
	"bytes"
	"slices"
	"strings"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// serverClass is that of nodes, which are issued certificates by a new root last, as
// everybody else has to believe them.
const serverClass = "server"

// RotationPhase returns how far a rotation of the root has come.
func (s *State) RotationPhase() storev1.RotationPhase { return s.trust.GetRotation().GetPhase() }

// PhaseName returns how a phase is called.
func PhaseName(p storev1.RotationPhase) string {
	return strings.ToLower(strings.TrimPrefix(p.String(), "ROTATION_PHASE_"))
}

// startRotation trusts a new root beside the old one. The same one again changes
// nothing.
func (t *tx) startRotation(op *storev1.StartRotation) (Outcome, error) {
	before := t.next.trust
	switch r := before.GetRotation(); {
	case before == nil:
		return Outcome{}, release.Missing("authority")
	case r != nil && bytes.Equal(r.GetRoot(), op.GetRoot()):
		return Outcome{}, nil
	case r != nil:
		return Outcome{}, release.InRotation(PhaseName(r.GetPhase()), "another rotation of the root is under way; take it to its end, or abort it")
	case slices.ContainsFunc(before.GetRoots(), func(root []byte) bool { return bytes.Equal(root, op.GetRoot()) }):
		return Outcome{}, release.Taken("the root")
	case before.GetKey() != "" && before.GetKey() != op.GetKey():
		return Outcome{}, release.InRotation("key", "the cluster key has been replaced meanwhile; begin the rotation of the root again")
	}
	now := timestamppb.New(t.change.Time)
	next := proto.CloneOf(before)
	next.Roots = append(next.Roots, op.GetRoot())
	next.Rotation = &storev1.Rotation{
		Phase: storev1.RotationPhase_ROTATION_PHASE_TRUST, Root: op.GetRoot(), Issuers: op.GetIssuers(), StartTime: now, MoveTime: now,
	}
	t.next.trust = next
	return Outcome{}, nil
}

// moveRotation takes the rotation to another phase. A step that was made changes
// nothing.
func (t *tx) moveRotation(op *storev1.MoveRotation) (Outcome, error) {
	r := t.next.trust.GetRotation()
	switch {
	case r == nil || !bytes.Equal(r.GetRoot(), op.GetRoot()):
		return Outcome{}, release.NotInRotation()
	case r.GetPhase() == op.GetTo():
		return Outcome{}, nil
	case r.GetPhase() != op.GetFrom():
		return Outcome{}, release.InRotation(PhaseName(r.GetPhase()), "the rotation of the root is at %s, this step begins at %s",
			PhaseName(r.GetPhase()), PhaseName(op.GetFrom()))
	}
	next := proto.CloneOf(t.next.trust)
	next.Rotation.Phase, next.Rotation.MoveTime = op.GetTo(), timestamppb.New(t.change.Time)
	switch op.GetTo() {
	case storev1.RotationPhase_ROTATION_PHASE_SWITCH:
		next.Issuers = issuersOf(next.GetIssuers(), next.GetRotation().GetIssuers())
	case storev1.RotationPhase_ROTATION_PHASE_RETIRE:
		next.Issuers = next.GetRotation().GetIssuers()
		slices.Reverse(next.Roots) // servers show the new one from now on
		// A token names the root by which whoever joins knows its servers.
		t.next.joinTokens = iradix.New[*storev1.JoinToken]()
	default:
		if op.GetFrom() == storev1.RotationPhase_ROTATION_PHASE_RETIRE {
			next.Roots = [][]byte{r.GetRoot()}
		} else {
			next.Roots = slices.DeleteFunc(next.Roots, func(root []byte) bool { return bytes.Equal(root, r.GetRoot()) })
		}
		next.Rotation = nil
	}
	t.next.trust = next
	return Outcome{}, nil
}

// issuersOf returns the authorities while servers are still issued certificates by the
// old root.
func issuersOf(old, next []*storev1.Issuer) []*storev1.Issuer {
	var out []*storev1.Issuer
	for _, i := range old {
		if i.GetClass() == serverClass {
			out = append(out, i)
		}
	}
	for _, i := range next {
		if i.GetClass() != serverClass {
			out = append(out, i)
		}
	}
	return out
}

// startKeyRotation names the key that the servers are to share next. Another takes its
// place, as nothing is sealed with it yet.
func (t *tx) startKeyRotation(op *storev1.StartKeyRotation) (Outcome, error) {
	if t.next.trust == nil {
		return Outcome{}, release.Missing("authority")
	}
	next := proto.CloneOf(t.next.trust)
	next.NextKey = op.GetKey()
	t.next.trust = next
	return Outcome{}, nil
}

// resealAuthorities puts in place what the new key has sealed. It comes too late if
// there is another key to come, or if a rotation of the root has changed what there
// is to seal; then it changes nothing, and whoever has sent it looks again.
func (t *tx) resealAuthorities(op *storev1.ResealAuthorities) (Outcome, error) {
	before := t.next.trust
	if before.GetNextKey() == "" || before.GetNextKey() != op.GetKey() ||
		!sameCertificates(before.GetIssuers(), op.GetIssuers()) ||
		!sameCertificates(before.GetRotation().GetIssuers(), op.GetNextIssuers()) {
		return Outcome{}, nil
	}
	next := proto.CloneOf(before)
	next.Issuers, next.Key, next.NextKey = op.GetIssuers(), op.GetKey(), ""
	if next.GetRotation() != nil {
		next.Rotation.Issuers = op.GetNextIssuers()
	}
	t.next.trust = next
	return Outcome{}, nil
}

func sameCertificates(a, b []*storev1.Issuer) bool {
	return slices.EqualFunc(a, b, func(a, b *storev1.Issuer) bool {
		return a.GetClass() == b.GetClass() && bytes.Equal(a.GetCertificate(), b.GetCertificate())
	})
}
