package proxy

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/fifegateway/fife/agent/route"
)

// discard is a response writer that costs nothing but its headers.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteString(s string) (int, error) {
	return len(s), nil
}
func (d *discard) WriteHeader(int) {}

func BenchmarkServeHTTPMock(b *testing.B) {
	for _, expose := range []bool{false, true} {
		name := "plain"
		if expose {
			name = "exposed"
		}
		b.Run(name, func(b *testing.B) {
			table := mocks(b, func(s *route.StageSpec) { canary(100_000)(s); s.ExposeHeaders = expose })
			p := newProxy(b, table, nil)
			r := httptest.NewRequest(http.MethodGet, "/prod/pets/42?verbose=1", nil)
			w := &discard{make(http.Header)}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				p.ServeHTTP(w, r)
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
