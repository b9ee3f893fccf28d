package access

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDecide(t *testing.T) {
	bindings := []Binding{
		{"user:ann", Deployer, "demo", "test"},
		{"group:web", Promoter, "web-*", "prod*"},
		{"oidc:ann", Admin, "*", "*"},
	}
	ann, inWeb := Caller{Subject: "user:ann"}, Caller{Subject: "user:bob", Groups: []string{"web"}}
	for _, tt := range []struct {
		who  Caller
		what Permission
		on   Resource
		want bool
	}{
		{ann, StagesDeploy, Resource{"demo", "test"}, true},
		{ann, StagesDeploy, Resource{"demo", "prod"}, false},
		{ann, StagesDeploy, Resource{"demo", "test2"}, false},
		{ann, StagesDeploy, Resource{"demo2", "test"}, false},
		{ann, StagesDeploy, Resource{"demo", "*"}, false},
		{ann, StagesDeploy, Everything, false},
		{ann, StagesPromote, Resource{"demo", "test"}, false},
		{ann, APIsEdit, Resource{"demo", ""}, true},
		{ann, APIsRead, Resource{}, true},
		{ann, AccessRead, Resource{}, false},
		{inWeb, StagesPromote, Resource{"web-a", "prod-eu"}, true},
		{inWeb, StagesPromote, Resource{"web-*", "prod*"}, true},
		{inWeb, StagesPromote, Resource{"web", "prod"}, false},
		{inWeb, StagesPromote, Resource{"*", "prod"}, false},
		{Caller{Subject: "oidc:ann"}, AccessManage, Everything, true},
		{Caller{Subject: "user:x", Groups: []string{"group:web"}}, APIsRead, Resource{}, false},
		{Caller{}, APIsRead, Resource{}, false},
	} {
		err := Decide(slices.Values(bindings), tt.who, tt.what, tt.on)
		var denied *Denied
		if (err == nil) != tt.want || (err != nil && !errors.As(err, &denied)) {
			t.Errorf("%s, %s on %v: %v", tt.who.Subject, tt.what, tt.on, err)
		}
	}
}

func TestRoles(t *testing.T) {
	for i, r := range order {
		if len(roles[r]) == 0 || !r.known() {
			t.Errorf("role %s has no permissions", r)
		}
		if i > 0 && r.Has(AccessManage) != (r == Admin) {
			t.Errorf("role %s gives roles", r)
		}
	}
	for _, p := range Permissions() {
		if with := rolesWith(p); len(with) == 0 || with[len(with)-1] != Admin {
			t.Errorf("permission %s is with %v", p, with)
		}
	}
	if Role("root").Has(APIsRead) {
		t.Error("an unknown role has a permission")
	}
}

func TestCheckBinding(t *testing.T) {
	for _, good := range []Subject{
		"user:ann@example.com", "oidc:auth0|5f7c", "oidc:4Gv_w-", "oidc:-x_", "oidc:Zm9v/b+r==", "group:/ops/on call", "group:CN=web,OU=eu",
	} {
		if err := (Binding{good, Viewer, "team-*", "*"}).Check(); err != nil {
			t.Error(err)
		}
	}
	for _, b := range []Binding{
		{"ann", Viewer, "*", "*"}, {"user:", Viewer, "*", "*"}, {"token:x", Viewer, "*", "*"}, {"user:a\nb", Viewer, "*", "*"},
		{"oidc: a", Viewer, "*", "*"}, {"group:a ", Viewer, "*", "*"}, {"group:it's", Viewer, "*", "*"}, {"group:$(x)", Viewer, "*", "*"},
		{"user:ann", "root", "*", "*"}, {"user:ann", Viewer, "", "*"}, {"user:ann", Viewer, "*", ""},
		{"user:ann", Viewer, "a*b", "*"}, {"user:ann", Viewer, "a/b", "*"}, {"user:ann", Viewer, "**", "*"},
	} {
		if err := b.Check(); !errors.Is(err, ErrBadBinding) {
			t.Errorf("%+v: %v", b, err)
		}
	}
}

func TestToken(t *testing.T) {
	now := time.Unix(1000, 0)
	token := Token{ID: "ab12", User: "ci", Hash: HashSecret("secret"), ExpireTime: now}
	text := TokenText(token.ID, "secret")
	if id, secret, ok := ParseToken(text); !ok || id != "ab12" || !token.Fits(secret) || token.Fits("Secret") || token.Fits("") {
		t.Errorf("%q is read as %q, %q, %v", text, id, secret, ok)
	}
	if strings.Contains(string(token.Hash[:]), "secret") {
		t.Error("the secret is kept")
	}
	for _, bad := range []string{"", "fife_", "fife_.s", "fife_a.", "fife_a", "ab12.secret", "Fife_a.b"} {
		if _, _, ok := ParseToken(bad); ok {
			t.Errorf("%q is taken for a token", bad)
		}
	}
	if !token.Expired(now) || token.Expired(now.Add(-1)) {
		t.Error("a token ends at its time")
	}
}
