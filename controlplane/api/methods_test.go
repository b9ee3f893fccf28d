package api_test

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// services are the files of fife.v1 that define services.
var services = []protoreflect.FileDescriptor{
	fifev1.File_fife_v1_api_proto, fifev1.File_fife_v1_deployment_proto, fifev1.File_fife_v1_stage_proto,
	fifev1.File_fife_v1_fleet_proto, fifev1.File_fife_v1_cluster_proto, fifev1.File_fife_v1_audit_proto,
}

// methods returns all methods of fife.v1 by the names of their requests.
func methods() map[protoreflect.FullName]protoreflect.MethodDescriptor {
	all := map[protoreflect.FullName]protoreflect.MethodDescriptor{}
	for _, file := range services {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				all[m.Input().FullName()] = m
			}
		}
	}
	return all
}

// fullMethod returns a method's name as gRPC spells it.
func fullMethod(m protoreflect.MethodDescriptor) string {
	return fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
}

// call makes the unary call that a request is for, and drops the answer.
func (b *bench) call(ctx context.Context, node string, req proto.Message) error {
	_, err := b.ask(ctx, node, req)
	return err
}

func (b *bench) ask(ctx context.Context, node string, req proto.Message) (proto.Message, error) {
	b.t.Helper()
	m, ok := methods()[req.ProtoReflect().Descriptor().FullName()]
	if !ok || m.IsStreamingServer() || m.IsStreamingClient() {
		b.t.Fatalf("%T is no request of a unary method", req)
	}
	response, err := protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName())
	if err != nil {
		b.t.Fatal(err)
	}
	resp := response.New().Interface()
	err = b.nodes[node].Invoke(ctx, fullMethod(m), req, resp)
	return resp, err
}

// mutates reports whether a method takes a request_id, as all changes do.
func mutates(m protoreflect.MethodDescriptor) bool {
	return m.Input().Fields().ByName("request_id") != nil
}

func isList(m protoreflect.MethodDescriptor) bool { return strings.HasPrefix(string(m.Name()), "List") }
