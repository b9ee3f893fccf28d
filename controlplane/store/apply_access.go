package store

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// founder is bound to everything in a cluster that is founded, so that there is
// somebody who can give roles to others: the holder of the first user's certificate.
var founder = access.Binding{Subject: access.UserPrefix + "admin", Role: access.Admin, API: "*", Stage: "*"}

// bindingKey puts the bindings of one subject together.
func bindingKey(b access.Binding) []byte {
	return key(string(b.Subject), string(b.Role), b.API, b.Stage)
}

// Bindings yields all bindings in order of their subjects, from the one on whose
// subject, role and patterns are given.
func (s *State) Bindings(from access.Binding) iter.Seq[access.Binding] {
	if from == (access.Binding{}) {
		return walk(s.bindings, nil)
	}
	return walkFrom(s.bindings, nil, bindingKey(from))
}

// BindingsOf yields the bindings of some subjects.
func (s *State) BindingsOf(subjects []access.Subject) iter.Seq[access.Binding] {
	return func(yield func(access.Binding) bool) {
		for _, subject := range subjects {
			for b := range walk(s.bindings, key(string(subject))) {
				if !yield(b) {
					return
				}
			}
		}
	}
}

// UserToken returns a bearer token, whether or not it has expired.
func (s *State) UserToken(id string) (access.Token, bool) { return s.tokens.Get([]byte(id)) }

// UserTokens yields the bearer tokens in id order, from an id on.
func (s *State) UserTokens(from string) iter.Seq[access.Token] {
	return walkFrom(s.tokens, nil, []byte(from))
}

// SameAccess reports whether between two states nobody has joined or was revoked, and
// nobody has got or lost a role or a token.
func (s *State) SameAccess(o *State) bool {
	return s.enrolments == o.enrolments && s.bindings == o.bindings && s.tokens == o.tokens
}

// authorize refuses a command whose actor may not do it any more: a role or a token
// may have been taken since a node let the call pass.
func (s *State) authorize(cmd *storev1.Command) *release.Refusal {
	a := cmd.GetAuthorization()
	if a == nil {
		return nil
	}
	caller := callerOf(cmd.GetActor(), a)
	if a.GetToken() != "" {
		if !s.stands(a.GetToken(), caller.Subject, decodeTime(cmd.GetTime())) {
			return &release.Refusal{
				Reason:   release.PermissionDenied,
				Message:  fmt.Sprintf("token %s of %s was deleted or has expired; ask an admin for a new one", a.GetToken(), caller.Subject),
				Metadata: map[string]string{"subject": string(caller.Subject)},
			}
		}
	}
	return Denial(access.Decide(s.BindingsOf(caller.Subjects()), caller,
		access.Permission(a.GetPermission()), access.Resource{API: a.GetApi(), Stage: a.GetStage()}))
}

// callerOf returns whom a command's authorization is about.
func callerOf(actor string, a *storev1.Authorization) access.Caller {
	return access.Caller{Subject: access.Subject(actor), Groups: a.GetGroups(), Token: a.GetToken()}
}

// need refuses a change for which the command's actor needs one more permission on a
// stage, as only the state shows.
func (t *tx) need(p access.Permission, api, stage string) error {
	if t.authorization == nil {
		return nil
	}
	caller := callerOf(t.change.Actor, t.authorization)
	if r := Denial(access.Decide(t.next.BindingsOf(caller.Subjects()), caller, p, access.Resource{API: api, Stage: stage})); r != nil {
		return r
	}
	return nil
}

// needToUnprotect refuses to take the rule of the other promoter from a stage, which
// is as much as to promote past it. next is what becomes of the stage; nil for nothing.
func (t *tx) needToUnprotect(s, next *release.Stage) error {
	if !s.OtherPromoter || (next != nil && next.OtherPromoter) {
		return nil
	}
	return t.need(access.BreakGlass, s.API, s.ID)
}

// stands reports whether a bearer token or an access key lets its bearer act as a
// subject at a time.
func (s *State) stands(id string, as access.Subject, at time.Time) bool {
	if k, ok := s.AccessKey(id); ok {
		return k.Subject() == as && !k.Expired(at)
	}
	t, ok := s.UserToken(id)
	return ok && t.Subject() == as && !t.Expired(at)
}

