package proxy

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/fifegateway/fife/agent/route"
)

// This file keeps the secrets of stage variables out of logs. An address with a secret in
// it turns up in errors whole, cut, or in another spelling: so nothing of such errors is
// shown but what kind they are of.

// templates returns what the exchange's route expands to find its integration.
func (x *exchange) templates() []*route.Template {
	if x.route == nil {
		return nil
	}
	switch i := x.route.Integration.(type) {
	case *route.HTTP:
		return []*route.Template{&i.URI}
	case *route.Lambda:
		return []*route.Template{&i.Function, &i.Qualifier}
	}
	return nil
}

// hides reports whether the address of the integration holds a secret.
func (x *exchange) hides() bool {
	if x.variant == nil || !x.variant.HasSecrets() {
		return false
	}
	for _, t := range x.templates() {
		if x.variant.Hides(t) {
			return true
		}
	}
	return false
}

// upstreamText returns what may be told of where the exchange went.
func (x *exchange) upstreamText() string {
	if x.upstream == "" || !x.hides() {
		return x.upstream
	}
	text := ""
	for i, t := range x.templates() {
		if i > 0 && t.String() != "" {
			text += ":"
		}
		text += t.String()
	}
	return text
}

// shown returns what may be told of why an exchange failed.
func (x *exchange) shown(err error) string {
	if x.variant == nil || !x.variant.HasSecrets() {
		return err.Error()
	}
	var answered *payloadError
	if errors.As(err, &answered) {
		return payloadError{answered.what, []byte(x.variant.Redact(string(answered.payload)))}.Error()
	}
	if !x.hides() {
		return x.variant.Redact(err.Error())
	}
	const rest = "the rest is not shown, as the integration's address holds a secret"
	var unset *route.UnsetVariableError
	var name *net.DNSError
	var errno syscall.Errno
	switch {
	case errors.As(err, &unset), errors.Is(err, errTimeout), errors.Is(err, errClientGone):
		return x.variant.Redact(err.Error())
	case errors.As(err, &name):
		return "the host's name does not resolve; " + rest
	case errors.As(err, &errno):
		return errno.Error() + "; " + rest
	}
	return rest
}

// payloadError says what an endpoint or a function answered instead of a response.
type payloadError struct {
	what    string
	payload []byte
}

func (e payloadError) Error() string { return fmt.Sprintf("%s: %.200q", e.what, e.payload) }
