package api

import (
	"context"
	"crypto/x509"
	"fmt"
	"path"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// Limits of join tokens.
const (
	defaultTokenTTL = time.Hour
	maxTokenTTL     = 30 * 24 * time.Hour
	maxTokenUses    = 100_000
	maxTokenAPIs    = 1000
	maxPattern      = 128
)

type tokenService struct {
	fifev1.UnimplementedTokenServiceServer
	changer
}

func (s *tokenService) CreateToken(ctx context.Context, req *fifev1.CreateTokenRequest) (*fifev1.CreateTokenResponse, error) {
	var v release.Violations
	class := identity.Agent
	switch req.GetRole() {
	case fifev1.TokenRole_TOKEN_ROLE_AGENT:
	case fifev1.TokenRole_TOKEN_ROLE_SERVER:
		class = identity.Server
		if len(req.GetApis()) > 0 {
			v.Addf("apis", "a server holds all APIs")
		}
	default:
		v.Addf("role", "%v must be agent or server", req.GetRole())
	}
	if _, err := path.Match(req.GetPattern(), ""); err != nil || len(req.GetPattern()) > maxPattern || strings.Contains(req.GetPattern(), "/") {
		v.Addf("pattern", "%.128q must be a name of at most %d characters in which * and ? stand for others", req.GetPattern(), maxPattern)
	}
	if n := len(req.GetApis()); n > maxTokenAPIs {
		v.Addf("apis", "%d APIs, at most %d are allowed", n, maxTokenAPIs)
	}
	for _, api := range req.GetApis() {
		release.CheckAPIID(&v, "apis", api)
	}
	ttl := defaultTokenTTL
	if req.GetTtl() != nil {
		ttl = req.GetTtl().AsDuration()
	}
	if ttl < time.Second || ttl > maxTokenTTL {
		v.Addf("ttl", "%v must be from a second to %v", ttl, maxTokenTTL)
	}
	if req.GetUses() > maxTokenUses {
		v.Addf("uses", "%d must be at most %d", req.GetUses(), maxTokenUses)
	}
	if err := v.Err(); err != nil {
		return nil, err
	}
	trust := s.store.State().Trust()
	if trust == nil {
		return nil, errNoAuthority
	}
	root, err := x509.ParseCertificate(trust.GetRoots()[0])
	if err != nil {
		return nil, fmt.Errorf("read root: %w", err)
	}
	token := identity.NewJoinToken(trust.GetCluster(), root)
	made := &storev1.JoinToken{
		Id: token.ID, SecretSha256: token.SecretHash(), Class: string(class), Pattern: req.GetPattern(), Apis: req.GetApis(),
		ExpireTime: timestamppb.New(time.Now().Add(ttl)), Uses: max(req.GetUses(), 1),
	}
	_, err = s.change(ctx, v, req, &storev1.Command{
		Op: &storev1.Command_PutJoinToken{PutJoinToken: &storev1.PutJoinToken{Token: made}},
	})
	if err != nil {
		return nil, err
	}
	if _, ok := s.store.State().JoinToken(made.GetId()); !ok {
		return &fifev1.CreateTokenResponse{}, nil // only checked, or made by an earlier call
	}
	return &fifev1.CreateTokenResponse{Token: toToken(made), Text: token.Text()}, nil
}

func (s *tokenService) ListTokens(ctx context.Context, req *fifev1.ListTokensRequest) (*fifev1.ListTokensResponse, error) {
	var v release.Violations
	start := pageStart(&v, req, 1)
	if err := v.Err(); err != nil {
		return nil, err
	}
	if err := s.store.Sync(ctx); err != nil {
		return nil, err
	}
	now := time.Now()
	usable := func(yield func(*storev1.JoinToken) bool) {
		for t := range s.store.State().JoinTokens(start[0]) {
			if now.Before(t.GetExpireTime().AsTime()) && !yield(t) {
				return
			}
		}
	}
	out, next := page(req, usable, toToken, func(t *storev1.JoinToken) []string { return []string{t.GetId()} })
	return &fifev1.ListTokensResponse{Tokens: out, NextPageToken: next}, nil
}

func (s *tokenService) DeleteToken(ctx context.Context, req *fifev1.DeleteTokenRequest) (*fifev1.DeleteTokenResponse, error) {
	var v release.Violations
	id, ok := strings.CutPrefix(req.GetName(), "tokens/")
	if !ok || id == "" || strings.Contains(id, "/") {
		v.Addf("name", "%q must be tokens/{id}", req.GetName())
	}
	_, err := s.change(ctx, v, req, &storev1.Command{
		Op: &storev1.Command_DeleteJoinToken{DeleteJoinToken: &storev1.DeleteJoinToken{Id: id}},
	})
	if err != nil {
		return nil, err
	}
	return &fifev1.DeleteTokenResponse{}, nil
}

func toToken(t *storev1.JoinToken) *fifev1.Token {
	role := fifev1.TokenRole_TOKEN_ROLE_AGENT
	if t.GetClass() == string(identity.Server) {
		role = fifev1.TokenRole_TOKEN_ROLE_SERVER
	}
	return &fifev1.Token{
		Name: "tokens/" + t.GetId(), Role: role, Pattern: t.GetPattern(), Apis: t.GetApis(),
		ExpireTime: t.GetExpireTime(), Uses: t.GetUses(),
	}
}
