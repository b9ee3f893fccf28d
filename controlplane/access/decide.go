package access

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Resource is what a call is about: an API or a stage by their ids. In each field
// `*` stands for all there are, and nothing for any one of them: so {demo, ""} is API
// demo, whatever is on its stages, {demo, *} is the API with all its stages, {*, *}
// is the cluster, and the zero value is something, no matter what.
type Resource struct {
	API   string
	Stage string
}

// Everything is the cluster with all that is in it.
var Everything = Resource{"*", "*"}

// String names the resource for people.
func (r Resource) String() string {
	switch {
	case r == Everything:
		return "the cluster"
	case r == Resource{}:
		return "anything"
	case r.Stage == "":
		return "apis/" + r.API
	}
	return "apis/" + r.API + "/stages/" + r.Stage
}

// covers reports whether a pattern covers a part of a resource, which may be a
// pattern itself.
func covers(pattern, part string) bool {
	if beginning, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(part, beginning) || part == ""
	}
	return pattern == part || part == ""
}

// Caller is who calls, as was verified.
type Caller struct {
	Subject Subject
	Groups  []string // what an identity provider says, without GroupPrefix
	Token   string   // id of the bearer token, if one was shown
}

// Subjects returns all that bindings may call the caller by.
func (c Caller) Subjects() []Subject {
	all := []Subject{c.Subject}
	for _, g := range c.Groups {
		all = append(all, Subject(GroupPrefix+g))
	}
	return all
}

// Denied says that a caller may not do something.
type Denied struct {
	Subject    Subject
	Permission Permission
	Resource   Resource
}

// Error says which permission is missing on what, which roles have it, and who gives
// them.
func (d *Denied) Error() string {
	return fmt.Sprintf("%s has no permission %s on %s; it comes with role %s, which an admin gives: %s",
		d.Subject, d.Permission, d.Resource, alternatives(rolesWith(d.Permission)), d.hint())
}

// hint returns the command that would give the least role.
func (d *Denied) hint() string {
	with := rolesWith(d.Permission)
	if len(with) == 0 {
		return "no role has it"
	}
	command := fmt.Sprintf("fife access grant %s %s", quoted(d.Subject), with[0])
	if d.Resource.API != "" {
		command += " --api '" + d.Resource.API + "'"
	}
	if d.Resource.Stage != "" {
		command += " --stage '" + d.Resource.Stage + "'"
	}
	return command
}

// quoted returns a subject as a shell takes it for one word.
func quoted(s Subject) string {
	if strings.ContainsAny(string(s), " |") {
		return "'" + string(s) + "'"
	}
	return string(s)
}

func alternatives(all []Role) string {
	if len(all) < 2 {
		return join(all)
	}
	return join(all[:len(all)-1]) + " or " + string(all[len(all)-1])
}

// Decide returns nil if one of the bindings, which may be more than the caller's,
// gives the caller a permission on a resource, and a *Denied if none does.
func Decide(bindings iter.Seq[Binding], caller Caller, p Permission, r Resource) error {
	subjects := caller.Subjects()
	for b := range bindings {
		if slices.Contains(subjects, b.Subject) && b.grants(p, r) {
			return nil
		}
	}
	return &Denied{Subject: caller.Subject, Permission: p, Resource: r}
}
