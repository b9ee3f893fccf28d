package api_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func stringValue(s string) protoreflect.Value { return protoreflect.ValueOfString(s) }

// reads are a read of every kind that the stock has an answer to.
func reads() []proto.Message {
	return []proto.Message{
		&fifev1.GetApiRequest{Name: demo}, &fifev1.ListApisRequest{}, &fifev1.ListRoutesRequest{Parent: demo},
		&fifev1.GetDeploymentRequest{Name: first}, &fifev1.ListDeploymentsRequest{Parent: demo},
		&fifev1.ListDeploymentRoutesRequest{Parent: first},
		&fifev1.GetStageRequest{Name: prod}, &fifev1.ListStagesRequest{Parent: demo},
		&fifev1.ListStageRevisionsRequest{Parent: prod}, &fifev1.ExplainSplitRequest{Name: prod, Key: "k"},
		&fifev1.ListAgentsRequest{}, &fifev1.ListMembersRequest{},
		&fifev1.ListAuditEntriesRequest{Resource: demo}, &fifev1.VerifyAuditRequest{},
		&fifev1.ExportRoutesRequest{Parent: demo}, &fifev1.ExportRoutesRequest{Parent: first},
	}
}

// TestEveryMethodAnswersOnAFollower: nobody has to look for the leader.
func TestEveryMethodAnswersOnAFollower(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.stock()
		follower, leader := b.follower(), b.leader("n1")
		tried := map[protoreflect.FullName]bool{}
		answers := func(req proto.Message) proto.Message {
			t.Helper()
			tried[req.ProtoReflect().Descriptor().FullName()] = true
			resp, err := b.ask(t.Context(), follower, req)
			if err != nil {
				t.Errorf("%T: %v", req, err)
			}
			return resp
		}
		for _, req := range reads() {
			atLeader, err := b.ask(t.Context(), leader, req)
			if err != nil {
				t.Fatalf("%T: %v", req, err)
			}
			if got := answers(req); !proto.Equal(got, atLeader) {
				t.Errorf("%T: the follower answers\n%v\nthe leader\n%v", req, got, atLeader)
			}
		}
		for _, req := range changes() {
			answers(req)
		}
		if got := answers(&fifev1.GetClusterRequest{}).(*fifev1.GetClusterResponse).GetCluster(); got.GetNode() != follower || got.GetLeader() != leader {
			t.Errorf("the follower says of the cluster: %v", got)
		}
		applied := answers(&fifev1.SyncClusterRequest{}).(*fifev1.SyncClusterResponse).GetApplied()
		answers(&fifev1.PromoteMemberRequest{Name: "members/n2", Applied: applied})
		verified := answers(&fifev1.VerifyClusterRequest{}).(*fifev1.VerifyClusterResponse)
		answers(&fifev1.GetStateHashRequest{Checkpoint: &fifev1.Version{Epoch: 1, Index: verified.GetIndex()}})

		tried["fife.v1.WaitForVersionRequest"] = true
		if m, err := drain(b.nodes[follower].fleet.WaitForVersion(t.Context(), &fifev1.WaitForVersionRequest{Version: b.see(leader).GetVersion()})); err != nil || !m[len(m)-1].GetDone() {
			t.Errorf("WaitForVersion: %v, %v", m, err)
		}
		wantRefusal(t, "GetAgent", b.call(t.Context(), follower, &fifev1.GetAgentRequest{Name: "agents/none"}),
			refusal{codes.NotFound, "RESOURCE_NOT_FOUND", meta("resource", "agents/none")})
		tried["fife.v1.GetAgentRequest"], tried["fife.v1.WatchStageRequest"] = true, true
		watching, stop := context.WithCancel(t.Context())
		watch, err := b.nodes[follower].stages.WatchStage(watching, &fifev1.WatchStageRequest{Name: prod})
		if err != nil {
			t.Fatal(err)
		}
		if m, err := watch.Recv(); err != nil || m.GetStage().GetName() != prod {
			t.Errorf("WatchStage: %v, %v", m, err)
		}
		stop()
		tried["fife.v1.BackupClusterRequest"] = true
		if m, err := drain(b.nodes[follower].cluster.BackupCluster(t.Context(), &fifev1.BackupClusterRequest{})); err != nil || len(m) < 2 {
			t.Errorf("BackupCluster: %v, %v", m, err)
		}
		tried["fife.v1.RestoreClusterRequest"] = true // says where the leader is: tested with the reasons
		answers(&fifev1.TransferLeadershipRequest{Name: "members/" + follower})
		b.until("the follower leads", func() bool { return b.leader(follower) == follower })
		b.until("n1 knows it", func() bool { return b.leader("n1") == follower })
		gone := slices.DeleteFunc([]string{"n1", "n2", "n3"}, func(n string) bool { return n == follower })[1]
		follower = slices.DeleteFunc([]string{"n1", "n2", "n3"}, func(n string) bool { return n == follower || n == gone })[0]
		answers(&fifev1.RemoveMemberRequest{Name: "members/" + gone})
		answers(&fifev1.JoinClusterRequest{NodeId: "n9", RaftAddress: "n9:7401", GrpcAddress: "n9:7400"})
		for name, m := range methods() {
			if !tried[name] && !movesPromotion(m) {
				t.Errorf("%s is not tried here", m.Name())
			}
		}
	})
}

