package route

import (
	"slices"
	"strings"
)

// Hides reports whether a template, filled for the variant, holds a secret, so that what
// comes of it must be shown nowhere.
func (v *Variant) Hides(t *Template) bool {
	return slices.ContainsFunc(t.parts, func(p part) bool {
		return p.kind == variablePart && slices.Contains(v.secrets, p.text)
	})
}

// HasSecrets reports whether any of the variables must be shown nowhere.
func (v *Variant) HasSecrets() bool { return len(v.secrets) > 0 }

// Redact returns text with the variant's secrets, where they stand in it whole, replaced
// by what a template writes for them.
func (v *Variant) Redact(text string) string {
	for _, name := range v.secrets {
		if value := v.Variables[name]; value != "" {
			text = strings.ReplaceAll(text, value, "${stageVariables."+name+"}")
		}
	}
	return text
}
