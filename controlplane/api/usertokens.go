package api

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// How long a bearer token may last.
const (
	minUserTokenTTL = time.Minute
	maxUserTokenTTL = 365 * 24 * time.Hour
)

func (s *accessService) toUserToken(t access.Token) *fifev1.UserToken {
	return &fifev1.UserToken{
		Name: store.UserTokenName(t.ID), User: t.User, CreateTime: toTime(t.CreateTime), ExpireTime: toTime(t.ExpireTime),
		LastUseTime: toTime(s.bearers.LastUse(t.ID)),
	}
}

// CreateUserToken makes the secret here, and puts its hash into the log. A repeat that
// finds the first token has another secret, which fits none, and so answers without.
func (s *accessService) CreateUserToken(
	ctx context.Context, req *fifev1.CreateUserTokenRequest,
) (*fifev1.CreateUserTokenResponse, error) {
	var v release.Violations
	if err := access.Subject(access.UserPrefix + req.GetUser()).Check(); err != nil {
		v.Addf("user", "%v", err)
	}
	ttl := req.GetTtl().AsDuration()
	if ttl < minUserTokenTTL || ttl > maxUserTokenTTL {
		v.Addf("ttl", "%v must lie between %v and %v", ttl, minUserTokenTTL, maxUserTokenTTL)
	}
	secret, now := strings.ToLower(rand.Text()+rand.Text()), time.Now()
	token := access.Token{
		ID: strings.ToLower(rand.Text()[:12]), User: req.GetUser(), Hash: access.HashSecret(secret),
		CreateTime: now, ExpireTime: now.Add(ttl),
	}
	_, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_CreateUserToken{
		CreateUserToken: &storev1.CreateUserToken{Token: store.EncodeUserToken(token)},
	}})
	if err != nil {
		return nil, err
	}
	if _, made := s.store.State().UserToken(token.ID); !made {
		return &fifev1.CreateUserTokenResponse{}, nil // only checked, or made by an earlier call
	}
	return &fifev1.CreateUserTokenResponse{Token: s.toUserToken(token), Bearer: access.TokenText(token.ID, secret)}, nil
}

func (s *accessService) ListUserTokens(
	ctx context.Context, req *fifev1.ListUserTokensRequest,
) (*fifev1.ListUserTokensResponse, error) {
	var v release.Violations
	start := pageStart(&v, req, 1)
	if err := v.Err(); err != nil {
		return nil, err
	}
	state, err := s.read(ctx, req)
	if err != nil {
		return nil, err
	}
	tokens, next := page(req, state.UserTokens(start[0]), s.toUserToken, func(t access.Token) []string { return []string{t.ID} })
	return &fifev1.ListUserTokensResponse{Tokens: tokens, NextPageToken: next, Staleness: state.staleness}, nil
}

func (s *accessService) DeleteUserToken(
	ctx context.Context, req *fifev1.DeleteUserTokenRequest,
) (*fifev1.DeleteUserTokenResponse, error) {
	var v release.Violations
	id, ok := strings.CutPrefix(req.GetName(), store.UserTokenName(""))
	if !ok || id == "" {
		v.Addf("name", "%q must have the form userTokens/{id}", req.GetName())
	}
	_, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_DeleteUserToken{
		DeleteUserToken: &storev1.DeleteUserToken{Id: id},
	}})
	if err != nil {
		return nil, err
	}
	return &fifev1.DeleteUserTokenResponse{}, nil
}
