package store

import (
	"crypto/subtle"
	"iter"
	"path"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// Trust returns whom the cluster believes and by what it issues certificates; nil if
// that has not been recorded.
func (s *State) Trust() *storev1.Trust { return s.trust }

// JoinToken returns a join token.
func (s *State) JoinToken(id string) (*storev1.JoinToken, bool) { return s.joinTokens.Get([]byte(id)) }

// JoinTokens yields the join tokens in id order, from an id on.
func (s *State) JoinTokens(from string) iter.Seq[*storev1.JoinToken] {
	return walkFrom(s.joinTokens, nil, []byte(from))
}

// Enrolment returns what is known of an identity that has joined with a token or was
// revoked; name is CLASS/NAME.
func (s *State) Enrolment(name string) (*storev1.Enrolment, bool) {
	return s.enrolments.Get([]byte(name))
}

// Enrolments yields all identities that have joined or were revoked, by name.
func (s *State) Enrolments() iter.Seq[*storev1.Enrolment] { return walk(s.enrolments, nil) }

// RevokedAt returns when all certificates of an identity were made void that it had by
// then; the zero time if they were not.
func (s *State) RevokedAt(name string) time.Time {
	e, _ := s.Enrolment(name)
	return decodeTime(e.GetRevokeTime())
}

// MaxJoinTokens and MaxEnrolments bound what is kept of those who join.
const (
	MaxJoinTokens = 10_000
	MaxEnrolments = 200_000
)

func (t *tx) putTrust(op *storev1.PutTrust) (Outcome, error) {
	t.next.trust = op.GetTrust()
	return Outcome{}, nil
}

// putJoinToken makes a token, and takes the occasion to forget those that have ended.
func (t *tx) putJoinToken(op *storev1.PutJoinToken) (Outcome, error) {
	for token := range t.next.JoinTokens("") {
		if t.change.Time.After(decodeTime(token.GetExpireTime())) {
			t.next.joinTokens, _, _ = t.next.joinTokens.Delete([]byte(token.GetId()))
		}
	}
	token := op.GetToken()
	if _, ok := t.next.JoinToken(token.GetId()); ok {
		return Outcome{}, release.Taken(tokenName(token.GetId()))
	}
	if t.next.joinTokens.Len() >= MaxJoinTokens {
		return Outcome{}, release.TooMany("the cluster", "join tokens", MaxJoinTokens)
	}
	t.next.joinTokens, _, _ = t.next.joinTokens.Insert([]byte(token.GetId()), token)
	return Outcome{}, nil
}

func (t *tx) deleteJoinToken(op *storev1.DeleteJoinToken) (Outcome, error) {
	var ok bool
	if t.next.joinTokens, _, ok = t.next.joinTokens.Delete([]byte(op.GetId())); !ok {
		return Outcome{}, release.Missing(tokenName(op.GetId()))
	}
	return Outcome{}, nil
}

func tokenName(id string) string { return "tokens/" + id }

// useJoinToken counts a use of a token. Who does not know its secret is told nothing
// of it. A name that has joined may do so again only once it was revoked: otherwise
// the bearer of a token could become somebody who is there.
func (t *tx) useJoinToken(op *storev1.UseJoinToken) (Outcome, error) {
	token, ok := t.next.JoinToken(op.GetId())
	if !ok || subtle.ConstantTimeCompare(token.GetSecretSha256(), op.GetSecretSha256()) != 1 {
		return Outcome{}, release.CannotJoin("there is no such join token; it may be used up")
	}
	name := op.GetClass() + "/" + op.GetName()
	if end := decodeTime(token.GetExpireTime()); t.change.Time.After(end) {
		return Outcome{}, release.CannotJoin("join token %s has ended at %s", token.GetId(), end.UTC().Format(time.RFC3339))
	}
	fits, err := path.Match(token.GetPattern(), op.GetName())
	if op.GetClass() != token.GetClass() || (token.GetPattern() != "" && (err != nil || !fits)) {
		return Outcome{}, release.CannotJoin("join token %s is not for %s: it is for %s/%s",
			token.GetId(), name, token.GetClass(), orAny(token.GetPattern()))
	}
	before, known := t.next.Enrolment(name)
	if joined := decodeTime(before.GetJoinTime()); !joined.IsZero() && !decodeTime(before.GetRevokeTime()).After(joined) {
		return Outcome{}, release.CannotJoin("%s has joined already; if its key is lost, revoke its certificate first", name)
	}
	if !known && t.next.enrolments.Len() >= MaxEnrolments {
		return Outcome{}, release.TooMany("the cluster", "identities that have joined", MaxEnrolments)
	}
	if token.GetUses() <= 1 {
		t.next.joinTokens, _, _ = t.next.joinTokens.Delete([]byte(token.GetId()))
	} else {
		left := proto.CloneOf(token)
		left.Uses--
		t.next.joinTokens, _, _ = t.next.joinTokens.Insert([]byte(token.GetId()), left)
	}
	t.enrol(&storev1.Enrolment{
		Name: name, Apis: slices.Clone(token.GetApis()), JoinTime: timestamppb.New(t.change.Time), RevokeTime: before.GetRevokeTime(),
	})
	return Outcome{}, nil
}

func orAny(pattern string) string {
	if pattern == "" {
		return "*"
	}
	return pattern
}

func (t *tx) revokeIdentity(op *storev1.RevokeIdentity) (Outcome, error) {
	before, known := t.next.Enrolment(op.GetName())
	if !known && t.next.enrolments.Len() >= MaxEnrolments {
		return Outcome{}, release.TooMany("the cluster", "identities that have joined", MaxEnrolments)
	}
	t.revoke(op.GetName(), before)
	return Outcome{}, nil
}

func (t *tx) revoke(name string, before *storev1.Enrolment) {
	t.enrol(&storev1.Enrolment{
		Name: name, Apis: before.GetApis(), JoinTime: before.GetJoinTime(), RevokeTime: timestamppb.New(t.change.Time),
	})
}

func (t *tx) enrol(e *storev1.Enrolment) {
	t.next.enrolments, _, _ = t.next.enrolments.Insert([]byte(e.GetName()), e)
}

// keepTrust makes what a restored state knows of those who join that of the cluster
// that it is restored into, whose servers could not open the secrets of other access
// keys. If both have the same authority, whoever was revoked stays
// so.
func (s *State) keepTrust(now *State) {
	backup, issued := s.enrolments, s.certificates
	same := s.trust.GetCluster() != "" && s.trust.GetCluster() == now.trust.GetCluster()
	s.trust, s.joinTokens, s.enrolments, s.certificates, s.accessKeys = now.trust, now.joinTokens, now.enrolments, now.certificates, now.accessKeys
	if same {
		for e := range walk(backup, nil) {
			if _, newer := s.Enrolment(e.GetName()); !newer {
				s.enrolments, _, _ = s.enrolments.Insert([]byte(e.GetName()), e)
			}
		}
		for c := range walk(issued, nil) {
			s.certificates, _, _ = s.certificates.Insert([]byte(c.GetId()), c)
		}
	}
}
