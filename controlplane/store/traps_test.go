package store

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/fifegateway/fife/controlplane/bubbletest"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// This file holds a test for each of Raft's traps that a small part of this
// package closes. Each shows the trap itself first, or says how it was seen to
// fail with its countermeasure taken out.

// crashing is a stable store that loses power after some writes.
type crashing struct {
	raft.StableStore
	left int
}

var errPowerCut = errors.New("power cut")

func (c *crashing) spend() error {
	if c.left == 0 {
		return errPowerCut
	}
	c.left--
	return nil
}

func (c *crashing) Set(key, value []byte) error {
	if err := c.spend(); err != nil {
		return err
	}
	return c.StableStore.Set(key, value)
}

func (c *crashing) SetUint64(key []byte, value uint64) error {
	if err := c.spend(); err != nil {
		return err
	}
	return c.StableStore.SetUint64(key, value)
}

// vote writes a vote as Raft does.
func vote(s raft.StableStore, term uint64, candidate string) error {
	if err := s.SetUint64(lastVoteTerm, term); err != nil {
		return err
	}
	return s.Set(lastVoteCandidate, []byte(candidate))
}

// TestTornVote cuts the power at every write of a second vote: what is read after
// is the first vote or the second, never the term of one with the candidate of
// the other. The bare store is shown to tear.
func TestTornVote(t *testing.T) {
	for name, test := range map[string]struct {
		wrap  func(raft.StableStore) raft.StableStore
		tears bool
	}{
		"bare": {func(s raft.StableStore) raft.StableStore { return s }, true},
		"fife": {func(s raft.StableStore) raft.StableStore { return &voteStore{StableStore: s} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			torn := false
			for writes := range 3 {
				disk := raft.NewInmemStore()
				if err := vote(test.wrap(disk), 4, "a"); err != nil {
					t.Fatal(err)
				}
				err := vote(test.wrap(&crashing{StableStore: disk, left: writes}), 5, "b")
				if err != nil && !errors.Is(err, errPowerCut) {
					t.Fatal(err)
				}
				after := test.wrap(disk)
				term, err := after.GetUint64(lastVoteTerm)
				if err != nil {
					t.Fatal(err)
				}
				candidate, err := after.Get(lastVoteCandidate)
				if err != nil {
					t.Fatal(err)
				}
				whole := (term == 4 && string(candidate) == "a") || (term == 5 && string(candidate) == "b")
				torn = torn || !whole
			}
			if torn != test.tears {
				t.Errorf("a vote was torn: %v, want %v", torn, test.tears)
			}
		})
	}
}

func TestVoteRecord(t *testing.T) {
	disk := raft.NewInmemStore()
	v := &voteStore{StableStore: disk}
	if term, err := v.GetUint64(lastVoteTerm); term != 0 || err != nil {
		t.Errorf("before any vote: term %d, %v", term, err)
	}
	if err := v.SetUint64([]byte("CurrentTerm"), 9); err != nil {
		t.Fatal(err)
	}
	if term, err := disk.GetUint64([]byte("CurrentTerm")); term != 9 || err != nil {
		t.Errorf("the current term is not passed on: %d, %v", term, err)
	}
	if err := disk.Set(lastVote, []byte("short")); err != nil {
		t.Fatal(err)
	}
	if _, err := v.GetUint64(lastVoteTerm); !errors.Is(err, ErrBadVote) {
		t.Errorf("a damaged record: %v", err)
	}
}

// stuckLogs is a log whose disk hangs until it is released, or fails.
type stuckLogs struct {
	raft.LogStore
	release chan struct{}
	err     error
}

func (l stuckLogs) StoreLogs([]*raft.Log) error {
	<-l.release
	return l.err
}

// TestHungLog: a write that hangs ends the process after ten seconds, and is
// logged after one. Without the watchdog the test ends with nothing logged and
// nobody told: seen by passing on to the log store without dog.write.
func TestHungLog(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		fatal := make(chan error, 1)
		logs := stuckLogs{LogStore: raft.NewInmemStore(), release: make(chan struct{})}
		watched := watchedLogs{LogStore: logs, dog: watchdog{
			logger: slog.New(slog.NewTextHandler(&out, nil)),
			fatal:  func(err error) { fatal <- err },
		}}
		done := make(chan error, 1)
		go func() { done <- watched.StoreLogs(nil) }()
		begin := time.Now()
		err := <-fatal
		if got := time.Since(begin); got != hungWrite || !strings.Contains(err.Error(), "no answer from the disk") {
			t.Errorf("after %v: %v", got, err)
		}
		close(logs.release)
		if err := <-done; err != nil {
			t.Errorf("a write that lands after all: %v", err)
		}
		synctest.Wait()
		if !strings.Contains(out.String(), "a write to disk is slow") {
			t.Errorf("the log says %q", out.String())
		}
	})
}

// TestFailedLog: a write that fails ends the process at once: the leader would
// go on leading without committing. Seen to fail without dog.write.
func TestFailedLog(t *testing.T) {
	var fatal error
	released := make(chan struct{})
	close(released)
	dog := watchdog{logger: slog.New(slog.DiscardHandler), fatal: func(err error) { fatal = err }}
	logs := watchedLogs{LogStore: stuckLogs{release: released, err: io.ErrShortWrite}, dog: dog}
	if err := logs.StoreLog(&raft.Log{}); !errors.Is(err, io.ErrShortWrite) || !errors.Is(fatal, io.ErrShortWrite) {
		t.Errorf("got %v, and the process was told %v", err, fatal)
	}
	fatal = nil
	stable := watchedStable{StableStore: &crashing{StableStore: raft.NewInmemStore()}, dog: dog}
	if err := stable.SetUint64([]byte("CurrentTerm"), 1); err == nil || fatal == nil {
		t.Errorf("a failed term: %v, and the process was told %v", err, fatal)
	}
}

