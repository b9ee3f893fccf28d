package access

import (
	"crypto/rand"
	"time"
)

// Key is an access key, with which requests are signed. Whoever verifies a signature
// needs the secret itself, so it is kept, sealed for the servers of the cluster.
type Key struct {
	ID         string
	User       string // name of the user that it acts as
	Sealed     []byte // the secret; opened in the context KeyContext
	CreateTime time.Time
	ExpireTime time.Time
}

// KeyPrefix begins the id of every access key, where Amazon's have AKIA. The rest is
// as there, so that tools which look at the shape of an id are content.
const KeyPrefix = "FIFE"

// NewKey returns the id and the secret of a new access key: the secret has 200 random
// bits in 40 characters.
func NewKey() (id, secret string) {
	return KeyPrefix + rand.Text()[:16], (rand.Text() + rand.Text())[:40]
}

// KeyContext returns what the secret of an access key is sealed for, so that nobody
// can put one in another's place.
func KeyContext(id string) string { return "access-key/" + id }

// Expired reports whether the key has ended by a time.
func (k Key) Expired(at time.Time) bool { return !at.Before(k.ExpireTime) }

// Subject returns whom the key acts as.
func (k Key) Subject() Subject { return Subject(UserPrefix + k.User) }
