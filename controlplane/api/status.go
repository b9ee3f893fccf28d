package api

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/signin"
	"github.com/fifegateway/fife/controlplane/store"
)

// errorDomain is the domain of every ErrorInfo of fife.v1.
const errorDomain = "fife"

// Reasons that come from outside the rules.
const (
	reasonTooLarge       = "PROPOSAL_TOO_LARGE"
	reasonNotCaughtUp    = "NOT_CAUGHT_UP"
	reasonOtherKey       = "OTHER_KEY"
	reasonNoLeader       = "NO_LEADER"
	reasonOutcomeUnknown = "OUTCOME_UNKNOWN"
	reasonInternal       = "INTERNAL"
	reasonQuorumAtRisk   = "QUORUM_AT_RISK"
	reasonNoCheckpoint   = "NO_CHECKPOINT"
	reasonBadBackup      = "BAD_BACKUP"
	reasonNotEmpty       = "NOT_EMPTY"
	reasonDiskFull       = "DISK_FULL"
	reasonOtherCluster   = "OTHER_CLUSTER"
	reasonNotSupported   = "NOT_SUPPORTED"
	reasonNoClusterKey   = "NO_CLUSTER_KEY"
	reasonUnknownCaller  = "UNAUTHENTICATED"
	reasonDenied         = "PERMISSION_DENIED"
	reasonIssuerAway     = "ISSUER_UNAVAILABLE"
	reasonRateLimited    = "RATE_LIMITED"
	reasonManyStreams    = "TOO_MANY_STREAMS"
	reasonWouldCutOff    = "WOULD_CUT_OFF"
	reasonCanceled       = "CANCELED"
	reasonDeadline       = "DEADLINE_EXCEEDED"
)

// refusalCodes maps the reasons of the rules to gRPC codes.
var refusalCodes = map[release.Reason]codes.Code{
	release.InvalidField:     codes.InvalidArgument,
	release.RequestIDReused:  codes.InvalidArgument,
	release.NotFound:         codes.NotFound,
	release.Exists:           codes.AlreadyExists,
	release.CanaryExists:     codes.AlreadyExists,
	release.StaleEtag:        codes.Aborted,
	release.NoCanary:         codes.FailedPrecondition,
	release.APIEmpty:         codes.FailedPrecondition,
	release.RouteIncomplete:  codes.FailedPrecondition,
	release.DeploymentInUse:  codes.FailedPrecondition,
	release.APIInUse:         codes.FailedPrecondition,
	release.NoHistory:        codes.FailedPrecondition,
	release.LimitReached:     codes.ResourceExhausted,
	release.PromotionOpen:    codes.FailedPrecondition,
	release.NoPromotion:      codes.FailedPrecondition,
	release.PermissionDenied: codes.PermissionDenied,
	release.LastAdmin:        codes.FailedPrecondition,
	release.ImportSuperseded: codes.Aborted,
	release.JoinRefused:      codes.PermissionDenied,
	release.SamePromoter:     codes.PermissionDenied,
	release.PromotionNeeded:  codes.FailedPrecondition,
	release.CallersUnknown:   codes.FailedPrecondition,
	release.RotationOpen:     codes.FailedPrecondition,
	release.NoRotation:       codes.FailedPrecondition,
}

// sentinels maps errors whose own text says all to codes and reasons.
var sentinels = []struct {
	err    error
	code   codes.Code
	reason string
}{
	{store.ErrMemberConflict, codes.AlreadyExists, string(release.Exists)},
	{store.ErrNoMember, codes.NotFound, string(release.NotFound)},
	{store.ErrQuorumAtRisk, codes.FailedPrecondition, reasonQuorumAtRisk},
	{store.ErrNoCheckpoint, codes.FailedPrecondition, reasonNoCheckpoint},
	{store.ErrBadSnapshot, codes.InvalidArgument, reasonBadBackup},
	{store.ErrNotEmpty, codes.FailedPrecondition, reasonNotEmpty},
	{store.ErrDiskFull, codes.ResourceExhausted, reasonDiskFull},
	{store.ErrNotSupported, codes.FailedPrecondition, reasonNotSupported},
	{ErrOtherCluster, codes.FailedPrecondition, reasonOtherCluster},
	{ErrUnauthenticated, codes.Unauthenticated, reasonUnknownCaller},
	{ErrDenied, codes.PermissionDenied, reasonDenied},
	{signin.ErrUnavailable, codes.Unavailable, reasonIssuerAway},
	{ErrNoClusterKey, codes.FailedPrecondition, reasonNoClusterKey},
	{ErrOtherKey, codes.FailedPrecondition, reasonOtherKey},
	{ErrNoKey, codes.Unavailable, reasonNotCaughtUp},
	{ErrNotYet, codes.FailedPrecondition, reasonNotCaughtUp},
	{store.ErrNotCaughtUp, codes.FailedPrecondition, reasonNotCaughtUp},
}

