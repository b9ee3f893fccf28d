package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// exitError is an error with an exit code of its own. Any other error ends the
// command with exitFailed.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

func exitf(code int, format string, args ...any) error {
	return &exitError{code: code, text: fmt.Sprintf(format, args...)}
}

// usagef says what is wrong with a command line, and how a right one looks.
func usagef(cmd *cobra.Command, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if example, _, _ := strings.Cut(strings.TrimSpace(cmd.Example), "\n"); example != "" {
		text += "\nfor example: " + example
	}
	return exitf(exitUsage, "%s\nsee: %s --help", text, cmd.CommandPath())
}

// report writes a command's error, if any, and returns the exit code.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	// There is nowhere to report a failure of the report.
	_, _ = fmt.Fprintln(w, "fife: "+strings.ReplaceAll(err.Error(), "\n", "\n  "))
	if coded := (*exitError)(nil); errors.As(err, &coded) {
		return coded.code
	}
	return exitFailed
}

// explain turns the error of a call into what the user reads: what was wrong,
// with which value, and what to do. f is nil for calls that change nothing.
func explain(err error, f *changeFlags) error {
	changes := f != nil && !f.dryRun
	if away := (*unreachableError)(nil); errors.As(err, &away) {
		if changes && away.sent {
			return f.unknown(away.Error())
		}
		return exitf(exitUnreachable, "%v\nis it running? name its nodes with --server or FIFE_SERVER", away)
	}
	if errors.Is(err, context.Canceled) {
		return exitf(exitFailed, "interrupted before anything was sent")
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	reason := reasonOf(err)
	switch {
	case changes && reason == fifev1.ErrorReason_ERROR_REASON_OUTCOME_UNKNOWN, changes && reason == noReason && !refusal(st.Code()):
		return f.unknown(clean(st.Message()))
	case reason == fifev1.ErrorReason_ERROR_REASON_NO_LEADER:
		return exitf(exitUnreachable, "%s\nnothing was done; try again in a moment, or look at the nodes with: fife cluster members", clean(st.Message()))
	case st.Code() == codes.DeadlineExceeded:
		return exitf(exitUnreachable, "the control plane did not answer in time: %s\ngive it longer with --timeout", clean(st.Message()))
	case st.Code() == codes.Canceled:
		return exitf(exitFailed, "interrupted")
	case st.Code() == codes.Unimplemented:
		return exitf(exitFailed, "the control plane does not know this call (%s)\nits build may be older than this command's; compare: fife version, fife status", clean(st.Message()))
	case reason == noReason:
		return exitf(exitFailed, "%s: %s", st.Code(), clean(st.Message()))
	}

	text := clean(st.Message())
	if text == "" {
		text = errorInfo(st).GetReason()
	}
	var lines []string
	for _, v := range violations(st) {
		lines = append(lines, clean(v.GetField())+": "+clean(v.GetDescription()))
	}
	if len(lines) > 1 { // a message that tells them all is hard to read
		text = strings.TrimSuffix(text, ": "+strings.Join(lines, "; "))
	}
	for _, line := range lines {
		// One field may be told in the message already.
		if !strings.Contains(text, line) {
			text += "\n" + line
		}
	}
	if hint := advice(reason, errorInfo(st).GetMetadata(), f); hint != "" {
		text += "\n" + hint
	}
	return exitf(exitFailed, "%s", text)
}

// unknown says that a change may or may not have been made, and how to find out.
func (f *changeFlags) unknown(why string) error {
	again := "--request-id " + f.requestID
	if f.etag != "" {
		again += " --etag " + f.etag
	}
	return exitf(exitUnknown, "the change may or may not have been made: %s\nrepeat the command with %s to find out; it is not made twice", why, again)
}

// refusal says whether a code that came without a reason can only mean that the
// call was turned away. Other codes may stem from a connection or a proxy that
// failed after the call had gone through.
func refusal(code codes.Code) bool {
	switch code {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
		codes.FailedPrecondition, codes.Aborted, codes.OutOfRange, codes.Unimplemented, codes.Unauthenticated:
		return true
	}
	return false
}

// advice is what to do about a refusal, or nothing where the refusal says it.
func advice(reason fifev1.ErrorReason, meta map[string]string, f *changeFlags) string {
	at := clean(short(meta["resource"]))
	switch reason {
	case fifev1.ErrorReason_ERROR_REASON_PROPOSAL_TOO_LARGE:
		return fmt.Sprintf("it has %s bytes, the limit is %s; split it into smaller changes", clean(meta["size"]), clean(meta["limit"]))
	case fifev1.ErrorReason_ERROR_REASON_REQUEST_ID_REUSED:
		return "leave --request-id out to get a new one, or repeat the first command to the letter"
	case fifev1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND:
		return notFoundAdvice(meta["resource"])
	case fifev1.ErrorReason_ERROR_REASON_RESOURCE_EXISTS:
		if isMember(meta["resource"]) {
			return "give every node a name and addresses of its own; see: fife cluster members"
		}
		return "choose another name, or change the one that is there with update"
	case fifev1.ErrorReason_ERROR_REASON_CANARY_EXISTS:
		return fmt.Sprintf("change it with: fife canary set %s, or pass --replace to open a new one", at)
	case fifev1.ErrorReason_ERROR_REASON_STALE_ETAG:
		text := "it was changed since: its etag is now " + clean(meta["etag"])
		if f != nil && f.etag != "" {
			text += "; yours was " + f.etag
		}
		return text + "\nlook at it again, then repeat with --etag " + clean(meta["etag"])
	case fifev1.ErrorReason_ERROR_REASON_NO_CANARY:
		return fmt.Sprintf("open one with: fife canary start %s --percent 10", at)
	case fifev1.ErrorReason_ERROR_REASON_PROMOTION_OPEN:
		return fmt.Sprintf("follow it with: fife canary watch %s, or end it with: fife canary abort-promotion %s", at, at)
	case fifev1.ErrorReason_ERROR_REASON_NO_PROMOTION:
		return "see where its last promotion is with: fife stage get " + at
	case fifev1.ErrorReason_ERROR_REASON_PROMOTION_NEEDED:
		return fmt.Sprintf("make a deployment, then open a canary with: fife canary start %s --deployment N --percent 10", at)
	case fifev1.ErrorReason_ERROR_REASON_TOO_MANY_STREAMS:
		return "end other commands that follow or wait, or ask another node with --server"
	case fifev1.ErrorReason_ERROR_REASON_API_EMPTY:
		return fmt.Sprintf("add a route first, such as: fife route put %s GET / --mock-status 200", at)
	case fifev1.ErrorReason_ERROR_REASON_ROUTE_INCOMPLETE:
		return fmt.Sprintf("give it an integration: fife route put %s %s --http URI", at, clean(meta["route"]))
	case fifev1.ErrorReason_ERROR_REASON_DEPLOYMENT_IN_USE:
		return fmt.Sprintf("%[1]s needs it, now or for a rollback; see: fife stage history %[1]s", clean(short(meta["used_by"])))
	case fifev1.ErrorReason_ERROR_REASON_API_IN_USE:
		return fmt.Sprintf("delete its stages first: fife stage list %s", at)
	case fifev1.ErrorReason_ERROR_REASON_NO_HISTORY:
		return fmt.Sprintf("see what there is with: fife stage history %s", at)
	case fifev1.ErrorReason_ERROR_REASON_IMPORT_SUPERSEDED:
		return "see which routes there are now with: fife route list " + at
	case fifev1.ErrorReason_ERROR_REASON_LIMIT_REACHED:
		return fmt.Sprintf("the limit is %s; delete what is no longer needed", clean(meta["limit"]))
	case fifev1.ErrorReason_ERROR_REASON_QUORUM_AT_RISK:
		return "nothing was done; first bring back the nodes that are away, or join another; see: fife cluster members"
	case fifev1.ErrorReason_ERROR_REASON_NO_CHECKPOINT:
		return "another verify or a snapshot came in between; run it again"
	case fifev1.ErrorReason_ERROR_REASON_BAD_BACKUP:
		return "nothing was done; the file is damaged, cut short or no backup of this build: restore another one"
	case fifev1.ErrorReason_ERROR_REASON_NOT_EMPTY:
		return "nothing was done; found another cluster, on empty data directories, with: fife-controlplane --bootstrap"
	case fifev1.ErrorReason_ERROR_REASON_OTHER_KEY:
		return "nothing was done; put the old cluster's cluster.key into the empty data directory before the first start of: fife-controlplane --bootstrap"
	case fifev1.ErrorReason_ERROR_REASON_DISK_FULL:
		return "nothing was done; make room there, or give a node that has room the lead: fife cluster transfer-leader"
	case fifev1.ErrorReason_ERROR_REASON_OTHER_CLUSTER:
		return "an address leads to another cluster; ask each node for its own: fife --server HOST:PORT status"
	case fifev1.ErrorReason_ERROR_REASON_NOT_SUPPORTED:
		return "nothing was done; ask each node for its build: fife --server HOST:PORT status"
	case fifev1.ErrorReason_ERROR_REASON_UNAUTHENTICATED:
		return "nothing was done; say who you are with --cert, FIFE_CERT or fife login"
	case fifev1.ErrorReason_ERROR_REASON_ROTATION_OPEN, fifev1.ErrorReason_ERROR_REASON_NO_ROTATION:
		return "see where it is with: fife ca status"
	case fifev1.ErrorReason_ERROR_REASON_WOULD_CUT_OFF:
		return "nothing was done; see all of them with: fife ca status, wait with --wait there, or pass --force"
	case fifev1.ErrorReason_ERROR_REASON_INTERNAL:
		return "this is a bug of the control plane; the log of its nodes says more"
	}
	return ""
}

// isMember says whether a refusal is about a node. It may come without a name, as
// it is an address that clashes, too; whatever else is refused has one.
func isMember(resource string) bool {
	return resource == "" || strings.HasPrefix(resource, "members/")
}

func notFoundAdvice(resource string) string {
	if isMember(resource) {
		return "see what there is with: fife cluster members"
	}
	parts := strings.Split(resource, "/")
	if len(parts) < 3 {
		return "see what there is with: fife api list"
	}
	switch parts[2] {
	case "stages":
		return "see what there is with: fife stage list " + clean(parts[1])
	case "deployments":
		return "see what there is with: fife deployment list " + clean(parts[1])
	case "routes":
		return "see what there is with: fife route list " + clean(parts[1])
	}
	return ""
}

const (
	// noReason is that of an error which the control plane did not make.
	noReason = fifev1.ErrorReason_ERROR_REASON_UNSPECIFIED
	// newReason is one that came after this command was built.
	newReason fifev1.ErrorReason = -1
)

func reasonOf(err error) fifev1.ErrorReason {
	st, ok := status.FromError(err)
	if !ok || errorInfo(st) == nil {
		return noReason
	}
	if reason, known := fifev1.ErrorReason_value["ERROR_REASON_"+errorInfo(st).GetReason()]; known {
		return fifev1.ErrorReason(reason)
	}
	return newReason
}

func errorInfo(st *status.Status) *errdetails.ErrorInfo {
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "fife" {
			return info
		}
	}
	return nil
}

func violations(st *status.Status) []*errdetails.BadRequest_FieldViolation {
	for _, detail := range st.Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			return bad.GetFieldViolations()
		}
	}
	return nil
}
