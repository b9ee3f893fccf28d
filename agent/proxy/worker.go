package proxy

import (
	"context"
	"log/slog"
	"net"
	"runtime"

	"github.com/fifegateway/fife/agent/netloop"
)

// worker serves connections on an event loop of its own, with its own connections to
// integrations. The nil worker has no loop: every connection gets a goroutine.
type worker struct {
	loop  *netloop.Loop
	pools *pools
}

// newWorkers makes a worker for every processor, or none where there are no event loops.
func newWorkers(p *Proxy) []*worker {
	loops, err := netloop.New(runtime.GOMAXPROCS(0))
	if err != nil {
		p.logger.Debug("connections get goroutines", "reason", err)
		return nil
	}
	var all []*worker
	for _, loop := range loops {
		w := &worker{loop: loop, pools: newPools(&p.guard, &p.clock)}
		w.pools.loop = loop
		all = append(all, w)
	}
	return all
}

// run runs the worker's loop until ctx ends.
func (w *worker) run(ctx context.Context, logger *slog.Logger) {
	if err := w.loop.Run(ctx); err != nil {
		logger.Error("an event loop has ended", "error", err)
	}
}

// adopt takes a connection to the worker's loop, if it can be taken there.
func (w *worker) adopt(raw net.Conn) (net.Conn, *worker) {
	tcp, ok := raw.(*net.TCPConn)
	if w == nil || !ok {
		return raw, nil
	}
	conn, err := w.loop.Adopt(tcp)
	if err != nil {
		return raw, nil // it is closed: whoever reads it finds out
	}
	return conn, w
}

// start runs serve for a connection that was adopted.
func (w *worker) start(conn net.Conn, serve func()) {
	if w == nil {
		go serve()
		return
	}
	w.loop.Go(func() {
		if err := w.loop.Add(conn.(*netloop.Conn)); err != nil {
			_ = conn.Close()
		}
		serve()
	})
}
