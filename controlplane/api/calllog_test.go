package api

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestCallLog: calls that fail are logged with what was wrong, calls that succeed for
// those who look at everything.
func TestCallLog(t *testing.T) {
	info := &grpc.UnaryServerInfo{FullMethod: "/fife.v1.StageService/GetStage"}
	for name, tt := range map[string]struct {
		level slog.Level
		err   error
		want  string
	}{
		"success":           {slog.LevelInfo, nil, ""},
		"success, in debug": {slog.LevelDebug, nil, "level=DEBUG msg=\"finished call\" grpc.service=fife.v1.StageService grpc.method=GetStage grpc.code=OK"},
		"not found":         {slog.LevelInfo, status.Error(codes.NotFound, "no such stage"), "level=INFO"},
		"internal":          {slog.LevelWarn, status.Error(codes.Internal, "broken"), "level=ERROR"},
		"no status":         {slog.LevelWarn, errors.New("broken"), "grpc.error=broken"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: tt.level}))
			resp, err := unaryLog(logger)(t.Context(), "asked", info, func(_ context.Context, req any) (any, error) { return req, tt.err })
			if resp != "asked" || !errors.Is(err, tt.err) {
				t.Errorf("returned %v, %v", resp, err)
			}
			if got := log.String(); !strings.Contains(got, tt.want) || (tt.want == "") != (got == "") {
				t.Errorf("logged %q, want %q", got, tt.want)
			}
		})
	}
}
