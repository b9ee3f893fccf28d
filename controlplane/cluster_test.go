package controlplane_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fifegateway/fife/controlplane/bubbletest"
	"github.com/fifegateway/fife/controlplane/controlplanetest"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// reasonOf returns the reason of an error's ErrorInfo.
func reasonOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// TestStaleReads: a node that is cut off answers nothing but stale reads, and says
// how old they are.
func TestStaleReads(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		cluster := controlplanetest.Start(t, 3)
		c, cut := connect(cluster.Conn("n1")), connect(cluster.Conn("n3"))
		untilVoters(t, c, 3)
		must[*fifev1.CreateApiResponse](t)(c.apis.CreateApi(t.Context(), &fifev1.CreateApiRequest{ApiId: "demo"}))
		stale := &fifev1.GetApiRequest{
			Name: "apis/demo", Consistency: fifev1.ReadConsistency_READ_CONSISTENCY_STALE,
		}
		fresh := &fifev1.GetApiRequest{Name: "apis/demo"}
		if got := must[*fifev1.GetApiResponse](t)(cut.apis.GetApi(t.Context(), fresh)); got.GetStaleness() != nil {
			t.Errorf("a fresh answer says that it is stale: %v", got)
		}
		<-time.After(time.Second) // until n3 has learnt of the commit
		cluster.Isolate("n3")
		<-time.After(10 * time.Second)
		must[*fifev1.UpdateApiResponse](t)(c.apis.UpdateApi(t.Context(), &fifev1.UpdateApiRequest{
			Api: &fifev1.Api{Name: "apis/demo", Description: "new"},
		}))
		got := must[*fifev1.GetApiResponse](t)(cut.apis.GetApi(t.Context(), stale))
		if got.GetApi().GetDescription() != "" || got.GetStaleness().GetAge().AsDuration() < 10*time.Second {
			t.Errorf("the node that is cut off answers %v", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if _, err := cut.apis.GetApi(ctx, fresh); reasonOf(err) != "NO_LEADER" {
			t.Errorf("a fresh read from the node that is cut off: %v", err)
		}
		cluster.Heal("n3")
		<-time.After(10 * time.Second)
		if got := must[*fifev1.GetApiResponse](t)(cut.apis.GetApi(t.Context(), fresh)); got.GetApi().GetDescription() != "new" {
			t.Errorf("after healing: %v", got)
		}
	})
}

// untilLeader waits until a member leads.
func untilLeader(t *testing.T, c clients, name string) {
	t.Helper()
	for range 1000 {
		members := must[*fifev1.ListMembersResponse](t)(c.cluster.ListMembers(t.Context(), &fifev1.ListMembersRequest{}))
		for _, m := range members.GetMembers() {
			if m.GetLeader() && m.GetName() == name {
				return
			}
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatalf("%s does not lead", name)
}

// TestMembership: leadership moves, a node leaves, and no removal is taken that
// the cluster would not outlive.
func TestMembership(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		cluster := controlplanetest.Start(t, 3)
		c := connect(cluster.Conn("n2"))
		untilVoters(t, c, 3)
		must[*fifev1.TransferLeadershipResponse](t)(c.cluster.TransferLeadership(t.Context(),
			&fifev1.TransferLeadershipRequest{Name: "members/n2"}))
		untilLeader(t, c, "members/n2")
		if _, err := c.cluster.TransferLeadership(t.Context(),
			&fifev1.TransferLeadershipRequest{Name: "members/n9"}); status.Code(err) != codes.NotFound {
			t.Errorf("transfer to nobody: %v", err)
		}
		verified := must[*fifev1.VerifyClusterResponse](t)(c.cluster.VerifyCluster(t.Context(), &fifev1.VerifyClusterRequest{}))
		if !verified.GetConsistent() || len(verified.GetMembers()) != 3 || verified.GetMembers()[0].GetHash() == 0 {
			t.Errorf("verified: %v", verified)
		}

		// With n3 out of reach since just now, n1 cannot be spared. A leader that
		// relied on its last heartbeats would spare it.
		cluster.Isolate("n3")
		if _, err := c.cluster.RemoveMember(t.Context(),
			&fifev1.RemoveMemberRequest{Name: "members/n1"}); reasonOf(err) != "QUORUM_AT_RISK" {
			t.Errorf("removing n1 while n3 is out of reach: %v", err)
		}
		must[*fifev1.RemoveMemberResponse](t)(c.cluster.RemoveMember(t.Context(), &fifev1.RemoveMemberRequest{Name: "members/n3"}))
		untilVoters(t, c, 2)
		must[*fifev1.RemoveMemberResponse](t)(c.cluster.RemoveMember(t.Context(), &fifev1.RemoveMemberRequest{Name: "members/n1"}))
		if _, err := c.cluster.RemoveMember(t.Context(),
			&fifev1.RemoveMemberRequest{Name: "members/n2"}); reasonOf(err) != "QUORUM_AT_RISK" {
			t.Errorf("removing the last voter: %v", err)
		}
		must[*fifev1.CreateApiResponse](t)(c.apis.CreateApi(t.Context(), &fifev1.CreateApiRequest{ApiId: "alone"}))
	})
}

