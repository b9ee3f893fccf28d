// Package release holds the rules of canary releases: what an API, a route, a
// deployment, a stage and a canary may be, and which moves lead from one state
// of a stage to the next.
//
// Everything here is pure. Values are never changed once made: a move returns a
// new value or a *Refusal. Time, identity and randomness come in as arguments,
// so that every replica that applies the same change comes to the same result.
package release

import (
	"fmt"
	"strings"
	"time"
)

// Limits that callers meet. All are checked before a change reaches the log or,
// where they depend on state, when it is applied.
const (
	MaxRoutes           = 10_000  // routes of one API
	MaxDescription      = 1024    // characters
	MaxHosts            = 20      // per API
	MaxBinaryMediaTypes = 64      // per API
	MaxPath             = 1024    // bytes of a path template
	MaxPathVariables    = 16      // variables of one path template
	MaxURI              = 2048    // bytes of an integration's URI
	MaxVariables        = 100     // per stage, overrides included
	MaxVariableName     = 64      // characters
	MaxVariableValue    = 512     // characters
	MaxMockHeaders      = 32      // per route
	MaxMockHead         = 8 << 10 // bytes of their names and values
	MaxMockBody         = 64 << 10
	MaxDeployment       = 16 << 20 // bytes of a deployment's routes
	HistoryLimit        = 100      // kept revisions of a stage

	MinTimeout     = 50 * time.Millisecond
	MaxTimeout     = 29 * time.Second
	DefaultTimeout = MaxTimeout
)

// Change says who makes a change, when and by which RPC.
type Change struct {
	Time   time.Time
	Actor  string
	Caller string // the actor if it was verified who that is; empty of a node, and where nobody is asked
	Method string
	Note   string // what else is to be said of it
}

// APIName returns the resource name of an API.
func APIName(api string) string { return "apis/" + api }

// DeploymentName returns the resource name of a deployment.
func DeploymentName(api string, number uint64) string {
	return fmt.Sprintf("apis/%s/deployments/%d", api, number)
}

// StageName returns the resource name of a stage.
func StageName(api, stage string) string { return "apis/" + api + "/stages/" + stage }

// CheckAPIID notes whether id can name an API: it becomes a DNS label of the
// host names that select it (RFC 1035).
func CheckAPIID(v *Violations, field, id string) {
	if !isLabel(id) {
		v.Addf(field, "%q must have 1 to 63 lower-case letters, digits and inner hyphens", id)
	}
}

// CheckStageID notes whether id can name a stage: it becomes the first segment
// of request paths.
func CheckStageID(v *Violations, field, id string) {
	if len(id) < 1 || len(id) > 64 || strings.Trim(id, alphanumeric+"-_") != "" {
		v.Addf(field, "%q must have 1 to 64 letters, digits, hyphens and underscores", id)
	}
}

// CheckDescription notes whether text is short enough.
func CheckDescription(v *Violations, field, text string) {
	if n := len([]rune(text)); n > MaxDescription {
		v.Addf(field, "has %d characters, at most %d are allowed", n, MaxDescription)
	}
}

// CheckTimeout notes whether d is 0, for the default, or a legal timeout.
func CheckTimeout(v *Violations, field string, d time.Duration) {
	if d != 0 && (d < MinTimeout || d > MaxTimeout) {
		v.Addf(field, "%v must lie between %v and %v", d, MinTimeout, MaxTimeout)
	}
}

const alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

func isLabel(s string) bool {
	if len(s) < 1 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// CheckNodeID notes whether id can name a node of the control plane.
func CheckNodeID(v *Violations, field, id string) {
	if !isLabel(id) {
		v.Addf(field, "%q must have 1 to 63 lower-case letters, digits and inner hyphens", id)
	}
}
