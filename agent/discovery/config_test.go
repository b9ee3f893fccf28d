package discovery

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/durationpb"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, cp := newNetwork(t), newControlPlane()
		registry := prometheus.NewRegistry()
		config := n.config("n1:1")
		config.Registerer = registry
		held := make(chan struct{})
		n.node("n1:1", func(s *stream) error {
			s.hello()
			return nil
		}, func(s *stream) error {
			s.hello()
			s.ack(cp.full())
			f := cp.step(11, nil)
			f.Digest++
			s.nack(f, "digest", true)
			s.renew = func(r *discoveryv1.Renew) {
				s.lease(&discoveryv1.Lease{Sequence: r.GetSequence(), Ttl: durationpb.New(leaseTTL)})
			}
			close(held)
			return s.hold()
		})
		c := n.client(config)
		wantMetrics(t, registry, map[string]float64{
			"fife_agent_connected": 0, "fife_agent_applied_version_epoch": 0, "fife_agent_applied_version_index": 0,
			"fife_agent_frames_total applied": 0, "fife_agent_frames_total refused": 0, "fife_agent_reconnects_total": 0,
			"fife_agent_seconds_since_last_frame": math.NaN(), "fife_agent_frame_apply_seconds": 0,
			"fife_agent_staleness_seconds": math.NaN(), "fife_agent_lease_seconds": 0, "fife_agent_lease_denials_total": 0,
		})
		n.start(c)
		await(t, held)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		wantMetrics(t, registry, map[string]float64{
			"fife_agent_connected": 1, "fife_agent_applied_version_epoch": 1, "fife_agent_applied_version_index": 10,
			"fife_agent_frames_total applied": 1, "fife_agent_frames_total refused": 1, "fife_agent_reconnects_total": 1,
			"fife_agent_seconds_since_last_frame": 5, "fife_agent_frame_apply_seconds": 1,
			"fife_agent_staleness_seconds": (5*time.Second - leaseTTL/3).Seconds(), "fife_agent_lease_seconds": (leaseTTL + leaseTTL/3 - 5*time.Second).Seconds(), "fife_agent_lease_denials_total": 0,
		})
		if _, err := New(config); err == nil || !strings.Contains(err.Error(), "register metrics") {
			t.Errorf("two clients on one registry: %v", err)
		}
	})
}

func wantMetrics(t *testing.T, g prometheus.Gatherer, want map[string]float64) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range want {
		if g, ok := got[name]; !ok || g != want && !(math.IsNaN(g) && math.IsNaN(want)) {
			t.Errorf("%s = %v, want %v", name, g, want)
		}
	}
	if len(got) != len(want) {
		t.Errorf("metrics %v", got)
	}
}

func TestNewRefuses(t *testing.T) {
	labels := make(map[string]string)
	for i := range 33 {
		labels[strings.Repeat("k", i+1)] = ""
	}
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"agent id, none", func(c *Config) { c.AgentID = "" }, `agent id ""`},
		{"agent id, character", func(c *Config) { c.AgentID = "a b" }, `agent id "a b"`},
		{"agent id, long", func(c *Config) { c.AgentID = strings.Repeat("a", 129) }, "1 to 128"},
		{"labels", func(c *Config) { c.Labels = labels }, "33 labels"},
		{"label key", func(c *Config) { c.Labels = map[string]string{"": "x"} }, `label ""`},
		{"label value", func(c *Config) { c.Labels = map[string]string{"x": strings.Repeat("a", 129)} }, `label "x"`},
		{"no address", func(c *Config) { c.Addresses = nil }, "no address"},
		{"address without port", func(c *Config) { c.Addresses = []string{"host"} }, `address "host"`},
		{"address without host", func(c *Config) { c.Addresses = []string{":80"} }, `address ":80"`},
		{"no directory", func(c *Config) { c.Dir = "" }, "no directory"},
		{"unusable directory", func(c *Config) { c.Dir = filepath.Join(os.DevNull, "x") }, "directory"},
	}
	for _, tt := range tests {
		config := newNetwork(t).config("n1:1")
		tt.change(&config)
		if _, err := New(config); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %s", tt.name, err, tt.want)
		}
	}
}
