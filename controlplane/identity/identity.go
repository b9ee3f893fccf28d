// Package identity says who is at the other end of a connection. Every certificate
// of a cluster names one identity in one URI, spiffe://CLUSTER/CLASS/NAME, and
// nothing else in it counts: no common name, no DNS name, no address.
package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Class is what a holder of a certificate is, and so what it may be connected to.
type Class string

// The classes. Each has an intermediate authority of its own.
const (
	Server Class = "server" // a node of the control plane
	Agent  Class = "agent"  // an edge agent
	User   Class = "user"   // a person or a pipeline
)

// SignedIn is the class of those for whom an OpenID Connect issuer vouches. Nobody has
// a certificate of it, and Parse refuses it, as their names follow other rules.
const SignedIn Class = "oidc"

// Identity is who somebody is. The zero value is nobody.
type Identity struct {
	Cluster string
	Class   Class
	Name    string // unique within its class
}

// ErrInvalid is wrapped by every refusal of a certificate's or URI's identity.
var ErrInvalid = errors.New("invalid identity")

// A name stands in URIs, logs and permissions, and so needs no escaping in any.
var validName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._@-]{0,126}[A-Za-z0-9])?$`)

// String returns the identity's SPIFFE ID, or "" for nobody.
func (i Identity) String() string {
	if i == (Identity{}) {
		return ""
	}
	return "spiffe://" + i.Cluster + "/" + string(i.Class) + "/" + i.Name
}

// URI returns the identity's SPIFFE ID.
func (i Identity) URI() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: i.Cluster, Path: "/" + string(i.Class) + "/" + i.Name}
}

// Parse reads a SPIFFE ID of one of the classes. It refuses whatever String would
// not have written: other letters' case, escapes, a port, a query, more segments.
func Parse(id string) (Identity, error) {
	rest, ok := strings.CutPrefix(id, "spiffe://")
	if !ok {
		return Identity{}, fmt.Errorf("%w %q: must begin with spiffe://", ErrInvalid, id)
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 3 {
		return Identity{}, fmt.Errorf("%w %q: must be spiffe://CLUSTER/CLASS/NAME", ErrInvalid, id)
	}
	i := Identity{Cluster: parts[0], Class: Class(parts[1]), Name: parts[2]}
	switch i.Class {
	case Server, Agent, User:
	default:
		return Identity{}, fmt.Errorf("%w %q: %q is not one of server, agent and user", ErrInvalid, id, parts[1])
	}
	if !validName.MatchString(i.Cluster) || !validName.MatchString(i.Name) {
		return Identity{}, fmt.Errorf("%w %q: cluster and name must be 1 to 128 letters, digits, '.', '_', '@' and '-', with a letter or digit at both ends", ErrInvalid, id)
	}
	return i, nil
}

// FromCertificate returns the identity that a certificate names. It does not verify
// the certificate. A certificate without a URI, or with more than one, names nobody:
// two readers could take it for two holders.
func FromCertificate(c *x509.Certificate) (Identity, error) {
	if len(c.URIs) != 1 {
		return Identity{}, fmt.Errorf("%w: certificate has %d URIs, must have one", ErrInvalid, len(c.URIs))
	}
	return Parse(c.URIs[0].String())
}
