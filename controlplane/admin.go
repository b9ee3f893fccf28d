package controlplane

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fifegateway/fife/controlplane/store"
)

// adminHandler serves /metrics; /healthz, which says that the process runs; and
// /readyz, which says that the node has caught up and knows a leader.
func adminHandler(registry *prometheus.Registry, s *store.Store, m *membership) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-m.ready:
		default:
			answer(w, http.StatusServiceUnavailable, "not caught up since the start")
			return
		}
		leader, ok := s.Leader()
		if !ok {
			answer(w, http.StatusServiceUnavailable, "no leader is known")
			return
		}
		answer(w, http.StatusOK, fmt.Sprintf("ok: version %v, leader %s", s.State().Version(), leader.ID))
	})
	return mux
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = fmt.Fprintln(w, text) // the client is gone, which is its own business
}

// storeCollector shows what the node has applied, whether it leads, and how much
// of its limits is used.
type storeCollector struct{ store *store.Store }

// The metrics of a storeCollector.
var (
	epochDesc   = storeDesc("epoch", "Epoch of the state.")
	versionDesc = storeDesc("version_index", "Index of the last change that agents can see.")
	lastDesc    = storeDesc("log_last_index", "Index of the last entry in the node's log, applied or not.")
	appliedDesc = storeDesc("applied_index", "Index of the last change applied.")
	leaderDesc  = storeDesc("is_leader", "1 if the node leads, else 0.")
	ageDesc     = storeDesc("leader_contact_seconds", "Time since the node last heard from a leader; 0 on the leader.")
	objectsDesc = storeDesc("objects", "Objects held, by kind.", "kind")
	limitDesc   = storeDesc("objects_limit", "Most objects that may be held, by kind.", "kind")
)

func storeDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("fife", "store", name), help, labels, nil)
}

// Describe implements prometheus.Collector.
func (storeCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{epochDesc, versionDesc, lastDesc, appliedDesc, leaderDesc, ageDesc, objectsDesc, limitDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c storeCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	state, leads := c.store.State(), 0.0
	if c.store.IsLeader() {
		leads = 1
	}
	gauge(epochDesc, float64(state.Version().Epoch))
	gauge(versionDesc, float64(state.Version().Index))
	gauge(appliedDesc, float64(state.Applied().Index))
	gauge(lastDesc, float64(c.store.LastIndex()))
	gauge(leaderDesc, leads)
	gauge(ageDesc, c.store.Age().Seconds())
	for kind, n := range state.Counts() {
		gauge(objectsDesc, float64(n), kind)
	}
	for kind, n := range store.Limits() {
		gauge(limitDesc, float64(n), kind)
	}
}
