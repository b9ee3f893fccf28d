package main

import (
	"context"
	"crypto/sha256"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// demoCluster is demo with a leader n1 and a new node n4, both at the fake's own
// address, a node n2 that has not said where it is, and n3 that is away.
func demoCluster(t *testing.T) *fake {
	t.Helper()
	f := demo(t)
	version := &fifev1.Version{Epoch: 2, Index: 9}
	backup := []byte("all that the cluster holds")
	sum := sha256.Sum256(backup)
	for method, messages := range map[string][]proto.Message{
		"ListMembers": {&fifev1.ListMembersResponse{Members: []*fifev1.Member{
			{Name: "members/n1", RaftAddress: "10.1.0.1:7401", GrpcAddress: f.address, Voter: true, Leader: true},
			{Name: "members/n2", RaftAddress: "10.1.0.2:7401"},
			{Name: "members/n3", RaftAddress: "10.1.0.3:7401", GrpcAddress: refusing(t), Voter: true},
			{Name: "members/n4", RaftAddress: "10.1.0.4:7401", GrpcAddress: f.address},
		}}},
		"GetCluster":         {&fifev1.GetClusterResponse{Cluster: &fifev1.Cluster{Applied: version}}},
		"JoinCluster":        {&fifev1.JoinClusterResponse{ClusterId: "c-1", Applied: version}},
		"PromoteMember":      {&fifev1.PromoteMemberResponse{Member: &fifev1.Member{Name: "members/n4", Voter: true}}},
		"RemoveMember":       {&fifev1.RemoveMemberResponse{}},
		"TransferLeadership": {&fifev1.TransferLeadershipResponse{}},
		"VerifyCluster": {&fifev1.VerifyClusterResponse{Consistent: true, Index: 12, Members: []*fifev1.MemberHash{
			{Name: "members/n1", Hash: 0xabc}, {Name: "members/n4", Hash: 0xabc},
		}}},
		"BackupCluster": {
			&fifev1.BackupClusterResponse{Data: backup[:7]}, &fifev1.BackupClusterResponse{Data: backup[7:]},
			&fifev1.BackupClusterResponse{Sha256: sum[:], Applied: version},
		},
		"RestoreCluster": {&fifev1.RestoreClusterResponse{Version: version}},
	} {
		f.on("ClusterService/"+method, reply(messages...))
	}
	return f
}

// TestClusterTranscript compares, for each command that looks after the cluster,
// what was sent, what was printed, and the exit code.
func TestClusterTranscript(t *testing.T) {
	files := t.TempDir()
	writeFile(t, files, "here.backup", "a backup")
	f := demoCluster(t)
	text := transcript(t, f, files, []string{
		"cluster join n4 --raft-address 10.1.0.4:7401 --grpc-address 10.1.0.4:7400",
		"cluster join n4 --raft-address 10.1.0.4:7401 --grpc-address 10.1.0.4:7400 -o json",
		"cluster join",
		"cluster promote n4",
		"cluster promote n4 -o json",
		"cluster promote n2",
		"cluster promote n9",
		"cluster remove n4",
		"cluster remove n4 -o yaml",
		"cluster remove",
		"cluster transfer-leader",
		"cluster transfer-leader --to n4",
		"cluster transfer-leader n4",
		"cluster verify",
		"cluster verify -o json",
		"cluster backup -f there.backup",
		"cluster backup -f there.backup -o json",
		"cluster backup",
		"cluster restore -f here.backup",
		"cluster restore -f here.backup -o json",
		"cluster restore -f missing.backup",
		"cluster restore",
	})
	golden(t, "cluster", text)
}

// TestVerifyDiffers: states that differ, and a node that is silent, are shown and
// fail the command, in every format.
func TestVerifyDiffers(t *testing.T) {
	f := demoCluster(t)
	f.on("ClusterService/VerifyCluster", reply(&fifev1.VerifyClusterResponse{Index: 12, Members: []*fifev1.MemberHash{
		{Name: "members/n1", Hash: 0xabc}, {Name: "members/n2", Hash: 0xabd},
		{Name: "members/n3", Error: "connection\x1b[2J refused\n"},
	}}))
	const why = "fife: the nodes' states differ, or some are not known: see above\n"
	fife(t, f.address, "cluster", "verify").want(t, exitFailed, `NODE  INDEX  HASH
n1    12     0000000000000abc
n2    12     0000000000000abd
n3    12     connection [2J refused 
`, why)
	r := fife(t, f.address, "cluster", "verify", "-o", "json")
	if r.code != exitFailed || r.err != why || !strings.Contains(r.out, `"consistent": false`) {
		t.Errorf("exit %d: %s%s", r.code, r.out, r.err)
	}
}

// TestPromoteAway: a node that does not run cannot be asked how far it is, so it
// gets no vote.
func TestPromoteAway(t *testing.T) {
	f := demoCluster(t)
	r := fife(t, f.address, "cluster", "promote", "n3")
	if r.code != exitUnreachable || !strings.HasPrefix(r.err, "fife: node n3 does not answer: ") || !strings.Contains(r.err, "(connection refused)") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	for _, c := range f.take() {
		if c.method == "ClusterService/PromoteMember" {
			t.Error("it was promoted")
		}
	}

	f.on("ClusterService/GetCluster", refuse(fifeError(codes.FailedPrecondition, "OTHER_CLUSTER", "the caller belongs to another cluster", nil)))
	r = fife(t, f.address, "cluster", "promote", "n4")
	if r.code != exitFailed || !strings.Contains(r.err, "another cluster") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
}

// TestClusterOutcomes: a change of the cluster that was lost on its way may have
// been made, and one that was never sent was not. They have no request id, so
// none is spoken of.
func TestClusterOutcomes(t *testing.T) {
	folder := t.TempDir()
	writeFile(t, folder, "fife.backup", "a backup")
	for method, line := range map[string]string{
		"JoinCluster":        "cluster join n4 --raft-address 10.1.0.4:7401 --grpc-address 10.1.0.4:7400",
		"PromoteMember":      "cluster promote n4",
		"RemoveMember":       "cluster remove n4",
		"TransferLeadership": "cluster transfer-leader",
		"RestoreCluster":     "cluster restore -f " + filepath.Join(folder, "fife.backup"),
	} {
		t.Run(method, func(t *testing.T) {
			lost := func(name string, a answer, more ...string) {
				f := demoCluster(t)
				if a == nil {
					a = f.crash()
				}
				f.on("ClusterService/"+method, a)
				r := fife(t, f.address, append(strings.Fields(line), more...)...)
				if r.code != exitUnknown || !strings.Contains(r.err, "may or may not have been made") ||
					!strings.Contains(r.err, "fife status") || strings.Contains(r.err, "request") {
					t.Errorf("%s: exit %d: %s", name, r.code, r.err)
				}
			}
			lost("the leader cannot tell", refuse(fifeError(codes.Unknown, "OUTCOME_UNKNOWN", "repeat it with the same request_id", nil)))
			lost("crash", nil)
			lost("deadline", hang(), "--timeout", "500ms")

			r := fife(t, refusing(t), strings.Fields(line)...)
			if r.code != exitUnreachable {
				t.Errorf("never sent: exit %d: %s", r.code, r.err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			r = fifeWith(ctx, t, streams{}, refusing(t), strings.Fields(line)...)
			r.want(t, exitFailed, "", "fife: interrupted before anything was sent\n")
		})
	}
}
