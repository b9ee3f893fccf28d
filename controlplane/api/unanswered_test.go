package api

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// TestUnanswered: a call to the leader that ended without a word of it may have been a
// change; what the leader has said stays.
func TestUnanswered(t *testing.T) {
	change, read := &fifev1.CreateApiRequest{}, &fifev1.GetApiRequest{}
	for _, c := range []struct {
		req    proto.Message
		err    error
		code   codes.Code
		reason string
	}{
		{change, status.Error(codes.Unavailable, ""), codes.Unknown, "OUTCOME_UNKNOWN"},
		{change, status.Error(codes.DeadlineExceeded, ""), codes.Unknown, "OUTCOME_UNKNOWN"},
		{change, status.Error(codes.Canceled, ""), codes.Unknown, "OUTCOME_UNKNOWN"},
		{read, status.Error(codes.DeadlineExceeded, ""), codes.DeadlineExceeded, "DEADLINE_EXCEEDED"},
		{read, status.Error(codes.Canceled, ""), codes.Canceled, "CANCELED"},
		{change, toStatus(context.DeadlineExceeded), codes.DeadlineExceeded, "DEADLINE_EXCEEDED"},
	} {
		got := toStatus(unanswered("n1", c.req, c.err))
		if status.Code(got) != c.code || reasonOf(got) != c.reason {
			t.Errorf("%T, %v: %v with reason %q, want %v %q", c.req, c.err, got, reasonOf(got), c.code, c.reason)
		}
	}
}
