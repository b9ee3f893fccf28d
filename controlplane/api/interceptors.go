package api

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
)

// ServerOptions returns the interceptors of a node's gRPC server, outermost
// first: metrics and the log see what the client sees; errors become statuses; a
// panic becomes an error; nodes of other clusters are refused; what needs the
// leader goes to the leader.
func ServerOptions(
	guard *ClusterGuard, f *Forwarder, logger *slog.Logger, registerer prometheus.Registerer,
) []grpc.ServerOption {
	metrics := grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram())
	registerer.MustRegister(metrics)
	log := logging.LoggerFunc(func(ctx context.Context, level logging.Level, msg string, fields ...any) {
		logger.Log(ctx, slog.Level(level), msg, fields...)
	})
	events := logging.WithLogOnEvents(logging.FinishCall)
	recovered := recovery.WithRecoveryHandler(func(p any) error {
		logger.Error("handler panicked", "panic", p, "stack", string(debug.Stack()))
		return fmt.Errorf("handler panicked: %v", p)
	})
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(
			metrics.UnaryServerInterceptor(),
			logging.UnaryServerInterceptor(log, events),
			unaryStatus,
			recovery.UnaryServerInterceptor(recovered),
			guard.unary,
			f.Unary,
		),
		grpc.ChainStreamInterceptor(
			metrics.StreamServerInterceptor(),
			logging.StreamServerInterceptor(log, events),
			streamStatus,
			recovery.StreamServerInterceptor(recovered),
			guard.stream,
		),
	}
}

func unaryStatus(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	resp, err := handler(ctx, req)
	return resp, toStatus(err)
}

func streamStatus(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return toStatus(handler(srv, stream))
}
