package api

import (
	"context"
	"log/slog"
	"path"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// levelOf returns the level at which the end of a call is logged. Calls that succeed
// are counted, and changes are in the history of what they changed.
func levelOf(code codes.Code) logging.Level {
	if code == codes.OK {
		return logging.LevelDebug
	}
	return logging.DefaultServerCodeToLevel(code)
}

// unaryLog logs the ends of calls, as logging.StreamServerInterceptor does those of
// streams. Of a call that is not logged it does nothing but ask: to gather what would
// be logged costs a twentieth of a change.
func unaryLog(logger *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		begin := time.Now()
		resp, err := handler(ctx, req)
		level := slog.Level(levelOf(status.Code(err)))
		if !logger.Enabled(ctx, level) {
			return resp, err
		}
		attrs := []slog.Attr{
			slog.String("grpc.service", path.Dir(info.FullMethod)[1:]),
			slog.String("grpc.method", path.Base(info.FullMethod)),
			slog.String("grpc.code", status.Code(err).String()),
			slog.Duration("took", time.Since(begin)),
		}
		if p, ok := peer.FromContext(ctx); ok {
			attrs = append(attrs, slog.String("peer.address", p.Addr.String()))
		}
		if err != nil {
			attrs = append(attrs, slog.Any("grpc.error", err))
		}
		logger.LogAttrs(ctx, level, "finished call", attrs...)
		return resp, err
	}
}
