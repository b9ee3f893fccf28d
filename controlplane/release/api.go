package release

import (
	"slices"
	"strings"
	"time"
)

// API is a set of routes that is deployed as one. Its draft routes are kept
// beside it, not in it.
type API struct {
	ID               string
	Description      string
	Hosts            []string
	DefaultTimeout   time.Duration // 0 means DefaultTimeout
	BinaryMediaTypes []string
	CreateTime       time.Time
	UpdateTime       time.Time // last change of the API or its draft
	Revision         uint64    // index of the last change of the API's own fields
	LastDeployment   uint64    // highest number ever given to a deployment
	RouteCount       int       // routes of the draft
	Annotations      map[string]string
}

// Name returns the API's resource name.
func (a *API) Name() string { return APIName(a.ID) }

// The fields that Update can change, as update masks name them.
const (
	FieldDescription      = "description"
	FieldHosts            = "hosts"
	FieldDefaultTimeout   = "default_timeout"
	FieldBinaryMediaTypes = "binary_media_types"
	FieldAnnotations      = "annotations"
)

// APIFields are the fields that Update changes if none are named. Annotations are
// not among them: who does not know them must not lose them.
func APIFields() []string {
	return []string{FieldDescription, FieldHosts, FieldDefaultTimeout, FieldBinaryMediaTypes}
}

// Update returns the API with the named fields taken from values.
func (a *API) Update(at time.Time, values *API, fields []string) *API {
	next := *a
	next.UpdateTime = at
	for _, f := range fields {
		switch f {
		case FieldDescription:
			next.Description = values.Description
		case FieldHosts:
			next.Hosts = values.Hosts
		case FieldDefaultTimeout:
			next.DefaultTimeout = values.DefaultTimeout
		case FieldBinaryMediaTypes:
			next.BinaryMediaTypes = values.BinaryMediaTypes
		case FieldAnnotations:
			next.Annotations = values.Annotations
		}
	}
	return &next
}

// CheckAPI notes what is wrong with an API's own fields; prefix is put before
// the fields' names.
func CheckAPI(v *Violations, prefix string, a *API) {
	CheckDescription(v, prefix+FieldDescription, a.Description)
	CheckTimeout(v, prefix+FieldDefaultTimeout, a.DefaultTimeout)
	CheckAnnotations(v, prefix+FieldAnnotations, a.Annotations, MaxAPIAnnotations)
	if len(a.Hosts) > MaxHosts {
		v.Addf(prefix+FieldHosts, "has %d entries, at most %d are allowed", len(a.Hosts), MaxHosts)
	}
	for i, h := range a.Hosts {
		if !isHost(h) {
			v.Addf(prefix+FieldHosts, "%q must be a lower-case host name without port", h)
		} else if slices.Contains(a.Hosts[:i], h) {
			v.Addf(prefix+FieldHosts, "%q is named twice", h)
		}
	}
	if len(a.BinaryMediaTypes) > MaxBinaryMediaTypes {
		v.Addf(prefix+FieldBinaryMediaTypes, "has %d entries, at most %d are allowed",
			len(a.BinaryMediaTypes), MaxBinaryMediaTypes)
	}
	for _, m := range a.BinaryMediaTypes {
		kind, sub, ok := strings.Cut(m, "/")
		if !ok || kind == "" || sub == "" || len(m) > 128 || strings.ContainsAny(m, " \t;,") {
			v.Addf(prefix+FieldBinaryMediaTypes, "%q must be a media type such as image/png, without parameters", m)
		}
	}
}

func isHost(h string) bool {
	if h == "" || len(h) > 253 {
		return false
	}
	for label := range strings.SplitSeq(h, ".") {
		if !isLabel(label) {
			return false
		}
	}
	return true
}
