package store

import (
	"iter"

	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// MaxUserCertificates bounds the certificates of users that are kept on the record;
// those that have expired go first.
const MaxUserCertificates = 10_000

// UserCertificate returns a certificate that a user has been given, whether or not it
// has expired.
func (s *State) UserCertificate(id string) (*storev1.UserCertificate, bool) {
	return s.certificates.Get([]byte(id))
}

// UserCertificates yields the certificates of users in id order, from an id on.
func (s *State) UserCertificates(from string) iter.Seq[*storev1.UserCertificate] {
	return walkFrom(s.certificates, nil, []byte(from))
}

// recordCertificate takes the occasion to forget those that have ended.
func (t *tx) recordCertificate(op *storev1.RecordCertificate) (Outcome, error) {
	for old := range t.next.UserCertificates("") {
		if t.change.Time.After(decodeTime(old.GetExpireTime())) {
			t.next.certificates, _, _ = t.next.certificates.Delete([]byte(old.GetId()))
		}
	}
	c := op.GetCertificate()
	if _, ok := t.next.UserCertificate(c.GetId()); ok {
		return Outcome{}, release.Taken(UserCertificateName(c.GetId()))
	}
	if t.next.certificates.Len() >= MaxUserCertificates {
		return Outcome{}, release.TooMany("the cluster", "certificates of users", MaxUserCertificates)
	}
	t.next.certificates, _, _ = t.next.certificates.Insert([]byte(c.GetId()), c)
	return Outcome{}, nil
}

// UserCertificateName returns the resource name of a user's certificate.
func UserCertificateName(id string) string { return "certificates/" + id }
