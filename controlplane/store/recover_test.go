package store

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/fifegateway/fife/controlplane/bubbletest"
)

// TestRecover: the survivor goes on with what it held, as a cluster that the lost
// nodes do not belong to, under a higher epoch.
func TestRecover(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		c.apply(c.nodes["n1"], createAPI("kept"))
		lost, disk := c.nodes["n2"].storage.ClusterID(), c.nodes["n1"].storage
		for _, id := range []string{"n1", "n2", "n3"} {
			c.close(id)
		}
		_, transport := raft.NewInmemTransport("n1:raft")
		version, err := Recover(RecoverConfig{
			NodeID: "n1", GRPCAddress: "n1:grpc", Transport: transport, Storage: disk, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil || version.Epoch != 2 {
			t.Fatalf("recovered at %v, %v", version, err)
		}
		recovered := disk.ClusterID()
		if recovered == lost || recovered == "" {
			t.Errorf("the lost nodes were of %q, the recovered one is of %q", lost, recovered)
		}

		// A power cut before the last step leaves the old identity.
		if err := disk.identity.learn(lost); err != nil {
			t.Fatal(err)
		}
		_, err = Open(Config{NodeID: "n1", Transport: transport, Storage: disk, Logger: slog.New(slog.DiscardHandler)})
		if !errors.Is(err, ErrHalfRecovered) {
			t.Errorf("opened after half a recovery: %v", err)
		}
		if err := disk.identity.learn(recovered); err != nil {
			t.Fatal(err)
		}
		c.open("n1", disk, false)
		leader := c.leader()
		if err := leader.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := leader.State(); s.ClusterID() != recovered || s.Version() != version || s.apis.Len() != 1 {
			t.Errorf("goes on as %s at %v with %d APIs", s.ClusterID(), s.Version(), s.apis.Len())
		}
	})
}

// TestFounderCutShort: a founder that was cut off before it had named its cluster
// does so at the next start.
func TestFounderCutShort(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		c := startCluster(t, 1)
		disk := c.nodes["n1"].storage
		c.close("n1")
		logs := raft.NewInmemStore()
		disk.logs, disk.stable, disk.snapshots, disk.identity = logs, logs, raft.NewInmemSnapshotStore(), &identityFile{}
		_, transport := raft.NewInmemTransport("n1:raft")
		err := raft.BootstrapCluster(raftConfig(Config{NodeID: "n1", Logger: slog.New(slog.DiscardHandler)}),
			disk.logs, disk.stable, disk.snapshots, transport,
			raft.Configuration{Servers: []raft.Server{{ID: "n1", Address: transport.LocalAddr()}}})
		if err != nil {
			t.Fatal(err)
		}
		c.open("n1", disk, false)
		leader := c.leader()
		c.until("the cluster has a name", func() bool { return leader.State().ClusterID() != "" })
		if got := leader.State().ClusterID(); got != disk.ClusterID() {
			t.Errorf("the cluster is %q, the disk's %q", got, disk.ClusterID())
		}
	})
}
