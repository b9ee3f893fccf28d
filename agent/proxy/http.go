package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/fifegateway/fife/agent/http1"
	"github.com/fifegateway/fife/agent/route"
)

// serveHTTP passes the request on to its upstream and the response back, both as
// they come. The route's timeout bounds the time to the response's head, not the
// length of a stream. The error is as of serve.
func (p *Proxy) serveHTTP(c client, x *exchange, i *route.HTTP) error {
	t, err := x.target(i)
	if err != nil {
		return err
	}
	method := x.method
	if i.Method != "" {
		method = i.Method
	}
	if x.proto == "HTTP/2.0" && isGRPC(x.first("Content-Type")) {
		return p.serveGRPC(c.(*stream), x, &t, method)
	}
	data, whole, err := c.arrived()
	if err != nil {
		return err
	}
	switching := method == http.MethodGet && whole && x.isWebSocket()
	if !whole || switching || t.secure {
		c.block()
	}
	x.appendRequest(&t, method, data, whole, switching)
	u, b, err := p.ask(c, x, &t, method, whole)
	if err != nil {
		return err
	}
	x.waited = time.Since(x.start)
	switch {
	case u.res.Status == http.StatusSwitchingProtocols && switching:
		return x.tunnel(c, u)
	case u.res.Status == http.StatusSwitchingProtocols:
		err = internalError.because(errors.New("upstream switched protocols unasked"))
	default:
		err = x.relay(c, u)
	}
	c.unwatch()
	if !b.finish(c, err != nil) {
		u.done = false // it did not get all of the request
	}
	u.release()
	if errors.Is(err, errBroken) && c.gone() {
		return errClientGone
	}
	return err
}

// appendRequest builds the head of the upstream's request, and what is there of its
// body, in x.scratch.out.
func (x *exchange) appendRequest(t *target, method string, data []byte, whole, switching bool) {
	s := x.scratch
	s.fields = x.appendForwarded(s.fields[:0])
	out := t.appendRequestLine(s.out[:0], method, x.query)
	out = http1.AppendField(out, "Host", t.authority)
	for i := range s.fields {
		out = http1.AppendField(out, s.fields[i].Name, s.fields[i].Value)
	}
	switch {
	case switching:
		out = append(out, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	case whole && len(data) == 0 && x.length == 0 && !expectsBody(method):
	case whole:
		out = appendLength(out, int64(len(data)))
	case x.length >= 0:
		out = appendLength(out, x.length)
	default:
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	}
	out = append(out, "\r\n"...)
	if !whole && x.length < 0 && len(data) > 0 {
		out = append(append(http1.AppendChunkSize(out, len(data)), data...), "\r\n"...)
	} else {
		out = append(out, data...)
	}
	s.out = out
}

// expectsBody reports whether servers expect a method's requests to say how long
// their body is, even if there is none.
func expectsBody(method string) bool {
	return method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch
}

func appendLength(dst []byte, n int64) []byte {
	return append(strconv.AppendInt(append(dst, "Content-Length: "...), n, 10), "\r\n"...)
}

// ask sends the request in x.scratch.out and waits for the head of the response. A
// body that is not whole yet is pumped meanwhile. While the caller holds the
// upstream, it is the one to abort if the client is gone.
func (p *Proxy) ask(c client, x *exchange, t *target, method string, whole bool) (*upstream, *pump, error) {
	pool := c.pools().get(t)
	by := x.start.Add(x.route.Timeout)
	again := false
	for {
		u := pool.take(!isIdempotent(method))
		if u == nil || again {
			if u != nil {
				u.close() // as stale as the one before, most likely
			}
			var err error
			if u, err = pool.dial(by); err != nil {
				return nil, nil, failed(c, nil, err, by)
			}
		}
		x.upstream = u.address
		c.watch(u)
		u.armWrite()
		n, err := u.Conn.Write(x.scratch.out)
		unsent := n == 0 && err != nil
		var b *pump
		if !whole && err == nil {
			b = startPump(c, u, x.length < 0)
		}
		if err == nil {
			err = u.receiveHead(method, by)
		} else if u.receiveHead(method, by) == nil {
			// It answered without hearing us out, as servers do with what is too large.
			u.res.Close, err = true, nil
		}
		if err == nil {
			return u, b, nil
		}
		c.unwatch()
		u.close()
		b.finish(c, true)
		if !u.heard && !errors.Is(err, os.ErrDeadlineExceeded) && !c.gone() && (b == nil || b.err == nil) {
			switch {
			case !u.reused:
				pool.blame(u.Conn)
			// It was closed while it was idle, which is nobody's fault. The upstream has
			// not seen the request, or will not mind to see it again.
			case !again && (unsent || whole && isIdempotent(method)):
				again = true
				continue
			}
		}
		return nil, nil, failed(c, b, err, by)
	}
}

// failed finds who is to blame for a request without a response.
func failed(c client, b *pump, err error, by time.Time) error {
	if c.gone() {
		return errClientGone
	}
	if b != nil && b.err != nil {
		return b.err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || !time.Now().Before(by) {
		return gatewayTimeout.because(errTimeout)
	}
	return internalError.because(err)
}

// isIdempotent reports whether a request may be sent twice (RFC 9110, 9.2.2).
func isIdempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodOptions:
		return true
	}
	return false
}

// relay passes a response on. Its head is gone once it fails, so all it can do then
// is to break off.
func (x *exchange) relay(c client, u *upstream) error {
	first, err := u.buffered()
	if err != nil {
		return internalError.because(err)
	}
	res := response{
		status: u.res.Status, reason: u.res.Reason, fields: u.res.Fields, lists: u.res.Connection,
		length: u.res.Length, bodiless: u.res.Bodiless(x.method),
	}
	res.flush = res.length < 0 || isEventStream(res.fields)
	if u.done && u.res.Chunked && !res.bodiless && len(u.chunks.Trailer()) == 0 {
		res.length = int64(len(first)) // the client need not put it together
	}
	x.status = res.status
	if err := c.begin(x, &res, first); err != nil {
		return errClientGone
	}
	for !u.done {
		piece, err := u.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errBroken, err)
		}
		if err := c.write(piece); err != nil {
			return errClientGone
		}
	}
	if err := c.end(u.trailer(x.scratch.fields[:0])); err != nil {
		return errClientGone
	}
	return nil
}

// isGRPC reports whether a content type is gRPC's, which needs HTTP/2 all the way.
func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(contentType, "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

func isEventStream(fields []http1.Field) bool {
	for i := range fields {
		if fields[i].Kind == http1.ContentType {
			mediaType, _, _ := strings.Cut(fields[i].Value, ";")
			return strings.EqualFold(strings.TrimSpace(mediaType), "text/event-stream")
		}
	}
	return false
}
