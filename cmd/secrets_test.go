package cmd_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/fifegateway/fife/agent"
	"github.com/fifegateway/fife/controlplane"
	"github.com/fifegateway/fife/controlplane/identity"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// canaryString is what is planted as a secret. It is refused nowhere and stands
// nowhere else.
const (
	canaryString = "CANARY-5ebd4ff1-in-a-coal-mine"
	canaryOther  = "CANARY-90aa71c3-of-the-canary"
	canaryBad    = "CANARY-6c11d0e2 is refused"
)

// TestSecrets plants strings as secrets and searches for them: they are in the
// requests of the agent that serves the stage, and nowhere else.
func TestSecrets(t *testing.T) {
	var upstream lockedBuffer
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintln(&upstream, r.URL.Path)
	}))
	defer backend.Close()
	sealer, err := identity.NewSealer(identity.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	var logs lockedBuffer
	logger := slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	dir, port, admin := t.TempDir(), freeAddress(), freeAddress()
	node, err := controlplane.New(controlplane.Config{
		Name: "n1", DataDir: filepath.Join(dir, "n1"), Single: true, GRPCListen: port, RaftListen: freeAddress(), AdminListen: admin,
		Logger: logger, Registry: prometheus.NewRegistry(), Sealer: sealer,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 3)
	go func() { ended <- node.Run(ctx) }()
	admins := []string{admin}
	traffic := map[string]string{}
	for name, api := range map[string]string{"serves": "demo", "other": "another"} {
		traffic[name] = freeAddress()
		admins = append(admins, freeAddress())
		edge, err := agent.New(agent.Config{
			ID: name, ControlPlane: []string{port}, StateDir: filepath.Join(dir, name), APIs: []string{api},
			HTTPListen: traffic[name], AdminListen: admins[len(admins)-1], AllowUpstream: nil,
			Logger: logger, Registry: prometheus.NewRegistry(),
			DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())},
		})
		if err != nil {
			t.Fatal(err)
		}
		go func() { ended <- edge.Run(ctx) }()
	}
	conn, err := grpc.NewClient(port, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	var answers strings.Builder // all that the control plane says
	call := func(method string, req, resp proto.Message) error {
		err := conn.Invoke(ctx, "/fife.v1."+method, req, resp)
		_, _ = fmt.Fprintf(&answers, "%s %s %v\n", method, protojson.Format(resp), err)
		return err
	}
	must := func(method string, req, resp proto.Message) {
		t.Helper()
		if err := call(method, req, resp); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
	}
	const stage = "apis/demo/stages/prod"
	must("ApiService/CreateApi", &fifev1.CreateApiRequest{ApiId: "demo"}, &fifev1.CreateApiResponse{})
	must("ApiService/CreateApi", &fifev1.CreateApiRequest{ApiId: "another"}, &fifev1.CreateApiResponse{})
	must("ApiService/PutRoute", &fifev1.PutRouteRequest{Parent: "apis/demo", Route: &fifev1.Route{
		Method: "GET", Path: "/x", Integration: &fifev1.Integration{Kind: &fifev1.Integration_Http{
			Http: &fifev1.HttpIntegration{Uri: backend.URL + "/${stageVariables.plain}/${stageVariables.token}"},
		}},
	}}, &fifev1.PutRouteResponse{})
	must("DeploymentService/CreateDeployment", &fifev1.CreateDeploymentRequest{Parent: "apis/demo"}, &fifev1.CreateDeploymentResponse{})
	must("StageService/CreateStage", &fifev1.CreateStageRequest{Parent: "apis/demo", StageId: "prod", RequestId: "r1", Stage: &fifev1.Stage{
		Deployment: "apis/demo/deployments/1", Variables: map[string]string{"plain": "p1"}, SecretVariables: map[string]string{"token": canaryString},
	}}, &fifev1.CreateStageResponse{})
	seen := func(want string) {
		t.Helper()
		for by := time.Now().Add(patience); !strings.Contains(upstream.String(), want); {
			if time.Now().After(by) {
				t.Fatalf("no request to %s:\n%s", want, &logs)
			}
			_, _ = get(ctx, "http://"+traffic["serves"]+"/prod/x") // it answers 404 until it has the stage
			<-time.After(20 * time.Millisecond)
		}
	}
	seen("/p1/" + canaryString)

	// What was read and is sent back keeps the secret; so does a change of the others.
	update := func(s *fifev1.Stage, fields ...string) {
		t.Helper()
		s.Name = stage
		must("StageService/UpdateStage", &fifev1.UpdateStageRequest{Stage: s, UpdateMask: &fieldmaskpb.FieldMask{Paths: fields}}, &fifev1.UpdateStageResponse{})
	}
	update(&fifev1.Stage{Variables: map[string]string{"plain": "p2"}}, "variables")
	update(&fifev1.Stage{SecretVariables: map[string]string{"token": ""}}, "secret_variables")
	seen("/p2/" + canaryString)
	must("StageService/StartCanary", &fifev1.StartCanaryRequest{Name: stage, Canary: &fifev1.Canary{
		Percent: 50, SecretOverrides: map[string]string{"token": canaryOther},
	}}, &fifev1.StartCanaryResponse{})
	seen("/p2/" + canaryOther)
	dry := &fifev1.StartCanaryRequest{Name: stage, Replace: true, ValidateOnly: true, Canary: &fifev1.Canary{SecretOverrides: map[string]string{"token": canaryOther}}}
	must("StageService/StartCanary", dry, &fifev1.StartCanaryResponse{})
	must("StageService/PromoteCanary", &fifev1.PromoteCanaryRequest{Name: stage}, &fifev1.PromoteCanaryResponse{})
	must("StageService/RollbackStage", &fifev1.RollbackStageRequest{Name: stage}, &fifev1.RollbackStageResponse{})
	for _, bad := range []map[string]string{{"token": canaryBad}, {"no name": canaryString}, {"plain": canaryString}, {"unknown": ""}} {
		req := &fifev1.UpdateStageRequest{
			Stage:      &fifev1.Stage{Name: stage, Variables: map[string]string{"plain": "p"}, SecretVariables: bad},
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"secret_variables", "variables"}},
		}
		if err := call("StageService/UpdateStage", req, &fifev1.UpdateStageResponse{}); err == nil {
			t.Errorf("the secrets %v were taken", bad)
		}
	}
	got := &fifev1.GetStageResponse{}
	must("StageService/GetStage", &fifev1.GetStageRequest{Name: stage}, got)
	if s := got.GetStage(); len(s.GetVariables()) != 1 || len(s.GetSecretVariables()) != 1 || s.GetSecretVariables()["token"] != "" {
		t.Errorf("the stage is shown as %v", s)
	}
	must("StageService/ListStages", &fifev1.ListStagesRequest{Parent: "apis/-"}, &fifev1.ListStagesResponse{})
	must("StageService/ListStageRevisions", &fifev1.ListStageRevisionsRequest{Parent: stage}, &fifev1.ListStageRevisionsResponse{})
	must("FleetService/ListAgents", &fifev1.ListAgentsRequest{}, &fifev1.ListAgentsResponse{})
	audit := &fifev1.ListAuditEntriesResponse{}
	must("AuditService/ListAuditEntries", &fifev1.ListAuditEntriesRequest{Resource: stage}, audit)
	if n := len(audit.GetEntries()); n < 6 || !strings.Contains(audit.GetEntries()[0].GetAfter()["variables.token"], "secret") {
		t.Errorf("the audit has %d entries, the first %v", n, audit.GetEntries())
	}
	backup, err := fifev1.NewClusterServiceClient(conn).BackupCluster(ctx, &fifev1.BackupClusterRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var copied bytes.Buffer
	for {
		m, err := backup.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		copied.Write(m.GetData())
	}
	places := map[string]string{"the answers": answers.String(), "the backup": copied.String()}
	for _, address := range admins {
		if places["the metrics of "+address], err = get(ctx, "http://"+address+"/metrics"); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	for range 3 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	places["the logs"] = logs.String()
	for _, folder := range []string{"n1", "other"} {
		err := filepath.WalkDir(filepath.Join(dir, folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			places[path] = string(data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	encoded := base64.RawStdEncoding.EncodeToString([]byte("CANARY-"))[:9] // what all of them begin with
	for place, text := range places {
		if text == "" && strings.HasPrefix(place, "the ") {
			t.Errorf("%s is empty", place)
		}
		if strings.Contains(text, "CANARY-") || strings.Contains(text, encoded) {
			t.Errorf("%s holds a secret", place)
		}
	}
}
