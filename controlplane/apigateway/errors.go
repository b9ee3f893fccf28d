package apigateway

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// apiError is an error as the service words it.
type apiError struct {
	status  int
	kind    string // for x-amzn-ErrorType
	message string
}

func (e *apiError) Error() string { return e.kind + ": " + e.message }

func badRequest(format string, args ...any) *apiError {
	return &apiError{http.StatusBadRequest, "BadRequestException", fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) *apiError {
	return &apiError{http.StatusNotFound, "NotFoundException", fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) *apiError {
	return &apiError{http.StatusConflict, "ConflictException", fmt.Sprintf(format, args...)}
}

// unsupported refuses what the service would do and Fife does not.
func unsupported(what string) *apiError { return badRequest("Fife does not support %s", what) }

// Errors with one wording.
var (
	errUnknownOperation = &apiError{http.StatusForbidden, "MissingAuthenticationTokenException", "Missing Authentication Token"}
	errNoResource       = notFound("Invalid Resource identifier specified")
	errNoMethod         = notFound("Invalid Method identifier specified")
	errNoIntegration    = notFound("Invalid Integration identifier specified")
	errNoStatusCode     = notFound("Invalid Response status code specified")
	errNoStage          = notFound("Invalid stage identifier specified")
	errNoDeployment     = notFound("Invalid Deployment identifier specified")
	errBadDeployment    = badRequest("Deployment id does not exist")
	errConcurrent       = conflict("Unable to complete operation due to concurrent modification. Please try again later.")
	internalFailure     = &apiError{http.StatusInternalServerError, "InternalFailure", "Internal failure"}
	unavailable         = &apiError{http.StatusServiceUnavailable, "ServiceUnavailableException", "The cluster has no leader just now; try again"}
)

func (g *Gateway) noAPI(id string) *apiError {
	return notFound("Invalid API identifier specified %s:%s", g.config.Account, id)
}

// errorOf words any error of an operation. internalFailure stands for one that clients
// are told nothing of.
func (g *Gateway) errorOf(err error) *apiError {
	var own *apiError
	if errors.As(err, &own) {
		return own
	}
	reason, metadata := reasonOf(err)
	message := status.Convert(err).Message()
	switch reason {
	case "RESOURCE_NOT_FOUND":
		return g.missing(metadata["resource"])
	case "STALE_ETAG":
		return errConcurrent
	case "API_EMPTY":
		return badRequest("The REST API doesn't contain any methods")
	case "ROUTE_INCOMPLETE":
		return badRequest("No integration defined for method")
	case "LIMIT_REACHED", "DISK_FULL":
		return &apiError{http.StatusTooManyRequests, "LimitExceededException", message}
	case "NO_LEADER":
		return unavailable
	case "OUTCOME_UNKNOWN":
		return &apiError{http.StatusServiceUnavailable, "ServiceUnavailableException",
			"The change may or may not have been carried out; look before you repeat it"}
	case "NOT_SUPPORTED":
		return &apiError{http.StatusServiceUnavailable, "ServiceUnavailableException", message}
	case "CALLERS_UNKNOWN", "NO_CLUSTER_KEY", "PROPOSAL_TOO_LARGE":
		return badRequest("%s", message) // not here, whatever is done before
	}
	switch status.Code(err) {
	case codes.InvalidArgument:
		return badRequest("%s", message)
	case codes.AlreadyExists, codes.FailedPrecondition, codes.Aborted:
		return conflict("%s", message)
	case codes.Unauthenticated:
		return &apiError{http.StatusForbidden, "UnrecognizedClientException", message}
	case codes.ResourceExhausted:
		return &apiError{http.StatusTooManyRequests, "TooManyRequestsException", message}
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable:
		return unavailable
	}
	return internalFailure
}

// denied words that the caller may not do what a request asks for, as the service does,
// with what Fife says of the reason behind it.
func (g *Gateway) denied(r *http.Request, err error) *apiError {
	_, metadata := reasonOf(err)
	return &apiError{http.StatusForbidden, "AccessDeniedException", fmt.Sprintf(
		"User: arn:aws:iam::%s:user/%s is not authorized to perform: apigateway:%s on resource: arn:aws:apigateway:%s::%s because %s",
		g.config.Account, strings.TrimPrefix(metadata["subject"], "user:"), r.Method, g.config.Region, r.URL.EscapedPath(),
		status.Convert(err).Message())}
}

// missing words that a resource of fife.v1 does not exist.
func (g *Gateway) missing(resource string) *apiError {
	parts := strings.Split(resource, "/")
	switch {
	case strings.HasPrefix(resource, "route "):
		return errNoMethod
	case len(parts) == 2:
		return g.noAPI(parts[1])
	case len(parts) == 4 && parts[2] == "stages":
		return errNoStage
	}
	return errNoDeployment
}

// reasonOf returns the reason and metadata of a status of fife.v1.
func reasonOf(err error) (string, map[string]string) {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == "fife" {
			return info.GetReason(), info.GetMetadata()
		}
	}
	return "", nil
}

func isStale(err error) bool {
	reason, _ := reasonOf(err)
	return reason == "STALE_ETAG"
}

// attempts is how often a change is evaluated anew when something else has changed what
// it was to change.
const attempts = 10

// retry evaluates and makes a change until nothing comes between the two.
func retry(change func() error) error {
	for range attempts {
		if err := change(); !isStale(err) {
			return err
		}
	}
	return errConcurrent
}
