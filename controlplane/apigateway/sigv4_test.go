package apigateway_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/fifegateway/fife/controlplane/apigateway"
)

type owner struct{}

// keys are access keys by id.
type keys map[string]string

func (k keys) Key(ctx context.Context, id string) (string, context.Context, error) {
	secret, ok := k[id]
	if !ok {
		return "", nil, fmt.Errorf("%w: %s", apigateway.ErrUnknownKey, id)
	}
	return secret, context.WithValue(ctx, owner{}, id), nil
}

var signedAt = time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)

// TestSigV4Vectors: signatures of Amazon's published test suite, whose service is called
// service.
func TestSigV4Vectors(t *testing.T) {
	const key, scope = "AKIDEXAMPLE", "/20150830/us-east-1/service/aws4_request"
	for _, tt := range []struct{ name, method, target, signature string }{
		{"get-vanilla", "GET", "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"get-vanilla-query-order-key-case", "GET", "/?Param2=value2&Param1=value1", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
		{"post-vanilla", "POST", "/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
	} {
		r := httptest.NewRequest(tt.method, "http://example.amazonaws.com"+tt.target, nil)
		r.Header.Set("X-Amz-Date", signedAt.Format("20060102T150405Z"))
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+key+scope+", SignedHeaders=host;x-amz-date, Signature="+tt.signature)
		s := &apigateway.SigV4{
			Keys: keys{key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}, Service: "service", Now: func() time.Time { return signedAt },
		}
		ctx, err := s.Verify(r)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		} else if ctx.Value(owner{}) != key {
			t.Errorf("%s: the context names %v", tt.name, ctx.Value(owner{}))
		}
	}
}

// signed returns a request as Amazon's client signs it.
func signed(t *testing.T, method, target, body string) *http.Request {
	t.Helper()
	r := httptest.NewRequest(method, "http://fife.example:7403"+target, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret"}, r,
		hex.EncodeToString(sum[:]), "apigateway", "eu-west-1", signedAt); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestSigV4: what Amazon's client signs is taken, and what has been changed since is not.
func TestSigV4(t *testing.T) {
	at := signedAt
	s := &apigateway.SigV4{Keys: keys{"AKID": "secret"}, Service: "apigateway", Now: func() time.Time { return at }}
	for _, target := range []string{
		"/restapis", "/restapis?limit=5&position=a%2Bb%3D", "/restapis?embed=b&embed=a", "/restapis?x=a+b&y",
		"/tags/arn%3Aaws%3Aapigateway%3Aeu-west-1%3A%3A%2Frestapis%2Fabc?tagKeys=a%20b", "/restapis/%E2%82%AC~-_.",
	} {
		r := signed(t, "POST", target, `{"name": "x"}`)
		if _, err := s.Verify(r); err != nil {
			t.Errorf("%s: %v", target, err)
		}
		if body, _ := io.ReadAll(r.Body); string(body) != `{"name": "x"}` {
			t.Errorf("%s: the body left is %q", target, body)
		}
	}
	for name, tt := range map[string]struct {
		change func(*http.Request)
		want   string
	}{
		"unsigned":  {func(r *http.Request) { r.Header.Del("Authorization") }, "MissingAuthenticationTokenException"},
		"basic":     {func(r *http.Request) { r.Header.Set("Authorization", "Basic x") }, "IncompleteSignatureException"},
		"no parts":  {func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 x") }, "IncompleteSignatureException"},
		"body":      {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("{}")) }, "InvalidSignatureException"},
		"path":      {func(r *http.Request) { r.URL.Path = "/other" }, "InvalidSignatureException"},
		"query":     {func(r *http.Request) { r.URL.RawQuery = "limit=6" }, "InvalidSignatureException"},
		"method":    {func(r *http.Request) { r.Method = "PUT" }, "InvalidSignatureException"},
		"host":      {func(r *http.Request) { r.Host = "other" }, "InvalidSignatureException"},
		"header":    {func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, "InvalidSignatureException"},
		"hash":      {func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") }, "InvalidSignatureException"},
		"date":      {func(r *http.Request) { r.Header.Set("X-Amz-Date", "20150830T123601Z") }, "InvalidSignatureException"},
		"other day": {func(r *http.Request) { r.Header.Set("X-Amz-Date", "20150831T123600Z") }, "IncompleteSignatureException"},
		"token":     {func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "x") }, "UnrecognizedClientException"},
		"key": {func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "AKID", "OTHER", 1))
		}, "UnrecognizedClientException"},
		"service": {func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "apigateway", "lambda", 1))
		}, "InvalidSignatureException"},
		"host unsigned": {func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "host;", "", 1))
		}, "InvalidSignatureException"},
	} {
		r := signed(t, "POST", "/restapis?limit=5", `{"name": "x"}`)
		tt.change(r)
		if _, err := s.Verify(r); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
	r := signed(t, "POST", "/restapis", "")
	r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "AKID", "OTHER", 1))
	r.Body = unread{t}
	if _, err := s.Verify(r); err == nil {
		t.Error("a key that nobody has was taken")
	}
	for _, at = range []time.Time{signedAt.Add(5*time.Minute + time.Second), signedAt.Add(-5*time.Minute - time.Second)} {
		if _, err := s.Verify(signed(t, "POST", "/", "")); err == nil || !strings.HasPrefix(err.Error(), "InvalidSignatureException") {
			t.Errorf("at %v: %v", at, err)
		}
	}
}

// unread is the body of a request whose body must not be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body of somebody without a key was read")
	return 0, io.EOF
}

func (unread) Close() error { return nil }
