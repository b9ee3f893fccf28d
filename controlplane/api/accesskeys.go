package api

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// signerKey is the context key of the signer of a request.
type signerKey struct{}

// signer is who has signed a request.
type signer struct {
	identity.Identity
	key string // id of the access key
}

// AsSigner returns ctx with who has signed a request, and the id of the access key. Only
// what has verified the signature may make calls by it; they are decided on as the calls
// of that user, while the key is good.
func AsSigner(ctx context.Context, user identity.Identity, key string) context.Context {
	return context.WithValue(ctx, signerKey{}, signer{user, key})
}

// accessKeyService makes access keys.
type accessKeyService struct {
	fifev1.UnimplementedAccessKeyServiceServer
	changer
	key     ClusterKey
	bearers *Bearers
}

func (s *accessKeyService) toAccessKey(k access.Key) *fifev1.AccessKey {
	return &fifev1.AccessKey{
		Name: store.AccessKeyName(k.ID), User: k.User, CreateTime: toTime(k.CreateTime), ExpireTime: toTime(k.ExpireTime),
		LastUseTime: toTime(s.bearers.LastUse(k.ID)),
	}
}

// ErrNoClusterKey says that there is nothing to seal with.
var ErrNoClusterKey = errors.New("access keys are for clusters that ask who calls: this node speaks plaintext, or does not have the cluster's key yet")

// CreateAccessKey makes the secret here, and puts it into the log, sealed. A repeat that
// finds the first key has another secret, and so answers without.
func (s *accessKeyService) CreateAccessKey(
	ctx context.Context, req *fifev1.CreateAccessKeyRequest,
) (*fifev1.CreateAccessKeyResponse, error) {
	var v release.Violations
	if err := access.Subject(access.UserPrefix + req.GetUser()).Check(); err != nil {
		v.Addf("user", "%v", err)
	}
	ttl := req.GetTtl().AsDuration()
	if ttl < minUserTokenTTL || ttl > maxUserTokenTTL {
		v.Addf("ttl", "%v must lie between %v and %v", ttl, minUserTokenTTL, maxUserTokenTTL)
	}
	_, sealer, ok := s.key()
	if !ok {
		return nil, ErrNoClusterKey
	}
	id, secret := access.NewKey()
	now := time.Now()
	k := access.Key{
		ID: id, User: req.GetUser(), Sealed: sealer.Seal([]byte(secret), access.KeyContext(id)), CreateTime: now, ExpireTime: now.Add(ttl),
	}
	_, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_CreateAccessKey{
		CreateAccessKey: &storev1.CreateAccessKey{Key: store.EncodeAccessKey(k)},
	}})
	if err != nil {
		return nil, err
	}
	if _, made := s.store.State().AccessKey(id); !made {
		return &fifev1.CreateAccessKeyResponse{}, nil // only checked, or made by an earlier call
	}
	return &fifev1.CreateAccessKeyResponse{Key: s.toAccessKey(k), Secret: secret}, nil
}

func (s *accessKeyService) ListAccessKeys(
	ctx context.Context, req *fifev1.ListAccessKeysRequest,
) (*fifev1.ListAccessKeysResponse, error) {
	var v release.Violations
	start := pageStart(&v, req, 1)
	if err := v.Err(); err != nil {
		return nil, err
	}
	state, err := s.read(ctx, req)
	if err != nil {
		return nil, err
	}
	keys, next := page(req, state.AccessKeys(start[0]), s.toAccessKey, func(k access.Key) []string { return []string{k.ID} })
	return &fifev1.ListAccessKeysResponse{Keys: keys, NextPageToken: next, Staleness: state.staleness}, nil
}

func (s *accessKeyService) DeleteAccessKey(
	ctx context.Context, req *fifev1.DeleteAccessKeyRequest,
) (*fifev1.DeleteAccessKeyResponse, error) {
	var v release.Violations
	id, ok := strings.CutPrefix(req.GetName(), store.AccessKeyName(""))
	if !ok || id == "" {
		v.Addf("name", "%q must have the form accessKeys/{id}", req.GetName())
	}
	_, err := s.change(ctx, v, req, &storev1.Command{Op: &storev1.Command_DeleteAccessKey{
		DeleteAccessKey: &storev1.DeleteAccessKey{Id: id},
	}})
	if err != nil {
		return nil, err
	}
	return &fifev1.DeleteAccessKeyResponse{}, nil
}
