package discovery

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fifegateway/fife/agent/route"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// lastGood keeps on disk what is held, so that an agent can start without a
// control plane:
//
//	table.json           APIs, stages and version, small, written at each change
//	table.prev.json      the generation before, for when that one is damaged
//	deployments/SUM.pb   a deployment, named by the SHA-256 of its contents
//
// Deployments never change and are the bulk, so each is written once and shared
// by the generations that refer to it. Every file is written aside, synced, and
// renamed into place: a power cut leaves the old one or the new one. All files
// carry a checksum, because disks err too.
//
// A table holds secrets (variables, override keys): it is sealed with a key that stays
// on this machine (seal.go), and only the owner can read it.
//
// It is not safe for concurrent use, and no two agents may share a directory.
type lastGood struct {
	dir string
	key *diskKey
	log *slog.Logger
	// files of the deployments held, by resource name.
	files map[string]string
	// kept are the files that each generation on disk refers to.
	kept map[string]map[string]string
	// current is whether table.json is what is held, and so worth keeping as the
	// previous generation.
	current bool
}

// The files beside the deployments; what ends in tmpSuffix is unfinished.
const (
	currentName    = "table.json"
	previousName   = "table.prev.json"
	deploymentsDir = "deployments"
	tmpSuffix      = ".tmp"
)

// tableFile is the document in a table file. Changes to it must be such that
// older documents can still be read.
type tableFile struct {
	// APIs is the filter that the state was received with; empty means all.
	APIs []string `json:"apis"`
	// Frame is an encoded full snapshot whose deployments have no body.
	Frame []byte `json:"frame"`
	// Deployments has the file of each deployment's body, by resource name.
	Deployments map[string]string `json:"deployments"`
}

// openLastGood prepares a directory. It fails if nothing can be written there.
// keyFile is where the key is that seals, which is made if there is none; empty for a
// file in dir.
func openLastGood(dir, keyFile string, log *slog.Logger) (*lastGood, error) {
	l := &lastGood{dir: dir, log: log, kept: make(map[string]map[string]string)}
	if err := os.MkdirAll(filepath.Join(dir, deploymentsDir), 0o700); err != nil {
		return nil, fmt.Errorf("create the agent's directory: %w", err)
	}
	probe := filepath.Join(dir, "probe")
	if err := writeFile(probe, nil); err != nil {
		return nil, fmt.Errorf("write to the agent's directory: %w", err)
	}
	if err := os.Remove(probe); err != nil {
		return nil, fmt.Errorf("write to the agent's directory: %w", err)
	}
	var err error
	l.key, err = openDiskKey(cmp.Or(keyFile, filepath.Join(dir, keyName)))
	return l, err
}

// load returns what was held when the agent stopped, with the filter that it was
// received with: the current generation, or if that is damaged the previous one,
// or nothing. Damage is logged, not returned: serving something older, or
// nothing, and asking the control plane is all that can be done about it.
//
// Of the leader's clock nothing is known at a start, so now, which decides on timed
// promotions, is the wall clock: without a lease nothing more exact is promised.
func (l *lastGood) load(who agent, now time.Time) (h *held, apis []string) {
	h = nothing()
	h.agent = who
	var seen route.Version
	for _, name := range []string{currentName, previousName} {
		table, frame, err := l.readTable(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			// The version was applied once, even if its deployments are damaged.
			if v := fromProto(frame.GetTo()); v.Compare(seen) > 0 {
				seen = v
			}
			l.kept[name] = table.Deployments
			if !h.version.IsZero() {
				continue
			}
			var loaded *held
			if loaded, err = l.restore(table, frame, who, now); err == nil {
				h, apis, l.files, l.current = loaded, table.APIs, table.Deployments, name == currentName
			}
		}
		if err != nil {
			l.log.Error("last good table is damaged", "file", filepath.Join(l.dir, name), "error", err)
		}
	}
	h.seen = seen
	l.sweep()
	return h, apis
}

func (l *lastGood) readTable(name string) (*tableFile, *discoveryv1.Frame, error) {
	data, err := os.ReadFile(filepath.Join(l.dir, name))
	if err != nil {
		return nil, nil, err
	}
	document, inClear, err := l.key.open(data)
	if err != nil {
		return nil, nil, err
	}
	table, frame := new(tableFile), new(discoveryv1.Frame)
	if err := json.Unmarshal(document, table); err != nil {
		return nil, nil, fmt.Errorf("decode the document: %w", err)
	}
	if err := proto.Unmarshal(table.Frame, frame); err != nil {
		return nil, nil, fmt.Errorf("decode the frame: %w", err)
	}
	if inClear {
		if err := writeFile(filepath.Join(l.dir, name), l.key.seal(document)); err != nil {
			return nil, nil, fmt.Errorf("seal what an older build has written: %w", err)
		}
	}
	return table, frame, nil
}

