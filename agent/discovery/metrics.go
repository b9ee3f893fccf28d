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
	denied           prometheus.Counter
	ages             []prometheus.Collector
	apply            prometheus.Histogram
}

// newMetrics registers the metrics with r, or nowhere if r is nil.
func newMetrics(r prometheus.Registerer, status func() Status) (*metrics, error) {
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
		denied: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "fife", Subsystem: "agent", Name: "lease_denials_total",
			Help: "Answers to the wish for a lease that brought none.",
		}),
		ages: []prometheus.Collector{
			age("seconds_since_last_frame", "Time since the last frame came, applied or not; NaN before the first. An idle fleet gets none.",
				func() time.Time { return status().LastFrame }),
			age("staleness_seconds", "Time since a node was last heard of; NaN before that. With a stream it is a few seconds at most.",
				func() time.Time { return status().LastHeard }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Namespace: "fife", Subsystem: "agent", Name: "lease_seconds",
				Help: "How much longer the agent's lease lasts; 0 without one.",
			}, func() float64 { return max(time.Until(status().Lease).Seconds(), 0) }),
		},
		apply: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "fife", Subsystem: "agent", Name: "frame_apply_seconds",
			Help:    "Time to check, compile and save a frame that was applied.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.connected, m.epoch, m.index, frames, m.reconnects, m.denied, m.apply} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	for _, c := range m.ages {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// age is the time since something last happened.
func age(name, help string, last func() time.Time) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "fife", Subsystem: "agent", Name: name, Help: help}, func() float64 {
		if at := last(); !at.IsZero() {
			return time.Since(at).Seconds()
		}
		return math.NaN()
	})
}

func (m *metrics) version(v route.Version) {
	m.epoch.Set(float64(v.Epoch))
	m.index.Set(float64(v.Index))
}
