package store

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestCheckedLogs: an entry comes back as it was, and not at all if any bit of it has
// turned over. Entries that are given away are not touched.
func TestCheckedLogs(t *testing.T) {
	entry := raft.Log{Index: 7, Term: 3, Type: raft.LogCommand, Data: []byte("data"), Extensions: []byte("more"), AppendedAt: time.Unix(1, 2)}
	kept := raft.NewInmemStore()
	logs := checkedLogs{kept}
	given := entry
	if err := logs.StoreLog(&given); err != nil || string(given.Extensions) != "more" {
		t.Fatalf("stored %+v, %v", given, err)
	}
	var got raft.Log
	if err := logs.GetLog(7, &got); err != nil || !reflect.DeepEqual(got, entry) {
		t.Errorf("got %+v, %v", got, err)
	}
	var raw raft.Log
	if err := kept.GetLog(7, &raw); err != nil {
		t.Fatal(err)
	}
	damage := func(what string, change func(*raft.Log)) {
		t.Helper()
		bad := raw
		bad.Data, bad.Extensions = bytes.Clone(raw.Data), bytes.Clone(raw.Extensions)
		change(&bad)
		if err := kept.StoreLog(&raft.Log{Index: 7, Term: bad.Term, Type: bad.Type, Data: bad.Data, Extensions: bad.Extensions}); err != nil {
			t.Fatal(err)
		}
		if err := logs.GetLog(7, &got); !errors.Is(err, ErrDamagedLog) {
			t.Errorf("%s: %v", what, err)
		}
	}
	damage("term", func(l *raft.Log) { l.Term++ })
	damage("type", func(l *raft.Log) { l.Type++ })
	damage("no checksum", func(l *raft.Log) { l.Extensions = nil })
	damage("a byte goes over", func(l *raft.Log) { l.Data, l.Extensions = l.Data[:3], append([]byte("a"), l.Extensions...) })
	for bit := range len(raw.Data) * 8 {
		damage("data", func(l *raft.Log) { l.Data[bit/8] ^= 1 << (bit % 8) })
	}
	for bit := range len(raw.Extensions) * 8 {
		damage("extensions", func(l *raft.Log) { l.Extensions[bit/8] ^= 1 << (bit % 8) })
	}
}

// TestDamagedLog: a node ends when it meets an entry that its disk has changed.
func TestDamagedLog(t *testing.T) {
	dir, logger := t.TempDir(), slog.New(slog.DiscardHandler)
	disk, err := OpenDisk(dir, logger)
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= 9; i++ {
		if err := disk.logs.StoreLog(&raft.Log{Index: i, Term: 1, Data: bytes.Repeat([]byte{'a'}, 100)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := disk.Close(); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(dir, "wal", "*.wal"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("%v, %v", segments, err)
	}
	data, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	data[bytes.IndexByte(data, 'a')] ^= 1
	if err := os.WriteFile(segments[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	if disk, err = OpenDisk(dir, logger); err != nil {
		t.Fatal(err)
	}
	defer disk.Close() //nolint:errcheck // the test is over
	var ended error
	logs := watchedLogs{LogStore: disk.logs, dog: watchdog{logger: logger, fatal: func(err error) { ended = err }}}
	if err := logs.GetLog(1, new(raft.Log)); !errors.Is(err, ErrDamagedLog) || !errors.Is(ended, ErrDamagedLog) {
		t.Errorf("read %v, ended %v", err, ended)
	}
	ended = nil
	if err := logs.GetLog(99, new(raft.Log)); !errors.Is(err, raft.ErrLogNotFound) || ended != nil {
		t.Errorf("read nothing: %v, ended %v", err, ended)
	}
}
