package release

import (
	"fmt"
	"regexp"
	"strings"
)

// TemplatePart is a piece of the body of a mock that is a template: a text, or what a
// reference stands for. Exactly one field is set.
type TemplatePart struct {
	Text     string
	Variable string // name of a stage variable
	Context  string // one of ContextFields
}

// ContextFields are what a reference $context.NAME may name, as API Gateway does.
var ContextFields = []string{
	"apiId", "deploymentId", "extendedRequestId", "httpMethod", "isCanaryRequest", "path", "requestId", "resourcePath", "stage",
}

// maxReferences bounds how much larger an answer can be than its template.
const maxReferences = 64

var (
	// velocity matches what has a meaning in the Velocity template language: a
	// reference, or a directive or comment.
	velocity = regexp.MustCompile(`\$!?\{?[A-Za-z]|#(?:[#*\[]|\{?[A-Za-z@])`)
	// reference matches the references that are known. In braces their end is plain.
	reference = regexp.MustCompile(`^\$!?(?:\{(stageVariables|context)\.([A-Za-z0-9_]+)\}|(stageVariables|context)\.([A-Za-z0-9_]+))`)
	// further matches what after a reference without braces would make it another one.
	further = regexp.MustCompile(`^(?:-|\.[A-Za-z]|[\[(])`)
)

// IsTemplate reports whether a text has a meaning as a template that it does not have
// as a text.
func IsTemplate(text string) bool { return velocity.MatchString(text) }

// ParseTemplate takes a template apart. Its language is what of Velocity's neither
// computes nor repeats: text, and references to stage variables and to ContextFields,
// such as $stageVariables.version and ${context.isCanaryRequest}. Whatever else has a
// meaning in Velocity is refused. Evaluating it is joining its parts, which always ends
// and never fails: what is not set is empty.
func ParseTemplate(text string) ([]TemplatePart, error) {
	var parts []TemplatePart
	references := 0
	for text != "" {
		at := velocity.FindStringIndex(text)
		if at == nil {
			return append(parts, TemplatePart{Text: text}), nil
		}
		if at[0] > 0 {
			parts = append(parts, TemplatePart{Text: text[:at[0]]})
		}
		escaped := at[0] > 0 && text[at[0]-1] == '\\'
		text = text[at[0]:]
		shown := fmt.Sprintf("%.40q", text)
		m := reference.FindStringSubmatch(text)
		switch {
		case escaped:
			return nil, fmt.Errorf("%s: a reference cannot be escaped", shown)
		case m == nil:
			return nil, fmt.Errorf("%s: a template may have references to stage variables and to the context, such as $stageVariables.x "+
				"and $context.stage, and nothing else of the template language", shown)
		}
		bare := m[1] == ""
		text = text[len(m[0]):]
		if bare && further.MatchString(text) {
			return nil, fmt.Errorf("%s: put the reference in braces, such as ${%s.%s}, to say where it ends", shown, m[3], m[4])
		}
		part, err := resolve(m[1]+m[3], m[2]+m[4])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", shown, err)
		}
		parts = append(parts, part)
		if references++; references > maxReferences {
			return nil, fmt.Errorf("a template may have %d references", maxReferences)
		}
	}
	return parts, nil
}

func resolve(scope, name string) (TemplatePart, error) {
	if scope == "stageVariables" {
		if len(name) > 64 {
			return TemplatePart{}, fmt.Errorf("a stage variable has a name of up to 64 characters")
		}
		return TemplatePart{Variable: name}, nil
	}
	for _, known := range ContextFields {
		if name == known {
			return TemplatePart{Context: name}, nil
		}
	}
	return TemplatePart{}, fmt.Errorf("the context has %s", strings.Join(ContextFields, ", "))
}