// toStatus turns any error of a handler into the status that a client sees, with
// exactly one ErrorInfo. It is the only place where codes are chosen. A status
// that another node has made passes as it is.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	var refusal *release.Refusal
	var denied *access.Denied
	var tooLarge *store.TooLargeError
	var elsewhere *leaderElsewhereError
	var limited *limitError
	var cutOff *cutOffError
	switch {
	case errors.As(err, &refusal):
		return refusalStatus(refusal)
	case errors.As(err, &denied):
		return refusalStatus(store.Denial(denied))
	case errors.As(err, &tooLarge):
		return withInfo(codes.InvalidArgument, err.Error()+"; send less at a time", reasonTooLarge, map[string]string{
			"size": fmt.Sprint(tooLarge.Size), "limit": fmt.Sprint(store.MaxCommand),
		})
	case errors.As(err, &limited):
		return limitStatus(limited)
	case errors.As(err, &cutOff):
		return withInfo(codes.FailedPrecondition, err.Error(), reasonWouldCutOff, cutOff.metadata())
	case errors.As(err, &elsewhere):
		return withInfo(codes.Unavailable, err.Error(), reasonNoLeader, map[string]string{"leader": elsewhere.address})
	case errors.Is(err, store.ErrNotLeader):
		return withInfo(codes.Unavailable, "the cluster has no leader just now; nothing was done; try again",
			reasonNoLeader, nil)
	case errors.Is(err, store.ErrOutcomeUnknown):
		return withInfo(codes.Unknown,
			"the change may or may not have been carried out; repeat it with the same request_id to find out",
			reasonOutcomeUnknown, nil)
	case errors.Is(err, context.Canceled):
		return withInfo(codes.Canceled, "the call was cancelled", reasonCanceled, nil)
	case errors.Is(err, context.DeadlineExceeded):
		return withInfo(codes.DeadlineExceeded, "the call's deadline has passed", reasonDeadline, nil)
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return withInfo(s.code, err.Error(), s.reason, memberOf(err))
		}
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return withInfo(codes.Internal, "internal error; the node's log says more", reasonInternal, nil)
}

// memberOf returns the metadata of an error about a member.
func memberOf(err error) map[string]string {
	var about *store.MemberError
	if !errors.As(err, &about) {
		return nil
	}
	return map[string]string{"resource": "members/" + about.Member}
}

func codeOf(r release.Reason) codes.Code {
	if code, ok := refusalCodes[r]; ok {
		return code
	}
	return codes.Internal
}

func refusalStatus(r *release.Refusal) error {
	var details []protoadapt.MessageV1
	if len(r.Violations) > 0 {
		bad := &errdetails.BadRequest{}
		for _, v := range r.Violations {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
				Field: v.Field, Description: v.Description, Reason: string(r.Reason),
			})
		}
		details = append(details, bad)
	}
	return withInfo(codeOf(r.Reason), r.Error(), string(r.Reason), r.Metadata, details...)
}

func limitStatus(e *limitError) error {
	if e.streams {
		return withInfo(codes.ResourceExhausted, e.Error(), reasonManyStreams, map[string]string{
			"caller": e.caller, "limit": fmt.Sprint(e.limit.Streams),
		})
	}
	return withInfo(codes.ResourceExhausted, e.Error(), reasonRateLimited,
		map[string]string{"caller": e.caller, "limit": fmt.Sprint(e.limit.Rate)},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(e.wait)})
}

func withInfo(
	code codes.Code, message, reason string, metadata map[string]string, details ...protoadapt.MessageV1,
) error {
	s := status.New(code, message)
	info := &errdetails.ErrorInfo{Reason: reason, Domain: errorDomain, Metadata: metadata}
	detailed, err := s.WithDetails(append([]protoadapt.MessageV1{info}, details...)...)
	if err != nil {
		return s.Err() // code OK only, which is never passed
	}
	return detailed.Err()
}

// reasonOf returns the reason in a status, or an empty text.
func reasonOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			return info.GetReason()
		}
	}
	return ""
}
