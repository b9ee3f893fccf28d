package discovery

import (
	"bytes"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fifegateway/fife/agent/route"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// disk is a directory in the hands of one agent after the other.
type disk struct {
	t    testing.TB
	dir  string
	log  bytes.Buffer
	disk *lastGood
	held *held
}

func newDisk(t testing.TB) *disk {
	d := &disk{t: t, dir: t.TempDir()}
	d.restart()
	return d
}

// restart loads the directory as a new process does.
func (d *disk) restart() {
	d.t.Helper()
	d.log.Reset()
	var err error
	if d.disk, err = openLastGood(d.dir, "", slog.New(slog.NewTextHandler(&d.log, nil))); err != nil {
		d.t.Fatal(err)
	}
	d.held, _ = d.disk.load(agent{}, time.Now())
}

func (d *disk) save(f *discoveryv1.Frame) {
	d.t.Helper()
	next := mustApply(d.t, d.held, f)
	if err := d.disk.save(next, f, nil); err != nil {
		d.t.Fatal(err)
	}
	d.held = next
}

// damage flips a bit in the last byte of a file: in a deployment's that makes
// another one which is as valid.
func (d *disk) damage(name string) {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	data, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	d.write(name, string(data))
}

func (d *disk) write(name, data string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(data), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d *disk) remove(name string) {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.dir, name)); err != nil {
		d.t.Fatal(err)
	}
}

func (d *disk) deployments() (names []string) {
	d.t.Helper()
	entries, err := os.ReadDir(filepath.Join(d.dir, deploymentsDir))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// want checks what is held: the deployment that /prod of demo serves, the
// index of the version, and of the highest ever seen.
func (d *disk) want(serves string, index, seen uint64) {
	d.t.Helper()
	if got := served(d.held.table, "demo", "prod"); got != serves {
		d.t.Errorf("serves %s, want %s", got, serves)
	}
	if d.held.version.Index != index || d.held.table.Version().Index != index || d.held.seen.Index != seen {
		d.t.Errorf("version %v, table %v, seen %v; want index %d, seen %d", d.held.version, d.held.table.Version(), d.held.seen, index, seen)
	}
}

func (d *disk) wantLog(damaged bool) {
	d.t.Helper()
	if got := strings.Contains(d.log.String(), "damaged"); got != damaged {
		d.t.Errorf("damage is logged: %v, want %v\n%s", got, damaged, d.log.String())
	}
}

// twoGenerations has version 10, which serves deployment 1, as the previous
// generation, and version 12, which serves the new deployment 3, as the current.
func twoGenerations(t testing.TB) (*disk, *controlPlane) {
	d, c := newDisk(t), newControlPlane()
	d.save(c.full())
	d.save(c.step(12, one(stage("demo", "prod", 3, 12), deployment("demo", 3, 11))))
	d.want("demo/3", 12, 12)
	return d, c
}

func TestLastGood(t *testing.T) {
	tests := []struct {
		name   string
		hurt   func(*disk)
		serves string
		index  uint64
		seen   uint64
		logged bool
	}{
		{"unhurt", func(*disk) {}, "demo/3", 12, 12, false},
		{"current is damaged", func(d *disk) { d.damage(currentName) }, "demo/1", 10, 10, true},
		{"current is empty", func(d *disk) { d.write(currentName, "") }, "demo/1", 10, 10, true},
		{"current is cut short", func(d *disk) {
			if err := os.Truncate(filepath.Join(d.dir, currentName), 150); err != nil {
				d.t.Fatal(err)
			}
		}, "demo/1", 10, 10, true},
		{"current is of another format", func(d *disk) { d.write(currentName, "fife-table 3 x\n{}") }, "demo/1", 10, 10, true},
		{"current is sealed nonsense", func(d *disk) { d.write(currentName, string(d.disk.key.seal([]byte("nonsense")))) }, "demo/1", 10, 10, true},
		{"current is missing", func(d *disk) { d.remove(currentName) }, "demo/1", 10, 10, false},
		{"previous is damaged", func(d *disk) { d.damage(previousName) }, "demo/3", 12, 12, true},
		{"both are damaged", func(d *disk) { d.damage(currentName); d.damage(previousName) }, "none", 0, 0, true},
		// What was seen is known even where it cannot be served.
		{"a new deployment is damaged", func(d *disk) { d.damage(d.newDeployment()) }, "demo/1", 10, 12, true},
		{"a new deployment is missing", func(d *disk) { d.remove(d.newDeployment()) }, "demo/1", 10, 12, true},
		{"all deployments are damaged", func(d *disk) {
			for _, name := range d.deployments() {
				d.damage(filepath.Join(deploymentsDir, name))
			}
		}, "none", 0, 12, true},
		{"power cut while a table was written", func(d *disk) { d.write(currentName+tmpSuffix, "fife-tab") }, "demo/3", 12, 12, false},
		{"power cut while a deployment was written", func(d *disk) {
			d.write(filepath.Join(deploymentsDir, "0123.pb"+tmpSuffix), "half a")
			d.write(filepath.Join(deploymentsDir, "0123.pb"), "whole, without a table")
		}, "demo/3", 12, 12, false},
		{"power cut between the renames", func(d *disk) {
			d.remove(previousName)
			if err := os.Rename(filepath.Join(d.dir, currentName), filepath.Join(d.dir, previousName)); err != nil {
				d.t.Fatal(err)
			}
			d.write(currentName+tmpSuffix, "the next")
		}, "demo/3", 12, 12, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, c := twoGenerations(t)
			tt.hurt(d)
			d.restart()
			d.want(tt.serves, tt.index, tt.seen)
			d.wantLog(tt.logged)
			for _, name := range d.deployments() {
				if strings.HasPrefix(name, "0123") {
					t.Errorf("%s was left", name)
				}
			}
			if tt.index > 0 && d.held.digest != digestOf(d.held) {
				t.Errorf("digest %x", d.held.digest)
			}

			// Whatever it was, a full snapshot mends it, and what was served
			// before it is the generation to fall back to.
			c.step(13, one(stage("demo", "prod", 2, 13)))
			d.save(c.full())
			d.restart()
			d.want("demo/2", 13, 13)
			if tt.index > 0 {
				d.damage(currentName)
				d.restart()
				d.want(tt.serves, tt.index, tt.index)
			}
		})
	}
}

