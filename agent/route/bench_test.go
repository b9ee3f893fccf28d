package route

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/julienschmidt/httprouter"
)

// The peers of these benchmarks, net/http's ServeMux and httprouter, run beside
// them in one process, and results are also reported as shares of theirs: only
// such ratios say something on a noisy machine.

var sizes = []int{100, 1_000, 10_000}

// benchRoutes makes n routes of the shape of a real API, with random names:
// collections, items, and collections under items. paths holds a request for
// each of them, in random order.
func benchRoutes(n int) (routes []RouteSpec, paths []string) {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	word := func() string {
		var b strings.Builder
		for range 2 + random.IntN(3) {
			b.WriteByte("bcdfglmnprst"[random.IntN(12)])
			b.WriteByte("aeiou"[random.IntN(5)])
		}
		return b.String()
	}
	var service string
	for i := 0; len(routes) < n; i++ {
		if i%10 == 0 {
			service = fmt.Sprint("/", word(), i/10)
		}
		collection := fmt.Sprint(service, "/", word(), i%10)
		for _, template := range []string{collection, collection + "/{id}", collection + "/{id}/" + word()} {
			routes = append(routes, RouteSpec{
				Method:      "GET",
				Path:        template,
				Integration: HTTPSpec{URI: "http://upstream.example:8080/${stageVariables.root}/x"},
			})
			paths = append(paths, strings.ReplaceAll(template, "{id}", "1234567"))
		}
	}
	routes, paths = routes[:n], paths[:n]
	random.Shuffle(n, func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
	return routes, paths
}

func benchDeployment(b *testing.B, n int) (d *Deployment, paths []string) {
	b.Helper()
	routes, paths := benchRoutes(n)
	d, err := CompileDeployment(DeploymentSpec{API: "demo", Number: 1, Routes: routes})
	if err != nil {
		b.Fatal(err)
	}
	return d, paths
}

func benchSpec(d *Deployment, ppm uint32) Spec {
	return Spec{
		Version:     Version{1, 7},
		APIs:        []APISpec{{ID: "demo", Hosts: []string{"api.example.com"}}},
		Deployments: []*Deployment{d},
		Stages: []StageSpec{{
			API: "demo", ID: "prod", Deployment: 1,
			Variables: map[string]string{"root": "v1"},
			Canary:    &CanarySpec{Deployment: 1, PartsPerMillion: ppm, Salt: 42},
		}},
	}
}

// BenchmarkMatch is the match alone.
func BenchmarkMatch(b *testing.B) {
	for _, n := range sizes {
		d, paths := benchDeployment(b, n)
		v := &Variant{Deployment: d}
		peers := matchPeers(b, n, paths)
		b.Run(fmt.Sprint("fife/", n), func(b *testing.B) {
			b.ReportAllocs()
			var p Params
			for i := 0; b.Loop(); i++ {
				if v.Match("GET", paths[i%n], &p) == nil {
					b.Fatal(paths[i%n])
				}
			}
			peers.report(b)
		})
	}
}

// BenchmarkRequest is all that routing costs a request: host and stage, split
// and match. Its peers know no stages, so the stage is a part of their routes.
func BenchmarkRequest(b *testing.B) {
	for _, n := range sizes {
		d, paths := benchDeployment(b, n)
		t := compile(b, benchSpec(d, 100_000))
		for i := range paths {
			paths[i] = "/prod" + paths[i]
		}
		peers := matchPeers(b, n, paths)
		b.Run(fmt.Sprint("fife/", n), func(b *testing.B) {
			b.ReportAllocs()
			var p Params
			for i := 0; b.Loop(); i++ {
				s, rest, ok := t.Lookup("api.example.com", paths[i%n], "")
				if !ok || s.Pick(rand.Uint64()).Match("GET", rest, &p) == nil {
					b.Fatal(paths[i%n])
				}
			}
			peers.report(b)
		})
	}
}

func BenchmarkPick(b *testing.B) {
	s := canaryStage(b, 100_000, 42)
	b.Run("random", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Pick(rand.Uint64())
		}
	})
	b.Run("sticky", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Pick(s.Hash("user-1234567890"))
		}
	})
}

// BenchmarkCompile is what a new weight costs: it must not grow with the routes.
func BenchmarkCompile(b *testing.B) {
	for _, n := range sizes {
		d, _ := benchDeployment(b, n)
		b.Run(fmt.Sprint("fife/", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := uint32(0); b.Loop(); i++ {
				if _, err := Compile(benchSpec(d, i%million)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCompileDeployment(b *testing.B) {
	for _, n := range sizes {
		routes, _ := benchRoutes(n)
		var peers peers
		b.Run(fmt.Sprint("servemux/", n), func(b *testing.B) {
			for b.Loop() {
				newServeMux(routes, "")
			}
			peers.servemux = nsPerOp(b)
		})
		b.Run(fmt.Sprint("httprouter/", n), func(b *testing.B) {
			for b.Loop() {
				newHTTPRouter(routes, "")
			}
			peers.httprouter = nsPerOp(b)
		})
		b.Run(fmt.Sprint("fife/", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := CompileDeployment(DeploymentSpec{API: "demo", Number: 1, Routes: routes}); err != nil {
					b.Fatal(err)
				}
			}
			peers.report(b)
		})
	}
}

// peers holds what peers needed for one operation, in ns; 0 means not run.
type peers struct{ servemux, httprouter float64 }

func (p peers) report(b *testing.B) {
	if p.servemux > 0 {
		b.ReportMetric(nsPerOp(b)/p.servemux, "x_servemux")
	}
	if p.httprouter > 0 {
		b.ReportMetric(nsPerOp(b)/p.httprouter, "x_httprouter")
	}
}

func nsPerOp(b *testing.B) float64 { return float64(b.Elapsed().Nanoseconds()) / float64(b.N) }

// matchPeers measures how long peers need to find n routes. The routes begin
// with what paths have more than those of benchRoutes.
func matchPeers(b *testing.B, n int, paths []string) (p peers) {
	routes, plain := benchRoutes(n)
	prefix := strings.TrimSuffix(paths[0], plain[0])
	b.Run(fmt.Sprint("servemux/", n), func(b *testing.B) {
		b.ReportAllocs()
		mux := newServeMux(routes, prefix)
		r := httptest.NewRequest("GET", "/", nil)
		for i := 0; b.Loop(); i++ {
			r.URL.Path = paths[i%n]
			if _, pattern := mux.Handler(r); pattern == "" {
				b.Fatal(paths[i%n])
			}
		}
		p.servemux = nsPerOp(b)
	})
	b.Run(fmt.Sprint("httprouter/", n), func(b *testing.B) {
		b.ReportAllocs()
		router := newHTTPRouter(routes, prefix)
		for i := 0; b.Loop(); i++ {
			if h, _, _ := router.Lookup("GET", paths[i%n]); h == nil {
				b.Fatal(paths[i%n])
			}
		}
		p.httprouter = nsPerOp(b)
	})
	return p
}

func newServeMux(routes []RouteSpec, prefix string) *http.ServeMux {
	mux := http.NewServeMux()
	for i := range routes {
		mux.Handle(routes[i].Method+" "+prefix+routes[i].Path, http.NotFoundHandler())
	}
	return mux
}

func newHTTPRouter(routes []RouteSpec, prefix string) *httprouter.Router {
	router := httprouter.New()
	for i := range routes {
		path := strings.NewReplacer("{", ":", "}", "").Replace(prefix + routes[i].Path)
		router.Handle(routes[i].Method, path, func(http.ResponseWriter, *http.Request, httprouter.Params) {})
	}
	return router
}
