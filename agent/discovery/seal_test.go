package discovery

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// secretive has a secret in every place that a stage can have one.
func secretive(s *discoveryv1.Stage) {
	const secret = "hush-hush-hush-hush"
	s.Variables, s.SecretVariables = map[string]string{"v": secret}, []string{"v"}
	s.Canary = &discoveryv1.Canary{Deployment: 2, VariableOverrides: map[string]string{"v": secret + "-canary"}, SecretOverrides: []string{"v"}}
	s.Next = &discoveryv1.StageConfig{Deployment: 2, Variables: map[string]string{"v": secret + "-next"}, SecretVariables: []string{"v"}}
	s.AllowOverride, s.OverrideKey = true, secret
}

// holds returns the files in a directory that hold a text.
func holds(t *testing.T, dir, text string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(text)) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestSealedOnDisk: no secret is on the disk in the clear, in neither generation, and
// the agent has all of them back after a restart.
func TestSealedOnDisk(t *testing.T) {
	d := newDisk(t)
	c := newControlPlane()
	c.step(11, one(stage("demo", "prod", 1, 11, secretive)))
	d.save(c.full())
	d.save(c.step(12, one(stage("demo", "prod", 2, 12, secretive))))
	if files := holds(t, d.dir, "hush"); len(files) > 0 {
		t.Errorf("the secret is in %v", files)
	}
	info, err := os.Stat(filepath.Join(d.dir, keyName))
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != keySize {
		t.Errorf("the key: %v, %v", info, err)
	}
	d.restart()
	d.want("demo/2", 12, 12)
	s, _, ok := d.held.table.Lookup("demo.localhost", "/prod", "")
	if !ok || s.OverrideKey != "hush-hush-hush-hush" || s.Base().Variables["v"] != "hush-hush-hush-hush" || s.Canary().Variables["v"] != "hush-hush-hush-hush-canary" {
		t.Errorf("after a restart the stage is %+v", s)
	}
	if !s.Base().HasSecrets() || !s.Canary().HasSecrets() {
		t.Error("after a restart it is not known what is secret")
	}
	d.wantLog(false)
}

// TestAnotherDiskKey: without its key a table is as good as damaged, and a key of
// another size is refused.
func TestAnotherDiskKey(t *testing.T) {
	d := newDisk(t)
	d.save(newControlPlane().full())
	d.remove(keyName)
	d.restart()
	d.want("none", 0, 0)
	d.wantLog(true)
	d.write(keyName, "short")
	if _, err := openLastGood(d.dir, "", slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "want 32") {
		t.Errorf("a short key: %v", err)
	}
}

// TestDiskKeyElsewhere: the key may be kept where the directory is not.
func TestDiskKeyElsewhere(t *testing.T) {
	dir, key := t.TempDir(), filepath.Join(t.TempDir(), "key")
	for range 2 {
		if _, err := openLastGood(dir, key, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, keyName)); err == nil {
		t.Error("there is a key in the directory, too")
	}
}

// TestClearTableIsSealed: what an older build has left in the clear is read, and sealed
// at once.
func TestClearTableIsSealed(t *testing.T) {
	d := newDisk(t)
	data, err := os.ReadFile(filepath.Join(fixture, currentName))
	if err != nil {
		t.Fatal(err)
	}
	document, inClear, err := d.disk.key.open(data)
	if err != nil || !inClear {
		t.Fatalf("the fixture of the first format: in the clear %v, %v", inClear, err)
	}
	d.write(currentName, string(data))
	d.restart() // its deployments are missing, which is another matter
	sealed, err := os.ReadFile(filepath.Join(d.dir, currentName))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, document[:40]) {
		t.Error("it is still in the clear")
	}
	if again, inClear, err := d.disk.key.open(sealed); err != nil || inClear || !bytes.Equal(again, document) {
		t.Errorf("it became %q, in the clear %v, %v", again, inClear, err)
	}
}
