package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// fake is a control plane of canned answers on a loopback port. It answers a
// method that it was told nothing of with an empty message, and records all.
type fake struct {
	address string
	server  *grpc.Server

	mu      sync.Mutex
	answers map[string]answer
	calls   []call
}

// answer handles one call: it sends any number of messages.
type answer func(ctx context.Context, request proto.Message, send func(proto.Message) error) error

type call struct {
	method  string // such as StageService/GetStage
	request proto.Message
}

func newFake(t *testing.T) *fake {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{address: listener.Addr().String(), answers: map[string]answer{
		"FleetService/WaitForVersion": reply(&fifev1.WaitForVersionResponse{Done: true}),
	}}
	f.server = grpc.NewServer(grpc.UnknownServiceHandler(f.handle))
	served := make(chan error, 1)
	go func() { served <- f.server.Serve(listener) }()
	t.Cleanup(func() {
		f.server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("serve: %v", err)
		}
	})
	return f
}

func (f *fake) handle(_ any, stream grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(stream)
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(full, "/"), "/", "."))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return status.Errorf(codes.Unimplemented, "unknown method %s", full)
	}
	method := found.(protoreflect.MethodDescriptor)
	short := strings.TrimPrefix(full, "/fife.v1.")
	request, err := f.receive(stream, short, method)
	if err != nil {
		return err
	}
	f.mu.Lock()
	handler := f.answers[short]
	f.mu.Unlock()
	if handler == nil {
		handler = reply(newMessage(method.Output()))
	}
	return handler(stream.Context(), request, func(m proto.Message) error { return stream.SendMsg(m) })
}

// receive records what a caller sends and returns the last of it: a caller that
// streams is heard to the end.
func (f *fake) receive(stream grpc.ServerStream, short string, method protoreflect.MethodDescriptor) (proto.Message, error) {
	for last := newMessage(method.Input()); ; {
		request := newMessage(method.Input())
		err := stream.RecvMsg(request)
		if method.IsStreamingClient() && errors.Is(err, io.EOF) {
			return last, nil
		}
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		f.calls = append(f.calls, call{short, request})
		f.mu.Unlock()
		if last = request; !method.IsStreamingClient() {
			return last, nil
		}
	}
}

func newMessage(d protoreflect.MessageDescriptor) proto.Message {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		panic(err)
	}
	return kind.New().Interface()
}

// on sets the answer to a method.
func (f *fake) on(method string, a answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[method] = a
}

// take returns the calls since the last take.
func (f *fake) take() []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

// reply sends messages and ends well.
func reply(messages ...proto.Message) answer {
	return func(_ context.Context, _ proto.Message, send func(proto.Message) error) error {
		for _, m := range messages {
			if err := send(m); err != nil {
				return err
			}
		}
		return nil
	}
}

// refuse ends with an error, after some messages if any are given.
func refuse(err error, messages ...proto.Message) answer {
	return func(ctx context.Context, request proto.Message, send func(proto.Message) error) error {
		if err := reply(messages...)(ctx, request, send); err != nil {
			return err
		}
		return err
	}
}

// hang sends messages, then waits for the caller to go away.
func hang(messages ...proto.Message) answer {
	return func(ctx context.Context, request proto.Message, send func(proto.Message) error) error {
		if err := reply(messages...)(ctx, request, send); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}
}

// crash breaks every connection of the control plane while the call is in it.
func (f *fake) crash() answer {
	return func(ctx context.Context, _ proto.Message, _ func(proto.Message) error) error {
		go f.server.Stop()
		<-ctx.Done()
		return ctx.Err()
	}
}

// fifeError is an error as the control plane makes it.
func fifeError(code codes.Code, reason, message string, metadata map[string]string, violations ...string) error {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: reason, Domain: "fife", Metadata: metadata}}
	if len(violations) > 0 {
		bad := &errdetails.BadRequest{}
		for _, v := range violations {
			field, text, _ := strings.Cut(v, ": ")
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: field, Description: text})
		}
		details = append(details, bad)
	}
	st, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return st.Err()
}

// result is what one command line did.
type result struct {
	code     int
	out, err string
}

// fife runs a command line in this process against addresses.
func fife(t *testing.T, servers string, args ...string) result {
	t.Helper()
	return fifeWith(t.Context(), t, streams{}, servers, args...)
}

func fifeWith(ctx context.Context, t *testing.T, s streams, servers string, args ...string) result {
	t.Helper()
	t.Setenv("FIFE_SERVER", servers)
	if os.Getenv("FIFE_CONFIG_DIR") == "" {
		t.Setenv("FIFE_CONFIG_DIR", t.TempDir())
	}
	var out, errs bytes.Buffer
	s.out, s.err = &out, &errs
	if s.in == nil {
		s.in = strings.NewReader("")
	}
	code := run(ctx, args, s)
	return result{code, out.String(), errs.String()}
}

// want compares a result and says what differs.
func (r result) want(t *testing.T, code int, out, errs string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	if r.out != out {
		t.Errorf("out:\n%s\nwant:\n%s", r.out, out)
	}
	if r.err != errs {
		t.Errorf("err:\n%s\nwant:\n%s", r.err, errs)
	}
}

// golden compares text with a file of testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s differs; run go test -update and look at the difference\ngot:\n%s", path, text)
	}
}

// oneLine writes a message as JSON whose white space does not vary.
func oneLine(t *testing.T, m proto.Message) string {
	t.Helper()
	raw, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		t.Fatal(err)
	}
	return uuid().ReplaceAllString(line.String(), "UUID")
}

// uuid matches version 4 of RFC 9562, which request ids are minted in.
func uuid() *regexp.Regexp {
	return regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)
}

// pagesOf answers a listing: the page token is the number of the page, counted
// from 1, and the first page has none.
func pagesOf(pages ...proto.Message) answer {
	return func(_ context.Context, request proto.Message, send func(proto.Message) error) error {
		token := request.(interface{ GetPageToken() string }).GetPageToken()
		if token == "" {
			token = "1"
		}
		n, err := strconv.Atoi(token)
		if err != nil || n > len(pages) {
			return status.Errorf(codes.InvalidArgument, "page token %q", token)
		}
		return send(pages[n-1])
	}
}
