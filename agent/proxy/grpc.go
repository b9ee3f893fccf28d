package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fifegateway/fife/agent/http1"
)

// newTransport makes a transport for gRPC, which needs HTTP/2 all the way: its
// protocols are set by the caller, and the addresses that it dials are checked. It
// takes no proxy from the environment, follows nothing and unpacks nothing.
func newTransport(g *guard) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, Control: g.control}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		Protocols:              new(http.Protocols),
		DisableCompression:     true,
		TLSHandshakeTimeout:    dialTimeout,
		IdleConnTimeout:        maxUnused,
		MaxResponseHeaderBytes: http1.MaxHead,
	}
}

// serveGRPC passes a gRPC request on over HTTP/2 and the response back, trailers and
// all. The route's timeout bounds the time to the response's head; deadlines of gRPC
// are the business of both ends. The error is as of serve.
func (p *Proxy) serveGRPC(c *stream, x *exchange, t *target, method string) error {
	ctx, cancel := context.WithCancelCause(c.r.Context())
	defer cancel(nil) // whatever ends this request ends its upstream one
	body := &grpcBody{source: c.r.Body, received: &c.received}
	// The transport may still be reading when this returns, and must not.
	defer body.closed.Store(true)
	out := (&http.Request{
		Method:        method,
		URL:           grpcURL(t, x.query),
		Header:        x.grpcHeader(),
		Body:          body,
		ContentLength: x.length,
	}).WithContext(ctx)
	x.upstream = strings.Clone(t.authority)
	timer := time.AfterFunc(x.route.Timeout, func() { cancel(errTimeout) })
	res, err := p.grpc.RoundTrip(out)
	inTime := timer.Stop()
	x.waited = time.Since(x.start)
	if err == nil {
		defer func() { _ = res.Body.Close() }()
	}
	switch {
	case errors.Is(context.Cause(ctx), errTimeout), err == nil && !inTime:
		return gatewayTimeout.because(errTimeout)
	case err != nil && c.r.Context().Err() != nil:
		return errClientGone
	case err != nil && x.pastDeadline():
		return x.answer(c, http.StatusOK, []http1.Field{
			{Name: "Content-Type", Value: "application/grpc", Kind: http1.ContentType},
			{Name: "Grpc-Status", Value: "4"},
		}, "")
	case err != nil:
		return internalError.because(err)
	case res.StatusCode < 200 || res.StatusCode > 599:
		return internalError.because(fmt.Errorf("upstream %s answered with status %d", t.authority, res.StatusCode))
	}
	return x.relayGRPC(c, res)
}

// pastDeadline reports whether the deadline that the caller has set has passed. A
// server may then end the stream without a word, and the caller wants to hear why.
func (x *exchange) pastDeadline() bool {
	text := x.first("Grpc-Timeout")
	if len(text) < 2 || len(text) > 9 { // at most eight digits and a unit
		return false
	}
	unit, ok := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second,
		'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
	}[text[len(text)-1]]
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
	return ok && err == nil && time.Since(x.start) >= time.Duration(n)*unit
}

// grpcURL spells the target so that net/http sends its bytes as they are.
func grpcURL(t *target, query string) *url.URL {
	line := t.appendRequestLine(nil, "", query)
	requestURI, _, _ := strings.Cut(string(line[1:]), " ")
	u := &url.URL{Scheme: "http", Host: t.authority}
	if t.secure {
		u.Scheme = "https"
	}
	path, rawQuery, _ := strings.Cut(requestURI, "?")
	u.RawQuery = strings.Clone(rawQuery)
	u.RawPath = strings.Clone(path)
	u.Path, _ = url.PathUnescape(u.RawPath) // the path is checked already
	return u
}

// grpcHeader returns the fields for the upstream.
func (x *exchange) grpcHeader() http.Header {
	h := make(http.Header)
	for _, f := range x.appendForwarded(x.scratch.fields[:0]) {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		h[name] = append(h[name], f.Value)
	}
	if len(h["User-Agent"]) == 0 {
		h["User-Agent"] = nil // or net/http would add its own
	}
	h["Te"] = []string{"trailers"} // gRPC servers may insist on it
	return h
}

// relayGRPC passes a response on, piece by piece.
func (x *exchange) relayGRPC(c *stream, res *http.Response) error {
	head := response{status: res.StatusCode, fields: fieldsOf(res.Header), length: res.ContentLength, flush: res.ContentLength < 0}
	x.status = res.StatusCode
	if err := c.begin(x, &head, nil); err != nil {
		return errClientGone
	}
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for {
		n, err := res.Body.Read(buf[:])
		if n > 0 && c.write(buf[:n]) != nil {
			return errClientGone
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && c.r.Context().Err() != nil {
			return errClientGone
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errBroken, err)
		}
	}
	var trailer []http1.Field
	for _, f := range fieldsOf(res.Trailer) {
		if http1.TrailerAllowed(&f) && !isFife(f.Name) {
			trailer = append(trailer, f)
		}
	}
	x.received = c.received.Load()
	return c.end(trailer)
}

// grpcBody is a request's body on its way. gRPC streams have no limit.
type grpcBody struct {
	source   io.Reader
	received *atomic.Int64
	closed   atomic.Bool
}

// Read reads until Close.
func (b *grpcBody) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.source.Read(p)
	b.received.Add(int64(n))
	return n, err
}

// Close only stops later reads: the server closes the body itself.
func (b *grpcBody) Close() error {
	b.closed.Store(true)
	return nil
}
