package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fifegateway/fife/agent/route"
)

const helloARN = "arn:aws:lambda:eu-west-1:123456789012:function:hello"

// lambdaTable sends GET /prod/x to a function and POST /prod/x to the same.
func lambdaTable(t *testing.T, timeout time.Duration, function route.LambdaSpec, binary ...string) *route.Table {
	return compileRoutes(t, stage(func(s *route.StageSpec) {
		s.Variables = map[string]string{"fn": "hello", "bad": "a/../b", "alias": "blue"}
	}), binary,
		[]route.RouteSpec{{Method: "ANY", Path: "/x", Timeout: timeout, Integration: function}})
}

func TestLambdaEndpoint(t *testing.T) {
	for _, c := range []struct {
		function route.LambdaSpec
		target   string
	}{
		{route.LambdaSpec{Function: "hello"}, "/2015-03-31/functions/hello/invocations"},
		{route.LambdaSpec{Function: "hello", Qualifier: "$LATEST"}, "/2015-03-31/functions/hello/invocations?Qualifier=%24LATEST"},
		{route.LambdaSpec{Function: "${stageVariables.fn}", Qualifier: "${stageVariables.alias}"}, "/2015-03-31/functions/hello/invocations?Qualifier=blue"},
		{route.LambdaSpec{Function: helloARN + ":2"}, "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Ahello/invocations?Qualifier=2"},
		{route.LambdaSpec{Function: helloARN, Qualifier: "2"}, "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Ahello/invocations?Qualifier=2"},
	} {
		endpoint := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost || r.RequestURI != c.target || r.Header.Get("X-Amz-Invocation-Type") != "RequestResponse" || r.Header.Get("Authorization") != "" {
				t.Errorf("invoked by %s %s %v, want %s", r.Method, r.RequestURI, r.Header, c.target)
			}
			var event struct{ Body, HTTPMethod string }
			if err := json.NewDecoder(r.Body).Decode(&event); err != nil || event.Body != "ping" || event.HTTPMethod != "PUT" {
				t.Errorf("event: %+v, %v", event, err)
			}
			_, _ = io.WriteString(w, `{"statusCode":201,"headers":{"X-A":"b","Connection":"close","X-Fife-Variant":"x","Content-Length":"99"},"body":"pong"}`)
		}))
		p := newProxy(t, lambdaTable(t, 0, c.function), func(c *Config) { c.LambdaEndpoint = endpoint.URL + "/" })
		w := do(p, httptest.NewRequest(http.MethodPut, "/prod/x", strings.NewReader("ping")))
		h := w.Header()
		if w.Code != 201 || w.Body.String() != "pong" || h.Get("X-A") != "b" || h.Get("Content-Type") != "application/json" {
			t.Errorf("%v: got %d %q %v", c.function, w.Code, w.Body, h)
		}
		if h.Get("X-Fife-Variant") != "base" || h.Get("Content-Length") != "4" || h.Get("Connection") != "" {
			t.Errorf("%v: headers %v", c.function, h)
		}
	}
}

func TestLambdaFailures(t *testing.T) {
	for name, c := range map[string]struct {
		answer   http.HandlerFunc
		function string
		status   int
	}{
		"fine":           {answer: answering(200, `{}`), status: 200},
		"string":         {answer: answering(200, `"Hello from Lambda v1"`), status: 502},
		"unknown key":    {answer: answering(200, `{"foo":1}`), status: 502},
		"throttled":      {answer: answering(429, `{"Reason":"x"}`), status: 502},
		"not 200":        {answer: answering(202, `{}`), status: 502},
		"function error": {answer: answering(200, `{}`, "X-Amz-Function-Error", "Unhandled"), status: 502},
		"too large":      {answer: answering(200, `{}`+strings.Repeat(" ", maxPayload)), status: 502},
		"cut": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "{}")
		}, status: 502},
		"bad name": {answer: answering(200, `{}`), function: "${stageVariables.bad}", status: 500},
		"unset":    {answer: answering(200, `{}`), function: "${stageVariables.unset}", status: 500},
	} {
		if c.function == "" {
			c.function = "hello"
		}
		p := newProxy(t, lambdaTable(t, 0, route.LambdaSpec{Function: c.function}), func(cfg *Config) { cfg.LambdaEndpoint = serve(t, c.answer).URL })
		w := get(p, "/prod/x")
		if w.Code != c.status || c.status != 200 && w.Body.String() != `{"message":"Internal server error"}` {
			t.Errorf("%s: got %d %.100s", name, w.Code, w.Body)
		}
	}
	gone := serve(t, http.NotFoundHandler())
	gone.Close()
	p := newProxy(t, lambdaTable(t, 0, route.LambdaSpec{Function: "hello"}), func(c *Config) { c.LambdaEndpoint = gone.URL })
	if w := get(p, "/prod/x"); w.Code != 502 {
		t.Errorf("unreachable: got %d", w.Code)
	}
}

