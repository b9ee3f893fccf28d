package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fifegateway/fife/agent/route"
)

// maxPayload bounds a function's response: Lambda's own limit is 6 MiB, to which
// base64 may add a third.
const maxPayload = 8<<20 + 64<<10

// serveLambda invokes the function with the whole request and answers with what it
// returns. The route's timeout bounds all of it. The error is as of serve.
func (p *Proxy) serveLambda(c client, x *exchange, i *route.Lambda) error {
	f, err := x.function(i)
	if err != nil {
		return err
	}
	x.upstream = f.String()
	c.block()
	body, err := readAll(c)
	if err != nil {
		return err
	}
	binary := x.variant.Deployment.BinaryMediaTypes
	event, err := x.event(f.account, body, binary)
	if err != nil {
		return internalError.because(err)
	}
	ctx, cancel := context.WithDeadlineCause(context.Background(), x.start.Add(x.route.Timeout), errTimeout)
	defer cancel()
	c.watch(canceller(cancel))
	payload, err := p.lambda.invoke(ctx, f, event)
	c.unwatch()
	x.waited = time.Since(x.start)
	switch {
	case err == nil:
	case c.gone():
		return errClientGone
	case errors.Is(context.Cause(ctx), errTimeout):
		return gatewayTimeout.because(errTimeout)
	default:
		return badGateway.because(fmt.Errorf("invoke %s: %w", f, err))
	}
	res, err := parseLambdaResponse(payload, x.first("Accept"), binary)
	if err != nil {
		return badGateway.because(fmt.Errorf("response of %s: %w", f, err))
	}
	return x.answer(c, res.status, res.fields(), res.body)
}

// canceller is a context's cancel function as what there is to abort.
type canceller context.CancelFunc

func (c canceller) abort() { c() }

// readAll reads a request's body. The error is as of client.readBody.
func readAll(c client) ([]byte, error) {
	body, whole, err := c.arrived()
	if whole || err != nil {
		return body, err
	}
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	body = append([]byte(nil), body...)
	for {
		n, err := c.readBody(buf[:])
		body = append(body, buf[:n]...)
		if errors.Is(err, io.EOF) {
			return body, nil
		}
		if err != nil {
			c.stopBody()
			return nil, err
		}
	}
}

// function expands which function the route invokes.
func (x *exchange) function(i *route.Lambda) (function, error) {
	name, err1 := i.Function.Expand(x.variant.Variables, nil)
	qualifier, err2 := i.Qualifier.Expand(x.variant.Variables, nil)
	if err := errors.Join(err1, err2); err != nil {
		return function{}, x.notExpanded(err)
	}
	f, err := parseFunction(name, qualifier)
	if err != nil {
		return function{}, internalError.because(err)
	}
	return f, nil
}

// function says which function is meant.
type function struct {
	id        string // as Invoke takes it: the ARN without qualifier, or the name
	name      string
	qualifier string // version or alias; may be empty
	partition string // this and the rest: of an ARN, else empty
	region    string
	account   string
}

// parseFunction reads a name or an ARN, with its qualifier apart or behind a
// colon. Stage variables may have filled it with anything, and it becomes part
// of a URL, so every piece is checked.
func parseFunction(s, qualifier string) (function, error) {
	fields := strings.Split(s, ":")
	f := function{qualifier: qualifier}
	if fields[0] == "arn" {
		if len(fields) < 7 || fields[2] != "lambda" || fields[5] != "function" {
			return function{}, fmt.Errorf("function %q: want arn:aws:lambda:REGION:ACCOUNT:function:NAME", s)
		}
		f.partition, f.region, f.account = fields[1], fields[3], fields[4]
		fields = fields[6:]
	}
	f.name = fields[0]
	switch {
	case len(fields) > 2, len(fields) == 2 && qualifier != "":
		return function{}, fmt.Errorf("function %q with qualifier %q: want one qualifier at most", s, qualifier)
	case len(fields) == 2:
		f.qualifier = fields[1]
	}
	for _, piece := range []string{f.name, f.qualifier, f.partition, f.region, f.account} {
		if strings.Trim(piece, functionBytes) != "" {
			return function{}, fmt.Errorf("function %q with qualifier %q: %q holds what no function's name has", s, qualifier, piece)
		}
	}
	f.id = f.name
	if f.partition != "" {
		f.id = "arn:" + f.partition + ":lambda:" + f.region + ":" + f.account + ":function:" + f.name
	}
	if f.name == "" {
		return function{}, fmt.Errorf("function %q: has no name", s)
	}
	return f, nil
}

// functionBytes are what every piece of a function's name or ARN is made of.
const functionBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_$"

// String returns the function as people write it.
func (f function) String() string { return qualified(f.id, f.qualifier) }

func qualified(id, qualifier string) string {
	if qualifier == "" {
		return id
	}
	return id + ":" + qualifier
}

// lambda invokes functions.
type lambda struct {
	transport *http.Transport
	endpoint  string // for all functions without an emulator; empty: AWS
	emulators map[string]*emulator
	aws       awsSigner
}

