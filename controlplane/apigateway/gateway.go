package apigateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// Limits of a request's body, in bytes. A document to import may be as large as it may
// be for the service.
const (
	maxBody     = 1 << 20
	maxDocument = 6 << 20
)

// Verifier finds out who sends a request.
type Verifier interface {
	// Verify returns the context in which the request's calls are made, which says who
	// makes them, or why the request is refused. It may read the body, which it leaves to
	// be read again.
	Verify(r *http.Request) (context.Context, error)
}

// Config says what a Gateway works on. Conn and Logger are required.
type Config struct {
	Conn     grpc.ClientConnInterface // leads to the operators' services
	Verifier Verifier                 // nil asks nobody who they are

	// Count decides whether whoever sends a request has sent too many. verified is what the
	// Verifier has returned, nil if it has refused. nil counts nothing.
	Count func(verified context.Context, source net.Addr) error

	// Refused is told of each request that the Verifier has refused, with the name of its
	// operation; nil if nobody wants to know.
	Refused func(r *http.Request, operation string, err error)

	Account string // twelve digits, for ARNs and messages; empty means zeros
	Region  string // for ARNs; empty means us-east-1
	Logger  *slog.Logger
}

// Gateway answers the management API. It is an http.Handler, safe for concurrent use.
type Gateway struct {
	config      Config
	apis        fifev1.ApiServiceClient
	deployments fifev1.DeploymentServiceClient
	stages      fifev1.StageServiceClient
}

// New returns a Gateway.
func New(c Config) *Gateway {
	if c.Account == "" {
		c.Account = "000000000000"
	}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	return &Gateway{
		config:      c,
		apis:        fifev1.NewApiServiceClient(c.Conn),
		deployments: fifev1.NewDeploymentServiceClient(c.Conn),
		stages:      fifev1.NewStageServiceClient(c.Conn),
	}
}

// call is one request of an operation.
type call struct {
	ctx   context.Context
	path  []string // values of the operation's path parameters, in order
	query url.Values
	body  []byte
	head  http.Header
}

// read decodes the body, which may be empty, as JSON. Members that it does not know are
// ignored, as by the service.
func (c *call) read(into any) error {
	if len(bytes.TrimSpace(c.body)) == 0 {
		return nil
	}
	if err := json.Unmarshal(c.body, into); err != nil {
		return &apiError{http.StatusBadRequest, "SerializationException", fmt.Sprintf("The request body is no valid JSON of this operation: %v", err)}
	}
	return nil
}

// answer is what an operation comes to.
type answer struct {
	status int
	body   any // encoded as JSON, or raw
}

// raw is a body that goes out as it is.
type raw struct {
	contentType, fileName string
	data                  []byte
}

// ServeHTTP answers one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := newRequestID()
	w.Header().Set("x-amzn-RequestId", id)
	w.Header().Set("x-amz-apigw-id", id)
	defer func() {
		if p := recover(); p != nil {
			g.config.Logger.Error("handler panicked", "request_id", id, "panic", p, "stack", string(debug.Stack()))
			g.refuse(w, internalFailure)
		}
	}()
	got, err := g.serve(w, r)
	if err != nil {
		refusal := g.errorOf(err)
		if status.Code(err) == codes.PermissionDenied {
			refusal = g.denied(r, err)
		}
		if refusal == internalFailure {
			g.config.Logger.Error("request failed", "request_id", id, "method", r.Method, "path", r.URL.EscapedPath(), "error", err)
		}
		g.refuse(w, refusal)
		return
	}
	switch body := got.body.(type) {
	case nil:
		w.WriteHeader(got.status)
	case raw:
		w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", body.fileName))
		write(w, got.status, body.contentType, body.data)
	default:
		data, err := json.Marshal(body)
		if err != nil {
			panic(err) // only our own shapes come here
		}
		write(w, got.status, "application/json", data)
	}
}

func write(w http.ResponseWriter, status int, contentType string, data []byte) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(data) // the client is gone, which is its own business
}

func (g *Gateway) refuse(w http.ResponseWriter, e *apiError) {
	w.Header().Set("x-amzn-ErrorType", e.kind)
	if e.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	data, _ := json.Marshal(struct { // of a string, which never fails
		Message string `json:"message"`
	}{e.message})
	write(w, e.status, "application/json", data)
}

func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) (answer, error) {
	op, params, ok := findOperation(r)
	if !ok {
		return answer{}, errUnknownOperation
	}
	limit := int64(maxBody)
	if op.document {
		limit = maxDocument
	}
	r.Body = http.MaxBytesReader(w, r.Body, limit)
	ctx, err := g.verify(r, op)
	if err != nil {
		return answer{}, err
	}
	body, err := readBody(r)
	if err != nil {
		return answer{}, err
	}
	ctx = peer.NewContext(ctx, &peer.Peer{Addr: source(r.RemoteAddr)})
	if op.handle == nil {
		return answer{}, &apiError{http.StatusNotImplemented, "NotImplementedException",
			fmt.Sprintf("Fife does not implement %s", op.name)}
	}
	return op.handle(g, &call{ctx: ctx, path: params, query: r.URL.Query(), body: body, head: r.Header})
}

// source is the address that a request comes from.
type source string

// Network returns the network of HTTP.
func (source) Network() string { return "tcp" }

func (s source) String() string { return string(s) }

// verify returns the context in which the calls of a request are made.
func (g *Gateway) verify(r *http.Request, op *operation) (context.Context, error) {
	if g.config.Verifier == nil {
		return r.Context(), nil
	}
	ctx, refused := g.config.Verifier.Verify(r)
	if g.config.Count != nil {
		if err := g.config.Count(ctx, source(r.RemoteAddr)); err != nil {
			return nil, err
		}
	}
	if refused != nil && g.config.Refused != nil {
		g.config.Refused(r, op.name, refused)
	}
	return ctx, refused
}

// readBody reads the body of a request that is bounded by http.MaxBytesReader.
func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &apiError{http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException",
			fmt.Sprintf("The request body has more than %d bytes", tooLarge.Limit)}
	}
	if err != nil {
		return nil, badRequest("The request body could not be read: %v", err)
	}
	return body, nil
}

// newRequestID returns a random UUID (RFC 9562, version 4).
func newRequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
