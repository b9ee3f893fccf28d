package api

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// ErrOtherCluster says that a node of another cluster has called.
var ErrOtherCluster = errors.New("the caller belongs to another cluster")

// clusterHeader carries the caller's cluster between nodes.
const clusterHeader = "fife-cluster"

// ClusterGuard keeps nodes of different clusters apart: an address that has moved
// from one to the other must not bring them together. It is safe for concurrent
// use.
type ClusterGuard struct{ id func() string }

// NewClusterGuard returns the guard of a node. id returns its cluster; empty
// while that is unknown, which fits any.
func NewClusterGuard(id func() string) *ClusterGuard { return &ClusterGuard{id} }

// DialOptions make calls to other nodes name the cluster.
func (g *ClusterGuard) DialOptions() []grpc.DialOption {
	named := func(ctx context.Context) context.Context {
		if id := g.id(); id != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, clusterHeader, id)
		}
		return ctx
	}
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
			invoker grpc.UnaryInvoker, opts ...grpc.CallOption,
		) error {
			return invoker(named(ctx), method, req, reply, cc, opts...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn,
			method string, streamer grpc.Streamer, opts ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			return streamer(named(ctx), desc, cc, method, opts...)
		}),
	}
}

func (g *ClusterGuard) check(ctx context.Context) error {
	ours := g.id()
	for _, theirs := range metadata.ValueFromIncomingContext(ctx, clusterHeader) {
		if ours != "" && theirs != ours {
			return fmt.Errorf("%w: it is of %s, this node of %s", ErrOtherCluster, theirs, ours)
		}
	}
	return nil
}

func (g *ClusterGuard) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := g.check(ctx); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (g *ClusterGuard) stream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := g.check(stream.Context()); err != nil {
		return err
	}
	return handler(srv, stream)
}