func newLambda(endpoint string, emulators map[string]string) (*lambda, error) {
	l := &lambda{
		transport: &http.Transport{
			ForceAttemptHTTP2:   true,
			TLSHandshakeTimeout: 10 * time.Second,
			IdleConnTimeout:     90 * time.Second,
			MaxIdleConnsPerHost: 256,
		},
		emulators: make(map[string]*emulator, len(emulators)),
	}
	var err error
	if endpoint != "" {
		if l.endpoint, err = baseURL(endpoint); err != nil {
			return nil, fmt.Errorf("lambda endpoint %q: %w", endpoint, err)
		}
	}
	byURL := make(map[string]*emulator)
	for key, address := range emulators {
		f, err := parseFunction(key, "")
		if err != nil {
			return nil, fmt.Errorf("lambda endpoints: %w", err)
		}
		base, err := baseURL(address)
		if err != nil {
			return nil, fmt.Errorf("lambda endpoint %q of %s: %w", address, key, err)
		}
		if byURL[base] == nil {
			byURL[base] = &emulator{
				url:       base + "/2015-03-31/functions/function/invocations",
				transport: l.transport,
				busy:      make(chan struct{}, 1),
			}
		}
		l.emulators[f.String()] = byURL[base]
	}
	return l, nil
}

// baseURL checks the URL of an endpoint and returns it without trailing slash.
func baseURL(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "", err
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.User != nil, u.RawQuery != "", u.Fragment != "":
		return "", errors.New("want http://HOST or https://HOST, without user and query")
	}
	return strings.TrimSuffix(s, "/"), nil
}

// invoke sends event to a function, waits for the outcome and returns its
// payload. A function that failed is an error.
func (l *lambda) invoke(ctx context.Context, f function, event []byte) ([]byte, error) {
	for _, key := range []string{qualified(f.id, f.qualifier), qualified(f.name, f.qualifier), f.id, f.name} {
		if e := l.emulators[key]; e != nil {
			return e.invoke(ctx, event)
		}
	}
	endpoint, region := l.endpoint, f.region
	if endpoint == "" || region == "" && isAWS(endpoint) {
		var err error
		if region, err = l.aws.region(ctx, f); err != nil {
			return nil, err
		}
	}
	if endpoint == "" {
		endpoint = awsEndpoint(f.partition, region)
	}
	// A colon is escaped as AWS SDKs do it: the signature covers this spelling.
	address := endpoint + "/2015-03-31/functions/" + strings.ReplaceAll(url.PathEscape(f.id), ":", "%3A") + "/invocations"
	if f.qualifier != "" {
		address += "?Qualifier=" + url.QueryEscape(f.qualifier)
	}
	req, err := newInvocation(ctx, address, event)
	if err != nil {
		return nil, err
	}
	if isAWS(endpoint) {
		if err := l.aws.sign(ctx, req, event, region); err != nil {
			return nil, err
		}
	}
	return send(l.transport, req)
}

func newInvocation(ctx context.Context, address string, event []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(event))
	if err != nil {
		return nil, err
	}
	req.Header["Content-Type"] = []string{"application/json"}
	req.Header["X-Amz-Invocation-Type"] = []string{"RequestResponse"}
	return req, nil
}

// send does an invocation and reads its payload.
func send(transport *http.Transport, req *http.Request) ([]byte, error) {
	res, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	payload, err := io.ReadAll(io.LimitReader(res.Body, maxPayload+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the response: %w", err)
	case len(payload) > maxPayload:
		return nil, fmt.Errorf("response is over %d bytes", maxPayload)
	case res.StatusCode != http.StatusOK:
		return nil, &payloadError{"endpoint answered " + res.Status, payload}
	case res.Header.Get("X-Amz-Function-Error") != "":
		return nil, &payloadError{"function failed", payload}
	}
	return payload, nil
}

// emulator is a Runtime Interface Emulator: one function at a literal path, one
// invocation at a time. A second one beside the first can crash it.
type emulator struct {
	url       string
	transport *http.Transport
	busy      chan struct{} // holds an element while the emulator works
}

// maxInvocation is the longest that Lambda lets a function run.
const maxInvocation = 15 * time.Minute

// invoke waits for the emulator, and then for the outcome, until ctx is done.
// The emulator goes on when nobody waits for it any more, so the request to it
// does too, in a goroutine that ends with the invocation: until then the
// emulator stays taken.
func (e *emulator) invoke(ctx context.Context, event []byte) ([]byte, error) {
	select {
	case e.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	type outcome struct {
		payload []byte
		err     error
	}
	done := make(chan outcome, 1)
	go func() {
		defer func() { <-e.busy }()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxInvocation)
		defer cancel()
		var o outcome
		req, err := newInvocation(ctx, e.url, event)
		if o.err = err; err == nil {
			o.payload, o.err = send(e.transport, req)
		}
		done <- o
	}()
	select {
	case o := <-done:
		if o.err == nil && isFunctionError(o.payload) {
			o.err = &payloadError{"function failed", o.payload}
		}
		return o.payload, o.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
