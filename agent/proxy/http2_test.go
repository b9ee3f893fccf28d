package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/fifegateway/fife/agent/route"
)

// overHTTP2 runs a test against an agent that speaks HTTP/2 over TLS, and without.
func overHTTP2(t *testing.T, table *route.Table, test func(t *testing.T, address string, secure *tls.Config)) {
	for _, name := range []string{"h2c", "TLS"} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var server, client *tls.Config
			if name == "TLS" {
				certified := httptest.NewUnstartedServer(nil)
				certified.StartTLS()
				defer certified.Close()
				server = &tls.Config{Certificates: certified.TLS.Certificates}
				client = certified.Client().Transport.(*http.Transport).TLSClientConfig
			}
			p := newProxy(t, table, nil)
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- p.Serve(ctx, l, server) }()
			test(t, l.Addr().String(), client)
			stop()
			if err := await(t, "the server's end", done); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHTTP2Trailers: trailers pass by the same rules as those of HTTP/1, and those of
// requests end at the agent.
func TestHTTP2Trailers(t *testing.T) {
	table := proxied(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || len(r.Trailer) > 0 || len(r.Header["Trailer"]) > 0 {
			t.Errorf("the upstream saw %q, %v, trailers %v", body, err, r.Trailer)
		}
		_, _ = w.Write(body)
		_ = http.NewResponseController(w).Flush() // or it would have a length, and no trailers
		for _, name := range []string{"X-Sum", "X-Fife-Version", "Authorization", "Set-Cookie"} {
			w.Header().Set(http.TrailerPrefix+name, "4")
		}
	})
	overHTTP2(t, table, func(t *testing.T, address string, secure *tls.Config) {
		transport := &http.Transport{TLSClientConfig: secure, Protocols: new(http.Protocols)}
		transport.Protocols.SetHTTP2(true)
		transport.Protocols.SetUnencryptedHTTP2(true)
		defer transport.CloseIdleConnections()
		scheme := "http://"
		if secure != nil {
			scheme = "https://"
		}
		r := request(t, "POST", scheme+address+"/prod/x", io.MultiReader(strings.NewReader("body")))
		r.Trailer = http.Header{"X-Asked": {"3"}}
		res, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.ProtoMajor != 2 || res.StatusCode != 200 || string(body) != "body" {
			t.Errorf("got %v with %q, %v", res, body, err)
		}
		if len(res.Trailer) != 1 || res.Trailer.Get("X-Sum") != "4" {
			t.Errorf("got the trailers %v, want X-Sum alone", res.Trailer)
		}
	})
}

// patient is a gRPC server that answers once its caller has given up, and says by when
// that had to be.
type patient struct {
	healthpb.UnimplementedHealthServer
	deadline chan bool
}

func (s patient) Check(ctx context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-cost", "7", "x-fife-version", "9.9"))
	if r.GetService() == "wait" {
		_, ok := ctx.Deadline()
		<-ctx.Done()
		s.deadline <- ok
		return nil, status.FromContextError(ctx.Err()).Err() // it may be faster than the caller's own
	}
	return nil, status.Error(codes.ResourceExhausted, "enough")
}

// TestGRPCEnds: what ends a call passes, whichever side it comes from: the caller's
// deadline gets to the server, and the server's status and trailers to the caller.
func TestGRPCEnds(t *testing.T) {
	server := grpc.NewServer()
	service := patient{deadline: make(chan bool, 1)}
	healthpb.RegisterHealthServer(server, service)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	table := compile(t, stage(nil), route.HTTPSpec{URI: "http://" + l.Addr().String() + "/{proxy}"})
	overHTTP2(t, table, func(t *testing.T, address string, secure *tls.Config) {
		creds := insecure.NewCredentials()
		if secure != nil {
			creds = credentials.NewTLS(secure.Clone())
		}
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		client := healthpb.NewHealthClient(staged{conn, "/prod"})

		var trailer metadata.MD
		_, err = client.Check(t.Context(), &healthpb.HealthCheckRequest{}, grpc.Trailer(&trailer))
		if s := status.Convert(err); s.Code() != codes.ResourceExhausted || s.Message() != "enough" {
			t.Errorf("got %v", err)
		}
		if cost := trailer.Get("x-cost"); len(cost) != 1 || cost[0] != "7" || slices.Contains(trailer.Get("x-fife-version"), "9.9") {
			t.Errorf("got the trailers %v", trailer)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: "wait"}); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("after the deadline: %v", err)
		}
		if !await(t, "the server to see the end", service.deadline) {
			t.Error("the server was not told the deadline")
		}
	})
}