func digestOf(h *held) (sum uint64) {
	for _, r := range h.resources {
		sum += digest(r.pb)
	}
	return sum
}

// newDeployment is the file that the previous generation does not refer to.
func (d *disk) newDeployment() string {
	return filepath.Join(deploymentsDir, d.disk.kept[currentName]["apis/demo/deployments/3"])
}

// TestLastGoodNeverOlder: after damage cost the current generation's
// deployments, its version still counts.
func TestLastGoodNeverOlder(t *testing.T) {
	d, _ := twoGenerations(t)
	d.remove(d.newDeployment())
	d.restart()
	lagging := newControlPlane()
	lagging.step(11, one(stage("demo", "prod", 2, 11)))
	if _, err := d.held.apply(lagging.full(), time.Time{}); err == nil || !strings.Contains(err.Error(), "older than 1.12") {
		t.Errorf("1.11 after 1.12: %v", err)
	}
}

// TestLastGoodWritesDeploymentsOnce: a promotion writes no deployment, and what
// two generations no longer need is removed.
func TestLastGoodWritesDeploymentsOnce(t *testing.T) {
	d, c := newDisk(t), newControlPlane()
	d.save(c.full())
	before := modTimes(t, d)
	if len(before) != 2 {
		t.Fatalf("deployments on disk: %v", before)
	}
	d.save(c.step(11, one(stage("demo", "prod", 2, 11))))
	if after := modTimes(t, d); !maps.Equal(before, after) {
		t.Errorf("a promotion changed the deployments on disk\n%v\n%v", before, after)
	}
	d.save(c.step(12, nil, "apis/demo/deployments/1"))
	if got := d.deployments(); len(got) != 2 {
		t.Errorf("a generation lost its deployment: %v", got)
	}
	d.save(c.step(13, nil))
	if got, want := d.deployments(), slices.Collect(maps.Values(d.disk.files)); !slices.Equal(got, want) || len(got) != 1 {
		t.Errorf("deployments %v are on disk, want %v", got, want)
	}
}

func modTimes(t *testing.T, d *disk) map[string]int64 {
	times := make(map[string]int64)
	for _, name := range d.deployments() {
		info, err := os.Stat(filepath.Join(d.dir, deploymentsDir, name))
		if err != nil {
			t.Fatal(err)
		}
		times[name] = info.ModTime().UnixNano()
	}
	return times
}

// TestLastGoodTellsEpochsApart: a restored cluster may give the same number and
// revision to another deployment.
func TestLastGoodTellsEpochsApart(t *testing.T) {
	d, c := newDisk(t), newControlPlane()
	d.save(c.full())
	other := deploymentOf("demo", 1, 5, &discoveryv1.Route{
		Method: "GET", Path: "/", Integration: &discoveryv1.Route_Mock{Mock: &discoveryv1.MockIntegration{Body: "restored"}},
	})
	f := new(controlPlane).step(8, one(api("demo", 3), other, stage("demo", "prod", 1, 7)))
	f.To.Epoch = 2
	d.save(f)
	d.restart()
	if got := served(d.held.table, "demo", "prod"); got != "restored" {
		t.Errorf("serves %s", got)
	}
	d.damage(currentName)
	d.restart()
	d.want("demo/1", 10, 10)
}

// TestLastGoodSecrets: tables hold override keys.
func TestLastGoodSecrets(t *testing.T) {
	d, _ := twoGenerations(t)
	for _, name := range []string{currentName, previousName, d.newDeployment()} {
		info, err := os.Stat(filepath.Join(d.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v", name, info.Mode())
		}
	}
}

func TestSaveFails(t *testing.T) {
	for name, blocked := range map[string]string{"table": currentName + tmpSuffix, "deployment": deploymentsDir} {
		t.Run(name, func(t *testing.T) {
			d, c := twoGenerations(t)
			path := filepath.Join(d.dir, blocked)
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if name == "table" { // a directory is where the file should go
				if err := os.Mkdir(path, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			f := c.step(14, one(stage("demo", "prod", 4, 14), deployment("demo", 4, 13)))
			if err := d.disk.save(mustApply(t, d.held, f), f, nil); err == nil || !strings.Contains(err.Error(), "to disk") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestOpenLastGoodFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openLastGood(file, "", slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file was taken for a directory")
	}
}

// TestLastGoodFormat reads a directory as the first release wrote it.
func TestLastGoodFormat(t *testing.T) {
	if *update {
		d, _ := twoGenerations(t)
		for _, name := range []string{fixture, filepath.Join(fixture, deploymentsDir)} {
			if err := os.MkdirAll(name, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.CopyFS(fixture, os.DirFS(d.dir)); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(fixture)); err != nil {
		t.Fatal(err)
	}
	d := &disk{t: t, dir: dir}
	d.restart()
	d.wantLog(false)
	d.want("demo/3", 12, 12)
	d.remove(currentName)
	d.restart()
	d.want("demo/1", 10, 10)
	if v := (route.Version{Epoch: 1, Index: 10}); d.held.version != v {
		t.Errorf("version %v, want %v", d.held.version, v)
	}
}
