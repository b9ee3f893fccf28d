package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/fifegateway/fife/agent/http1"
	"github.com/fifegateway/fife/agent/route"
)

// staged is a connection whose methods live below a stage.
type staged struct {
	*grpc.ClientConn
	stage string
}

func (s staged) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return s.ClientConn.Invoke(ctx, s.stage+method, args, reply, opts...)
}

func (s staged) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return s.ClientConn.NewStream(ctx, desc, s.stage+method, opts...)
}

// h2c starts a server that speaks HTTP/2 without TLS, and nothing else.
func h2c(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// TestGRPC speaks gRPC end to end: to a server behind net/http, which announces
// its trailers, and to one of its own, which does not.
func TestGRPC(t *testing.T) {
	own := func(t *testing.T, s *grpc.Server) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(s.Stop)
		return "http://" + l.Addr().String()
	}
	behind := func(t *testing.T, s *grpc.Server) string {
		return h2c(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if te := r.Header.Get("Te"); te != "trailers" {
				t.Errorf("upstream saw te %q", te)
			}
			s.ServeHTTP(w, r)
		})).URL
	}
	secure := func(t *testing.T, s *grpc.Server) string {
		up := httptest.NewUnstartedServer(s)
		up.EnableHTTP2 = true
		up.StartTLS()
		t.Cleanup(up.Close)
		return up.URL
	}
	for name, start := range map[string]func(*testing.T, *grpc.Server) string{"own": own, "behind net/http": behind, "tls": secure} {
		t.Run(name, func(t *testing.T) {
			checker := health.NewServer()
			server := grpc.NewServer()
			healthpb.RegisterHealthServer(server, checker)
			url := start(t, server)
			p := newProxy(t, compile(t, stage(nil), route.HTTPSpec{URI: url + "/{proxy}"}), func(c *Config) { c.MaxBody = 1 })
			p.grpc.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
			conn, err := grpc.NewClient(strings.TrimPrefix(edge(t, p).URL, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			client := healthpb.NewHealthClient(staged{conn, "/prod"})

			var header, trailer metadata.MD
			res, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{}, grpc.Header(&header), grpc.Trailer(&trailer))
			if err != nil || res.GetStatus() != healthpb.HealthCheckResponse_SERVING {
				t.Fatalf("Check: %v, %v", res, err)
			}
			if v := header.Get("x-fife-variant"); len(v) != 1 || v[0] != "base" {
				t.Errorf("x-fife-variant: %q", v)
			}
			// The status of a failed call is in the trailers.
			_, err = client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "none"})
			if status.Code(err) != codes.NotFound {
				t.Errorf("Check of an unknown service: %v, want NotFound", err)
			}

			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			watch, err := client.Watch(ctx, &healthpb.HealthCheckRequest{Service: "s"})
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []healthpb.HealthCheckResponse_ServingStatus{
				healthpb.HealthCheckResponse_SERVICE_UNKNOWN, healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING,
			} {
				if want != healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
					checker.SetServingStatus("s", want)
				}
				if got, err := watch.Recv(); err != nil || got.GetStatus() != want {
					t.Fatalf("Watch: %v, %v; want %v", got, err, want)
				}
			}
			cancel()
			if _, err := watch.Recv(); status.Code(err) != codes.Canceled {
				t.Errorf("Watch after cancel: %v", err)
			}

			other := healthpb.NewHealthClient(staged{conn, "/nowhere"})
			if _, err := other.Check(t.Context(), &healthpb.HealthCheckRequest{}); status.Code(err) != codes.PermissionDenied {
				t.Errorf("Check on no stage: %v, want what gRPC makes of a 403", err)
			}
		})
	}
}

// TestPastDeadline: a deadline is up to eight digits and a unit, as gRPC's HTTP/2
// protocol has it, and counts from the request; what is none never passes.
func TestPastDeadline(t *testing.T) {
	for value, want := range map[string]bool{
		"1S": true, "999m": true, "999999u": true, "99999999n": true,
		"2S": false, "1M": false, "1H": false, "1100m": false,
		"": false, "S": false, "1": false, "1s": false, "-1S": false, "1.5S": false, "000000001S": false,
	} {
		x := exchange{start: time.Now().Add(-time.Second)}
		x.fields = []http1.Field{{Name: "Grpc-Timeout", Value: value}}
		if got := x.pastDeadline(); got != want {
			t.Errorf("%q, a second later: %v, want %v", value, got, want)
		}
	}
}