// restore puts the deployments back into the frame and applies it to nothing, so
// that what is loaded has passed the same checks as what is received.
func (l *lastGood) restore(table *tableFile, frame *discoveryv1.Frame, who agent, now time.Time) (*held, error) {
	for _, r := range frame.GetUpserts() {
		if r.GetBody() != nil {
			continue
		}
		d, err := l.readDeployment(table.Deployments[r.GetName()])
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", r.GetName(), err)
		}
		r.Body = &discoveryv1.Resource_Deployment{Deployment: d}
	}
	empty := nothing()
	empty.agent = who
	return empty.apply(frame, now)
}

func (l *lastGood) readDeployment(file string) (*discoveryv1.Deployment, error) {
	data, err := os.ReadFile(filepath.Join(l.dir, deploymentsDir, filepath.Base(file)))
	if err != nil {
		return nil, err
	}
	if got := deploymentFile(data); got != file {
		return nil, fmt.Errorf("the contents of %s sum up to %s", file, got)
	}
	d := new(discoveryv1.Deployment)
	return d, proto.Unmarshal(data, d)
}

// save puts next on disk, which frame led to. When it returns, next survives a
// power cut; when it fails, what was held before does.
func (l *lastGood) save(next *held, frame *discoveryv1.Frame, apis []string) error {
	files, err := l.writeDeployments(next, frame)
	if err != nil {
		return fmt.Errorf("write a deployment to disk: %w", err)
	}
	if err := l.writeTable(next, files, apis); err != nil {
		return fmt.Errorf("write the table to disk: %w", err)
	}
	l.files = files
	l.sweep()
	return nil
}

// writeDeployments writes the bodies that came with frame and returns the files
// of all deployments of next.
func (l *lastGood) writeDeployments(next *held, frame *discoveryv1.Frame) (map[string]string, error) {
	files := make(map[string]string)
	for name, r := range next.resources {
		if r.deployment != nil {
			files[name] = l.files[name]
		}
	}
	wrote := false
	for _, r := range frame.GetUpserts() {
		if r.GetDeployment() == nil {
			continue
		}
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(r.GetDeployment())
		if err != nil {
			return nil, err
		}
		file := deploymentFile(data)
		if err := writeFile(filepath.Join(l.dir, deploymentsDir, file), data); err != nil {
			return nil, err
		}
		files[r.GetName()], wrote = file, true
	}
	if !wrote {
		return files, nil
	}
	return files, syncDir(filepath.Join(l.dir, deploymentsDir))
}

func (l *lastGood) writeTable(next *held, files map[string]string, apis []string) error {
	frame := &discoveryv1.Frame{To: toProto(next.version), Digest: next.digest, ClusterId: next.cluster}
	for _, r := range next.resources {
		frame.Upserts = append(frame.Upserts, r.pb)
	}
	slices.SortFunc(frame.Upserts, func(a, b *discoveryv1.Resource) int { return cmp.Compare(a.GetName(), b.GetName()) })
	encoded, err := proto.Marshal(frame)
	if err != nil {
		return err
	}
	document, err := json.Marshal(tableFile{APIs: apis, Frame: encoded, Deployments: files})
	if err != nil {
		return err
	}
	current, previous := filepath.Join(l.dir, currentName), filepath.Join(l.dir, previousName)
	aside := current + tmpSuffix
	if err := writeAside(aside, l.key.seal(document)); err != nil {
		return err
	}
	// A cut between these two leaves only the previous generation: what is held.
	if l.current {
		if err := os.Rename(current, previous); err != nil {
			return err
		}
		l.kept[previousName], l.current = l.kept[currentName], false
	}
	if err := os.Rename(aside, current); err != nil {
		return err
	}
	l.kept[currentName], l.current = files, true
	return syncDir(l.dir)
}

// sweep removes what no generation refers to. What it cannot remove is only
// space, and is tried again the next time.
func (l *lastGood) sweep() {
	used := make(map[string]bool)
	for _, files := range l.kept {
		for _, file := range files {
			used[file] = true
		}
	}
	dir := filepath.Join(l.dir, deploymentsDir)
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if !used[e.Name()] {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	if err != nil {
		l.log.Warn("could not remove old deployments from disk", "error", err)
	}
}

// deploymentFile names a deployment by its contents.
func deploymentFile(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]) + ".pb"
}

// writeFile puts a file in place as a whole. The caller syncs the directory.
func writeFile(path string, data []byte) error {
	if err := writeAside(path+tmpSuffix, data); err != nil {
		return err
	}
	return os.Rename(path+tmpSuffix, path)
}

func writeAside(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir makes renames in a directory survive a power cut.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
