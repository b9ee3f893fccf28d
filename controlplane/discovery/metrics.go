package discovery

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	framesSent, acks, nacks prometheus.Counter
}

func newMetrics(r prometheus.Registerer, fleet *Fleet) metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "fife", Subsystem: "discovery", Name: name, Help: help,
		})
		r.MustRegister(c)
		return c
	}
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "fife", Subsystem: "discovery", Name: "agents", Help: "Agents that hold a stream to this node.",
	}, func() float64 { return float64(fleet.Len()) }))
	return metrics{
		framesSent: counter("frames_sent_total", "Frames sent to agents."),
		acks:       counter("acks_total", "Frames that agents have applied."),
		nacks:      counter("nacks_total", "Frames that agents have refused."),
	}
}
