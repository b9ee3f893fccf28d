package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/fifegateway/fife/agent/http1"
	"github.com/fifegateway/fife/agent/route"
)

// answer is one of the agent's own responses, as Amazon API Gateway words it.
type answer struct {
	status    int
	errorType string // for x-amzn-ErrorType; empty: none
	message   string // body
}

// The agent's own answers.
var (
	requestTimeout   = answer{http.StatusRequestTimeout, "RequestTimeoutException", `{"message":"Request Timeout"}`}
	badRequest       = answer{http.StatusBadRequest, "BadRequestException", `{"message":"Bad Request"}`}
	noRoute          = answer{http.StatusForbidden, "MissingAuthenticationTokenException", `{"message":"Missing Authentication Token"}`}
	methodNotAllowed = answer{http.StatusMethodNotAllowed, "", `{"message":"Method Not Allowed"}`}
	tooManyRequests  = answer{http.StatusTooManyRequests, "TooManyRequestsException", `{"message":"Too Many Requests"}`}
	internalError    = answer{http.StatusInternalServerError, "InternalServerErrorException", `{"message":"Internal server error"}`}
	badGateway       = answer{http.StatusBadGateway, "InternalServerErrorException", `{"message":"Internal server error"}`}
	unavailable      = answer{http.StatusServiceUnavailable, "ServiceUnavailableException", `{"message":"Service Unavailable"}`}
	gatewayTimeout   = answer{http.StatusGatewayTimeout, "InternalServerErrorException", `{"message": "Endpoint request timed out"}`}
)

// tooLarge is the answer to a body of more than limit bytes.
func tooLarge(limit int64) answer {
	return answer{http.StatusRequestEntityTooLarge, "RequestTooLargeException",
		fmt.Sprintf(`{"message":"HTTP content length exceeded %d bytes."}`, limit)}
}

// malformed is the answer to a request that breaks the protocol or a limit of it.
func malformed(e *http1.Error) answer {
	switch e.Status {
	case http.StatusExpectationFailed, http.StatusHTTPVersionNotSupported, http.StatusRequestHeaderFieldsTooLarge,
		http.StatusRequestURITooLong, http.StatusRequestEntityTooLarge:
		return answer{e.Status, "", fmt.Sprintf(`{"message":%q}`, http.StatusText(e.Status))}
	}
	return badRequest
}

// failure is an error that the client is to see as an answer. Its cause is for
// the log alone.
type failure struct {
	answer
	cause error
}

// because makes the answer an error. A nil cause says that the client is wrong
// in a way which concerns nobody else.
func (a answer) because(cause error) error { return &failure{a, cause} }

func (f *failure) Error() string {
	if f.cause == nil {
		return "answered " + strconv.Itoa(f.status)
	}
	return fmt.Sprintf("answered %d: %v", f.status, f.cause)
}

func (f *failure) Unwrap() error { return f.cause }

var (
	// errTimeout is the cause of a context whose integration took too long.
	errTimeout = errors.New("integration timed out")
	// errBroken means that the answer stopped half-way: its connection must be
	// broken off too, or the client would take it for complete.
	errBroken = errors.New("answer broken off")
	// errClientGone means that nobody waits for the answer any more.
	errClientGone = errors.New("client is gone")
)

// statusClientGone is what metrics see of a client that went away.
const statusClientGone = 499

// fail sends one of the agent's own answers.
func (x *exchange) fail(c client, a answer) {
	fields := append(x.scratch.fields[:0],
		http1.Field{Name: "Content-Type", Value: "application/json", Kind: http1.ContentType})
	if a.errorType != "" {
		fields = append(fields, http1.Field{Name: "X-Amzn-ErrorType", Value: a.errorType})
	}
	if a.status == http.StatusMethodNotAllowed {
		fields = append(fields, http1.Field{Name: "Allow", Value: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"})
	}
	if a.status == http.StatusServiceUnavailable {
		// About as long as until the next wish for a lease.
		fields = append(fields, http1.Field{Name: "Retry-After", Value: "3"})
	}
	if a.status == http.StatusTooManyRequests {
		seconds := max(1, int((x.retryAfter+time.Second-1)/time.Second))
		fields = append(fields, http1.Field{Name: "Retry-After", Value: strconv.Itoa(seconds)})
	}
	x.scratch.fields = fields
	_ = x.answer(c, a.status, fields, a.message) // who is gone needs no answer
}

// notExpanded is the failure to expand a template of the route. It marks the
// exchange for the counter.
func (x *exchange) notExpanded(err error) error {
	var unset *route.UnsetVariableError
	x.unset = errors.As(err, &unset)
	return internalError.because(err)
}
