package api

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"path"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// ClusterKey returns the key that the servers of a cluster share, and what seals with
// it; ok is false while this node does not have it, or for good if it speaks
// plaintext.
type ClusterKey func() (key []byte, sealer *identity.Sealer, ok bool)

// How long certificates last by their class; those of users as it is asked for.
const (
	agentCertificateTTL  = 24 * time.Hour
	serverCertificateTTL = 90 * 24 * time.Hour
)

// revocationPause is how long after a revocation nothing is issued: a certificate says
// when it was issued to the second, and what was issued in the second of a revocation
// is void.
const revocationPause = 2 * time.Second

// joinService gives certificates to those who join, and new ones to those who have.
type joinService struct {
	fifev1.UnimplementedJoinServiceServer
	store    *store.Store
	key      ClusterKey
	renewals *usages
}

// renewalLimit bounds how often an identity renews its certificate. Who renews does so
// once in hours; whoever tries again every few seconds is let through.
var renewalLimit = Limit{Rate: 0.1, Burst: 10}

func (s *joinService) IssueCertificate(
	ctx context.Context, req *fifev1.IssueCertificateRequest,
) (*fifev1.IssueCertificateResponse, error) {
	var v release.Violations
	public, err := identity.RequestedKey(req.GetCsr())
	if err != nil {
		v.Addf("csr", "%v", err)
	}
	checkRequestID(&v, req.GetRequestId())
	if err := v.Err(); err != nil {
		return nil, err
	}
	if err := s.store.Sync(ctx); err != nil { // who was revoked a moment ago is not to renew
		return nil, err
	}
	id, err := s.identify(ctx, req)
	if err != nil {
		return nil, err
	}
	ttl := certificateTTL(id.Class)
	if of, ok := ctx.Value(shownKey{}).(shown); ok && id.Class == identity.User {
		ttl = of.lasts // nobody makes a long one of a short one
	}
	return s.issue(id, public, ttl)
}

// identify returns who the caller may be from now on.
func (s *joinService) identify(ctx context.Context, req *fifev1.IssueCertificateRequest) (identity.Identity, error) {
	caller, known := identity.FromContext(ctx)
	switch {
	case req.GetToken() != "":
		return s.join(ctx, req)
	case !known:
		return caller, fmt.Errorf("%w: show a client certificate or a join token", ErrUnauthenticated)
	case ctx.Value(tokenKey{}) != nil || caller.Class == identity.SignedIn:
		return caller, fmt.Errorf("%w: a bearer token gets no certificate, which would outlast it", ErrDenied)
	case req.GetName() != "" && req.GetName() != nameOf(caller):
		return caller, release.CannotJoin("%s cannot become %s without a join token", nameOf(caller), req.GetName())
	}
	if err := s.checkRenewal(ctx, caller); err != nil {
		return caller, err
	}
	return caller, s.renewals.call(nameOf(caller))
}

// checkRenewal refuses to renew a certificate that was revoked. The node that has let the
// call pass may not have known of it yet.
func (s *joinService) checkRenewal(ctx context.Context, caller identity.Identity) error {
	of, ok := ctx.Value(shownKey{}).(shown)
	if !ok {
		return fmt.Errorf("%w: show the certificate that is to be renewed", ErrUnauthenticated)
	}
	revoked := s.store.State().RevokedAt(nameOf(caller))
	switch {
	case revoked.IsZero():
		return nil
	case !of.issued.After(revoked):
		return fmt.Errorf("%w: the certificate of %s was revoked at %s",
			ErrUnauthenticated, caller, revoked.UTC().Format(time.RFC3339))
	case time.Since(revoked) < revocationPause:
		return fmt.Errorf("%w: %s was revoked a moment ago; try again", ErrNotYet, nameOf(caller))
	}
	return nil
}

// nameOf returns an identity as CLASS/NAME.
func nameOf(id identity.Identity) string { return string(id.Class) + "/" + id.Name }

// join uses a token.
func (s *joinService) join(ctx context.Context, req *fifev1.IssueCertificateRequest) (id identity.Identity, err error) {
	state := s.store.State()
	if state.Trust() == nil {
		return id, errNoAuthority
	}
	var v release.Violations
	id, err = identity.Parse("spiffe://" + state.Trust().GetCluster() + "/" + req.GetName())
	if err != nil {
		v.Addf("name", "%q must be server/NODE or agent/ID", req.GetName())
	}
	token, err := identity.ParseJoinToken(req.GetToken())
	if err != nil {
		v.Addf("token", "%v", err)
	}
	if err := v.Err(); err != nil {
		return id, err
	}
	if time.Since(state.RevokedAt(nameOf(id))) < revocationPause {
		return id, fmt.Errorf("%w: %s was revoked a moment ago; try again", ErrNotYet, nameOf(id))
	}
	method, _ := grpc.Method(ctx)
	cmd := &storev1.Command{
		Time: timestamppb.New(time.Now()), Actor: actorOf(ctx), Source: sourceOf(ctx), Method: path.Base(method),
		Op: &storev1.Command_UseJoinToken{UseJoinToken: &storev1.UseJoinToken{
			Id: token.ID, SecretSha256: token.SecretHash(), Class: string(id.Class), Name: id.Name,
		}},
	}
	if req.GetRequestId() != "" {
		cmd.RequestId = req.GetRequestId()
		if cmd.Fingerprint, err = fingerprint(method, req); err != nil {
			return id, err
		}
	}
	outcome, err := s.store.Apply(ctx, cmd)
	if err == nil && outcome.Refusal != nil {
		err = outcome.Refusal
	}
	return id, err
}

// ErrNotYet says that a certificate cannot be made now.
var ErrNotYet = errors.New("no certificate can be made now")

var errNoAuthority = fmt.Errorf("%w: the cluster speaks plaintext, or has just been founded", ErrNotYet)

// issue makes a certificate.
func (s *joinService) issue(id identity.Identity, public crypto.PublicKey, ttl time.Duration) (*fifev1.IssueCertificateResponse, error) {
	trust := s.store.State().Trust()
	key, sealer, ok := s.key()
	if trust == nil || !ok {
		return nil, errNoAuthority
	}
	for _, i := range trust.GetIssuers() {
		if i.GetClass() != string(id.Class) {
			continue
		}
		authority, err := sealer.OpenAuthority(i.GetCertificate(), i.GetSealedKey(), id.Class)
		if err != nil {
			return nil, err
		}
		cert, err := authority.Issue(public, id, ttl)
		if errors.Is(err, identity.ErrInvalid) {
			var v release.Violations
			v.Addf("csr", "%v", err)
			return nil, v.Err()
		}
		if err != nil {
			return nil, err
		}
		resp := &fifev1.IssueCertificateResponse{
			Chain: ders(cert, authority.Certificate), Roots: trust.GetRoots(),
		}
		if id.Class == identity.Server {
			resp.ClusterKey = key
		}
		return resp, nil
	}
	return nil, errNoAuthority
}

func ders(certs ...*x509.Certificate) (out [][]byte) {
	for _, c := range certs {
		out = append(out, c.Raw)
	}
	return out
}

func certificateTTL(class identity.Class) time.Duration {
	if class == identity.Server {
		return serverCertificateTTL
	}
	return agentCertificateTTL
}
