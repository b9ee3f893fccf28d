package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/fifegateway/fife/controlplane/identity"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// TestCAWait: --wait says who is missing, once for each change, and ends when nobody is.
func TestCAWait(t *testing.T) {
	f := newFake(t)
	asked := 0
	f.on("AuthorityService/GetAuthority", func(_ context.Context, _ proto.Message, send func(proto.Message) error) error {
		a := demoAuthority()
		if asked++; asked > 2 {
			a.Pending, a.NextKey, a.KeyPending = nil, "", nil
		}
		return send(&fifev1.GetAuthorityResponse{Authority: a})
	})
	r := fife(t, f.address, "ca", "switch", "--wait")
	if r.code != exitOK || asked != 3 || r.err != "2 not ready: agent/edge-3 (it is not connected), user/ann (its certificate is by the old root: fife certificate renew)\n" {
		t.Errorf("exit %d after %d questions:\n%s%s", r.code, asked, r.out, r.err)
	}
	asked = 0
	r = fife(t, f.address, "ca", "rotate-key", "--wait", "--wait-timeout", "100ms")
	if r.code != exitWaitTimeout || !strings.Contains(r.err, "not yet settled on: n3") || !strings.Contains(r.err, "go on with: fife ca status --wait") {
		t.Errorf("exit %d:\n%s%s", r.code, r.out, r.err)
	}
}

// TestCARotate: the root is made once and stays here with its key; what it has signed
// is sent. A repeat takes the same one, and one that is given is taken as it is.
func TestCARotate(t *testing.T) {
	f := newFake(t)
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := identity.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	f.on("AuthorityService/PrepareRotation", reply(&fifev1.PrepareRotationResponse{
		Cluster: "acme", Keys: []*fifev1.IssuerKey{{Class: "agent", Csr: csr, SealedKey: []byte("sealed")}},
	}))
	dir := filepath.Join(t.TempDir(), "ca")
	var roots []string
	for _, args := range [][]string{
		{"ca", "rotate", "--out", dir}, {"ca", "rotate", "--out", dir},
		{"ca", "rotate", "--ca-cert", filepath.Join(dir, rootCertFile), "--ca-key", filepath.Join(dir, rootKeyFile)},
	} {
		if r := fife(t, f.address, args...); r.code != exitOK {
			t.Fatalf("%v: exit %d:\n%s", args, r.code, r.err)
		}
		calls := f.take()
		req := calls[len(calls)-1].request.(*fifev1.StartRotationRequest)
		roots = append(roots, string(req.GetRoot()))
		certs, err := identity.ParseCertificates([][]byte{req.GetRoot(), req.GetKeys()[0].GetCertificate()})
		if err != nil {
			t.Fatal(err)
		}
		made := identity.Authority{Certificate: certs[1], Key: key}
		if err := made.Check(identity.Trust{Cluster: "acme", Roots: certs[:1]}, identity.Agent); err != nil {
			t.Errorf("%v: %v", args, err)
		}
		if string(req.GetKeys()[0].GetSealedKey()) != "sealed" {
			t.Errorf("%v: the key is sent as %q", args, req.GetKeys()[0].GetSealedKey())
		}
	}
	if roots[0] != roots[1] || roots[0] != roots[2] {
		t.Error("a repeat has made another root")
	}
	info, err := os.Stat(filepath.Join(dir, rootKeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the root's key: %v, %v", info, err)
	}
}
