package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

// pki is a whole cluster's authorities.
type pki struct {
	cluster string
	root    Authority
	classes map[Class]Authority
}

func newPKI(t testing.TB, cluster string) pki {
	t.Helper()
	root, err := NewRoot(cluster)
	if err != nil {
		t.Fatal(err)
	}
	p := pki{cluster, root, map[Class]Authority{}}
	for _, class := range []Class{Server, Agent, User} {
		if p.classes[class], err = root.NewIntermediate(cluster, class); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p pki) trust() Trust { return Trust{p.cluster, []*x509.Certificate{p.root.Certificate}} }

// credential issues one for an identity of the cluster.
func (p pki) credential(t testing.TB, class Class, name string, ttl time.Duration) *Credential {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := p.classes[class].Issue(key.Public(), Identity{p.cluster, class, name}, ttl)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCredential(key, []*x509.Certificate{cert, p.classes[class].Certificate}, p.trust().Roots)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// forged returns a chain whose first certificate is a template's, signed by an
// authority that asks nothing.
func forged(t testing.TB, by Authority, template *x509.Certificate) []*x509.Certificate {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := by.certify(template, key.Public(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{cert, by.Certificate}
}

// TestVerify: exactly the certificates that this cluster's authority of the class has
// issued, for one name, are believed, and only while they are valid.
func TestVerify(t *testing.T) {
	p, stranger := newPKI(t, "c1"), newPKI(t, "c1")
	other := newPKI(t, "c2")
	n1, agent := Identity{"c1", Server, "n1"}, Identity{"c1", Agent, "n1"}
	named := func(ids ...*url.URL) *x509.Certificate { return &x509.Certificate{URIs: ids} }
	holder := p.credential(t, Server, "n1", time.Hour)
	good := holder.Chain
	// Of another cluster that has the same root, such as that of a company.
	shared, err := p.root.NewIntermediate("c2", Server)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for name, test := range map[string]struct {
		chain []*x509.Certificate
		at    time.Time
		want  string // in the error; empty if it is believed
	}{
		"good":               {chain: good},
		"no certificate":     {chain: nil, want: "no certificate"},
		"expired":            {chain: good, at: now.Add(2 * time.Hour), want: "expired"},
		"not yet valid":      {chain: good, at: now.Add(-time.Hour), want: "not yet valid"},
		"wrong CA":           {chain: stranger.credential(t, Server, "n1", time.Hour).Chain, want: "unknown authority"},
		"wrong cluster":      {chain: other.credential(t, Server, "n1", time.Hour).Chain, want: "not of cluster c1"},
		"cluster of a twin":  {chain: forged(t, shared, named(n1.URI())), want: "authority of its class"},
		"wrong class":        {chain: forged(t, p.classes[Agent], named(n1.URI())), want: "authority of its class"},
		"right class":        {chain: forged(t, p.classes[Agent], named(agent.URI()))},
		"by the root itself": {chain: forged(t, p.root, named(n1.URI())), want: "authority of its class"},
		"no SAN":             {chain: forged(t, p.classes[Server], named()), want: "has 0 URIs"},
		"common name only":   {chain: forged(t, p.classes[Server], &x509.Certificate{DNSNames: []string{"n1"}}), want: "has 0 URIs"},
		"IP SAN only": {
			chain: forged(t, p.classes[Server], &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}), want: "has 0 URIs",
		},
		"two URI SANs":         {chain: forged(t, p.classes[Server], named(n1.URI(), n1.URI())), want: "has 2 URIs"},
		"no identity":          {chain: forged(t, p.classes[Server], named(&url.URL{Scheme: "https", Host: "c1"})), want: "must begin with spiffe://"},
		"an authority":         {chain: []*x509.Certificate{p.classes[Server].Certificate}, want: "must be spiffe://CLUSTER/CLASS/NAME"},
		"chain without issuer": {chain: good[:1], want: "unknown authority"},
		"issuer that may not": {
			chain: append(forged(t, Authority{good[0], holder.Key}, named(n1.URI())), p.classes[Server].Certificate),
			want:  "certificate of spiffe://c1/server/n1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if test.at.IsZero() {
				test.at = now
			}
			id, err := p.trust().Verify(test.chain, test.at)
			switch {
			case test.want == "" && (err != nil || id.Name != "n1"):
				t.Errorf("%v, %v; want it believed", id, err)
			case test.want != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.want)):
				t.Errorf("%v, %v; want an error with %q", id, err, test.want)
			}
		})
	}
}

