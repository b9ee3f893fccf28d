package api

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/fifegateway/fife/controlplane/openapi"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// maxRequest is the most bytes of a request: an OpenAPI document and what is around
// it.
const maxRequest = openapi.MaxDocument + 64<<10

// Interceptors are what the calls of a node go through, whether they come over a
// connection or from within: see Local.
type Interceptors struct {
	unary  []grpc.UnaryServerInterceptor
	stream grpc.StreamServerInterceptor
}

// NewInterceptors returns the interceptors of a node, outermost
// first: metrics and the log see what the client sees; errors become statuses; a
// panic becomes an error; what the log does not record is noted for the audit; who
// calls is verified; nodes of other clusters are refused; so is what the caller may
// not do; what needs the leader goes to the leader.
func NewInterceptors(
	auditor *Auditor, callers *Callers, authorizer *Authorizer, guard *ClusterGuard, f *Forwarder, logger *slog.Logger, registerer prometheus.Registerer,
) *Interceptors {
	metrics := grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram())
	registerer.MustRegister(metrics)
	log := logging.LoggerFunc(func(ctx context.Context, level logging.Level, msg string, fields ...any) {
		logger.Log(ctx, slog.Level(level), msg, fields...)
	})
	levels := logging.WithLevels(levelOf)
	events := logging.WithLogOnEvents(logging.FinishCall)
	recovered := recovery.WithRecoveryHandler(func(p any) error {
		logger.Error("handler panicked", "panic", p, "stack", string(debug.Stack()))
		return fmt.Errorf("handler panicked: %v", p)
	})
	return &Interceptors{
		unary: []grpc.UnaryServerInterceptor{
			metrics.UnaryServerInterceptor(),
			unaryLog(logger),
			auditor.unary,
			unaryStatus(logger),
			recovery.UnaryServerInterceptor(recovered),
			callers.unary,
			noteUnary,
			guard.unary,
			authorizer.unary,
			f.Unary,
		},
		stream: streams(
			nested(auditor.stream, streamStatus(logger), recovery.StreamServerInterceptor(recovered), callers.stream, noteStream,
				guard.stream, authorizer.stream),
			metrics.StreamServerInterceptor(),
			logging.StreamServerInterceptor(log, events, levels),
		),
	}
}

// ServerOptions puts the interceptors into a gRPC server.
func (i *Interceptors) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.ChainUnaryInterceptor(i.unary...),
		grpc.StreamInterceptor(i.stream),
	}
}

// streams returns the interceptors of streams: those that protect the node, and
// around them those that watch. Agents' streams do without the latter. There are
// thousands, for days, each with memory for every call on its goroutine's stack and
// every stream wrapped around the last; and their own service counts and logs them.
func streams(inner grpc.StreamServerInterceptor, watch ...grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	all := nested(append(watch, inner)...)
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if info.FullMethod == discoveryv1.DiscoveryService_Stream_FullMethodName {
			return inner(srv, stream, info, handler)
		}
		return all(srv, stream, info, handler)
	}
}

// nested returns interceptors as one, the first outermost.
func nested(all ...grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		for _, next := range slices.Backward(all) {
			further := handler
			handler = func(srv any, stream grpc.ServerStream) error { return next(srv, stream, info, further) }
		}
		return handler(srv, stream)
	}
}

// unaryStatus turns errors into statuses. What the client is not told is logged
// here, and nowhere else.
func unaryStatus(logger *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		resp, err := handler(ctx, req)
		return resp, statusOf(logger, info.FullMethod, err)
	}
}

func streamStatus(logger *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return statusOf(logger, info.FullMethod, handler(srv, stream))
	}
}

func statusOf(logger *slog.Logger, method string, err error) error {
	result := toStatus(err)
	if reasonOf(result) == reasonInternal && reasonOf(err) == "" {
		logger.Error("internal error", "method", method, "error", err)
	}
	return result
}
