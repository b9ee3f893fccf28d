package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// TestRefusals compares what the user reads, and the exit code, for every reason
// that the control plane may give.
func TestRefusals(t *testing.T) {
	stage := map[string]string{"resource": "apis/demo/stages/canary"}
	cases := []struct {
		reason string
		code   codes.Code
		text   string
		meta   map[string]string
		fields []string
		line   string
	}{
		{"INVALID_FIELD", codes.InvalidArgument, "the request has wrong fields", nil,
			[]string{"canary.percent: 12.3456789 has more than four decimals", "canary.variable_overrides: name \"a b\" has a space"},
			"canary start demo/canary --percent 12.3456"},
		{"INVALID_FIELD", codes.InvalidArgument, "the request has bad fields: api_id: \"BAD\" must have lower-case letters", nil,
			[]string{"api_id: \"BAD\" must have lower-case letters"}, "api create BAD"},
		{"INVALID_FIELD", codes.InvalidArgument, "the request has bad fields: document: line 1: one; document: line 2: two", nil,
			[]string{"document: line 1: one", "document: line 2: two"}, "api import demo -f testdata/errors.golden"},
		{"PROPOSAL_TOO_LARGE", codes.InvalidArgument, "the change is too large", map[string]string{"size": "600000", "limit": "524288"}, nil,
			"canary abort demo/canary"},
		{"REQUEST_ID_REUSED", codes.InvalidArgument, "request id \"r1\" was used for another call", nil, nil,
			"canary abort demo/canary --request-id r1"},
		{"RESOURCE_NOT_FOUND", codes.NotFound, "stage demo/canary does not exist", stage, nil, "canary abort demo/canary"},
		{"RESOURCE_NOT_FOUND", codes.NotFound, "API demo does not exist", map[string]string{"resource": "apis/demo"}, nil, "api get demo"},
		{"RESOURCE_NOT_FOUND", codes.NotFound, "deployment demo/7 does not exist", map[string]string{"resource": "apis/demo/deployments/7"}, nil,
			"deployment get demo/7"},
		{"RESOURCE_NOT_FOUND", codes.NotFound, "route GET /a of API demo does not exist", map[string]string{"resource": "apis/demo/routes/GET"}, nil,
			"route delete demo GET /a"},
		{"RESOURCE_NOT_FOUND", codes.NotFound, "remove n9: no such member", map[string]string{"resource": "members/n9"}, nil, "cluster remove n9"},
		{"RESOURCE_NOT_FOUND", codes.NotFound, "transfer leadership to n9: no such member that votes", nil, nil, "cluster transfer-leader --to n9"},
		{"RESOURCE_EXISTS", codes.AlreadyExists, "id n2 belongs to another member, at 10.1.0.2:7401", map[string]string{"resource": "members/n2"}, nil,
			"cluster join n2 --raft-address 10.1.0.9:7401 --grpc-address 10.1.0.9:7400"},
		{"RESOURCE_EXISTS", codes.AlreadyExists, "address 10.1.0.2:7401 belongs to another member, n2", nil, nil,
			"cluster join n9 --raft-address 10.1.0.2:7401 --grpc-address 10.1.0.9:7400"},
		{"RESOURCE_EXISTS", codes.AlreadyExists, "API demo exists", map[string]string{"resource": "apis/demo"}, nil, "api create demo"},
		{"CANARY_EXISTS", codes.AlreadyExists, "stage demo/canary has a canary at 10 %", stage, nil, "canary start demo/canary --percent 20"},
		{"STALE_ETAG", codes.Aborted, "the etag of stage demo/canary is not the current one",
			map[string]string{"resource": "apis/demo/stages/canary", "etag": "s7"}, nil, "canary abort demo/canary --etag s4"},
		{"STALE_ETAG", codes.Aborted, "the etag of API demo is not the current one",
			map[string]string{"resource": "apis/demo", "etag": "a7"}, nil, "api delete demo --etag a1"},
		{"NO_CANARY", codes.FailedPrecondition, "stage demo/canary has no canary", stage, nil, "canary promote demo/canary"},
		{"PROMOTION_OPEN", codes.FailedPrecondition, "stage demo/canary has an open promotion, 42, which is ROLLING",
			map[string]string{"resource": "apis/demo/stages/canary", "promotion": "42", "state": "ROLLING"}, nil, "canary set demo/canary --percent 20"},
		{"NO_PROMOTION", codes.FailedPrecondition, "stage demo/canary has no open promotion", stage, nil, "canary resume demo/canary"},
		{"API_EMPTY", codes.FailedPrecondition, "the draft of API demo has no routes", map[string]string{"resource": "apis/demo"}, nil, "deploy demo"},
		{"ROUTE_INCOMPLETE", codes.FailedPrecondition, "route GET /a has no integration",
			map[string]string{"resource": "apis/demo", "route": "GET /a"}, nil, "deploy demo"},
		{"DEPLOYMENT_IN_USE", codes.FailedPrecondition, "deployment demo/2 is in use",
			map[string]string{"resource": "apis/demo/deployments/2", "used_by": "apis/demo/stages/canary"}, nil, "deployment delete demo/2"},
		{"API_IN_USE", codes.FailedPrecondition, "API demo has stages",
			map[string]string{"resource": "apis/demo", "used_by": "apis/demo/stages/canary"}, nil, "api delete demo"},
		{"NO_HISTORY", codes.FailedPrecondition, "stage demo/canary has no earlier base", stage, nil, "stage rollback demo/canary"},
		{"NOT_CAUGHT_UP", codes.FailedPrecondition, "member n3 is 12 entries behind", map[string]string{"resource": "members/n3"}, nil, "status"},
		{"NO_LEADER", codes.Unavailable, "no leader is known", nil, nil, "canary abort demo/canary"},
		{"OUTCOME_UNKNOWN", codes.Unknown, "the leader changed while the change was written", nil, nil, "canary abort demo/canary --request-id r1"},
		{"OUTCOME_UNKNOWN", codes.Unknown, "the leader changed while the change was written", nil, nil,
			"canary abort demo/canary --request-id r1 --etag s4"},
		{"INTERNAL", codes.Internal, "assertion failed", nil, nil, "api get demo"},
		{"IMPORT_SUPERSEDED", codes.Aborted, "another import into apis/demo began", map[string]string{"resource": "apis/demo"}, nil, "api import demo -f testdata/errors.golden"},
		{"LIMIT_REACHED", codes.ResourceExhausted, "API demo has 10000 routes", map[string]string{"resource": "apis/demo", "limit": "10000"}, nil,
			"route put demo GET /a --mock-status 200"},
		{"QUORUM_AT_RISK", codes.FailedPrecondition,
			"remove n2: the cluster would lose its majority: 2 voters would remain, of which 1 can be reached", nil, nil, "cluster remove n2"},
		{"NO_CHECKPOINT", codes.FailedPrecondition, "hash state at 12: no checkpoint at that index", nil, nil, "cluster verify"},
		{"BAD_BACKUP", codes.InvalidArgument, "bad snapshot: record 0: unexpected EOF", nil, nil, "cluster restore -f testdata/errors.golden"},
		{"NOT_EMPTY", codes.FailedPrecondition, "the cluster is not empty: it has 1 APIs; restore into a new cluster", nil, nil,
			"cluster restore -f testdata/errors.golden"},
		{"DISK_FULL", codes.ResourceExhausted, "the leader's disk is nearly full: 100 MiB are free, 128 MiB are needed", nil, nil, "canary abort demo/canary"},
		{"OTHER_CLUSTER", codes.FailedPrecondition, "the caller belongs to another cluster: it is of c-1, this node of c-2", nil, nil, "cluster verify"},
		{"NOT_SUPPORTED", codes.FailedPrecondition,
			"not all nodes can read this change yet: it has schema 2, node n3 reads up to 1; upgrade that node first", nil, nil, "canary abort demo/canary"},
		{"UNAUTHENTICATED", codes.Unauthenticated, "the caller is not known: show a client certificate", nil, nil, "canary abort demo/canary"},
		{"PERMISSION_DENIED", codes.PermissionDenied, "permission denied: it is not for spiffe://c/agent/edge-1", nil, nil, "canary abort demo/canary"},
		{"JOIN_REFUSED", codes.PermissionDenied, "agent/edge-1 has joined already", nil, nil, "canary abort demo/canary"},
		{"ISSUER_UNAVAILABLE", codes.Unavailable, "the issuer of tokens cannot be reached: https://issuer.example gives no keys", nil, nil, "canary abort demo/canary"},
		{"ROTATION_OPEN", codes.FailedPrecondition, "another rotation of the root is under way; take it to its end, or abort it", map[string]string{"phase": "trust"}, nil, "ca abort"},
		{"NO_ROTATION", codes.FailedPrecondition, "no rotation of the root is under way; begin one first", nil, nil, "ca switch"},
		{"WOULD_CUT_OFF", codes.FailedPrecondition, "this would cut off user/ann (its certificate is by the old root: fife certificate renew)", map[string]string{"names": "user/ann", "count": "1"}, nil, "ca retire"},
		{"OTHER_KEY", codes.FailedPrecondition, "the backup's secrets are sealed with a key that this cluster does not have",
			nil, nil, "cluster restore -f testdata/errors.golden"},
		{"LAST_ADMIN", codes.FailedPrecondition, "user:ann is admin of the cluster, and nobody else is of everything; make somebody else one first",
			nil, nil, "canary abort demo/canary"},
		{"SAME_PROMOTER", codes.PermissionDenied, "user:ann may not promote the canary of apis/demo/stages/canary", stage, nil, "canary promote demo/canary"},
		{"PROMOTION_NEEDED", codes.FailedPrecondition, "apis/demo/stages/canary requires another promoter", stage, nil, "stage update demo/canary --deployment 2"},
		{"CALLERS_UNKNOWN", codes.FailedPrecondition, "apis/demo/stages/canary cannot require another promoter", stage, nil,
			"stage update demo/canary --require-other-promoter"},
		{"RATE_LIMITED", codes.ResourceExhausted, "user/ann calls more often than 100 times a second", nil, nil, "canary abort demo/canary"},
		{"TOO_MANY_STREAMS", codes.ResourceExhausted, "user/ann has 200 streams open on this node", nil, nil, "canary watch demo/canary"},
		{"CANCELED", codes.Canceled, "the call was cancelled", nil, nil, "api get demo"},
		{"DEADLINE_EXCEEDED", codes.DeadlineExceeded, "the call's deadline has passed", nil, nil, "api get demo"},
		{"DEADLINE_EXCEEDED", codes.DeadlineExceeded, "the call's deadline has passed", nil, nil, "canary abort demo/canary"},
		{"NO_CLUSTER_KEY", codes.FailedPrecondition, "access keys are for clusters that ask who calls: this node speaks plaintext, or does not have the cluster's key yet",
			nil, nil, "access-key create ci"},
		// Calls without a request id.
		{"OUTCOME_UNKNOWN", codes.Unknown, "the change may or may not have been carried out", nil, nil, "cluster remove n2"},
		{"NO_LEADER", codes.Unavailable, "no leader is known", nil, nil, "cluster remove n2"},
		// Reasons of a newer control plane still read well.
		{"BRAND_NEW", codes.FailedPrecondition, "the moon is full", nil, nil, "api get demo"},
		{"BRAND_NEW", codes.FailedPrecondition, "", nil, nil, "api get demo"},
		// Errors that no Fife control plane made.
		{"", codes.Unimplemented, "unknown method GetApi", nil, nil, "api get demo"},
		{"", codes.PermissionDenied, "the proxy\x1b[2J says no", nil, nil, "api delete demo"},
		{"", codes.Internal, "stream terminated by RST_STREAM", nil, nil, "api delete demo --request-id r1"},
		{"", codes.Internal, "stream terminated by RST_STREAM", nil, nil, "api delete demo --dry-run"},
		{"", codes.Internal, "stream terminated by RST_STREAM", nil, nil, "api get demo"},
		{"", codes.Internal, "stream terminated by RST_STREAM", nil, nil, "cluster transfer-leader"},
		{"", codes.PermissionDenied, "the proxy\x1b[2J says no", nil, nil, "cluster transfer-leader"},
	}
	f := newFake(t)
	var text strings.Builder
	seen := map[string]bool{}
	for _, c := range cases {
		seen[c.reason] = true
		err := status.Error(c.code, c.text)
		if c.reason != "" {
			err = fifeError(c.code, c.reason, c.text, c.meta, c.fields...)
		}
		f.answers = everything(refuse(err))
		r := fife(t, f.address, strings.Fields(c.line)...)
		if r.out != "" {
			t.Errorf("fife %s printed an answer: %s", c.line, r.out)
		}
		fmt.Fprintf(&text, "# %s %s\n$ fife %s\n%sexit %d\n\n", c.code, c.reason, c.line, r.err, r.code)
	}
	golden(t, "errors", text.String())

	for name := range fifev1.ErrorReason_value {
		reason := strings.TrimPrefix(name, "ERROR_REASON_")
		if reason != "UNSPECIFIED" && !seen[reason] {
			t.Errorf("no case for reason %s", reason)
		}
	}
}

