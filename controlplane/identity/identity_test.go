package identity

import (
	"crypto/x509"
	"errors"
	"net/url"
	"testing"
)

func TestParse(t *testing.T) {
	for _, want := range []Identity{
		{"7f3a", Server, "n1"},
		{"7f3a", Agent, "edge-fra.1"},
		{"prod.example", User, "ada@example.com"},
	} {
		got, err := Parse(want.String())
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %v, %v; want %v", want.String(), got, err, want)
		}
	}
	for _, id := range []string{
		"", "spiffe://", "spiffe://c", "spiffe://c/server", "spiffe://c/server/", "spiffe://c//n1",
		"SPIFFE://c/server/n1", "https://c/server/n1", "spiffe://c/Server/n1", "spiffe://c/root/n1",
		"spiffe://c/server/n1/x", "spiffe://c/server/n1?x", "spiffe://c/server/n%31", "spiffe://c:1/server/n1",
		"spiffe://u@c@/server/n1", "spiffe://c/server/-n1", "spiffe:///server/n1",
	} {
		if got, err := Parse(id); !errors.Is(err, ErrInvalid) {
			t.Errorf("Parse(%q) = %v, %v; want ErrInvalid", id, got, err)
		}
	}
}

func TestFromCertificate(t *testing.T) {
	id := Identity{"c", Agent, "a1"}
	if got, err := FromCertificate(&x509.Certificate{URIs: []*url.URL{id.URI()}}); err != nil || got != id {
		t.Errorf("one URI: %v, %v; want %v", got, err, id)
	}
	for _, uris := range [][]*url.URL{nil, {id.URI(), id.URI()}} {
		if got, err := FromCertificate(&x509.Certificate{URIs: uris}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%d URIs: %v, %v; want ErrInvalid", len(uris), got, err)
		}
	}
}

func TestContext(t *testing.T) {
	if got, ok := FromContext(t.Context()); ok {
		t.Errorf("nobody verified: %v", got)
	}
	want := Identity{"c", User, "ada"}
	if got, ok := FromContext(NewContext(t.Context(), want)); !ok || got != want {
		t.Errorf("%v, %v; want %v", got, ok, want)
	}
}
