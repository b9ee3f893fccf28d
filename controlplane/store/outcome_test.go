package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/fifegateway/fife/controlplane/bubbletest"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// This file holds what Apply and Sync may promise when things go wrong.

func TestFollowersRefuse(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		before := c.nodes["n1"].raft.LastIndex()
		for _, id := range []string{"n2", "n3"} {
			if _, err := c.nodes[id].Apply(t.Context(), createAPI("a")); !errors.Is(err, ErrNotLeader) || errors.Is(err, ErrOutcomeUnknown) {
				t.Errorf("%s: Apply: %v", id, err)
			}
			if err := c.nodes[id].Sync(t.Context()); !errors.Is(err, ErrNotLeader) {
				t.Errorf("%s: Sync: %v", id, err)
			}
		}
		if after := c.nodes["n1"].raft.LastIndex(); after != before {
			t.Errorf("the log went from %d to %d", before, after)
		}
	})
}

// paddedCommand is a command of an exact size, as Apply will write it.
func paddedCommand(t *testing.T, size int) *storev1.Command {
	t.Helper()
	cmd := createAPI("a")
	cmd.Schema = commandSchema(cmd)
	cmd.Actor = strings.Repeat("a", size)
	cmd.Actor = cmd.GetActor()[proto.Size(cmd)-size:]
	if got := proto.Size(cmd); got != size {
		t.Fatalf("the command has %d bytes, want %d", got, size)
	}
	return cmd
}

func TestTooLarge(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startCluster(t, 1)
		n := c.nodes["n1"]
		before := n.raft.LastIndex()
		_, err := n.Apply(t.Context(), paddedCommand(t, MaxCommand+1))
		var tooLarge *TooLargeError
		if !errors.As(err, &tooLarge) || tooLarge.Size != MaxCommand+1 || n.raft.LastIndex() != before {
			t.Errorf("got %v, the log went from %d to %d", err, before, n.raft.LastIndex())
		}
		if want := "the change has 524289 bytes, at most 524288 are allowed"; err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
		if o := c.apply(n, paddedCommand(t, MaxCommand)); o.Refusal != nil {
			t.Errorf("the largest command: %v", o.Refusal)
		}
	})
}

// TestOutcomeUnknown: a leader that is cut off cannot say what becomes of a
// command. Its repeat under the same request id finds out.
func TestOutcomeUnknown(t *testing.T) {
	impatient := errors.New("impatient")
	for name, tt := range map[string]struct {
		patience time.Duration
		cause    error
	}{
		"the caller gives up":     {100 * time.Millisecond, impatient},
		"leadership is lost":      {time.Minute, nil},
		"before it is even taken": {0, impatient},
	} {
		t.Run(name, func(t *testing.T) {
			bubbletest.Test(t, func(t *testing.T) {
				c := startCluster(t, 3)
				c.connect("n1")
				ctx, cancel := context.WithTimeoutCause(t.Context(), tt.patience, impatient)
				defer cancel()
				cmd := createAPI("a")
				cmd.RequestId, cmd.Fingerprint = "r", []byte("f")
				_, err := c.nodes["n1"].Apply(ctx, cmd)
				if !errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, ErrNotLeader) || (tt.cause != nil && !errors.Is(err, tt.cause)) {
					t.Errorf("got %v", err)
				}
				c.connect()
				var first Outcome
				c.until("the repeat is acknowledged", func() bool {
					var err error
					first, err = c.leader().Apply(t.Context(), cmd)
					return err == nil
				})
				if first.Refusal != nil {
					t.Fatalf("the repeat was refused: %v", first.Refusal)
				}
				if again := c.apply(c.leader(), cmd); again.Refusal != nil || again.Version != first.Version {
					t.Errorf("first %+v, then %+v", first, again)
				}
			})
		})
	}
}

// TestCloseEndsWaits: nobody waits for a node that is gone.
func TestCloseEndsWaits(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		n := c.nodes["n1"]
		c.connect("n1")
		done := make(chan error, 2)
		go func() { _, err := n.Apply(context.Background(), createAPI("a")); done <- err }()
		go func() { done <- n.Sync(context.Background()) }()
		synctest.Wait()
		c.close("n1")
		for range 2 {
			if err := <-done; !errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, ErrNotLeader) {
				t.Errorf("got %v", err)
			}
		}
	})
}

