package apigateway

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// ErrUnknownKey says that there is no such access key.
var ErrUnknownKey = errors.New("unknown access key")

// Keys knows access keys and whose they are. It must be safe for concurrent use.
type Keys interface {
	// Key returns the secret of an access key, and ctx with whatever says to the
	// operators' services that its owner calls. The error wraps ErrUnknownKey if there is
	// no such key.
	Key(ctx context.Context, id string) (secret string, as context.Context, err error)
}

// SigV4 verifies AWS Signature Version 4 in the Authorization header. It is safe for
// concurrent use.
type SigV4 struct {
	Keys    Keys
	Service string           // of the credential scope
	Now     func() time.Time // nil means time.Now
}

var _ Verifier = (*SigV4)(nil)

const (
	algorithm   = "AWS4-HMAC-SHA256"
	amzTime     = "20060102T150405Z"
	maxSkew     = 5 * time.Minute
	maxSigned   = 64 // headers
	scopeEnding = "aws4_request"
)

func forbidden(kind, format string, args ...any) *apiError {
	return &apiError{http.StatusForbidden, kind, fmt.Sprintf(format, args...)}
}

func incomplete(format string, args ...any) *apiError {
	return forbidden("IncompleteSignatureException", format, args...)
}

// credential is what the Authorization header says.
type credential struct {
	key, date, region, service string
	signed                     []string // header names, lower case
	signature                  string
}

func (c *credential) scope() string {
	return strings.Join([]string{c.date, c.region, c.service, scopeEnding}, "/")
}

// Verify returns the context in which the signer's calls are made, or the error that the
// service answers with. It reads the body and leaves it to be read again.
func (s *SigV4) Verify(r *http.Request) (context.Context, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return nil, errUnknownOperation // the service has one answer to both
	}
	cred, err := parseAuthorization(header)
	if err != nil {
		return nil, err
	}
	if cred.service != s.Service {
		return nil, forbidden("InvalidSignatureException", "Credential should be scoped to correct service: '%s'.", s.Service)
	}
	stamp := r.Header.Get("X-Amz-Date")
	if err := s.checkTime(stamp, cred.date); err != nil {
		return nil, err
	}
	secret, as, err := s.Keys.Key(r.Context(), cred.key)
	if errors.Is(err, ErrUnknownKey) || r.Header.Get("X-Amz-Security-Token") != "" {
		return nil, forbidden("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	if err != nil {
		return nil, fmt.Errorf("look up access key: %w", err)
	}
	hash, err := bodyHash(r) // of those with a key only: nobody else's takes memory
	if err != nil {
		return nil, err
	}
	want := sign(secret, cred, stamp, canonicalRequest(r, cred.signed, hash))
	if subtle.ConstantTimeCompare([]byte(want), []byte(cred.signature)) != 1 {
		return nil, forbidden("InvalidSignatureException", "The request signature we calculated does not match the signature you provided. "+
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return as, nil
}

// parseAuthorization reads `AWS4-HMAC-SHA256 Credential=.../..., SignedHeaders=..., Signature=...`.
func parseAuthorization(header string) (*credential, error) {
	rest, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return nil, incomplete("Unsupported Authorization header: it must begin with %s.", algorithm)
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		parts[name] = value
	}
	for _, name := range []string{"Credential", "Signature", "SignedHeaders"} {
		if parts[name] == "" {
			return nil, incomplete("Authorization header requires '%s' parameter.", name)
		}
	}
	scope := strings.Split(parts["Credential"], "/")
	n := len(scope)
	if n < 5 || scope[n-1] != scopeEnding {
		return nil, incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.")
	}
	c := &credential{
		key: strings.Join(scope[:n-4], "/"), date: scope[n-4], region: scope[n-3], service: scope[n-2],
		signed: strings.Split(parts["SignedHeaders"], ";"), signature: parts["Signature"],
	}
	if !slices.Contains(c.signed, "host") || !slices.Contains(c.signed, "x-amz-date") || len(c.signed) > maxSigned {
		return nil, forbidden("InvalidSignatureException", "'Host' and 'X-Amz-Date' must be 'SignedHeaders' in the AWS Authorization.")
	}
	return c, nil
}

func (s *SigV4) checkTime(stamp, date string) error {
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	at, err := time.Parse(amzTime, stamp)
	if err != nil || at.Format("20060102") != date {
		return incomplete("Authorization header requires existence of a 'X-Amz-Date' header in ISO 8601 basic format, of the day in the credential scope.")
	}
	switch today := now().UTC(); {
	case at.Before(today.Add(-maxSkew)):
		return forbidden("InvalidSignatureException", "Signature expired: %s is now earlier than %s (%s - 5 min.)",
			stamp, today.Add(-maxSkew).Format(amzTime), today.Format(amzTime))
	case at.After(today.Add(maxSkew)):
		return forbidden("InvalidSignatureException", "Signature not yet current: %s is still later than %s (%s + 5 min.)",
			stamp, today.Add(maxSkew).Format(amzTime), today.Format(amzTime))
	}
	return nil
}

// bodyHash returns the hash of the body, which must be what the request says it is.
func bodyHash(r *http.Request) (string, error) {
	body, err := readBody(r)
	if err != nil {
		return "", err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	if said := r.Header.Get("X-Amz-Content-Sha256"); said != "" && said != hash {
		return "", forbidden("InvalidSignatureException", "The value of the 'X-Amz-Content-Sha256' header is not the SHA-256 of the request body.")
	}
	return hash, nil
}

// canonicalRequest returns a request as it is signed.
func canonicalRequest(r *http.Request, signed []string, hash string) string {
	var b strings.Builder
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	fmt.Fprintf(&b, "%s\n%s\n%s\n", r.Method, uriEncode(path, true), canonicalQuery(r.URL.RawQuery))
	for _, name := range signed {
		values := slices.Clone(r.Header.Values(name))
		if name == "host" {
			values = []string{r.Host}
		}
		if name == "content-length" && len(values) == 0 && r.ContentLength >= 0 {
			values = []string{fmt.Sprint(r.ContentLength)}
		}
		for i, v := range values {
			values[i] = strings.Join(strings.Fields(v), " ")
		}
		fmt.Fprintf(&b, "%s:%s\n", name, strings.Join(values, ","))
	}
	fmt.Fprintf(&b, "\n%s\n%s", strings.Join(signed, ";"), hash)
	return b.String()
}

// canonicalQuery sorts a query's parameters and encodes them anew.
func canonicalQuery(query string) string {
	var pairs []string
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		pairs = append(pairs, recode(name)+"="+recode(value))
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

func recode(text string) string {
	decoded, err := url.PathUnescape(strings.ReplaceAll(text, "+", "%20"))
	if err != nil {
		return text // its signature will not fit
	}
	return uriEncode(decoded, false)
}

// uriEncode percent-encodes all but RFC 3986's unreserved characters and, of a path, the
// slash.
func uriEncode(text string, path bool) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0 || (path && c == '/') {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', digits[c>>4], digits[c&15]})
	}
	return b.String()
}

// sign returns the signature of a canonical request.
func sign(secret string, c *credential, stamp, canonical string) string {
	sum := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{algorithm, stamp, c.scope(), hex.EncodeToString(sum[:])}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range []string{c.date, c.region, c.service, scopeEnding} {
		key = mac(key, part)
	}
	return hex.EncodeToString(mac(key, text))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = io.WriteString(h, text) // a hash never fails
	return h.Sum(nil)
}
