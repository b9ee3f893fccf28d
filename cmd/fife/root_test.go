package main

import (
	"context"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/fifegateway/fife/controlplane/identity"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// leaves returns every command that does something, but those that cobra adds.
func leaves(cmd *cobra.Command) (all []*cobra.Command) {
	for _, sub := range cmd.Commands() {
		all = append(all, leaves(sub)...)
	}
	if len(all) == 0 {
		all = append(all, cmd)
	}
	return all
}

// certify answers as an authority of users.
func certify(t *testing.T) answer {
	root, err := identity.NewRoot("c1")
	if err != nil {
		t.Fatal(err)
	}
	users, err := root.NewIntermediate("c1", identity.User)
	if err != nil {
		t.Fatal(err)
	}
	return func(_ context.Context, request proto.Message, send func(proto.Message) error) error {
		req := request.(*fifev1.CreateCertificateRequest)
		public, err := identity.RequestedKey(req.GetCsr())
		if err != nil {
			return err
		}
		cert, err := users.Issue(public, identity.Identity{Cluster: "c1", Class: identity.User, Name: req.GetUser()}, req.GetTtl().AsDuration())
		if err != nil {
			return err
		}
		return send(&fifev1.CreateCertificateResponse{
			Certificate: &fifev1.Certificate{Name: "certificates/0123456789abcdef"},
			Chain:       [][]byte{cert.Raw, users.Certificate.Raw}, Roots: [][]byte{root.Certificate.Raw},
		})
	}
}

// TestExamples runs the examples of every command: they must be true.
func TestExamples(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, ".", "override.key", "0123456789abcdef\n")
	writeFile(t, ".", "fife.backup", "a backup")
	writeFile(t, ".", "openapi.yaml", "openapi: 3.1.0")
	writeFile(t, ".", contextsFile, "contexts: {prod: {server: a:1}, old: {server: b:1}}")
	t.Setenv("FIFE_CONFIG_DIR", t.TempDir())
	if err := os.Rename(contextsFile, filepath.Join(os.Getenv("FIFE_CONFIG_DIR"), contextsFile)); err != nil {
		t.Fatal(err)
	}
	f := demoCluster(t)
	f.on("FleetService/WaitForVersion", reply(waiting(1, 1)))
	f.on("StageService/GetStage", reply(&fifev1.GetStageResponse{Stage: promoting(fifev1.Promotion_STATE_COMPLETE)}))
	f.on("AuthorityService/GetAuthority", reply(&fifev1.GetAuthorityResponse{Authority: &fifev1.Authority{}}))
	f.on("CertificateService/CreateCertificate", certify(t))
	f.on("StageService/WatchStage", reply(&fifev1.WatchStageResponse{
		Stage: promoting(fifev1.Promotion_STATE_COMPLETE), Version: &fifev1.Version{Epoch: 9},
	}))
	for _, cmd := range append(leaves(newRootCommand(streams{})), newRootCommand(streams{})) {
		if cmd.Name() == "dev" || cmd.Name() == "login" {
			continue // it waits for somebody; its own tests run it
		}
		lines := strings.Split(cmd.Example, "\n")
		for _, line := range lines {
			if !strings.HasPrefix(line, "  fife ") || cmd.HasParent() && !strings.HasPrefix(line, "  "+cmd.CommandPath()) {
				t.Errorf("%s: %q is no example of it", cmd.CommandPath(), line)
				continue
			}
			if strings.Contains(line, "--watch") || strings.Contains(line, "--cert ") {
				continue // it goes on until it is stopped; it calls with TLS, as a test of its own does
			}
			if r := fife(t, f.address, strings.Fields(line)[1:]...); r.code != exitOK {
				t.Errorf("%s: exit %d: %s", line, r.code, r.err)
			}
		}
	}
}

// TestHelp: every command has a short description, and a group shows its help.
func TestHelp(t *testing.T) {
	for _, cmd := range leaves(newRootCommand(streams{})) {
		if cmd.Short == "" || len(cmd.Short) > 72 || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short description %q", cmd.CommandPath(), cmd.Short)
		}
	}
	for _, line := range []string{"", "canary", "canary --help", "help canary"} {
		r := fife(t, "", strings.Fields(line)...)
		if r.code != exitOK || !strings.Contains(r.out, "Available Commands:") || r.err != "" {
			t.Errorf("fife %s: exit %d: %s%s", line, r.code, r.out, r.err)
		}
	}
}

func TestVersion(t *testing.T) {
	got := buildOf(&debug.BuildInfo{
		GoVersion: "go1.26.8", Main: debug.Module{Version: "v0.1.0"},
		Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "2026-03-04T19:00:00Z"}, {Key: "vcs.modified", Value: "true"},
		},
	})
	if want := (build{Version: "v0.1.0", Revision: "abc", Time: "2026-03-04T19:00:00Z", Modified: true, Go: "go1.26.8"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if r := fife(t, "", "version", "-o", "json"); r.code != exitOK || !strings.Contains(r.out, `"go": "go1`) {
		t.Errorf("exit %d: %s", r.code, r.out)
	}
}
