package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/signin"
	"github.com/fifegateway/fife/controlplane/store"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// TestToStatus: an error becomes one status with one ErrorInfo, however it is
// wrapped, and its reason is one that is declared.
func TestToStatus(t *testing.T) {
	refused := release.Missing("apis/a")
	remote := withInfo(codes.Aborted, "theirs", "STALE_ETAG", nil)
	tests := []struct {
		err    error
		code   codes.Code
		reason string // empty if there is none
	}{
		{nil, codes.OK, ""},
		{refused, codes.NotFound, "RESOURCE_NOT_FOUND"},
		{&store.TooLargeError{Size: 1 << 20}, codes.InvalidArgument, "PROPOSAL_TOO_LARGE"},
		{store.ErrNotLeader, codes.Unavailable, "NO_LEADER"},
		{fmt.Errorf("%w: %w", store.ErrNotLeader, store.ErrOutcomeUnknown), codes.Unavailable, "NO_LEADER"},
		{store.ErrOutcomeUnknown, codes.Unknown, "OUTCOME_UNKNOWN"},
		{fmt.Errorf("%w: %w", store.ErrOutcomeUnknown, context.DeadlineExceeded), codes.Unknown, "OUTCOME_UNKNOWN"},
		{fmt.Errorf("%w: %w", store.ErrOutcomeUnknown, status.Error(codes.Unavailable, "gone")), codes.Unknown, "OUTCOME_UNKNOWN"},
		{store.ErrMemberConflict, codes.AlreadyExists, "RESOURCE_EXISTS"},
		{store.ErrNoMember, codes.NotFound, "RESOURCE_NOT_FOUND"},
		{store.ErrDiskFull, codes.ResourceExhausted, "DISK_FULL"},
		{store.ErrNotSupported, codes.FailedPrecondition, "NOT_SUPPORTED"},
		{ErrNoClusterKey, codes.FailedPrecondition, "NO_CLUSTER_KEY"},
		{ErrUnauthenticated, codes.Unauthenticated, "UNAUTHENTICATED"},
		{ErrDenied, codes.PermissionDenied, "PERMISSION_DENIED"},
		{signin.ErrUnavailable, codes.Unavailable, "ISSUER_UNAVAILABLE"},
		{&limitError{caller: "user/ann"}, codes.ResourceExhausted, "RATE_LIMITED"},
		{&limitError{caller: "user/ann", streams: true}, codes.ResourceExhausted, "TOO_MANY_STREAMS"},
		{store.ErrQuorumAtRisk, codes.FailedPrecondition, "QUORUM_AT_RISK"},
		{store.ErrNotCaughtUp, codes.FailedPrecondition, "NOT_CAUGHT_UP"},
		{remote, codes.Aborted, "STALE_ETAG"},
		{context.Canceled, codes.Canceled, "CANCELED"},
		{context.DeadlineExceeded, codes.DeadlineExceeded, "DEADLINE_EXCEEDED"},
		{status.Error(codes.Unimplemented, "no"), codes.Unimplemented, ""},
		{io.ErrUnexpectedEOF, codes.Internal, "INTERNAL"},
	}
	for _, tt := range tests {
		for _, err := range []error{tt.err, wrapped(tt.err)} {
			got := toStatus(err)
			var infos []*errdetails.ErrorInfo
			for _, d := range status.Convert(got).Details() {
				if info, ok := d.(*errdetails.ErrorInfo); ok {
					infos = append(infos, info)
				}
			}
			wantInfos := min(len(tt.reason), 1)
			if status.Code(got) != tt.code || len(infos) != wantInfos || reasonOf(got) != tt.reason {
				t.Errorf("%v: got %v with %v, want %v and %q", err, got, infos, tt.code, tt.reason)
			}
			if tt.reason != "" {
				wantDeclared(t, tt.reason)
			}
			if tt.code == codes.Internal && strings.Contains(got.Error(), tt.err.Error()) {
				t.Errorf("%v tells clients of the inside", got)
			}
		}
	}
}

func wrapped(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("do something: %w", err)
}

func wantDeclared(t *testing.T, reason string) {
	t.Helper()
	if _, ok := fifev1.ErrorReason_value["ERROR_REASON_"+reason]; !ok {
		t.Errorf("reason %s is not declared", reason)
	}
}

