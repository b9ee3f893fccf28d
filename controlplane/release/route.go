package release

import (
	"strings"
	"time"
)

// Route sends requests of one method and path to an integration.
type Route struct {
	Method      string
	Path        string
	Timeout     time.Duration     // 0 means the API's default
	Integration Integration       // nil in an unfinished draft
	Revision    uint64            // index of the last change; 0 in a deployment
	Annotations map[string]string // nil in a deployment
}

// MethodAny is the method of a route that serves every method which has no route
// of its own on the same path.
const MethodAny = "ANY"

// Equal reports whether both routes have the same key and answer alike; when they
// were changed does not matter.
func (r *Route) Equal(o *Route) bool {
	return r.Method == o.Method && r.Path == o.Path && r.Timeout == o.Timeout && sameIntegration(r.Integration, o.Integration)
}

// String returns the route's key as people write it, such as `GET /pets/{id}`.
func (r *Route) String() string { return r.Method + " " + r.Path }

// CleanPath returns the path template without a trailing slash.
func CleanPath(path string) string {
	if len(path) > 1 {
		return strings.TrimSuffix(path, "/")
	}
	return path
}

// CheckRouteKey notes whether method and path can key a route.
func CheckRouteKey(v *Violations, prefix, method, path string) {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", MethodAny:
	default:
		v.Addf(prefix+"method", "%q must be GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS or ANY", method)
	}
	checkPath(v, prefix+"path", path)
}

// CheckRoute notes what is wrong with a route by itself. Whether its variables
// agree with those of its siblings is for VariableSlots and the draft to say.
func CheckRoute(v *Violations, prefix string, r *Route) {
	CheckRouteKey(v, prefix, r.Method, r.Path)
	CheckTimeout(v, prefix+"timeout", r.Timeout)
	checkIntegration(v, prefix+"integration", r)
	CheckAnnotations(v, prefix+FieldAnnotations, r.Annotations, MaxAnnotationBytes)
}

func checkPath(v *Violations, field, path string) {
	switch {
	case !strings.HasPrefix(path, "/"):
		v.Addf(field, "%q must begin with a slash", path)
		return
	case len(path) > MaxPath:
		v.Addf(field, "has %d bytes, at most %d are allowed", len(path), MaxPath)
		return
	case path == "/":
		return
	}
	seen := map[string]bool{}
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		name, greedy, ok := PathVariable(s)
		switch {
		case s == "":
			v.Addf(field, "%q has an empty segment", path)
			return
		case s == "." || s == "..":
			v.Addf(field, "%q has a dot segment, which no request keeps", path)
			return
		case !ok:
			checkLiteral(v, field, path, s)
			continue
		case name == "" || strings.Trim(name, alphanumeric+"._-") != "":
			v.Addf(field, "variable %q in %q must be named with letters, digits, dots, hyphens and underscores", s, path)
		case seen[name]:
			v.Addf(field, "variable %q stands twice in %q", s, path)
		case greedy && i != len(segments)-1:
			v.Addf(field, "greedy variable %q must be the last segment of %q", s, path)
		}
		seen[name] = true
	}
	if len(seen) > MaxPathVariables {
		v.Addf(field, "%q has %d variables, at most %d are allowed", path, len(seen), MaxPathVariables)
	}
}

// checkLiteral takes the characters that RFC 3986 allows in a path segment, so
// that a template and a request can only be spelt alike; a request's
// percent-encoding is undone before it is compared, a template's would not be.
func checkLiteral(v *Violations, field, path, segment string) {
	const allowed = alphanumeric + "-._~!$&'()*+,;=:@"
	for _, c := range segment {
		if !strings.ContainsRune(allowed, c) {
			v.Addf(field, "%q may not hold %q: write letters, digits and -._~!$&'()*+,;=:@, or a whole segment {name} or {name+}",
				path, string(c))
			return
		}
	}
}

// PathVariable reads one segment of a path template: for `{id}` it returns
// ("id", false, true), for `{rest+}` ("rest", true, true), for a literal ok is
// false.
func PathVariable(segment string) (name string, greedy, ok bool) {
	inner, found := strings.CutPrefix(segment, "{")
	if !found {
		return "", false, false
	}
	inner, found = strings.CutSuffix(inner, "}")
	if !found {
		return "", false, false
	}
	name, greedy = strings.CutSuffix(inner, "+")
	return name, greedy, true
}

// VariableSlot is a place in a path template that holds a variable. All routes
// of an API must put the same variable in the same place.
type VariableSlot struct {
	Parent   string // the path up to the variable, ending in a slash
	Variable string // as written, such as `{id}`
}

// VariableSlots returns the slots of a path template, outermost first.
func VariableSlots(path string) []VariableSlot {
	var slots []VariableSlot
	for i := 0; i < len(path); {
		end := strings.IndexByte(path[i+1:], '/')
		if end < 0 {
			end = len(path)
		} else {
			end += i + 1
		}
		if segment := path[i+1 : end]; strings.HasPrefix(segment, "{") {
			slots = append(slots, VariableSlot{Parent: path[:i+1], Variable: segment})
		}
		i = end
	}
	return slots
}

// CheckSibling refuses a route whose slot holds another variable than that of
// sibling, a route of the same draft whose path begins with the slot's parent
// and a variable.
func CheckSibling(r *Route, slot VariableSlot, sibling string) error {
	other, _, _ := strings.Cut(sibling[len(slot.Parent):], "/")
	if other == slot.Variable {
		return nil
	}
	var v Violations
	v.Addf("route.path", "%q puts %s under %s, where %q has %s; one parent has one variable, so use %s or change the other route",
		r.Path, slot.Variable, slot.Parent, sibling, other, other)
	return v.Err()
}
