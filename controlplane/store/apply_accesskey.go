package store

import (
	"iter"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// AccessKey returns an access key, whether or not it has expired.
func (s *State) AccessKey(id string) (access.Key, bool) { return s.accessKeys.Get([]byte(id)) }

// AccessKeys yields the access keys in id order, from an id on.
func (s *State) AccessKeys(from string) iter.Seq[access.Key] {
	return walkFrom(s.accessKeys, nil, []byte(from))
}

func (t *tx) createAccessKey(op *storev1.CreateAccessKey) (Outcome, error) {
	k := decodeAccessKey(op.GetKey())
	if _, ok := t.next.AccessKey(k.ID); ok {
		return Outcome{}, release.Taken(AccessKeyName(k.ID))
	}
	keys := t.next.accessKeys
	for old := range walk(keys, nil) {
		if old.Expired(t.change.Time) {
			keys, _, _ = keys.Delete([]byte(old.ID))
		}
	}
	if keys.Len() >= MaxAccessKeys {
		return Outcome{}, release.TooMany("the cluster", "access keys", MaxAccessKeys)
	}
	t.next.accessKeys, _, _ = keys.Insert([]byte(k.ID), k)
	return Outcome{}, nil
}

func (t *tx) deleteAccessKey(op *storev1.DeleteAccessKey) (Outcome, error) {
	keys, _, ok := t.next.accessKeys.Delete([]byte(op.GetId()))
	if !ok {
		return Outcome{}, release.Missing(AccessKeyName(op.GetId()))
	}
	t.next.accessKeys = keys
	return Outcome{}, nil
}

// resealAccessKeys leaves keys alone that were deleted meanwhile.
func (t *tx) resealAccessKeys(op *storev1.ResealAccessKeys) {
	for _, p := range op.GetKeys() {
		if k, ok := t.next.AccessKey(p.GetId()); ok {
			k.Sealed = p.GetSealed()
			t.next.accessKeys, _, _ = t.next.accessKeys.Insert([]byte(k.ID), k)
		}
	}
}

// AccessKeyName returns the resource name of an access key.
func AccessKeyName(id string) string { return "accessKeys/" + id }

// EncodeAccessKey returns what is kept of an access key.
func EncodeAccessKey(k access.Key) *storev1.AccessKey {
	return &storev1.AccessKey{
		Id: k.ID, User: k.User, Sealed: k.Sealed, CreateTime: encodeTime(k.CreateTime), ExpireTime: encodeTime(k.ExpireTime),
	}
}

func decodeAccessKey(p *storev1.AccessKey) access.Key {
	return access.Key{
		ID: p.GetId(), User: p.GetUser(), Sealed: p.GetSealed(),
		CreateTime: decodeTime(p.GetCreateTime()), ExpireTime: decodeTime(p.GetExpireTime()),
	}
}
