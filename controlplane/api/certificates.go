package api

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// How long a user's certificate may last.
const (
	minUserCertificateTTL = time.Minute
	maxUserCertificateTTL = 365 * 24 * time.Hour
)

// certificateService gives users certificates, and takes those of anybody back.
type certificateService struct {
	fifev1.UnimplementedCertificateServiceServer
	changer
	issuer *joinService
}

// CreateCertificate puts the certificate on the record before it is made: there is none
// that nobody knows of.
func (s *certificateService) CreateCertificate(
	ctx context.Context, req *fifev1.CreateCertificateRequest,
) (*fifev1.CreateCertificateResponse, error) {
	var v release.Violations
	public, err := identity.RequestedKey(req.GetCsr())
	if err != nil {
		v.Addf("csr", "%v", err)
	}
	id, err := identity.Parse("spiffe://any/" + string(identity.User) + "/" + req.GetUser())
	if err != nil {
		v.Addf("user", "%q is no name of a user: %v", req.GetUser(), err)
	}
	ttl := req.GetTtl().AsDuration()
	if ttl < minUserCertificateTTL || ttl > maxUserCertificateTTL {
		v.Addf("ttl", "%v must lie between %v and %v", ttl, minUserCertificateTTL, maxUserCertificateTTL)
	}
	if err := v.Err(); err != nil {
		return nil, err
	}
	state := s.store.State()
	if state.Trust() == nil {
		return nil, errNoAuthority
	}
	if time.Since(state.RevokedAt(nameOf(id))) < revocationPause {
		return nil, fmt.Errorf("%w: %s was revoked a moment ago; try again", ErrNotYet, nameOf(id))
	}
	id.Cluster = state.Trust().GetCluster()
	if _, err := s.issuer.issue(id, public, ttl); err != nil { // nothing is recorded that cannot be made
		return nil, err
	}
	keyID, err := keyID(public)
	if err != nil {
		return nil, err
	}
	actor, _ := authorizationOf(ctx)
	now := time.Now()
	_, err = s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_RecordCertificate{RecordCertificate: &storev1.RecordCertificate{
		Certificate: &storev1.UserCertificate{
			Id: keyID, User: req.GetUser(), CreateTime: timestamppb.New(now), ExpireTime: timestamppb.New(now.Add(ttl)), Creator: actor,
		},
	}}})
	if err != nil {
		return nil, err
	}
	state = s.store.State()
	made, ok := state.UserCertificate(keyID)
	if !ok {
		return &fifev1.CreateCertificateResponse{}, nil // only checked
	}
	certificate := toCertificate(state, made)
	if certificate.GetRevoked() { // since the call that this one repeats
		return nil, release.CannotJoin("%s was revoked since this was asked for; ask for another certificate, for another key", nameOf(id))
	}
	issued, err := s.issuer.issue(id, public, time.Until(made.GetExpireTime().AsTime()))
	if err != nil {
		return nil, err
	}
	return &fifev1.CreateCertificateResponse{Certificate: certificate, Chain: issued.GetChain(), Roots: issued.GetRoots()}, nil
}

// keyID names a public key.
func keyID(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:8]), nil
}

func toCertificate(state *store.State, c *storev1.UserCertificate) *fifev1.Certificate {
	revoked := state.RevokedAt(string(identity.User) + "/" + c.GetUser())
	return &fifev1.Certificate{
		Name: store.UserCertificateName(c.GetId()), User: c.GetUser(), CreateTime: c.GetCreateTime(), ExpireTime: c.GetExpireTime(),
		Creator: c.GetCreator(), Revoked: !revoked.Before(c.GetCreateTime().AsTime()),
	}
}

func (s *certificateService) ListCertificates(
	ctx context.Context, req *fifev1.ListCertificatesRequest,
) (*fifev1.ListCertificatesResponse, error) {
	var v release.Violations
	start := pageStart(&v, req, 1)
	if err := v.Err(); err != nil {
		return nil, err
	}
	state, err := s.read(ctx, req)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	good := func(yield func(*storev1.UserCertificate) bool) {
		for c := range state.UserCertificates(start[0]) {
			if now.Before(c.GetExpireTime().AsTime()) && !yield(c) {
				return
			}
		}
	}
	convert := func(c *storev1.UserCertificate) *fifev1.Certificate { return toCertificate(state.State, c) }
	all, next := page(req, good, convert, func(c *storev1.UserCertificate) []string { return []string{c.GetId()} })
	return &fifev1.ListCertificatesResponse{Certificates: all, NextPageToken: next, Staleness: state.staleness}, nil
}

func (s *certificateService) RevokeCertificate(
	ctx context.Context, req *fifev1.RevokeCertificateRequest,
) (*fifev1.RevokeCertificateResponse, error) {
	var v release.Violations
	if _, err := identity.Parse("spiffe://any/" + req.GetName()); err != nil {
		v.Addf("name", "%q must be server/NODE, agent/ID or user/NAME", req.GetName())
	}
	_, err := s.change(ctx, v, req, &storev1.Command{
		Op: &storev1.Command_RevokeIdentity{RevokeIdentity: &storev1.RevokeIdentity{Name: req.GetName()}},
	})
	if err != nil {
		return nil, err
	}
	return &fifev1.RevokeCertificateResponse{}, nil
}
