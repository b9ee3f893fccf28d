package api

import (
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// NodeTrust is what the services need of this node's own part in the cluster's trust.
type NodeTrust interface {
	// Report returns what this node knows of who trusts whom.
	Report() *fifev1.ReportTrustResponse
	// NewKey makes another key for the servers, keeps it on disk beside those that it
	// has, to open with, and returns its id.
	NewKey() (id string, err error)
}

type authorityService struct {
	fifev1.UnimplementedAuthorityServiceServer
	changer
	peers *Peers
	key   ClusterKey
	node  NodeTrust
}

// maxHolders bounds how many holders an answer names.
const maxHolders = 1000

func (s *authorityService) GetAuthority(ctx context.Context, _ *fifev1.GetAuthorityRequest) (*fifev1.GetAuthorityResponse, error) {
	if err := s.store.Sync(ctx); err != nil {
		return nil, err
	}
	state := s.store.State()
	trust := state.Trust()
	if trust == nil {
		return nil, errNoAuthority
	}
	view, err := ViewTrust(ctx, s.store, s.peers, s.node.Report)
	if err != nil {
		return nil, err
	}
	roots, err := toRoots(trust)
	if err != nil {
		return nil, err
	}
	a := &fifev1.Authority{
		Cluster: trust.GetCluster(), Roots: roots, Phase: fifev1.RotationPhase(trust.GetRotation().GetPhase()),
		StartTime: trust.GetRotation().GetStartTime(), Key: trust.GetKey(), NextKey: trust.GetNextKey(),
	}
	if _, sealer, ok := s.key(); ok && a.GetKey() == "" {
		a.Key = sealer.Keys()[0]
	}
	pending, unknown, holders := view.pending(state)
	a.Pending, a.Unknown = pending[:min(len(pending), maxHolders)], unknown[:min(len(unknown), maxHolders)]
	a.Holders = int32(holders)
	a.KeyPending = view.keyPending(trust)
	if p := trust.GetRotation().GetPhase(); p == storev1.RotationPhase_ROTATION_PHASE_TRUST || p == storev1.RotationPhase_ROTATION_PHASE_SWITCH {
		for range state.JoinTokens("") {
			a.JoinTokens++
		}
	}
	return &fifev1.GetAuthorityResponse{Authority: a}, nil
}

func toRoots(trust *storev1.Trust) ([]*fifev1.Root, error) {
	parsed, err := identity.ParseCertificates(trust.GetRoots())
	if err != nil {
		return nil, fmt.Errorf("read roots: %w", err)
	}
	var out []*fifev1.Root
	for _, c := range parsed {
		out = append(out, &fifev1.Root{
			Certificate: c.Raw, Fingerprint: identity.Fingerprint(c), ExpireTime: timestamppb.New(c.NotAfter),
			Next: string(c.Raw) == string(trust.GetRotation().GetRoot()),
		})
	}
	return out, nil
}

// keyPending returns the nodes that lack the key which is to come or, once it has, that
// still have others.
func (v TrustView) keyPending(trust *storev1.Trust) []string {
	pending := slices.Clone(v.Unreachable)
	for _, node := range slices.Sorted(maps.Keys(v.Keys)) {
		switch keys := v.Keys[node]; {
		case trust.GetNextKey() != "" && !slices.Contains(keys, trust.GetNextKey()),
			trust.GetNextKey() == "" && trust.GetKey() != "" && (len(keys) != 1 || keys[0] != trust.GetKey()):
			pending = append(pending, node)
		}
	}
	if trust.GetNextKey() == "" && trust.GetKey() == "" {
		return nil
	}
	slices.Sort(pending)
	return pending
}

// classes are those that a root has an authority for each.
var classes = []identity.Class{identity.Server, identity.Agent, identity.User}

func (s *authorityService) PrepareRotation(context.Context, *fifev1.PrepareRotationRequest) (*fifev1.PrepareRotationResponse, error) {
	trust := s.store.State().Trust()
	_, sealer, ok := s.key()
	if trust == nil || !ok {
		return nil, errNoAuthority
	}
	resp := &fifev1.PrepareRotationResponse{Cluster: trust.GetCluster()}
	for _, class := range classes {
		key, err := identity.NewKey()
		if err != nil {
			return nil, err
		}
		csr, err := identity.NewRequest(key)
		if err != nil {
			return nil, err
		}
		sealed, err := sealer.SealAuthority(identity.Authority{Key: key}, class)
		if err != nil {
			return nil, err
		}
		resp.Keys = append(resp.Keys, &fifev1.IssuerKey{Class: string(class), Csr: csr, SealedKey: sealed})
	}
	return resp, nil
}

func (s *authorityService) StartRotation(ctx context.Context, req *fifev1.StartRotationRequest) (*fifev1.StartRotationResponse, error) {
	trust := s.store.State().Trust()
	_, sealer, ok := s.key()
	if trust == nil || !ok {
		return nil, errNoAuthority
	}
	var v release.Violations
	issuers := checkIssuers(&v, trust.GetCluster(), req, sealer)
	_, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_StartRotation{
		StartRotation: &storev1.StartRotation{Root: req.GetRoot(), Issuers: issuers, Key: sealedBy(issuers)},
	}})
	if err != nil {
		return nil, err
	}
	return &fifev1.StartRotationResponse{}, nil
}

