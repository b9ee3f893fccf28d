package api

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Local calls the unary methods of this node's services without a connection. A call
// goes through all that a client's goes through: it is counted, logged, permitted and
// passed on to the leader alike, and its error is the status that a client would get.
// What the interceptors look for in a context (a peer, an identity) is the caller's to
// put there. It is safe for concurrent use once all services are registered.
type Local struct {
	interceptors []grpc.UnaryServerInterceptor
	methods      map[string]localMethod
}

type localMethod struct {
	desc    grpc.MethodDesc
	service any
}

var (
	_ grpc.ServiceRegistrar    = (*Local)(nil)
	_ grpc.ClientConnInterface = (*Local)(nil)
)

// NewLocal returns a Local without services.
func NewLocal(i *Interceptors) *Local {
	return &Local{interceptors: i.unary, methods: map[string]localMethod{}}
}

// RegisterService adds the unary methods of a service.
func (l *Local) RegisterService(desc *grpc.ServiceDesc, service any) {
	for _, m := range desc.Methods {
		l.methods["/"+desc.ServiceName+"/"+m.MethodName] = localMethod{m, service}
	}
}

// Invoke calls a method. The messages are copied, so neither side sees what the other
// does with its own.
func (l *Local) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	m, ok := l.methods[method]
	if !ok {
		return status.Errorf(codes.Unimplemented, "unknown method %s", method)
	}
	ctx = metadata.NewIncomingContext(ctx, metadata.MD{})
	ctx = grpc.NewContextWithServerTransportStream(ctx, localStream(method))
	decode := func(into any) error {
		proto.Merge(into.(proto.Message), args.(proto.Message))
		return nil
	}
	resp, err := m.desc.Handler(m.service, ctx, decode, l.intercept)
	if err != nil {
		return err
	}
	proto.Merge(reply.(proto.Message), resp.(proto.Message))
	return nil
}

// NewStream is refused: nothing here needs one.
func (l *Local) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unimplemented, "streams need a connection")
}

// intercept calls a handler through the interceptors, the first outermost.
func (l *Local) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	for i := len(l.interceptors) - 1; i >= 0; i-- {
		next, further := l.interceptors[i], handler
		handler = func(ctx context.Context, req any) (any, error) { return next(ctx, req, info, further) }
	}
	return handler(ctx, req)
}

// localStream tells handlers which method was called. There is nobody to send headers
// to.
type localStream string

func (s localStream) Method() string             { return string(s) }
func (localStream) SetHeader(metadata.MD) error  { return nil }
func (localStream) SetTrailer(metadata.MD) error { return nil }

func (s localStream) SendHeader(metadata.MD) error {
	return fmt.Errorf("%s was called without a connection, which has no headers", string(s))
}