// everything gives one answer to every method.
func everything(a answer) map[string]answer {
	answers := map[string]answer{}
	files := []protoreflect.FileDescriptor{fifev1.File_fife_v1_api_proto, fifev1.File_fife_v1_deployment_proto,
		fifev1.File_fife_v1_stage_proto, fifev1.File_fife_v1_fleet_proto, fifev1.File_fife_v1_cluster_proto, fifev1.File_fife_v1_accesskey_proto,
		fifev1.File_fife_v1_authority_proto}
	for _, file := range files {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				answers[string(service.Name())+"/"+string(service.Methods().Get(j).Name())] = a
			}
		}
	}
	return answers
}

// TestDeadline: a change that got no answer in time may have been made; a
// question that got none has a plainer end.
func TestDeadline(t *testing.T) {
	f := newFake(t)
	f.on("ApiService/DeleteApi", hang())
	f.on("ApiService/GetApi", hang())

	r := fife(t, f.address, "api", "delete", "demo", "--timeout", "500ms", "--request-id", "r1")
	if r.code != exitUnknown || !strings.Contains(r.err, "repeat the command with --request-id r1 to find out") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	r = fife(t, f.address, "api", "get", "demo", "--timeout", "500ms")
	if r.code != exitUnreachable || !strings.Contains(r.err, "--timeout") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
}

