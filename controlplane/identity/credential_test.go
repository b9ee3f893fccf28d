package identity

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestCredentialFile(t *testing.T) {
	p := newPKI(t, "c")
	want := p.credential(t, User, "ada", time.Hour)
	path := filepath.Join(t.TempDir(), "c.pem")
	if _, err := OpenHolder(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no file: %v", err)
	}
	if _, err := CreateHolder(path, want); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: others can read the key", info.Mode(), err)
	}
	h, err := OpenHolder(path)
	if err != nil {
		t.Fatal(err)
	}
	got := h.Current()
	if got.Identity != want.Identity || len(got.Chain) != 2 || len(got.Trust.Roots) != 1 || !got.Leaf().Equal(want.Leaf()) {
		t.Errorf("read %+v", got)
	}
	if reloaded, err := h.Reload(); err != nil || reloaded {
		t.Errorf("an unchanged file was read again: %v, %v", reloaded, err)
	}

	// Another process puts a new one there, then somebody else's, then nonsense.
	next := p.credential(t, User, "ada", 2*time.Hour)
	if _, err := CreateHolder(path, next); err != nil {
		t.Fatal(err)
	}
	if reloaded, err := h.Reload(); err != nil || !reloaded || !h.Current().Leaf().Equal(next.Leaf()) {
		t.Errorf("the renewed credential is not there: %v, %v", reloaded, err)
	}
	if _, err := CreateHolder(path, p.credential(t, User, "eve", time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Reload(); !errors.Is(err, ErrInvalid) {
		t.Errorf("took somebody else's: %v", err)
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Reload(); !errors.Is(err, ErrInvalid) || !h.Current().Leaf().Equal(next.Leaf()) {
		t.Errorf("nonsense: %v; now of %v", err, h.Current().Identity)
	}
}

func TestNewCredentialRefuses(t *testing.T) {
	p, stranger := newPKI(t, "c"), newPKI(t, "c")
	c, other := p.credential(t, Agent, "a", time.Hour), p.credential(t, Agent, "a", time.Hour)
	for name, test := range map[string]struct{ chain, roots []*x509.Certificate }{
		"other key":   {other.Chain, c.Trust.Roots},
		"no chain":    {nil, c.Trust.Roots},
		"no roots":    {c.Chain, nil},
		"other roots": {c.Chain, stranger.trust().Roots},
		"no issuer":   {c.Chain[:1], c.Trust.Roots},
	} {
		if _, err := NewCredential(c.Key, test.chain, test.roots); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAuthorityFile(t *testing.T) {
	root, err := NewRoot("c1")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := root.PEM()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseAuthority(cert, key)
	if err != nil || got.Cluster() != "c1" || !got.Certificate.Equal(root.Certificate) {
		t.Errorf("%v, %v", got, err)
	}
	other, err := NewRoot("c1")
	if err != nil {
		t.Fatal(err)
	}
	_, wrong, err := other.PEM()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseAuthority(cert, wrong); !errors.Is(err, ErrInvalid) {
		t.Errorf("another's key: %v", err)
	}
	if _, err := ParseAuthority(cert, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("no key: %v", err)
	}
	leaf := newPKI(t, "c").credential(t, User, "u", time.Hour)
	data, err := leaf.PEM()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseAuthority(data, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("no authority: %v", err)
	}
}

// FuzzParseCredential: what is no credential is refused, and what is one reads the
// same once written.
func FuzzParseCredential(f *testing.F) {
	p := newPKI(f, "c")
	data, err := p.credential(f, Agent, "a", time.Hour).PEM()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:len(data)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseCredential(data)
		if err != nil {
			return
		}
		again, err := c.PEM()
		if err != nil {
			t.Fatal(err)
		}
		if d, err := ParseCredential(again); err != nil || d.Identity != c.Identity {
			t.Errorf("%v, %v", d, err)
		}
	})
}
