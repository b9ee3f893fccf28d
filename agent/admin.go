package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// silence is how long a node that answers may be quiet: it is asked for a lease more
// often than that.
const silence = 10 * time.Second

// adminHandler serves /metrics; /healthz, which says that the process runs; and
// /readyz, which says that there is a table to serve from, and whether it may be
// stale because no control plane is connected, or the one that is does not answer.
func (a *Agent) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.config.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		version, status, now := a.client.Table().Version(), a.client.Status(), time.Now()
		switch {
		case version.IsZero():
			answer(w, http.StatusServiceUnavailable, "no table yet: the control plane has not been reached")
		case !status.Connected:
			answer(w, http.StatusOK, fmt.Sprintf("ok, but stale: version %v, last frame %s, no control plane is connected",
				version, ago(status.LastFrame)))
		case now.Sub(status.LastHeard) > silence:
			answer(w, http.StatusOK, fmt.Sprintf("ok, but stale: version %v, last heard from %s %s",
				version, status.Address, ago(status.LastHeard)))
		case now.Before(status.Lease):
			answer(w, http.StatusOK, fmt.Sprintf("ok: version %v from %s, lease for %s",
				version, status.Address, status.Lease.Sub(now).Round(time.Second)))
		default:
			answer(w, http.StatusOK, fmt.Sprintf("ok: version %v from %s, no lease: %s",
				version, status.Address, cmp.Or(status.LeaseDenied, "not answered yet")))
		}
	})
	return mux
}

// serveAdmin serves until ctx ends. It cuts off what is under way then: no answer of
// this interface takes long.
func serveAdmin(ctx context.Context, server *http.Server, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin: %w", err)
	}
	return nil
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "before the start"
	}
	return time.Since(t).Round(time.Second).String() + " ago"
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = fmt.Fprintln(w, text) // the client is gone, which is its own business
}