// TestRefusalCodes: every reason of the rules has a code, and a name in the
// contract.
func TestRefusalCodes(t *testing.T) {
	for _, reason := range []release.Reason{
		release.InvalidField, release.RequestIDReused, release.NotFound, release.Exists, release.CanaryExists,
		release.StaleEtag, release.NoCanary, release.APIEmpty, release.RouteIncomplete, release.DeploymentInUse,
		release.APIInUse, release.NoHistory, release.LimitReached, release.SamePromoter, release.PromotionNeeded, release.CallersUnknown,
	} {
		if refusalCodes[reason] == codes.OK {
			t.Errorf("%s has no code", reason)
		}
		wantDeclared(t, string(reason))
	}
	if got := status.Code(toStatus(&release.Refusal{Reason: "LATER"})); got != codes.Internal {
		t.Errorf("a reason of a later build became %v", got)
	}
}

// TestRefusalDetails: violations become a BadRequest, metadata that of the info.
func TestRefusalDetails(t *testing.T) {
	var v release.Violations
	v.Addf("b", "is wrong")
	v.Addf("a", "is missing")
	details := status.Convert(toStatus(v.Err())).Details()
	if len(details) != 2 {
		t.Fatalf("got %v", details)
	}
	bad, ok := details[1].(*errdetails.BadRequest)
	if !ok || len(bad.GetFieldViolations()) != 2 {
		t.Fatalf("got %v", details[1])
	}
	if f := bad.GetFieldViolations()[0]; f.GetField() != "a" || f.GetDescription() != "is missing" || f.GetReason() != "INVALID_FIELD" {
		t.Errorf("got %v", f)
	}
	info, ok := status.Convert(toStatus(release.Missing("apis/a"))).Details()[0].(*errdetails.ErrorInfo)
	if !ok || info.GetDomain() != "fife" || info.GetMetadata()["resource"] != "apis/a" {
		t.Errorf("got %v", info)
	}
}

// faulty is a service with a bug.
type faulty struct {
	fifev1.UnimplementedClusterServiceServer
	fault func()
}

func (f faulty) GetCluster(context.Context, *fifev1.GetClusterRequest) (*fifev1.GetClusterResponse, error) {
	f.fault()
	return nil, errors.New("the secret is 42")
}

func (f faulty) BackupCluster(*fifev1.BackupClusterRequest, grpc.ServerStreamingServer[fifev1.BackupClusterResponse]) error {
	f.fault()
	return errors.New("the secret is 42")
}

// logText is a log that can be read.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestInternalErrors: of a bug, clients learn that there is one, and the node's
// log says which, as the status promises.
func TestInternalErrors(t *testing.T) {
	for name, fault := range map[string]func(){"error": func() {}, "panic": func() { panic("the secret is 42") }} {
		t.Run(name, func(t *testing.T) {
			log := &logText{}
			guard := NewClusterGuard(func() string { return "" })
			auditor := NewAuditor(nil, nil, slog.New(slog.DiscardHandler))
			server := grpc.NewServer(NewInterceptors(auditor, nil, nil, guard, nil, slog.New(slog.NewTextHandler(log, nil)), prometheus.NewRegistry()).ServerOptions()...)
			fifev1.RegisterClusterServiceServer(server, faulty{fault: fault})
			listener := bufconn.Listen(1 << 16)
			served := make(chan error, 1)
			go func() { served <- server.Serve(listener) }()
			conn, err := grpc.NewClient("passthrough:///faulty", grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
			if err != nil {
				t.Fatal(err)
			}
			client := fifev1.NewClusterServiceClient(conn)
			_, unary := client.GetCluster(t.Context(), &fifev1.GetClusterRequest{})
			stream, err := client.BackupCluster(t.Context(), &fifev1.BackupClusterRequest{})
			if err != nil {
				t.Fatal(err)
			}
			_, streamed := stream.Recv()
			for _, err := range []error{unary, streamed} {
				if status.Code(err) != codes.Internal || reasonOf(err) != "INTERNAL" || strings.Contains(err.Error(), "secret") {
					t.Errorf("the client sees %v", err)
				}
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			server.GracefulStop()
			if err := <-served; err != nil {
				t.Error(err)
			}
			if n := strings.Count(log.String(), "the secret is 42"); n < 2 {
				t.Errorf("the log names the bug %d times of 2:\n%s", n, log)
			}
		})
	}
}
