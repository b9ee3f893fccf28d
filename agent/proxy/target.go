package proxy

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/fifegateway/fife/agent/http1"
	"github.com/fifegateway/fife/agent/route"
)

// target is where a request goes. All of it may be pieces of one expanded URI.
type target struct {
	origin    string // scheme and authority, such as https://pets.example.com:8443
	authority string // host or host:port
	path      string // escaped, begins with a slash
	query     string // escaped, without the question mark
	secure    bool
}

// target expands the integration's URI. The result is valid as long as the exchange.
func (x *exchange) target(i *route.HTTP) (target, error) {
	uri := i.URI.String()
	if !i.URI.Constant() {
		var err error
		x.scratch.uri, err = i.URI.Append(x.scratch.uri[:0], x.variant.Variables, &x.params)
		if err != nil {
			return target{}, x.notExpanded(err)
		}
		uri = unsafe.String(unsafe.SliceData(x.scratch.uri), len(x.scratch.uri))
	}
	t, err := parseTarget(uri)
	if err != nil {
		return target{}, internalError.because(fmt.Errorf("integration uri %q: %w", uri, err))
	}
	return t, nil
}

// CheckURI returns why no request can be sent to an expanded integration URI, nil if one
// can. The control plane takes no URI that this refuses whatever its stage variables are;
// what agents have been given already still compiles, and fails by itself.
func CheckURI(uri string) error {
	_, err := parseTarget(uri)
	return err
}

// parseTarget takes an expanded URI apart. A template's holes can be filled with
// anything that the rules of stage variables allow, so it is looked at anew for every
// request, and nothing is let through that another reader might take apart elsewhere.
func parseTarget(uri string) (target, error) {
	t := target{secure: len(uri) > 8 && http1.EqualFold(uri[:8], "https://")}
	begin := len("http://")
	switch {
	case t.secure:
		begin++
	case len(uri) < begin || !http1.EqualFold(uri[:begin], "http://"):
		return t, errors.New("want http or https")
	}
	end := begin
	for end < len(uri) && uri[end] != '/' && uri[end] != '?' && uri[end] != '#' {
		end++
	}
	t.origin, t.authority, t.path = uri[:end], uri[begin:end], uri[end:]
	if !http1.IsHost(t.authority) {
		return t, errors.New("want a host, or a host and a port, and no user")
	}
	if i := strings.IndexByte(t.path, '?'); i >= 0 {
		t.path, t.query = t.path[:i], t.path[i+1:]
	}
	if t.path == "" {
		t.path = "/"
	}
	return t, t.check()
}

// check refuses what may not be in a request target.
func (t *target) check() error {
	dots, escapes := false, false
	for i := 0; i < len(t.path); i++ {
		switch c := t.path[i]; {
		case c == '%':
			if i+2 >= len(t.path) || !isHex(t.path[i+1]) || !isHex(t.path[i+2]) {
				return errPathEscape
			}
			escapes = true
		case c == '.':
			dots = true
		case !isPathByte(c):
			return fmt.Errorf("has %q in its path", c)
		}
	}
	if (dots || escapes) && (hasDotSegment(t.path) || escapes && hidesDotSegment(t.path)) {
		return errors.New("must have no dot segments")
	}
	for i := 0; i < len(t.query); i++ {
		if !isQueryByte(t.query[i]) {
			return fmt.Errorf("has %q in its query", t.query[i])
		}
	}
	return nil
}

// appendRequestLine appends the request line for the target, with the client's query
// behind its own.
func (t *target) appendRequestLine(dst []byte, method, query string) []byte {
	dst = append(append(dst, method...), ' ')
	dst = append(dst, t.path...)
	if t.query != "" || query != "" {
		dst = append(append(dst, '?'), t.query...)
		if t.query != "" && query != "" {
			dst = append(dst, '&')
		}
		dst = append(dst, query...)
	}
	return append(dst, " HTTP/1.1\r\n"...)
}
