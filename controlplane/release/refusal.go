package release

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Reason says why a change was refused. The values are the names of
// fife.v1.ErrorReason without their prefix, and are kept in the log.
type Reason string

// The reasons a rule may give.
const (
	InvalidField     Reason = "INVALID_FIELD"
	RequestIDReused  Reason = "REQUEST_ID_REUSED"
	NotFound         Reason = "RESOURCE_NOT_FOUND"
	Exists           Reason = "RESOURCE_EXISTS"
	CanaryExists     Reason = "CANARY_EXISTS"
	StaleEtag        Reason = "STALE_ETAG"
	NoCanary         Reason = "NO_CANARY"
	APIEmpty         Reason = "API_EMPTY"
	RouteIncomplete  Reason = "ROUTE_INCOMPLETE"
	DeploymentInUse  Reason = "DEPLOYMENT_IN_USE"
	APIInUse         Reason = "API_IN_USE"
	NoHistory        Reason = "NO_HISTORY"
	LimitReached     Reason = "LIMIT_REACHED"
	PromotionOpen    Reason = "PROMOTION_OPEN"
	NoPromotion      Reason = "NO_PROMOTION"
	ImportSuperseded Reason = "IMPORT_SUPERSEDED"
	JoinRefused      Reason = "JOIN_REFUSED"
	PermissionDenied Reason = "PERMISSION_DENIED"
	LastAdmin        Reason = "LAST_ADMIN"
	SamePromoter     Reason = "SAME_PROMOTER"
	PromotionNeeded  Reason = "PROMOTION_NEEDED"
	CallersUnknown   Reason = "CALLERS_UNKNOWN"
	metadataResource        = "resource"
)

// Refusal is a change that the rules do not allow. It is a result like any
// other: every replica comes to the same one, and nothing has changed.
type Refusal struct {
	Reason     Reason
	Message    string            // one sentence for people: what, with which value, and what to do
	Metadata   map[string]string // details for programs; the keys are named at fife.v1.ErrorReason
	Violations []Violation       // with InvalidField only
}

// Violation is one bad field of a request.
type Violation struct {
	Field       string // path of the field as fife.v1 spells it, such as `canary.percent`
	Description string // what is wrong, with the value
}

// Error returns the message, followed by the violations.
func (r *Refusal) Error() string {
	if len(r.Violations) == 0 {
		return r.Message
	}
	parts := make([]string, len(r.Violations))
	for i, v := range r.Violations {
		parts[i] = v.Field + ": " + v.Description
	}
	return r.Message + ": " + strings.Join(parts, "; ")
}

func refuse(reason Reason, resource, format string, args ...any) *Refusal {
	return &Refusal{
		Reason:   reason,
		Message:  fmt.Sprintf(format, args...),
		Metadata: map[string]string{metadataResource: resource},
	}
}

func (r *Refusal) with(key, value string) *Refusal {
	r.Metadata = maps.Clone(r.Metadata)
	r.Metadata[key] = value
	return r
}

// Missing refuses a change because the named resource does not exist.
func Missing(resource string) *Refusal {
	return refuse(NotFound, resource, "%s does not exist", resource)
}

// Taken refuses a change because the named resource exists already.
func Taken(resource string) *Refusal {
	return refuse(Exists, resource, "%s already exists", resource)
}

// CannotJoin refuses somebody who wants to join.
func CannotJoin(format string, args ...any) *Refusal {
	return &Refusal{Reason: JoinRefused, Message: fmt.Sprintf(format, args...)}
}

// ReusedRequestID refuses a request id that was used for another call.
func ReusedRequestID(id string) *Refusal {
	return &Refusal{
		Reason:   RequestIDReused,
		Message:  fmt.Sprintf("request_id %q was used for another call; use a new one", id),
		Metadata: map[string]string{"request_id": id},
	}
}

// CheckRevision refuses a change whose caller saw another revision than the
// current one. want 0 means that the caller does not mind.
func CheckRevision(resource string, current, want uint64) error {
	if want == 0 || want == current {
		return nil
	}
	etag := Etag(current)
	return refuse(StaleEtag, resource,
		"%s has changed: its etag is now %q, the request says %q; read it again and repeat the change",
		resource, etag, Etag(want)).with("etag", etag)
}

// Etag returns the etag of a revision.
func Etag(revision uint64) string { return fmt.Sprintf("%d", revision) }

// Violations collects what is wrong with a request's fields.
type Violations []Violation

// Addf notes that a field is wrong.
func (v *Violations) Addf(field, format string, args ...any) {
	*v = append(*v, Violation{Field: field, Description: fmt.Sprintf(format, args...)})
}

// Err returns a Refusal with all violations in a fixed order, or nil if there
// are none.
func (v Violations) Err() error {
	if len(v) == 0 {
		return nil
	}
	sorted := slices.Clone(v)
	slices.SortStableFunc(sorted, func(a, b Violation) int { return strings.Compare(a.Field, b.Field) })
	return &Refusal{Reason: InvalidField, Message: "the request has bad fields", Violations: sorted}
}

// InUse refuses to delete a resource that another one needs.
func InUse(reason Reason, resource, usedBy string) *Refusal {
	return refuse(reason, resource, "%s is in use by %s; change or delete that first", resource, usedBy).
		with("used_by", usedBy)
}

// Superseded refuses a step of an import that another import has taken the place of.
func Superseded(resource string) *Refusal {
	return refuse(ImportSuperseded, resource,
		"another import into %s began before this one was done, or this one took over an hour; look at the draft, then repeat", resource)
}

// TooMany refuses to pass a limit.
func TooMany(resource, what string, limit int) *Refusal {
	return refuse(LimitReached, resource, "%s has %d %s, which is the most allowed", resource, limit, what).
		with("limit", fmt.Sprint(limit))
}

// LastOne refuses to take the last binding that makes somebody an admin.
func LastOne(binding string) *Refusal {
	return refuse(LastAdmin, binding, "%s, and nobody else is of everything; make somebody else one first", binding)
}