// TestClosedNodesRefuse: whoever comes when the node has stopped is told so, and
// does not wait for ever. This test runs on the real clock: a caller who waits
// for ever would be all that a bubble has to show.
func TestClosedNodesRefuse(t *testing.T) {
	_, transport := raft.NewInmemTransport("n1:raft")
	s, err := Open(Config{
		NodeID: "n1", GRPCAddress: "n1:grpc", Transport: transport, Storage: NewMemory(),
		Logger: slog.New(slog.DiscardHandler), Fatal: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	for range 20 {
		if _, err := s.Apply(ctx, createAPI("a")); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Apply: %v", err)
		}
		if err := s.Sync(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Sync: %v", err)
		}
	}
}

// TestSyncSeesAcknowledged: a leader that has been deposed without knowing it does
// not pass its past off as the present.
func TestSyncSeesAcknowledged(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		old := c.nodes["n1"]
		c.connect("n1")
		fresh := c.leader("n1")
		c.until("the new leader takes a change", func() bool {
			_, err := fresh.Apply(t.Context(), createAPI("a"))
			return err == nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := old.Sync(ctx); err == nil {
			t.Error("the old leader says that it is up to date")
		}
		if err := fresh.Sync(t.Context()); err != nil {
			t.Errorf("the new leader: %v", err)
		}
		c.connect()
		c.until("the old leader has followed", func() bool { _, ok := old.State().API("a"); return ok })
	})
}

// TestSyncsShareBarriers: readers that wait at the same time cost one entry of
// the log or few, not one each.
func TestSyncsShareBarriers(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		n := c.nodes["n1"]
		before := n.raft.LastIndex()
		var readers sync.WaitGroup
		for range 500 {
			readers.Go(func() {
				if err := n.Sync(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		readers.Wait()
		if entries := n.raft.LastIndex() - before; entries < 1 || entries > 100 {
			t.Errorf("500 readers made %d barriers", entries)
		}
	})
}

// TestBarrier: a waiter is served by a run that began after it came, and all who
// come during one run share the next.
func TestBarrier(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		var b barrier
		started, finish := make(chan int, 10), make(chan error)
		runs := 0
		run := func() error {
			runs++
			started <- runs
			return <-finish
		}
		results := make(chan string, 20)
		wait := func(ctx context.Context, name string) {
			go func() { results <- fmt.Sprint(name, " ", b.wait(ctx, run)) }()
			synctest.Wait()
		}
		wait(t.Context(), "first")
		if n := <-started; n != 1 {
			t.Fatalf("run %d", n)
		}
		for range 5 {
			wait(t.Context(), "late")
		}
		gone, leave := context.WithCancelCause(t.Context())
		wait(gone, "gone")
		leave(errors.New("left"))
		if got := <-results; got != "gone left" {
			t.Errorf("got %q", got)
		}
		finish <- nil
		if got := <-results; got != "first <nil>" {
			t.Errorf("got %q: the first run served somebody who came after its start", got)
		}
		if n := <-started; n != 2 {
			t.Fatalf("run %d", n)
		}
		finish <- errors.New("failed")
		for range 5 {
			if got := <-results; got != "late failed" {
				t.Errorf("got %q", got)
			}
		}
		synctest.Wait()
		if runs != 2 || b.running {
			t.Errorf("%d runs for 7 waiters, running %v", runs, b.running)
		}
		wait(t.Context(), "next")
		if n := <-started; n != 3 {
			t.Fatalf("run %d", n)
		}
		finish <- nil
		if got := <-results; got != "next <nil>" {
			t.Errorf("got %q", got)
		}
	})
}

func TestHandOver(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		begin := time.Now()
		c.nodes["n1"].HandOver(5 * time.Second)
		c.leader("n1")
		if took := time.Since(begin); took > 500*time.Millisecond {
			t.Errorf("it took %v; an election alone takes a second", took)
		}
		c.nodes["n1"].HandOver(5 * time.Second) // no leader any more: nothing to do
		lone := startCluster(t, 1)
		lone.nodes["n1"].HandOver(5 * time.Second)
		if !lone.nodes["n1"].IsLeader() {
			t.Error("a lone node gave leadership to nobody")
		}
	})
}
