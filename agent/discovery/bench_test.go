package discovery

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// manyRoutes is a control plane whose deployment 1 has n routes.
func manyRoutes(n int) *controlPlane {
	routes := make([]*discoveryv1.Route, n)
	for i := range routes {
		routes[i] = &discoveryv1.Route{
			Method: "GET",
			Path:   fmt.Sprintf("/service-%d/collection-%d/{id}", i/10, i),
			Integration: &discoveryv1.Route_Http{Http: &discoveryv1.HttpIntegration{
				Uri: fmt.Sprintf("http://${stageVariables.host}/collection-%d/{id}", i),
			}},
		}
	}
	c := new(controlPlane)
	c.step(10, one(api("demo", 1), deploymentOf("demo", 1, 2, routes...), stage("demo", "prod", 1, 3, canary(1, 0))))
	return c
}

// BenchmarkWeight is a changed weight on an agent that holds 10,000 routes, up to
// the new table, without and with the disk.
func BenchmarkWeight(b *testing.B) {
	c := manyRoutes(10_000)
	full := c.full()
	weight := c.step(11, one(stage("demo", "prod", 1, 11, canary(1, 50_000))))
	b.Run("apply", func(b *testing.B) {
		before := mustApply(b, nothing(), full)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := before.apply(weight, time.Time{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("apply+save", func(b *testing.B) {
		d := newDisk(b)
		d.save(full)
		b.ReportAllocs()
		for b.Loop() {
			next, err := d.held.apply(weight, time.Time{})
			if err != nil {
				b.Fatal(err)
			}
			if err := d.disk.save(next, weight, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkStart is the start of an agent that holds 10,000 routes, from its disk
// to the table.
func BenchmarkStart(b *testing.B) {
	d := newDisk(b)
	d.save(manyRoutes(10_000).full())
	b.ReportAllocs()
	for b.Loop() {
		l, err := openLastGood(d.dir, "", slog.New(slog.DiscardHandler))
		if err != nil {
			b.Fatal(err)
		}
		if h, _ := l.load(agent{}, time.Now()); h.version.Index != 10 {
			b.Fatalf("loaded version %v", h.version)
		}
	}
}
