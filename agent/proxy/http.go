package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fifegateway/fife/agent/route"
)

// serveHTTP passes the request on to its upstream and the response back, both as
// they come. The route's timeout bounds the time to the response's headers, not
// the length of a stream. The error is as of serve.
func (p *Proxy) serveHTTP(w http.ResponseWriter, r *http.Request, x *exchange, i *route.HTTP) error {
	target, err := x.target(i)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil) // whatever ends this request ends its upstream one
	out, sent := p.upstreamRequest(ctx, r, x, i, target)
	if sent != nil {
		// The transport may still be reading when this returns, and must not.
		defer func() { _ = sent.Close() }()
	}
	if r.ProtoMajor == 1 {
		// Else the server reads the body to its end before it sends headers.
		_ = http.NewResponseController(w).EnableFullDuplex()
	}

	timer := time.AfterFunc(x.route.Timeout, func() { cancel(errTimeout) })
	transport := p.upstream
	if isGRPC(out.Header) {
		transport = p.grpc
	}
	res, err := transport.RoundTrip(out)
	inTime := timer.Stop()
	if err != nil {
		return p.roundTripFailure(ctx, r, sent, err)
	}
	defer func() { _ = res.Body.Close() }()
	if !inTime {
		return gatewayTimeout.because(errTimeout)
	}
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		return x.tunnel(w, r, out, res)
	case res.StatusCode < 200 || res.StatusCode > 599:
		return internalError.because(fmt.Errorf("upstream %s answered with status %d", target.Host, res.StatusCode))
	}
	return x.relay(w, res)
}

// target expands the integration's URI and adds the client's query to it. A
// template's holes can be filled with anything that the rules of stage variables
// allow, so the outcome is looked at anew.
func (x *exchange) target(i *route.HTTP) (*url.URL, error) {
	uri, err := i.URI.Expand(x.variant.Variables, &x.params)
	if err != nil {
		return nil, x.notExpanded(err)
	}
	u, err := url.Parse(uri)
	if err != nil {
		return nil, internalError.because(err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		err = errors.New("want http or https")
	case u.Hostname() == "":
		err = errors.New("has no host")
	case u.User != nil:
		err = errors.New("must have no user or password")
	case u.Fragment != "":
		err = errors.New("must have no fragment")
	case hasDotSegment(u.Path):
		err = errors.New("must have no dot segments")
	}
	if err != nil {
		return nil, internalError.because(fmt.Errorf("integration uri %q: %w", uri, err))
	}
	switch {
	case u.RawQuery == "":
		u.RawQuery = x.query
	case x.query != "":
		u.RawQuery += "&" + x.query
	}
	return u, nil
}

// upstreamRequest builds what is sent to the upstream. sent is its body, or nil
// if it has none.
func (p *Proxy) upstreamRequest(ctx context.Context, r *http.Request, x *exchange, i *route.HTTP, target *url.URL) (out *http.Request, sent *requestBody) {
	header := x.upstreamHeader()
	if _, ok := header["User-Agent"]; !ok {
		header["User-Agent"] = nil // or net/http would add its own
	}
	method := x.method
	if i.Method != "" {
		method = i.Method
	}
	grpc := isGRPC(x.header)
	if grpc {
		header["Te"] = []string{"trailers"} // gRPC servers may insist on it
	}
	if method == http.MethodGet && isWebSocket(r) {
		header["Connection"] = []string{"Upgrade"}
		header["Upgrade"] = []string{"websocket"}
	}
	out = &http.Request{
		Method:        method,
		URL:           target,
		Header:        header,
		Body:          http.NoBody,
		ContentLength: r.ContentLength,
	}
	if r.Body != nil && r.ContentLength != 0 {
		sent = p.requestBody(r, grpc)
		out.Body = sent
	}
	return out.WithContext(ctx), sent
}

// roundTripFailure finds who is to blame for a request without a response.
func (p *Proxy) roundTripFailure(ctx context.Context, r *http.Request, sent *requestBody, err error) error {
	if errors.Is(context.Cause(ctx), errTimeout) {
		return gatewayTimeout.because(errTimeout)
	}
	if r.Context().Err() != nil {
		return errClientGone
	}
	if sent != nil {
		if f := sent.failure.Load(); f != nil {
			return f
		}
	}
	return internalError.because(err)
}

// relay passes a response on. The headers are gone once it fails, so all it can
// do then is to break off.
func (x *exchange) relay(w http.ResponseWriter, res *http.Response) error {
	h := w.Header()
	copyResponseHeader(h, res.Header)
	for name := range res.Trailer {
		if !isFife(name) {
			h["Trailer"] = append(h["Trailer"], name)
		}
	}
	x.stamp(h)
	x.status = res.StatusCode
	w.WriteHeader(res.StatusCode)

	announced := len(res.Trailer)
	var err error
	if res.ContentLength == -1 || isEventStream(res.Header) {
		err = copyFlushing(w, res.Body)
	} else {
		_, err = io.Copy(w, res.Body)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	for name, values := range res.Trailer {
		switch {
		case isFife(name) || isHopByHop(name):
		case len(res.Trailer) == announced:
			h[name] = values
		default: // not all were announced; gRPC servers announce none
			h[http.TrailerPrefix+name] = values
		}
	}
	return nil
}

var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// copyFlushing copies a stream whose reader waits for every piece. The headers
// go ahead of the first.
func copyFlushing(w http.ResponseWriter, body io.Reader) error {
	flush := http.NewResponseController(w).Flush
	if err := flush(); err != nil {
		return err
	}
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	for {
		n, err := body.Read(buf[:])
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			if err := flush(); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// requestBody is a request's body on its way. It keeps what went wrong with
// reading it, since a transport tells only that something did: a client's fault
// must not look like the upstream's.
type requestBody struct {
	source  io.Reader
	left    int64
	tooMuch error
	closed  atomic.Bool
	failure atomic.Pointer[failure]
}

func (p *Proxy) requestBody(r *http.Request, unlimited bool) *requestBody {
	b := &requestBody{source: r.Body, left: p.maxBody, tooMuch: p.tooLarge.because(nil)}
	if unlimited {
		b.left = math.MaxInt64 - 1
	}
	return b
}

// Read fails with a *failure once there is more than the limit.
func (b *requestBody) Read(buf []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	if int64(len(buf)) > b.left+1 {
		buf = buf[:b.left+1] // one more shows that there is more
	}
	n, err := b.source.Read(buf)
	if int64(n) > b.left {
		n, err = int(b.left), b.tooMuch
	} else if err != nil && !errors.Is(err, io.EOF) {
		err = badRequest.because(err)
	}
	b.left -= int64(n)
	var f *failure
	if errors.As(err, &f) {
		b.failure.CompareAndSwap(nil, f)
	}
	return n, err
}

// Close only stops later reads. To close the server's body would wait for the
// client to send more, and hold back the end of the response until then; the
// server does it by itself when that is out.
func (b *requestBody) Close() error {
	b.closed.Store(true)
	return nil
}

// isGRPC reports whether a message is gRPC, which needs HTTP/2 all the way.
func isGRPC(h http.Header) bool {
	rest, ok := strings.CutPrefix(first(h["Content-Type"]), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

func isEventStream(h http.Header) bool {
	mediaType, _, _ := mime.ParseMediaType(first(h["Content-Type"]))
	return mediaType == "text/event-stream"
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
