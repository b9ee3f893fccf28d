package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestContexts: a context names a control plane and what is shown there, and to no
// other.
func TestContexts(t *testing.T) {
	t.Setenv("FIFE_CONFIG_DIR", filepath.Join(t.TempDir(), "config"))
	t.Chdir(t.TempDir())
	f, g := newFake(t), newFake(t)
	ok := func(servers, line string) string {
		t.Helper()
		r := fife(t, servers, strings.Fields(line)...)
		if r.code != exitOK {
			t.Fatalf("fife %s: exit %d: %s", line, r.code, r.err)
		}
		return r.out
	}
	fails := func(servers, line string, code int, want string) {
		t.Helper()
		if r := fife(t, servers, strings.Fields(line)...); r.code != code || !strings.Contains(r.err, want) {
			t.Errorf("fife %s: exit %d: %s; want %d: %s", line, r.code, r.err, code, want)
		}
	}
	asked := func() (first, second int) { return len(f.take()), len(g.take()) }

	if out := ok("", "context list"); !strings.Contains(out, "there are no contexts") {
		t.Errorf("list: %s", out)
	}
	ok("", "context set one --server "+f.address+" --plaintext")
	ok("", "context set two --server "+g.address)
	ok("", "whoami")
	if a, b := asked(); a != 1 || b != 0 {
		t.Errorf("the first context is not the current one: %d, %d", a, b)
	}
	ok("", "--context two whoami")
	ok(g.address, "whoami")
	ok("", "whoami --server "+g.address)
	t.Setenv("FIFE_CONTEXT", "two")
	ok("", "whoami")
	t.Setenv("FIFE_CONTEXT", "")
	if a, b := asked(); a != 0 || b != 4 {
		t.Errorf("another is named: %d, %d", a, b)
	}
	ok("", "context use two")
	ok("", "whoami")
	if a, b := asked(); a != 0 || b != 1 {
		t.Errorf("after use: %d, %d", a, b)
	}

	ok("", "context set three --server a:1,b:2 --ca ca.pem --token-file t --key k")
	all, err := readContexts()
	dir, _ := os.Getwd() // it was set above
	if got := all.Contexts["three"]; err != nil || got.CA != filepath.Join(dir, "ca.pem") || got.TokenFile != filepath.Join(dir, "t") || got.Key != filepath.Join(dir, "k") {
		t.Errorf("three is %+v: %v", got, err)
	}
	out := ok("", "context list")
	if !strings.Contains(out, "*  two") || !strings.Contains(out, "nothing, in the clear") || !strings.Contains(out, "what fife login got") {
		t.Errorf("list:\n%s", out)
	}
	// What is kept for one control plane is not shown to another.
	fails("", "--context three whoami", exitUsage, "read token")
	ok(f.address, "whoami")
	// Flags win.
	fails("", "--context three whoami --cert other.pem", exitUsage, "other.pem")

	fails("", "context use none", exitFailed, `no context "none"`)
	fails("", "context delete none", exitFailed, `no context "none"`)
	fails("", "--context none whoami", exitUsage, `no context "none"`)
	fails("", "context set four", exitUsage, "--server is required")
	fails("", "context set four --server x", exitUsage, "not HOST:PORT")
	fails("", "context set a/b --server x:1", exitUsage, "must be letters")
	ok("", "context delete two")
	if all, err := readContexts(); err != nil || all.Current != "" || len(all.Contexts) != 2 {
		t.Errorf("after delete: %+v, %v", all, err)
	}
	path := filepath.Join(os.Getenv("FIFE_CONFIG_DIR"), contextsFile)
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file has %v: %v", info.Mode(), err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails("", "whoami", exitUsage, "read your contexts")
	ok(f.address, "whoami")
}
