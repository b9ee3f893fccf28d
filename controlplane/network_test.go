package controlplane

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/fifegateway/fife/controlplane/api"
)

// TestGreeting: a connection of another cluster ends before Raft reads of it, and
// so does every one while either side belongs to none: it might be what is left of
// a node that has lost its disk. Without greetedConn all of these would be read.
func TestGreeting(t *testing.T) {
	id := func(id string) func() string { return func() string { return id } }
	for name, test := range map[string]struct {
		theirs, ours string
		refusal      error // nil for none
	}{
		"same":          {"a", "a", nil},
		"other":         {"b", "a", api.ErrOtherCluster},
		"they are new":  {"", "a", api.ErrOtherCluster},
		"we are new":    {"a", "", errNoCluster},
		"both are new":  {"", "", errNoCluster},
		"other, longer": {"ab", "a", api.ErrOtherCluster},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			logger := slog.New(slog.DiscardHandler)
			callee := newStreamLayer(l, l.Addr().String(), RaftGate{ClusterID: id(test.ours)}, logger)
			defer callee.Close() //nolint:errcheck // the test is over
			caller := newStreamLayer(nil, "", RaftGate{ClusterID: id(test.theirs)}, logger)
			out, err := caller.Dial(raft.ServerAddress(callee.Addr().String()), time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close() //nolint:errcheck // the test is over
			if _, err := io.WriteString(out, "x"); err != nil {
				t.Fatal(err)
			}
			in, err := callee.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close() //nolint:errcheck // the test is over
			got := make([]byte, 1)
			_, err = io.ReadFull(in, got)
			if !errors.Is(err, test.refusal) || (err == nil && string(got) != "x") {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}