// Denial returns the refusal that tells a caller of an *access.Denied; nil for nil.
func Denial(err error) *release.Refusal {
	var denied *access.Denied
	if !errors.As(err, &denied) {
		return nil
	}
	return &release.Refusal{
		Reason:  release.PermissionDenied,
		Message: denied.Error(),
		Metadata: map[string]string{
			"subject": string(denied.Subject), "permission": string(denied.Permission), "resource": denied.Resource.String(),
		},
	}
}

func (t *tx) createBinding(op *storev1.CreateBinding) (Outcome, error) {
	b := decodeBinding(op.GetBinding())
	if _, ok := t.next.bindings.Get(bindingKey(b)); ok {
		return Outcome{}, release.Taken(b.String())
	}
	if t.next.bindings.Len() >= MaxBindings {
		return Outcome{}, release.TooMany("the cluster", "bindings", MaxBindings)
	}
	t.next.bindings, _, _ = t.next.bindings.Insert(bindingKey(b), b)
	return Outcome{}, nil
}

// deleteBinding leaves somebody who can give roles.
func (t *tx) deleteBinding(op *storev1.DeleteBinding) (Outcome, error) {
	b := decodeBinding(op.GetBinding())
	bindings, _, ok := t.next.bindings.Delete(bindingKey(b))
	if !ok {
		return Outcome{}, release.Missing(b.String())
	}
	if governs(b) {
		left := false
		for other := range walk(bindings, nil) {
			left = left || governs(other)
		}
		if !left {
			return Outcome{}, release.LastOne(b.String())
		}
	}
	t.next.bindings = bindings
	return Outcome{}, nil
}

// governs reports whether a binding makes an admin of everything of somebody who can
// always prove who he is: a group may have no members, and an issuer may be gone.
func governs(b access.Binding) bool {
	return b.Role == access.Admin && b.API == "*" && b.Stage == "*" && strings.HasPrefix(string(b.Subject), access.UserPrefix)
}

func (t *tx) createUserToken(op *storev1.CreateUserToken) (Outcome, error) {
	token := decodeUserToken(op.GetToken())
	name := UserTokenName(token.ID)
	if _, ok := t.next.UserToken(token.ID); ok {
		return Outcome{}, release.Taken(name)
	}
	tokens := t.next.tokens
	for old := range walk(tokens, nil) {
		if old.Expired(t.change.Time) {
			tokens, _, _ = tokens.Delete([]byte(old.ID))
		}
	}
	if tokens.Len() >= MaxUserTokens {
		return Outcome{}, release.TooMany("the cluster", "user tokens", MaxUserTokens)
	}
	t.next.tokens, _, _ = tokens.Insert([]byte(token.ID), token)
	return Outcome{}, nil
}

func (t *tx) deleteUserToken(op *storev1.DeleteUserToken) (Outcome, error) {
	tokens, _, ok := t.next.tokens.Delete([]byte(op.GetId()))
	if !ok {
		return Outcome{}, release.Missing(UserTokenName(op.GetId()))
	}
	t.next.tokens = tokens
	return Outcome{}, nil
}

// UserTokenName returns the resource name of a bearer token.
func UserTokenName(id string) string { return "userTokens/" + id }

// EncodeBinding returns what is kept of a binding.
func EncodeBinding(b access.Binding) *storev1.Binding {
	return &storev1.Binding{Subject: string(b.Subject), Role: string(b.Role), Api: b.API, Stage: b.Stage}
}

func decodeBinding(p *storev1.Binding) access.Binding {
	return access.Binding{
		Subject: access.Subject(p.GetSubject()), Role: access.Role(p.GetRole()), API: p.GetApi(), Stage: p.GetStage(),
	}
}

// EncodeUserToken returns what is kept of a bearer token.
func EncodeUserToken(t access.Token) *storev1.UserToken {
	return &storev1.UserToken{
		Id: t.ID, User: t.User, Hash: t.Hash[:], CreateTime: encodeTime(t.CreateTime), ExpireTime: encodeTime(t.ExpireTime),
	}
}

func decodeUserToken(p *storev1.UserToken) access.Token {
	t := access.Token{
		ID: p.GetId(), User: p.GetUser(), CreateTime: decodeTime(p.GetCreateTime()), ExpireTime: decodeTime(p.GetExpireTime()),
	}
	copy(t.Hash[:], p.GetHash())
	return t
}
