package access

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Subject is who a role is given to: `user:NAME`, the holder of a certificate of
// class user or of a token that was made for that name; `oidc:NAME`, whom an identity
// provider calls NAME; or `group:NAME`, whom it counts to that group. The kinds are
// kept apart: what a provider calls somebody makes nobody the holder of a certificate.
type Subject string

// The kinds of subjects, as Subjects begin.
const (
	UserPrefix  = "user:"
	OIDCPrefix  = "oidc:"
	GroupPrefix = "group:"
)

// Binding gives a role to a subject, for the APIs and stages that match patterns. A
// pattern is an id, the beginning of ids followed by `*`, or `*`.
type Binding struct {
	Subject Subject
	Role    Role
	API     string
	Stage   string
}

// String returns the binding as a sentence has it.
func (b Binding) String() string {
	return fmt.Sprintf("%s is %s of %s", b.Subject, b.Role, Resource{b.API, b.Stage})
}

// grants reports whether the binding gives a permission on a resource.
func (b Binding) grants(p Permission, r Resource) bool {
	return b.Role.Has(p) && covers(b.API, r.API) && covers(b.Stage, r.Stage)
}

// ErrBadBinding is wrapped by what Check finds.
var ErrBadBinding = errors.New("bad binding")

var (
	// Names come from certificates and from identity providers, which call people by
	// addresses and numbers in base64, and groups by paths.
	validName    = regexp.MustCompile(`^[A-Za-z0-9/_-]([A-Za-z0-9 ._@:/+|=,-]{0,198}[A-Za-z0-9_=-])?$`)
	validPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{0,64}\*?$`)
)

// Check returns an error that wraps ErrBadBinding and names all bad parts, or nil.
func (b Binding) Check() error {
	var errs []error
	if err := b.Subject.Check(); err != nil {
		errs = append(errs, err)
	}
	if !b.Role.known() {
		errs = append(errs, fmt.Errorf("role %q is not one of %s", b.Role, join(Roles())))
	}
	for _, p := range []struct{ what, pattern string }{{"api", b.API}, {"stage", b.Stage}} {
		if p.pattern == "" || !validPattern.MatchString(p.pattern) {
			errs = append(errs, fmt.Errorf("%s pattern %q must be an id, the beginning of one with * behind it, or *", p.what, p.pattern))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("%w: %w", ErrBadBinding, errors.Join(errs...))
	}
	return nil
}

// Check returns what is wrong with a subject, or nil.
func (s Subject) Check() error {
	for _, prefix := range []string{UserPrefix, OIDCPrefix, GroupPrefix} {
		if name, ok := strings.CutPrefix(string(s), prefix); ok && validName.MatchString(name) {
			return nil
		}
	}
	return fmt.Errorf("subject %q must be user:NAME, oidc:NAME or group:NAME, of letters, digits and . _ @ : / + | = , - and spaces inside", s)
}

func join[T ~string](all []T) string {
	texts := make([]string, len(all))
	for i, t := range all {
		texts[i] = string(t)
	}
	return strings.Join(texts, ", ")
}