func answering(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestLambdaBodies(t *testing.T) {
	endpoint := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var event struct {
			Body            string
			IsBase64Encoded bool
		}
		_ = json.NewDecoder(r.Body).Decode(&event)
		_ = json.NewEncoder(w).Encode(map[string]any{"body": event.Body, "isBase64Encoded": event.IsBase64Encoded})
	}))
	p := newProxy(t, lambdaTable(t, 0, route.LambdaSpec{Function: "hello"}, "image/png"), func(c *Config) { c.LambdaEndpoint, c.MaxBody = endpoint.URL, 10 })
	post := func(body io.Reader, headers ...string) *httptest.ResponseRecorder {
		return do(p, httptest.NewRequest(http.MethodPost, "/prod/x", body), headers...)
	}
	if w := post(strings.NewReader("\x89\x00"), "Content-Type: image/png", "Accept: image/png"); w.Body.String() != "\x89\x00" {
		t.Errorf("binary to and fro: got %q", w.Body)
	}
	if w := post(strings.NewReader("\x89\x00"), "Content-Type: image/png"); w.Body.String() != "iQA=" {
		t.Errorf("binary that is not accepted: got %q", w.Body)
	}
	if w := post(io.MultiReader(strings.NewReader("01234567890"))); w.Code != 413 {
		t.Errorf("body of unknown length over the limit: got %d", w.Code)
	}
}

func TestLambdaTimeout(t *testing.T) {
	gone := make(chan struct{})
	endpoint := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		close(gone)
	}))
	p := newProxy(t, lambdaTable(t, reached, route.LambdaSpec{Function: "hello"}), func(c *Config) { c.LambdaEndpoint = endpoint.URL })
	if w := get(p, "/prod/x"); w.Code != 504 || w.Body.String() != `{"message": "Endpoint request timed out"}` {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	await(t, "the invocation to be cancelled", gone)
}

// TestEmulators looks at which emulator serves a function.
func TestEmulators(t *testing.T) {
	emulators := make(map[string]string)
	for _, key := range []string{helloARN + ":1", "hello:2", helloARN, "other"} {
		emulators[key] = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.RequestURI != "/2015-03-31/functions/function/invocations" {
				t.Errorf("invoked at %s", r.RequestURI)
			}
			_ = json.NewEncoder(w).Encode(map[string]string{"body": key})
		})).URL
	}
	endpoint := serve(t, answering(200, `{"body":"endpoint"}`))
	for _, c := range []struct{ function, qualifier, want string }{
		{helloARN, "1", helloARN + ":1"},
		{helloARN + ":1", "", helloARN + ":1"},
		{helloARN, "2", "hello:2"},
		{helloARN, "3", helloARN},
		{helloARN, "", helloARN},
		{"hello", "2", "hello:2"},
		{"hello", "1", "endpoint"},
		{"other", "7", "other"},
		{"${stageVariables.fn}", "2", "hello:2"},
	} {
		p := newProxy(t, lambdaTable(t, 0, route.LambdaSpec{Function: c.function, Qualifier: c.qualifier}),
			func(cfg *Config) { cfg.LambdaEndpoint, cfg.LambdaEndpoints = endpoint.URL, emulators })
		if w := get(p, "/prod/x"); w.Body.String() != c.want {
			t.Errorf("%s %s: got %d %q, want %q", c.function, c.qualifier, w.Code, w.Body, c.want)
		}
	}
	failing := serve(t, answering(200, `{"errorMessage":"boom","errorType":"Error"}`))
	p := newProxy(t, lambdaTable(t, 0, route.LambdaSpec{Function: "hello"}), func(c *Config) { c.LambdaEndpoints = map[string]string{"hello": failing.URL} })
	if w := get(p, "/prod/x"); w.Code != 502 {
		t.Errorf("function error: got %d", w.Code)
	}
}

