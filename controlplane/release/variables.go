package release

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// CheckVariables notes what is wrong with a set of stage variables.
func CheckVariables(v *Violations, field string, vars map[string]string) {
	if len(vars) > MaxVariables {
		v.Addf(field, "has %d entries, at most %d are allowed", len(vars), MaxVariables)
	}
	for _, name := range sortedKeys(vars) {
		value := vars[name]
		if len(name) < 1 || len(name) > MaxVariableName || strings.Trim(name, alphanumeric+"_") != "" {
			v.Addf(field, "name %q must have 1 to %d letters, digits and underscores", name, MaxVariableName)
		}
		if len(value) < 1 || len(value) > MaxVariableValue || strings.Trim(value, alphanumeric+"-._~:/?#&=,") != "" {
			v.Addf(field, "value %q of %q must have 1 to %d letters, digits and -._~:/?#&=,", value, name, MaxVariableValue)
		}
	}
}

// MergeVariables returns base with overrides laid over it. Neither is changed.
func MergeVariables(base, overrides map[string]string) map[string]string {
	if len(overrides) == 0 {
		return base
	}
	merged := maps.Clone(base)
	if merged == nil {
		merged = make(map[string]string, len(overrides))
	}
	maps.Copy(merged, overrides)
	return merged
}

// checkMerged refuses variables that would pass the limit once merged, so that a
// canary that could be started can also be promoted.
func checkMerged(s *Stage, vars, overrides map[string]string) error {
	n := len(MergeVariables(vars, overrides))
	if n <= MaxVariables {
		return nil
	}
	return refuse(LimitReached, s.Name(), "%s would have %d variables with its canary's overrides, at most %d are allowed",
		s.Name(), n, MaxVariables).with("limit", fmt.Sprint(MaxVariables))
}

// UnsetVariables returns one sentence for each route of d that refers to a
// variable which vars does not set: such a route answers 500.
func UnsetVariables(d *Deployment, vars map[string]string) []string {
	var warnings []string
	for _, r := range d.Routes {
		for _, name := range r.variables() {
			if _, ok := vars[name]; !ok {
				warnings = append(warnings, fmt.Sprintf(
					"%s uses stage variable %q, which is not set: it will answer 500", r, name))
			}
		}
	}
	return warnings
}

func (r *Route) variables() []string {
	if r.Integration == nil {
		return nil
	}
	var names []string
	for _, text := range r.Integration.templates() {
		for _, m := range stageVariable.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(names, m[1]) {
				names = append(names, m[1])
			}
		}
	}
	return names
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
