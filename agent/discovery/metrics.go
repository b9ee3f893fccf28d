package discovery

import (
	"fmt"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fifegateway/fife/agent/route"
)

type metrics struct {
	connected        prometheus.Gauge
	epoch, index     prometheus.Gauge
	applied, refused prometheus.Counter
	reconnects       prometheus.Counter
	lastFrame        prometheus.Collector
	apply            prometheus.Histogram
}

// newMetrics registers the metrics with r, or nowhere if r is nil.
func newMetrics(r prometheus.Registerer, lastFrame func() time.Time) (*metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "fife", Subsystem: "agent", Name: name, Help: help})
	}
	frames := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "fife", Subsystem: "agent", Name: "frames_total",
		Help: "Frames from the control plane, by what became of them.",
	}, []string{"result"})
	m := &metrics{
		connected: gauge("connected", "1 while a stream to the control plane is open, else 0."),
		epoch:     gauge("applied_version_epoch", "Epoch of the version that is routed by."),
		index:     gauge("applied_version_index", "Index of the version that is routed by."),
		applied:   frames.WithLabelValues("applied"),
		refused:   frames.WithLabelValues("refused"),
		reconnects: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "fife", Subsystem: "agent", Name: "reconnects_total",
			Help: "Attempts to open a stream, after the first.",
		}),
		lastFrame: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "fife", Subsystem: "agent", Name: "seconds_since_last_frame",
			Help: "Time since the last frame came, applied or not; NaN before the first. An idle fleet gets none.",
		}, func() float64 {
			if at := lastFrame(); !at.IsZero() {
				return time.Since(at).Seconds()
			}
			return math.NaN()
		}),
		apply: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "fife", Subsystem: "agent", Name: "frame_apply_seconds",
			Help:    "Time to check, compile and save a frame that was applied.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.connected, m.epoch, m.index, frames, m.reconnects, m.lastFrame, m.apply} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) version(v route.Version) {
	m.epoch.Set(float64(v.Epoch))
	m.index.Set(float64(v.Index))
}
