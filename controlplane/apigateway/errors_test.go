package apigateway

import (
	"errors"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestErrors: what the services refuse is no failure of the server, whatever the reason.
func TestErrors(t *testing.T) {
	g := New(Config{})
	for _, tt := range []struct {
		code   codes.Code
		reason string
		status int
		kind   string
	}{
		{codes.InvalidArgument, "INVALID_FIELD", 400, "BadRequestException"},
		{codes.InvalidArgument, "SOMETHING_NEW", 400, "BadRequestException"},
		{codes.NotFound, "RESOURCE_NOT_FOUND", 404, "NotFoundException"},
		{codes.AlreadyExists, "RESOURCE_EXISTS", 409, "ConflictException"},
		{codes.FailedPrecondition, "PROMOTION_OPEN", 409, "ConflictException"},
		{codes.FailedPrecondition, "PROMOTION_NEEDED", 409, "ConflictException"},
		{codes.FailedPrecondition, "SOMETHING_NEW", 409, "ConflictException"},
		{codes.Aborted, "IMPORT_SUPERSEDED", 409, "ConflictException"},
		{codes.Aborted, "STALE_ETAG", 409, "ConflictException"},
		{codes.FailedPrecondition, "CALLERS_UNKNOWN", 400, "BadRequestException"},
		{codes.FailedPrecondition, "NO_CLUSTER_KEY", 400, "BadRequestException"},
		{codes.FailedPrecondition, "API_EMPTY", 400, "BadRequestException"},
		{codes.ResourceExhausted, "PROPOSAL_TOO_LARGE", 400, "BadRequestException"},
		{codes.ResourceExhausted, "LIMIT_REACHED", 429, "LimitExceededException"},
		{codes.ResourceExhausted, "RATE_LIMITED", 429, "TooManyRequestsException"},
		{codes.Unauthenticated, "UNAUTHENTICATED", 403, "UnrecognizedClientException"},
		{codes.Unavailable, "NO_LEADER", 503, "ServiceUnavailableException"},
		{codes.Internal, "INTERNAL", 500, "InternalFailure"},
	} {
		s, err := status.New(tt.code, "why").WithDetails(&errdetails.ErrorInfo{Domain: "fife", Reason: tt.reason})
		if err != nil {
			t.Fatal(err)
		}
		if got := g.errorOf(s.Err()); got.status != tt.status || got.kind != tt.kind {
			t.Errorf("%s (%v) is %d %s, want %d %s", tt.reason, tt.code, got.status, got.kind, tt.status, tt.kind)
		}
	}
	if got := g.errorOf(errors.New("a bug")); got != internalFailure {
		t.Errorf("an error of the server is %v", got)
	}
}