// TestInstallLoop: snapshots installed over and over, with no entry between, end
// the process; an entry in between starts the count anew. Without the count the
// loop goes on for ever (hashicorp/raft#697).
func TestInstallLoop(t *testing.T) {
	var data bytes.Buffer
	if err := writeSnapshot(&data, newState()); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ applyAt, installs int }{
		"loop":        {applyAt: -1, installs: maxInstalls},
		"interrupted": {applyAt: maxInstalls - 1, installs: maxInstalls},
	} {
		t.Run(name, func(t *testing.T) {
			var fatal error
			f := newFSM()
			f.fatal = func(err error) { fatal = err }
			for i := range test.installs {
				if i == test.applyAt {
					f.Apply(&raft.Log{Index: 1, Type: raft.LogNoop})
				}
				if err := f.Restore(io.NopCloser(bytes.NewReader(data.Bytes()))); err != nil {
					t.Fatal(err)
				}
			}
			if (fatal != nil) != (test.applyAt < 0) {
				t.Errorf("after %d installs the process was told %v", test.installs, fatal)
			}
		})
	}
}

// TestNewerSchema: a node stops at an entry that it cannot read, and nobody
// writes an entry that some node could not.
func TestNewerSchema(t *testing.T) {
	s := newState()
	func() {
		defer func() {
			if p, _ := recover().(string); !strings.Contains(p, "run a newer build") {
				t.Errorf("an entry of schema %d: %q", Schema+1, p)
			}
		}()
		s.apply(1, &storev1.Command{Schema: Schema + 1})
	}()
	put := &storev1.Command{Schema: Schema, Op: &storev1.Command_PutNode{
		PutNode: &storev1.PutNode{Node: encodeNode(Node{ID: "old", Schema: Schema})},
	}}
	s, _ = s.apply(1, put)
	if err := s.checkSchema(&storev1.Command{Schema: Schema}); err != nil {
		t.Errorf("what all can read: %v", err)
	}
	err := s.checkSchema(&storev1.Command{Schema: Schema + 1})
	if !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), "node old") {
		t.Errorf("what node old cannot read: %v", err)
	}
}

// TestThrottleSchema: a node that knows no throttles is not given one, and may be given
// all else.
func TestThrottleSchema(t *testing.T) {
	limits := &storev1.StageFields{Throttle: &storev1.Throttle{Concurrency: 1}}
	for _, tt := range []struct {
		cmd  *storev1.Command
		want uint32
	}{
		{&storev1.Command{Op: &storev1.Command_CreateStage{CreateStage: &storev1.CreateStage{Values: limits}}}, 2},
		{&storev1.Command{Op: &storev1.Command_UpdateStage{UpdateStage: &storev1.UpdateStage{Values: limits}}}, 2},
		{&storev1.Command{Op: &storev1.Command_CreateDeployment{CreateDeployment: &storev1.CreateDeployment{Fields: []string{"split"}}}}, 2},
		{&storev1.Command{Op: &storev1.Command_CreateDeployment{CreateDeployment: &storev1.CreateDeployment{Stage: "s"}}}, 1},
		{&storev1.Command{Op: &storev1.Command_CreateStage{CreateStage: &storev1.CreateStage{Values: &storev1.StageFields{}}}}, 1},
		{&storev1.Command{Op: &storev1.Command_UpdateStage{UpdateStage: &storev1.UpdateStage{}}}, 1},
		{&storev1.Command{}, 1},
	} {
		if got := commandSchema(tt.cmd); got != tt.want {
			t.Errorf("%v has schema %d, want %d", tt.cmd, got, tt.want)
		}
	}
}

// TestFullDisk: changes are refused before Raft meets a full disk. One
// measurement is good for a second.
func TestFullDisk(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		free := uint64(minFree)
		g := &diskGauge{free: func() (uint64, bool, error) { return free, true, nil }}
		if err := g.check(); err != nil {
			t.Errorf("with room: %v", err)
		}
		free--
		if err := g.check(); err != nil {
			t.Errorf("within the second: %v", err)
		}
		<-time.After(freeFor + 1)
		if err := g.check(); !errors.Is(err, ErrDiskFull) {
			t.Errorf("without room: %v", err)
		}
	})
}

func TestDataDirectory(t *testing.T) {
	dir := t.TempDir()
	logger := slog.New(slog.DiscardHandler)
	s, err := OpenDisk(dir, logger)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDisk(dir, logger); !errors.Is(err, ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	if err := errors.Join(s.identity.claim("n1"), s.identity.learn("c1"), s.identity.claim("n1")); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = OpenDisk(dir, logger)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // the test is over
	if err := s.identity.claim("n2"); !errors.Is(err, ErrOtherNode) {
		t.Errorf("claimed by another node: %v", err)
	}
	if got := s.ClusterID(); got != "c1" {
		t.Errorf("the cluster is %q after a restart", got)
	}
}