// checkIssuers returns the authorities of a new root. Each must be of its class, by
// the root, good now, and have the key that was sealed for it.
func checkIssuers(v *release.Violations, cluster string, req *fifev1.StartRotationRequest, sealer *identity.Sealer) (issuers []*storev1.Issuer) {
	root, err := x509.ParseCertificate(req.GetRoot())
	switch now := time.Now(); {
	case err != nil:
		v.Addf("root", "%v", err)
		return nil
	case !root.IsCA || root.CheckSignatureFrom(root) != nil:
		v.Addf("root", "%s is not the certificate of a root: it must be an authority's and signed by itself", root.Subject)
	case now.Before(root.NotBefore) || now.After(root.NotAfter):
		v.Addf("root", "%s is valid from %v to %v, not now", root.Subject, root.NotBefore, root.NotAfter)
	}
	if of := (identity.Authority{Certificate: root}).Cluster(); of != "" && of != cluster {
		v.Addf("root", "it names the cluster %s, this one is %s", of, cluster)
	}
	trust := identity.Trust{Cluster: cluster, Roots: []*x509.Certificate{root}}
	for _, class := range classes {
		i := slices.IndexFunc(req.GetKeys(), func(k *fifev1.IssuerKey) bool { return k.GetClass() == string(class) })
		if i < 0 {
			v.Addf("keys", "there is none for %s", class)
			continue
		}
		key, field := req.GetKeys()[i], fmt.Sprintf("keys[%d]", i)
		authority, err := sealer.OpenAuthority(key.GetCertificate(), key.GetSealedKey(), class)
		if err != nil {
			v.Addf(field, "%v", err)
			continue
		}
		if err := authority.Check(trust, class); err != nil {
			v.Addf(field, "%v", err)
		}
		issuers = append(issuers, &storev1.Issuer{
			Class: string(class), Certificate: key.GetCertificate(), SealedKey: key.GetSealedKey(),
		})
	}
	return issuers
}

// sealedBy returns the id of the key that has sealed all of the authorities' keys; empty
// if they are by several.
func sealedBy(issuers []*storev1.Issuer) string {
	ids := map[string]bool{}
	id := ""
	for _, i := range issuers {
		id = identity.SealedBy(i.GetSealedKey())
		ids[id] = true
	}
	if len(ids) != 1 {
		return ""
	}
	return id
}

// cutOffError says who would be cut off by a step of a rotation.
type cutOffError struct{ holders []*fifev1.Holder }

// Error names some of them.
func (e *cutOffError) Error() string {
	var some []string
	for _, h := range e.holders[:min(len(e.holders), maxNamed)] {
		some = append(some, h.GetName()+" ("+h.GetWants()+")")
	}
	text := strings.Join(some, ", ")
	if more := len(e.holders) - len(some); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("this would cut off %s; wait for them, or leave them behind with force", text)
}

func (e *cutOffError) metadata() map[string]string {
	var names []string
	for _, h := range e.holders[:min(len(e.holders), maxNamed)] {
		names = append(names, h.GetName())
	}
	return map[string]string{"names": strings.Join(names, " "), "count": fmt.Sprint(len(e.holders))}
}

// moveRequest is one for a step of a rotation.
type moveRequest interface {
	changeRequest
	GetForce() bool
}

