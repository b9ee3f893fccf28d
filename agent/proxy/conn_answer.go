package proxy

import (
	"net"
	"net/http"
	"strconv"

	"github.com/fifegateway/fife/agent/http1"
	"github.com/fifegateway/fife/agent/route"
)

// copied is how large a piece may be that is copied behind its head to be written
// with it; larger ones are gathered by the system.
const copied = 4 << 10

func (c *conn) begin(x *exchange, res *response, first []byte) error {
	c.begun = true
	if c.server.draining.Load() || !c.body.taken && !c.drainable() {
		c.closing.Store(true)
	}
	c.bodiless = res.bodiless
	c.chunked = res.length < 0 && !res.bodiless && c.req.Minor == 1
	if res.length < 0 && !res.bodiless && !c.chunked {
		c.closing.Store(true) // its end is the connection's
	}
	out := appendStatusLine(x.scratch.out[:0], res.status, res.reason)
	dated := false
	for i := range res.fields {
		if f := &res.fields[i]; res.passesBack(f) {
			out = http1.AppendField(out, f.Name, f.Value)
			dated = dated || f.Kind == http1.Date
		}
	}
	if !dated {
		out = http1.AppendField(out, "Date", c.server.proxy.date())
	}
	out = append(append(append(out, fieldRequestID+": "...), x.id...), "\r\n"...)
	if route.ExecuteAPI(x.host, x.path) {
		out = append(append(append(out, fieldGatewayID+": "...), x.id...), "\r\n"...)
	}
	if x.expose || x.stage != nil && x.stage.ConsistentClients {
		x.stamp(func(name, value string) {
			if name != fieldRequestID && name != fieldGatewayID {
				out = http1.AppendField(out, name, value)
			}
		})
	}
	switch {
	case c.chunked:
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	case res.length >= 0 && res.status != http.StatusNoContent && res.status >= 200:
		out = appendLength(out, res.length)
	}
	switch {
	case res.status == http.StatusSwitchingProtocols:
		out = append(out, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	case c.closing.Load():
		out = append(out, "Connection: close\r\n"...)
	}
	out = append(out, "\r\n"...)
	x.scratch.out = out
	if len(first) == 0 || c.bodiless {
		return c.send(out)
	}
	return c.writePiece(x, out, first)
}

func (c *conn) write(piece []byte) error {
	if len(piece) == 0 || c.bodiless {
		return nil
	}
	return c.writePiece(&c.x, c.x.scratch.out[:0], piece)
}

// writePiece writes a piece of the body behind what is in out already.
func (c *conn) writePiece(x *exchange, out, piece []byte) error {
	x.sent += int64(len(piece))
	end := ""
	if c.chunked {
		out, end = http1.AppendChunkSize(out, len(piece)), "\r\n"
	}
	if len(piece) <= copied {
		out = append(append(out, piece...), end...)
		x.scratch.out = out
		return c.send(out)
	}
	x.scratch.out = out
	if len(out) == 0 {
		return c.send(piece)
	}
	pieces := net.Buffers{out, piece, []byte(end)}
	return c.sendAll(&pieces)
}

func (c *conn) end(trailer []http1.Field) error {
	if !c.chunked || c.bodiless {
		return nil
	}
	out := append(c.x.scratch.out[:0], "0\r\n"...)
	for _, f := range trailer {
		out = http1.AppendField(out, f.Name, f.Value)
	}
	out = append(out, "\r\n"...)
	c.x.scratch.out = out
	return c.send(out)
}

// appendStatusLine appends a status line; an empty reason is the usual one.
func appendStatusLine(dst []byte, status int, reason string) []byte {
	if status == http.StatusOK && (reason == "" || reason == "OK") {
		return append(dst, "HTTP/1.1 200 OK\r\n"...)
	}
	if reason == "" {
		reason = http.StatusText(status)
	}
	dst = strconv.AppendInt(append(dst, "HTTP/1.1 "...), int64(status), 10)
	return append(append(append(dst, ' '), reason...), "\r\n"...)
}
