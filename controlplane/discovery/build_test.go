package discovery

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/fifegateway/fife/controlplane/bubbletest"
	"github.com/fifegateway/fife/controlplane/store"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// TestForgottenPast: a step is built from a past that the state remembers; from
// any further back it is a full snapshot. Changes go straight to a store here, as
// it takes ten thousand to forget one.
func TestForgottenPast(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		_, transport := raft.NewInmemTransport("n1:raft")
		s, err := store.Open(store.Config{
			NodeID: "n1", GRPCAddress: "n1:grpc", Transport: transport, Storage: store.NewMemory(), Bootstrap: true,
			Logger: slog.New(slog.DiscardHandler), Fatal: func(err error) { t.Error(err) },
		})
		if err != nil {
			t.Fatal(err)
		}
		for s.State().ClusterID() == "" {
			<-s.State().Changed()
		}
		apply := func(cmd *storev1.Command) {
			if o, err := s.Apply(t.Context(), cmd); err != nil || o.Refusal != nil {
				t.Errorf("%v, %v", err, o.Refusal)
			}
		}
		for _, id := range []string{"a", "b"} {
			apply(&storev1.Command{Op: &storev1.Command_CreateApi{CreateApi: &storev1.CreateApi{Api: &storev1.Api{Id: id}}}})
		}
		past := s.State().Version()
		// Many at a time, as Raft takes them in batches.
		var writers sync.WaitGroup
		update := func(times int) {
			for range 100 {
				writers.Go(func() {
					for range times {
						apply(&storev1.Command{Op: &storev1.Command_UpdateApi{UpdateApi: &storev1.UpdateApi{Api: &storev1.Api{Id: "a"}}}})
					}
				})
			}
			writers.Wait()
		}
		update(99)
		if f, err := buildFrame(s.State(), past, nil, nil); err != nil || f.GetFrom() == nil || len(f.GetUpserts()) != 1 {
			t.Errorf("after 9,900 changes: a step from %v with %v", f.GetFrom(), f.GetUpserts())
		}
		update(2)
		if f, err := buildFrame(s.State(), past, nil, nil); err != nil || f.GetFrom() != nil || len(f.GetUpserts()) != 2 {
			t.Errorf("after 10,100 changes: a step from %v with %v", f.GetFrom(), f.GetUpserts())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		<-time.After(time.Minute) // what a stopped Raft leaves behind
	})
}