// writer makes deployments through one node, one after the other.
type writer struct {
	name  string
	acked []string // descriptions
	tries int
}

// write makes n deployments. Each is tried under one request id until it is
// acknowledged.
func (w *writer) write(t *testing.T, c clients, n int) {
	for i := range n {
		description := fmt.Sprintf("%s-%d", w.name, i)
		for {
			w.tries++
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			_, err := c.deployments.CreateDeployment(ctx, &fifev1.CreateDeploymentRequest{
				Parent: demo, StageId: "prod", Description: description, RequestId: description,
			})
			cancel()
			if err == nil {
				w.acked = append(w.acked, description)
				break
			}
			switch status.Code(err) {
			case codes.Unavailable, codes.Unknown, codes.DeadlineExceeded:
			default:
				t.Errorf("%s: %v", description, err)
				return
			}
			<-time.After(10 * time.Millisecond)
		}
		<-time.After(time.Duration(100+i%70) * time.Millisecond)
	}
}

// TestLeaderChangesUnderWrites: while leaders are cut off, hand over and stop,
// nothing that was acknowledged is lost and nothing is done twice.
func TestLeaderChangesUnderWrites(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.stock()
		const each = 200
		writers := map[string]*writer{}
		var writing sync.WaitGroup
		for name := range b.nodes {
			w := &writer{name: name}
			writers[name] = w
			writing.Go(func() { w.write(t, b.nodes[name], each) })
		}
		leader := func() (name string) {
			b.until("n1 knows a leader", func() bool { name = b.leader("n1"); return name != "" })
			return name
		}
		// The second time lasts longer than a node looks for a leader on behalf of
		// its clients, so they see errors and try again.
		for _, length := range []time.Duration{4 * time.Second, 15 * time.Second} {
			<-time.After(1030 * time.Millisecond)
			cut := leader()
			b.Isolate(cut)
			<-time.After(length)
			b.Heal(cut)
		}
		<-time.After(1030 * time.Millisecond)
		stopped := leader()
		b.StopNode(stopped)
		<-time.After(3 * time.Second)
		b.StartNode(stopped)
		writing.Wait()

		tries, made := 0, map[string]int{}
		all := must(b.nodes["n1"].deployments.ListDeployments(t.Context(), &fifev1.ListDeploymentsRequest{Parent: demo, PageSize: 1000}))(t)
		for _, d := range all.GetDeployments() {
			made[d.GetDescription()]++
		}
		for name, w := range writers {
			if len(w.acked) != each {
				t.Errorf("%s: %d of %d writes were acknowledged", name, len(w.acked), each)
			}
			for _, description := range w.acked {
				if made[description] != 1 {
					t.Errorf("%s was acknowledged and is there %d times", description, made[description])
				}
			}
			tries += w.tries
		}
		if tries == 3*each {
			t.Error("no write failed: this test tries nothing")
		}
		if n := len(all.GetDeployments()); n != 3*each+1 {
			t.Errorf("%d deployments were made, want %d", n, 3*each+1)
		}
		revisions := must(b.nodes["n1"].stages.GetStage(t.Context(), &fifev1.GetStageRequest{Name: prod}))(t).GetStage().GetRevision()
		if revisions != 3*each+1 {
			t.Errorf("the stage has had %d revisions, want %d", revisions, 3*each+1)
		}
		b.agree()
	})
}

// agree fails the test unless all nodes come to the same state.
func (b *bench) agree() {
	b.t.Helper()
	b.until("all nodes agree", func() bool {
		resp, err := b.nodes["n1"].cluster.VerifyCluster(b.t.Context(), &fifev1.VerifyClusterRequest{})
		return err == nil && resp.GetConsistent()
	})
}

// TestForwardedWritesWithoutIDs: a follower that loses its leader underway tries
// again under an id of its own making, and still does nothing twice.
func TestForwardedWritesWithoutIDs(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.stock()
		leader := b.leader("n1")
		follower := b.follower()
		acked, unknown := 0, 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 40 {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				_, err := b.nodes[follower].deployments.CreateDeployment(ctx,
					&fifev1.CreateDeploymentRequest{Parent: demo, Description: fmt.Sprint("d", i)})
				cancel()
				if err == nil {
					acked++
				} else {
					unknown++
				}
				<-time.After(20 * time.Millisecond)
			}
		}()
		<-time.After(200 * time.Millisecond)
		b.Isolate(leader)
		<-done
		b.Heal(leader)
		if acked != 40 {
			t.Errorf("%d writes were acknowledged and %d not, though a leader was found in time", acked, unknown)
		}
		b.agree()
		all := must(b.nodes[follower].deployments.ListDeployments(t.Context(), &fifev1.ListDeploymentsRequest{Parent: demo}))(t)
		made := map[string]int{}
		for _, d := range all.GetDeployments() {
			made[d.GetDescription()]++
		}
		if len(made) != 41 || len(all.GetDeployments()) != 41 {
			t.Errorf("made %v", made)
		}
	})
}