func TestIssueRefuses(t *testing.T) {
	p := newPKI(t, "c")
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	big, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	old, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	id := Identity{"c", Agent, "a"}
	if _, err := p.classes[Agent].Issue(key.Public(), id, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := p.classes[Server].Issue(key.Public(), id, time.Hour); err == nil {
		t.Error("an agent's certificate by the servers' authority")
	}
	if _, err := p.classes[Agent].Issue(key.Public(), Identity{"d", Agent, "a"}, time.Hour); err == nil {
		t.Error("a certificate of another cluster")
	}
	if _, err := p.classes[Agent].Issue(key.Public(), Identity{"c", Agent, "a/b"}, time.Hour); err == nil {
		t.Error("a name that is two segments")
	}
	for _, public := range []any{big.Public(), old.Public()} {
		if _, err := p.classes[Agent].Issue(public, id, time.Hour); !errors.Is(err, ErrInvalid) {
			t.Errorf("a %T: %v", public, err)
		}
	}
	if cert, err := p.classes[Agent].Issue(key.Public(), id, 2*rootTTL); err != nil || cert.NotAfter.After(p.classes[Agent].Certificate.NotAfter) {
		t.Errorf("%v, %v: outlasts its issuer", cert.NotAfter, err)
	}
}

// TestIssueHost: clients that know servers by the names of hosts believe a host's
// certificate for its names; nobody here takes it for that of anybody.
func TestIssueHost(t *testing.T) {
	p := newPKI(t, "c1")
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	authority := p.classes[Server]
	cert, err := authority.IssueHost(key.Public(), []string{"fife.example", "192.0.2.1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(p.root.Certificate)
	between.AddCert(authority.Certificate)
	for host, good := range map[string]bool{"fife.example": true, "192.0.2.1": true, "other.example": false, "192.0.2.2": false} {
		if _, err := cert.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: between}); (err == nil) != good {
			t.Errorf("%s: %v", host, err)
		}
	}
	trust := Trust{"c1", []*x509.Certificate{p.root.Certificate}}
	if id, err := trust.Verify([]*x509.Certificate{cert, authority.Certificate}, time.Now()); err == nil {
		t.Errorf("it is taken for that of %s", id)
	}
	if _, err := authority.IssueHost(key.Public(), nil, time.Hour); err == nil {
		t.Error("a certificate of no host was made")
	}
}

func TestRequest(t *testing.T) {
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := RequestedKey(csr)
	if err != nil || !key.PublicKey.Equal(public) {
		t.Errorf("%v, %v", public, err)
	}
	csr[len(csr)-1] ^= 1
	if _, err := RequestedKey(csr); !errors.Is(err, ErrInvalid) {
		t.Errorf("a request that is not signed by its key: %v", err)
	}
}

// TestPin: the pin of a cluster's root leads to its servers and no others, also of a
// cluster that shares the root.
func TestPin(t *testing.T) {
	p := newPKI(t, "c1")
	pin := Pin("c1", p.root.Certificate)
	now := time.Now()
	chain := append(p.credential(t, Server, "n1", time.Hour).Chain, p.root.Certificate)
	if id, trust, err := VerifyPinned(chain, pin, now); err != nil || id.Name != "n1" || trust.Cluster != "c1" {
		t.Errorf("%v, %v, %v", id, trust, err)
	}
	if _, _, err := VerifyPinned(chain[:2], pin, now); !errors.Is(err, ErrNotPinned) {
		t.Errorf("without the root: %v", err)
	}
	stranger := newPKI(t, "c1")
	chain = append(stranger.credential(t, Server, "n1", time.Hour).Chain, p.root.Certificate)
	if _, _, err := VerifyPinned(chain, pin, now); !errors.Is(err, ErrInvalid) {
		t.Errorf("a stranger with the pinned root beside its own: %v", err)
	}
	shared, err := p.root.NewIntermediate("c2", Server)
	if err != nil {
		t.Fatal(err)
	}
	chain = append(forged(t, shared, &x509.Certificate{URIs: []*url.URL{Identity{"c2", Server, "n1"}.URI()}}), p.root.Certificate)
	if _, _, err := VerifyPinned(chain, pin, now); !errors.Is(err, ErrNotPinned) {
		t.Errorf("another cluster of the same root: %v", err)
	}
}

func TestSeal(t *testing.T) {
	s, err := NewSealer(NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	sealed := s.Seal([]byte("canary"), "a")
	if strings.Contains(string(sealed), "canary") {
		t.Error("it can be read")
	}
	if plain, err := s.Open(sealed, "a"); err != nil || string(plain) != "canary" {
		t.Errorf("%q, %v", plain, err)
	}
	if again := s.Seal([]byte("canary"), "a"); string(again) == string(sealed) {
		t.Error("equal texts can be told from others")
	}
	other, err := NewSealer(NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte{}, sealed...)
	damaged[len(damaged)-1] ^= 1
	for name, open := range map[string]func() ([]byte, error){
		"other context": func() ([]byte, error) { return s.Open(sealed, "b") },
		"other key":     func() ([]byte, error) { return other.Open(sealed, "a") },
		"damaged":       func() ([]byte, error) { return s.Open(damaged, "a") },
		"cut short":     func() ([]byte, error) { return s.Open(sealed[:5], "a") },
	} {
		if _, err := open(); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewSealer([]byte("short")); err == nil {
		t.Error("a short key was taken")
	}
}

func TestJoinToken(t *testing.T) {
	p := newPKI(t, "c")
	token := NewJoinToken("c", p.root.Certificate)
	got, err := ParseJoinToken(token.Text() + "\n")
	if err != nil || got != token || got.Pin != Pin("c", p.root.Certificate) {
		t.Errorf("%+v, %v; want %+v", got, err, token)
	}
	if strings.Contains(fmt.Sprint(token), token.Secret) {
		t.Error("its secret is printed")
	}
	for _, text := range []string{"", "fife1", "fife1.a.b", "fife1.a..c", "fife2.a.b.c", "fife1.a.b.c.d"} {
		if _, err := ParseJoinToken(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
