package store

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// TestCheckedSnapshots: what is noted of a snapshot counts only as it was written; an
// older snapshot takes the place of one that is damaged, and without any the storage
// is refused.
func TestCheckedSnapshots(t *testing.T) {
	dir, logger := t.TempDir(), slog.New(slog.DiscardHandler)
	disk, err := OpenDisk(dir, logger)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close() //nolint:errcheck // the test is over
	_, transport := raft.NewInmemTransport("n1:raft")
	take := func(index uint64) string {
		t.Helper()
		sink, err := disk.snapshots.Create(raft.SnapshotVersionMax, index, 1, raft.Configuration{}, 1, transport)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(sink, "contents"); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(sink.Close(), sink.Close()); err != nil {
			t.Fatal(err)
		}
		return sink.ID()
	}
	list := func() (ids []string) {
		t.Helper()
		found, err := disk.snapshots.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range found {
			ids = append(ids, m.ID)
		}
		return ids
	}
	older, newer := take(5), take(9)
	if ids := list(); len(ids) != 2 || ids[0] != newer {
		t.Fatalf("listed %v", ids)
	}
	meta := filepath.Join(dir, "snapshots", newer, "meta.json")
	data, err := os.ReadFile(meta)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(meta, bytes.Replace(data, []byte(`"Index":9`), []byte(`"Index":8`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if ids := list(); len(ids) != 1 || ids[0] != older {
		t.Fatalf("with the newer one damaged, listed %v", ids)
	}
	if err := os.Remove(filepath.Join(dir, "snapshots", older, "meta.sum")); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.snapshots.List(); !errors.Is(err, ErrDamagedSnapshots) {
		t.Errorf("with none left: %v", err)
	}
	if _, err := disk.Used(); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("used: %v", err)
	}
}
