package main

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// TestBackupFile: a backup is one file, as the control plane sent it, that its
// owner alone can read.
func TestBackupFile(t *testing.T) {
	f, folder := demoCluster(t), t.TempDir()
	path := filepath.Join(folder, "fife.backup")
	fife(t, f.address, "cluster", "backup", "-f", path).want(t, exitOK, "backup as of 2.9 written to "+path+"\n", "")
	wantFiles(t, folder, map[string]string{"fife.backup": "all that the cluster holds"})
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

// TestBrokenBackup: a backup that did not arrive whole leaves nothing behind, and
// an older one as it was.
func TestBrokenBackup(t *testing.T) {
	data, sum := []byte("all that the cluster holds"), sha256.Sum256([]byte("all that the cluster held"))
	first := &fifev1.BackupClusterResponse{Data: data}
	for name, test := range map[string]struct {
		answer answer
		code   int
		want   string
	}{
		"wrong sum": {reply(first, &fifev1.BackupClusterResponse{Sha256: sum[:]}), exitFailed,
			"fife: the backup was damaged on its way; try again\n"},
		"lost piece": {reply(&fifev1.BackupClusterResponse{Sha256: sum[:]}), exitFailed,
			"fife: the backup was damaged on its way; try again\n"},
		"no end":     {reply(first), exitFailed, "fife: the backup ended too early; try again\n"},
		"nothing":    {reply(), exitFailed, "fife: the backup ended too early; try again\n"},
		"broken off": {refuse(status.Error(codes.Unavailable, "shutting down"), first), exitFailed, "fife: Unavailable: shutting down\n"},
		"no leader": {refuse(fifeError(codes.Unavailable, "NO_LEADER", "no leader is known", nil)), exitUnreachable,
			"fife: no leader is known\n  nothing was done; try again in a moment, or look at the nodes with: fife cluster members\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f, folder := demoCluster(t), t.TempDir()
			f.on("ClusterService/BackupCluster", test.answer)
			writeFile(t, folder, "old.backup", "older")
			for _, file := range []string{"old.backup", "new.backup"} {
				fife(t, f.address, "cluster", "backup", "-f", filepath.Join(folder, file)).want(t, test.code, "", test.want)
			}
			wantFiles(t, folder, map[string]string{"old.backup": "older"})
		})
	}
}

func TestUnwritableBackup(t *testing.T) {
	f, folder := demoCluster(t), t.TempDir()
	writeFile(t, folder, "file", "no folder")
	if err := os.MkdirAll(filepath.Join(folder, "folder", "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, why := range map[string]string{
		"nowhere/fife.backup": "no such file or directory",
		"file/fife.backup":    "not a directory",
		"folder":              "file exists",
	} {
		path = filepath.Join(folder, path)
		fife(t, f.address, "cluster", "backup", "-f", path).want(t, exitFailed, "", "fife: cannot write "+path+": "+why+"\n")
	}
	wantFiles(t, folder, map[string]string{"file": "no folder", "folder": ""})
}

// wantFiles compares a folder; what is in its folders does not matter.
func wantFiles(t *testing.T, folder string, want map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, known := want[e.Name()]
		if !known {
			t.Errorf("%s was left behind", e.Name())
		}
		if e.IsDir() {
			continue
		}
		if got, err := os.ReadFile(filepath.Join(folder, e.Name())); err != nil || string(got) != text {
			t.Errorf("%s holds %q, %v, want %q", e.Name(), got, err, text)
		}
	}
	if len(entries) != len(want) {
		t.Errorf("%d files, want %d", len(entries), len(want))
	}
}

// TestRestorePieces: the whole file arrives, in order, in pieces that the control
// plane takes, whatever its length.
func TestRestorePieces(t *testing.T) {
	for _, length := range []int{0, 1, backupPiece, backupPiece + 1, 3*backupPiece - 1} {
		want := bytes.Repeat([]byte("0123456789abcde"), length/15+1)[:length]
		path := filepath.Join(t.TempDir(), "fife.backup")
		if err := os.WriteFile(path, want, 0o600); err != nil {
			t.Fatal(err)
		}
		f := demoCluster(t)
		fife(t, f.address, "cluster", "restore", "-f", path).want(t, exitOK, "restored from "+path+", version 2.9\n", "")
		var got []byte
		for _, c := range f.take() {
			if piece, ok := c.request.(*fifev1.RestoreClusterRequest); ok {
				if len(piece.GetData()) > 1<<20 {
					t.Errorf("a piece of %d bytes", len(piece.GetData()))
				}
				got = append(got, piece.GetData()...)
			}
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes arrived of %d, or others", len(got), length)
		}
	}
}

// TestRestoreElsewhere: only the leader takes a backup. Without one, or when it
// is another by then, nothing is done and the command says so.
func TestRestoreElsewhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fife.backup")
	writeFile(t, filepath.Dir(path), "fife.backup", "a backup")
	member := func(m *fifev1.Member) proto.Message {
		return &fifev1.ListMembersResponse{Members: []*fifev1.Member{m}}
	}
	away := refusing(t)
	for name, test := range map[string]struct {
		members proto.Message
		want    string
	}{
		"leaderless": {member(&fifev1.Member{Name: "members/n1", GrpcAddress: away, Voter: true}),
			"fife: the cluster has no leader just now, and nobody else takes a backup\n  nothing was done; try again in a moment\n"},
		"new leader": {member(&fifev1.Member{Name: "members/n1", Voter: true, Leader: true}),
			"fife: the cluster has no leader just now, and nobody else takes a backup\n  nothing was done; try again in a moment\n"},
		"leader away": {member(&fifev1.Member{Name: "members/n1", GrpcAddress: away, Voter: true, Leader: true}),
			"fife: only the leader takes a backup, and it does not answer: " + away + " (connection refused)\n  nothing was done\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f := demoCluster(t)
			f.on("ClusterService/ListMembers", reply(test.members))
			fife(t, f.address, "cluster", "restore", "-f", path).want(t, exitUnreachable, "", test.want)
		})
	}
	f := demoCluster(t)
	f.on("ClusterService/RestoreCluster", refuse(fifeError(codes.Unavailable, "NO_LEADER",
		"only the leader, at 10.1.0.2:7400, takes this call", map[string]string{"leader": "10.1.0.2:7400"})))
	r := fife(t, f.address, "cluster", "restore", "-f", path)
	if r.code != exitUnreachable || !strings.Contains(r.err, "10.1.0.2:7400") || !strings.Contains(r.err, "nothing was done") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
}

// TestUnreadableBackup: a file that cannot be read to its end is not restored.
func TestUnreadableBackup(t *testing.T) {
	f, folder := demoCluster(t), t.TempDir()
	fife(t, f.address, "cluster", "restore", "-f", folder).want(t, exitFailed, "", "fife: cannot read "+folder+": is a directory\n")
	for _, c := range f.take() {
		if _, ok := c.request.(*fifev1.RestoreClusterRequest); ok {
			t.Error("something was sent")
		}
	}
}