// move takes a rotation from a phase to the next, unless that leaves somebody behind.
func (s *authorityService) move(ctx context.Context, req moveRequest, from, to storev1.RotationPhase) error {
	if err := s.store.Sync(ctx); err != nil {
		return err
	}
	state := s.store.State()
	rotation := state.Trust().GetRotation()
	if rotation.GetPhase() == from && !req.GetForce() {
		view, err := ViewTrust(ctx, s.store, s.peers, s.node.Report)
		if err != nil {
			return err
		}
		if pending, _, _ := view.pending(state); len(pending) > 0 {
			return &cutOffError{pending}
		}
	}
	_, err := s.change(ctx, nil, req, &storev1.Command{Op: &storev1.Command_MoveRotation{
		MoveRotation: &storev1.MoveRotation{Root: rotation.GetRoot(), From: from, To: to},
	}})
	return err
}

func (s *authorityService) SwitchRotation(ctx context.Context, req *fifev1.SwitchRotationRequest) (*fifev1.SwitchRotationResponse, error) {
	err := s.move(ctx, req, storev1.RotationPhase_ROTATION_PHASE_TRUST, storev1.RotationPhase_ROTATION_PHASE_SWITCH)
	if err != nil {
		return nil, err
	}
	return &fifev1.SwitchRotationResponse{}, nil
}

func (s *authorityService) RetireRoot(ctx context.Context, req *fifev1.RetireRootRequest) (*fifev1.RetireRootResponse, error) {
	from, to := storev1.RotationPhase_ROTATION_PHASE_SWITCH, storev1.RotationPhase_ROTATION_PHASE_RETIRE
	if req.GetForce() && s.store.State().RotationPhase() == to {
		from, to = to, storev1.RotationPhase_ROTATION_PHASE_UNSPECIFIED
	}
	if err := s.move(ctx, req, from, to); err != nil {
		return nil, err
	}
	return &fifev1.RetireRootResponse{}, nil
}

func (s *authorityService) AbortRotation(ctx context.Context, req *fifev1.AbortRotationRequest) (*fifev1.AbortRotationResponse, error) {
	_, err := s.change(ctx, nil, req, &storev1.Command{Op: &storev1.Command_MoveRotation{MoveRotation: &storev1.MoveRotation{
		Root: s.store.State().Trust().GetRotation().GetRoot(), From: storev1.RotationPhase_ROTATION_PHASE_TRUST,
	}}})
	if err != nil {
		return nil, err
	}
	return &fifev1.AbortRotationResponse{}, nil
}

func (s *authorityService) RotateClusterKey(ctx context.Context, req *fifev1.RotateClusterKeyRequest) (*fifev1.RotateClusterKeyResponse, error) {
	trust := s.store.State().Trust()
	_, sealer, ok := s.key()
	if trust == nil || !ok {
		return nil, errNoAuthority
	}
	// One that is to come already is the one, unless whoever has made it is gone.
	next := trust.GetNextKey()
	if next == "" || !slices.Contains(sealer.Keys(), next) {
		next = ""
		if !req.GetValidateOnly() {
			var err error
			if next, err = s.node.NewKey(); err != nil {
				return nil, err
			}
		}
	}
	_, err := s.change(ctx, nil, req, &storev1.Command{Op: &storev1.Command_StartKeyRotation{
		StartKeyRotation: &storev1.StartKeyRotation{Key: next},
	}})
	if err != nil {
		return nil, err
	}
	return &fifev1.RotateClusterKeyResponse{Key: next}, nil
}

func (s *authorityService) ReportTrust(context.Context, *fifev1.ReportTrustRequest) (*fifev1.ReportTrustResponse, error) {
	if s.node == nil {
		return nil, errNoAuthority
	}
	return s.node.Report(), nil
}

func (s *authorityService) GetClusterKeys(context.Context, *fifev1.GetClusterKeysRequest) (*fifev1.GetClusterKeysResponse, error) {
	keys, _, ok := s.key()
	if !ok {
		return nil, errNoAuthority
	}
	return &fifev1.GetClusterKeysResponse{Keys: keys}, nil
}

// Reseal returns authorities with their keys as another key seals them.
func Reseal(issuers []*storev1.Issuer, sealer *identity.Sealer) ([]*storev1.Issuer, error) {
	var out []*storev1.Issuer
	for _, i := range issuers {
		class := identity.Class(i.GetClass())
		authority, err := sealer.OpenAuthority(i.GetCertificate(), i.GetSealedKey(), class)
		if err != nil {
			return nil, err
		}
		sealed, err := sealer.SealAuthority(authority, class)
		if err != nil {
			return nil, err
		}
		out = append(out, &storev1.Issuer{Class: i.GetClass(), Certificate: i.GetCertificate(), SealedKey: sealed})
	}
	return out, nil
}
