package proxy

import (
	"testing"

	"github.com/fifegateway/fife/agent/http1"
	"github.com/fifegateway/fife/agent/route"
)

// discard is a client that costs nothing.
type discard struct{ client }

func (discard) begin(*exchange, *response, []byte) error { return nil }
func (discard) write([]byte) error                       { return nil }
func (discard) end([]http1.Field) error                  { return nil }

func BenchmarkHandleMock(b *testing.B) {
	for _, expose := range []bool{false, true} {
		name := "plain"
		if expose {
			name = "exposed"
		}
		b.Run(name, func(b *testing.B) {
			table := mocks(b, func(s *route.StageSpec) { canary(100_000)(s); s.ExposeHeaders = expose })
			p := newProxy(b, table, nil)
			var x exchange
			b.ReportAllocs()
			for b.Loop() {
				x = exchange{head: head{method: "GET", host: "demo.localhost", path: "/prod/pets/42", query: "verbose=1", proto: "HTTP/1.1"}}
				p.begin(&x)
				p.handle(discard{}, &x)
				scratches.Put(x.scratch)
			}
		})
	}
}

func BenchmarkNormalizePath(b *testing.B) {
	for name, path := range map[string]string{"normal": "/prod/pets/42/toys", "dots": "/prod/pets/../pets/%2e/42/toys"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = normalizePath(path)
			}
		})
	}
}

func BenchmarkLambdaResponse(b *testing.B) {
	payload := []byte(`{"statusCode":200,"headers":{"Content-Type":"text/plain"},"body":"Hello from Lambda v1"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseLambdaResponse(payload, "", nil); err != nil {
			b.Fatal(err)
		}
	}
}