// TestEmulatorServesOneAtATime also covers that an invocation which its client
// has given up still counts: the emulator is at work on it.
func TestEmulatorServesOneAtATime(t *testing.T) {
	working, release := make(chan struct{}), make(chan struct{})
	rie := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		working <- struct{}{}
		<-release
		_, _ = io.WriteString(w, `{}`)
	}))
	l, err := newLambda("", map[string]string{"hello:1": rie.URL, "hello:2": rie.URL + "/"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.transport.CloseIdleConnections()
	invoke := func(ctx context.Context, qualifier string) <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := l.invoke(ctx, function{id: "hello", name: "hello", qualifier: qualifier}, []byte("{}"))
			done <- err
		}()
		return done
	}
	impatient, giveUp := context.WithCancelCause(t.Context())
	first := invoke(impatient, "1")
	await(t, "the first invocation", working)
	giveUp(errTimeout)
	if err := await(t, "the first caller", first); !errors.Is(err, errTimeout) {
		t.Errorf("the first: %v", err)
	}
	expired, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errTimeout)
	defer cancel()
	if err := await(t, "the second caller", invoke(expired, "2")); !errors.Is(err, errTimeout) {
		t.Errorf("the second was let in beside the first: %v", err)
	}
	third := invoke(t.Context(), "2")
	release <- struct{}{}
	await(t, "the third invocation", working)
	release <- struct{}{}
	if err := await(t, "the third caller", third); err != nil {
		t.Errorf("the third: %v", err)
	}
}

// TestAWS sees a signed request arrive where AWS would be.
func TestAWS(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_SESSION_TOKEN", "token")
	t.Setenv("AWS_REGION", "us-east-2")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	for _, c := range []struct{ function, host, region string }{
		{helloARN, "lambda.eu-west-1.amazonaws.com", "eu-west-1"},
		{"hello", "lambda.us-east-2.amazonaws.com", "us-east-2"},
		{strings.Replace(strings.Replace(helloARN, "arn:aws:", "arn:aws-cn:", 1), "eu-west-1", "cn-north-1", 1), "lambda.cn-north-1.amazonaws.com.cn", "cn-north-1"},
	} {
		aws := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a := r.Header.Get("Authorization")
			if r.Host != c.host || !strings.HasPrefix(a, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") || !strings.Contains(a, "/"+c.region+"/lambda/aws4_request") ||
				!strings.Contains(a, "x-amz-invocation-type") || r.Header.Get("X-Amz-Security-Token") != "token" {
				t.Errorf("%s: host %s, authorization %s", c.function, r.Host, a)
			}
			_, _ = io.WriteString(w, `{"body":"signed"}`)
		}))
		p := newProxy(t, lambdaTable(t, 0, route.LambdaSpec{Function: c.function}), nil)
		p.lambda.transport = aws.Client().Transport.(*http.Transport).Clone()
		p.lambda.transport.TLSClientConfig.InsecureSkipVerify = true
		p.lambda.transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address != c.host+":443" {
				t.Errorf("%s: dials %s", c.function, address)
			}
			return (&net.Dialer{}).DialContext(ctx, network, aws.Listener.Addr().String())
		}
		if w := get(p, "/prod/x"); w.Body.String() != "signed" {
			t.Errorf("%s: got %d %s", c.function, w.Code, w.Body)
		}
		p.Close()
		aws.Close()
	}

	t.Setenv("AWS_REGION", "")
	p := newProxy(t, lambdaTable(t, 0, route.LambdaSpec{Function: "hello"}), nil)
	if w := get(p, "/prod/x"); w.Code != 502 {
		t.Errorf("no region: got %d", w.Code)
	}
}

func TestParseFunction(t *testing.T) {
	for _, c := range []struct{ s, qualifier, want string }{
		{"hello", "", "hello"},
		{"hello:prod", "", "hello:prod"},
		{"hello", "$LATEST", "hello:$LATEST"},
		{helloARN, "1", helloARN + ":1"},
		{helloARN + ":1", "", helloARN + ":1"},
		{helloARN + ":1", "2", ""},
		{"hello:1", "2", ""},
		{"", "", ""},
		{"a/b", "", ""},
		{"a?b", "", ""},
		{"hello", "a&b", ""},
		{"arn:aws:s3:::bucket", "", ""},
		{"arn:aws:lambda:eu.evil.com/:123456789012:function:hello", "", ""},
		{helloARN + ":1:2", "", ""},
	} {
		f, err := parseFunction(c.s, c.qualifier)
		if (err != nil) != (c.want == "") || err == nil && f.String() != c.want {
			t.Errorf("parseFunction(%q, %q) = %s, %v; want %q", c.s, c.qualifier, f, err, c.want)
		}
	}
}
