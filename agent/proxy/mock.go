package proxy

import (
	"io"
	"net/http"
	"strconv"

	"github.com/fifegateway/fife/agent/route"
)

// serveMock answers from the table.
func (x *exchange) serveMock(w http.ResponseWriter, m *route.Mock) {
	h := w.Header()
	for name, value := range m.Headers {
		h.Set(name, value)
	}
	x.write(w, m.Status, m.Body)
}

// write sends a whole response, whose headers from the integration are in w
// already.
func (x *exchange) write(w http.ResponseWriter, status int, body string) {
	h := w.Header()
	for name := range h {
		if isHopByHop(name) || isFife(name) {
			delete(h, name)
		}
	}
	if len(h["Content-Type"]) == 0 {
		h["Content-Type"] = []string{"application/json"}
	}
	if status != http.StatusNoContent && status != http.StatusNotModified {
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	x.stamp(h)
	x.status = status
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // who is gone needs no answer
}