// TestWipedNode: a node that has lost its disk is not taken for what it was, and
// says so; the cluster goes on, and takes it under a new name.
func TestWipedNode(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		cluster := controlplanetest.Start(t, 3)
		c := connect(cluster.Conn("n1"))
		untilVoters(t, c, 3)
		cluster.StopNode("n3")
		cluster.WipeNode("n3")
		cluster.StartNode("n3")
		if err := cluster.Exited("n3"); err == nil || !strings.Contains(err.Error(), "join under a new name") {
			t.Errorf("the wiped node ended with %v", err)
		}
		must[*fifev1.CreateApiResponse](t)(c.apis.CreateApi(t.Context(), &fifev1.CreateApiRequest{ApiId: "demo"}))
		must[*fifev1.RemoveMemberResponse](t)(c.cluster.RemoveMember(t.Context(), &fifev1.RemoveMemberRequest{Name: "members/n3"}))
		cluster.AddNode("n4")
		untilVoters(t, c, 3)
	})
}

// backup returns a cluster's backup.
func backup(t *testing.T, c clients) []byte {
	t.Helper()
	stream, err := c.cluster.BackupCluster(t.Context(), &fifev1.BackupClusterRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var data bytes.Buffer
	for {
		piece, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		data.Write(piece.GetData())
		if len(piece.GetSha256()) > 0 {
			return data.Bytes()
		}
	}
}

func restore(t *testing.T, c clients, data []byte) (*fifev1.RestoreClusterResponse, error) {
	t.Helper()
	stream, err := c.cluster.RestoreCluster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for len(data) > 0 {
		n := min(len(data), 1000)
		if err := stream.Send(&fifev1.RestoreClusterRequest{Data: data[:n]}); err != nil {
			break // the answer says why
		}
		data = data[n:]
	}
	return stream.CloseAndRecv()
}

// TestBackupAndRestore: what one cluster held is what another goes on with, on
// all its nodes, under a higher epoch; and nothing is changed by a bad backup.
func TestBackupAndRestore(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		old := controlplanetest.Start(t, 3)
		from := connect(old.Conn("n2"))
		untilVoters(t, from, 3)
		must[*fifev1.CreateApiResponse](t)(from.apis.CreateApi(t.Context(), &fifev1.CreateApiRequest{ApiId: "demo"}))
		must[*fifev1.PutRouteResponse](t)(from.apis.PutRoute(t.Context(),
			&fifev1.PutRouteRequest{Parent: "apis/demo", Route: lambdaRoute("1")}))
		must[*fifev1.CreateDeploymentResponse](t)(from.deployments.CreateDeployment(t.Context(),
			&fifev1.CreateDeploymentRequest{Parent: "apis/demo", StageId: "canary"}))
		data := backup(t, from)

		fresh := controlplanetest.Start(t, 3)
		to := connect(fresh.Conn("n1"))
		untilVoters(t, to, 3)
		damaged := bytes.Clone(data)
		damaged[len(damaged)/2] ^= 1
		for name, bad := range map[string][]byte{
			"damaged": damaged, "cut short": data[:len(data)-1], "foreign": []byte("#!/bin/sh\n"), "empty": nil,
		} {
			if _, err := restore(t, to, bad); reasonOf(err) != "BAD_BACKUP" {
				t.Errorf("a backup that is %s: %v", name, err)
			}
		}
		if got, err := to.apis.ListApis(t.Context(), &fifev1.ListApisRequest{}); err != nil || len(got.GetApis()) != 0 {
			t.Errorf("after bad backups the cluster holds %v, %v", got, err)
		}

		restored := must[*fifev1.RestoreClusterResponse](t)(restore(t, to, data))
		if got := restored.GetVersion().GetEpoch(); got != 2 {
			t.Errorf("restored under epoch %d", got)
		}
		for _, name := range []string{"n1", "n2", "n3"} {
			c := connect(fresh.Conn(name))
			stage := must[*fifev1.GetStageResponse](t)(c.stages.GetStage(t.Context(),
				&fifev1.GetStageRequest{Name: "apis/demo/stages/canary"}))
			if got := stage.GetStage().GetDeployment(); got != "apis/demo/deployments/1" {
				t.Errorf("%s: the stage serves %q", name, got)
			}
		}
		verified := must[*fifev1.VerifyClusterResponse](t)(to.cluster.VerifyCluster(t.Context(), &fifev1.VerifyClusterRequest{}))
		if !verified.GetConsistent() {
			t.Errorf("after the restore: %v", verified)
		}
		if _, err := restore(t, to, data); reasonOf(err) != "NOT_EMPTY" {
			t.Errorf("a second restore: %v", err)
		}
	})
}
