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

// registerStoreMetrics shows what the node has applied and whether it leads.
func registerStoreMetrics(r prometheus.Registerer, s *store.Store) {
	gauge := func(name, help string, value func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "fife", Subsystem: "store", Name: name, Help: help,
		}, value))
	}
	gauge("epoch", "Epoch of the state.", func() float64 { return float64(s.State().Version().Epoch) })
	gauge("version_index", "Index of the last change that agents can see.",
		func() float64 { return float64(s.State().Version().Index) })
	gauge("applied_index", "Index of the last change applied.",
		func() float64 { return float64(s.State().Applied().Index) })
	gauge("is_leader", "1 if the node leads, else 0.", func() float64 {
		if s.IsLeader() {
			return 1
		}
		return 0
	})
}