// TestRepeat: the id that is printed when the outcome is unknown is the one that
// was sent, and a command repeated with it sends the same again.
func TestRepeat(t *testing.T) {
	f := newFake(t)
	f.on("StageService/PromoteCanary", refuse(fifeError(codes.Unknown, "OUTCOME_UNKNOWN", "the leader changed", nil)))
	r := fife(t, f.address, "canary", "promote", "demo/canary")
	id := uuid().FindString(r.err)
	calls := f.take()
	if r.code != exitUnknown || id == "" || len(calls) != 1 {
		t.Fatalf("exit %d, %d calls: %s", r.code, len(calls), r.err)
	}

	f.on("StageService/PromoteCanary", reply(&fifev1.PromoteCanaryResponse{}))
	r = fife(t, f.address, "canary", "promote", "demo/canary", "--request-id", id)
	again := f.take()
	if r.code != exitOK || len(again) != 1 {
		t.Fatalf("exit %d, %d calls: %s", r.code, len(again), r.err)
	}
	if !proto.Equal(calls[0].request, again[0].request) {
		t.Errorf("sent %s, then %s", oneLine(t, calls[0].request), oneLine(t, again[0].request))
	}
}

// TestRepeatEdit: a command that builds on what is there can be repeated too,
// with the etag that it names, after its change has gone through.
func TestRepeatEdit(t *testing.T) {
	f := demo(t)
	f.on("StageService/UpdateStage", refuse(fifeError(codes.Unknown, "OUTCOME_UNKNOWN", "the leader changed", nil)))
	r := fife(t, f.address, "stage", "update", "demo/canary", "--var", "color=red", "--unset-var", "size")
	_, flags, _ := strings.Cut(r.err, "repeat the command with ")
	flags, _, _ = strings.Cut(flags, " to find out")
	first := f.take()

	changed := demoStage()
	changed.Variables, changed.Etag = map[string]string{"color": "red"}, "s5"
	f.on("StageService/GetStage", reply(&fifev1.GetStageResponse{Stage: changed}))
	fife(t, f.address, append([]string{"stage", "update", "demo/canary", "--var", "color=red", "--unset-var", "size"}, strings.Fields(flags)...)...)
	second := f.take()
	if len(first) != 2 || len(second) != 2 {
		t.Fatalf("%d and %d calls", len(first), len(second))
	}
	if !proto.Equal(first[1].request, second[1].request) {
		t.Errorf("sent %s, then %s", oneLine(t, first[1].request), oneLine(t, second[1].request))
	}
}

func TestMintedRequestIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		id := newUUID()
		if uuid().FindString(id) != id || seen[id] {
			t.Fatalf("%q is no new UUID", id)
		}
		seen[id] = true
	}
}

// TestInterrupt tells a call that never left from one that did.
func TestInterrupt(t *testing.T) {
	f := newFake(t)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	r := fifeWith(canceled, t, streams{}, f.address, "api", "delete", "demo")
	r.want(t, exitFailed, "", "fife: interrupted before anything was sent\n")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.on("ApiService/DeleteApi", func(ctx context.Context, _ proto.Message, _ func(proto.Message) error) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	r = fifeWith(ctx, t, streams{}, f.address, "api", "delete", "demo", "--request-id", "r1")
	if r.code != exitUnknown || !strings.Contains(r.err, "--request-id r1") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
}

// TestPlainError: an error without a code of its own, as a broken pipe, is a
// failure.
func TestPlainError(t *testing.T) {
	var text strings.Builder
	if code := report(&text, errors.New("no\nspace")); code != exitFailed || text.String() != "fife: no\n  space\n" {
		t.Errorf("exit %d: %q", code, text.String())
	}
	f := demo(t)
	t.Setenv("FIFE_SERVER", f.address)
	if code := run(t.Context(), []string{"api", "get", "demo"}, streams{out: brokenPipe{}, err: &text}); code != exitFailed {
		t.Errorf("exit %d", code)
	}
	if !strings.Contains(text.String(), "print the answer: broken pipe") {
		t.Errorf("%q", text.String())
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// TestReadBeforeChange: a change that cannot read what it builds on is not sent.
func TestReadBeforeChange(t *testing.T) {
	for _, line := range []string{
		"stage update demo/canary --var color=red", "stage update demo/canary --sticky none", "canary set demo/canary --override color=red",
	} {
		f := demo(t)
		f.on("StageService/GetStage", refuse(fifeError(codes.NotFound, "RESOURCE_NOT_FOUND", "stage demo/canary does not exist",
			map[string]string{"resource": "apis/demo/stages/canary"})))
		r := fife(t, f.address, strings.Fields(line)...)
		r.want(t, exitFailed, "", "fife: stage demo/canary does not exist\n  see what there is with: fife stage list demo\n")
		if calls := f.take(); len(calls) != 1 {
			t.Errorf("fife %s: %d calls", line, len(calls))
		}
	}
}

// TestBrokenListing: half a listing is none.
func TestBrokenListing(t *testing.T) {
	f := demo(t)
	f.on("ApiService/ListApis", pagesOf(&fifev1.ListApisResponse{Apis: []*fifev1.Api{demoAPI()}, NextPageToken: "2"}))
	fife(t, f.address, "api", "list").want(t, exitFailed, "", "fife: InvalidArgument: page token \"2\"\n")
}
