package route

import (
	"errors"
	"fmt"
	"strings"
)

// Template is a string with holes, which are filled anew for every request:
// ${stageVariables.x} from the variables of the variant, {name} or {name+} from
// the path parameters of the match. It never changes; the zero value expands to
// the empty string.
type Template struct {
	source string
	parts  []part // empty if the source is constant
}

type part struct {
	kind partKind
	text string // the literal, or the name of what fills the hole
	pos  int    // where the part begins in the source
}

type partKind uint8

const (
	literalPart  partKind = iota
	variablePart          // ${stageVariables.x}
	paramPart             // {name}
	greedyPart            // {name+}
)

// UnsetVariableError says that a template needs a stage variable which the
// variant does not have. It is found only when a request needs the variable.
type UnsetVariableError struct {
	// Name of the variable.
	Name string
}

func (e *UnsetVariableError) Error() string {
	return fmt.Sprintf("stage variable %q is not set", e.Name)
}

// String returns the template as it was written.
func (t *Template) String() string { return t.source }

// Constant reports whether the template has no holes: it then always expands to
// String.
func (t *Template) Constant() bool { return len(t.parts) == 0 }

// Expand fills the holes. Values are put in as they are: path parameters stay
// percent-encoded, and stage variables may hold any character that their rules
// allow, so a caller must check the result for what it is used for. It fails
// with an *UnsetVariableError if vars lacks a name. p may be nil if the
// template has no path parameters, as is the case for Lambda. A constant
// template does not allocate, another one does once.
func (t *Template) Expand(vars map[string]string, p *Params) (string, error) {
	if len(t.parts) == 0 {
		return t.source, nil
	}
	size := 0
	for i := range t.parts {
		s, err := t.parts[i].value(vars, p)
		if err != nil {
			return "", err
		}
		size += len(s)
	}
	var b strings.Builder
	b.Grow(size)
	for i := range t.parts {
		s, _ := t.parts[i].value(vars, p)
		b.WriteString(s)
	}
	return b.String(), nil
}

// Append is Expand into the caller's memory: it appends to dst and never allocates
// while that has room. On an error dst holds a part of the result.
func (t *Template) Append(dst []byte, vars map[string]string, p *Params) ([]byte, error) {
	if len(t.parts) == 0 {
		return append(dst, t.source...), nil
	}
	for i := range t.parts {
		s, err := t.parts[i].value(vars, p)
		if err != nil {
			return dst, err
		}
		dst = append(dst, s...)
	}
	return dst, nil
}

func (p *part) value(vars map[string]string, params *Params) (string, error) {
	switch p.kind {
	case literalPart:
		return p.text, nil
	case variablePart:
		if v, ok := vars[p.text]; ok {
			return v, nil
		}
		return "", &UnsetVariableError{Name: p.text}
	}
	if params != nil {
		if v, ok := params.Get(p.text); ok {
			return v, nil
		}
	}
	return "", fmt.Errorf("path parameter %q is not in the match", p.text)
}

// maxTemplate is the longest template, in bytes.
const maxTemplate = 2048

// parseTemplate takes a string with holes apart. It does not know what the
// string is for; its errors leave it to the caller to name it.
func parseTemplate(source string) (Template, error) {
	if len(source) > maxTemplate {
		return Template{}, fmt.Errorf("%d characters: at most %d are allowed", len(source), maxTemplate)
	}
	if !isEvery(source, isNoControl) {
		return Template{}, errors.New("has a control character")
	}
	t := Template{source: source}
	holes := strings.Count(source, "{")
	if holes != strings.Count(source, "}") {
		return Template{}, errors.New("has an unbalanced brace")
	}
	if holes == 0 {
		return t, nil
	}
	t.parts = make([]part, 0, 2*holes+1)
	pos := 0
	for range holes {
		begin := pos + strings.IndexByte(source[pos:], '{')
		end := pos + strings.IndexByte(source[pos:], '}') + 1
		if end <= begin {
			return Template{}, errors.New("has an unbalanced brace")
		}
		if begin > pos && source[begin-1] == '$' {
			begin--
		}
		kind, name, err := parseHole(source[begin:end])
		if err != nil {
			return Template{}, err
		}
		t.add(literalPart, source[pos:begin], pos)
		t.add(kind, name, begin)
		pos = end
	}
	t.add(literalPart, source[pos:], pos)
	return t, nil
}

// parseHole takes ${stageVariables.x}, {name} or {name+}.
func parseHole(hole string) (kind partKind, name string, err error) {
	if name, ok := strings.CutPrefix(hole, "${"); ok {
		name, ok = strings.CutPrefix(strings.TrimSuffix(name, "}"), "stageVariables.")
		if !ok || name == "" || !isEvery(name, isWord) {
			return 0, "", fmt.Errorf("%s: want ${stageVariables.NAME} with a name of letters, digits and underscores", hole)
		}
		return variablePart, name, nil
	}
	name, greedy := strings.CutSuffix(hole[1:len(hole)-1], "+")
	if !isParamName(name) {
		return 0, "", fmt.Errorf("%s: want {name} of a path variable or ${stageVariables.NAME}", hole)
	}
	if greedy {
		return greedyPart, name, nil
	}
	return paramPart, name, nil
}

func (t *Template) add(kind partKind, text string, pos int) {
	if text == "" {
		return // an empty literal between two holes
	}
	t.parts = append(t.parts, part{kind: kind, text: text, pos: pos})
}

// fill returns the source with a stand-in for every hole, to check its shape.
func (t *Template) fill(standIn string) string {
	if t.Constant() {
		return t.source
	}
	var b strings.Builder
	for _, p := range t.parts {
		if p.kind != literalPart {
			p.text = standIn
		}
		b.WriteString(p.text)
	}
	return b.String()
}
