package route

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// pathTemplate is a parsed path such as /pets/{id}/{rest+}.
type pathTemplate struct {
	template string // without a trailing slash
	segments []segment
	params   []string // names of the variables in order
	greedy   bool     // whether the last variable is greedy
}

type segment struct {
	kind segmentKind
	text string // a literal percent-decoded, or a variable as written, braces and all
}

type segmentKind uint8

const (
	literalSegment  segmentKind = iota
	variableSegment             // {name}: one segment
	greedySegment               // {name+}: one segment or more
)

// parsePath checks a path template and takes it apart.
func parsePath(path string) (pathTemplate, error) {
	if len(path) > maxPath {
		return pathTemplate{}, fmt.Errorf("path of %d characters: at most %d are allowed", len(path), maxPath)
	}
	if path == "" || path[0] != '/' {
		return pathTemplate{}, fmt.Errorf("path %q: must begin with a slash", path)
	}
	if path == "/" {
		return pathTemplate{template: path}, nil
	}
	t := pathTemplate{template: strings.TrimSuffix(path, "/")}
	t.segments = make([]segment, 0, strings.Count(t.template, "/"))
	for text := range strings.SplitSeq(t.template[1:], "/") {
		if t.greedy {
			return pathTemplate{}, fmt.Errorf("path %q: a greedy variable must come last", path)
		}
		s, name, err := parseSegment(text)
		if err != nil {
			return pathTemplate{}, fmt.Errorf("path %q: segment %q: %w", path, text, err)
		}
		t.segments = append(t.segments, s)
		if s.kind == literalSegment {
			continue
		}
		if slices.Contains(t.params, name) {
			return pathTemplate{}, fmt.Errorf("path %q: variable %q is named twice", path, name)
		}
		t.params = append(t.params, name)
		t.greedy = s.kind == greedySegment
	}
	if len(t.params) > MaxParams {
		return pathTemplate{}, fmt.Errorf("path %q: %d variables: at most %d are allowed", path, len(t.params), MaxParams)
	}
	return t, nil
}

func parseSegment(text string) (s segment, name string, err error) {
	if !strings.ContainsAny(text, "{}") {
		s.text, err = parseLiteral(text)
		return s, "", err
	}
	name, opened := strings.CutPrefix(text, "{")
	name, closed := strings.CutSuffix(name, "}")
	name, greedy := strings.CutSuffix(name, "+")
	if !opened || !closed || !isParamName(name) {
		return s, "", errors.New("a variable is a whole segment, {name} or {name+}, with a name of letters, digits, '.', '_' and '-'")
	}
	s = segment{kind: variableSegment, text: text}
	if greedy {
		s.kind = greedySegment
	}
	return s, name, nil
}

// parseLiteral decodes a literal segment. What may stand in it is a pchar of
// RFC 3986; dot segments may not, because no normalised path has them.
func parseLiteral(text string) (string, error) {
	if text == "" {
		return "", errors.New("must not be empty")
	}
	for i := range len(text) {
		if c := text[i]; !isWord(c) && strings.IndexByte("-.~!$&'()*+,;=:@%", c) < 0 {
			return "", fmt.Errorf("character %q must be percent-encoded", c)
		}
	}
	literal := text
	if strings.IndexByte(text, '%') >= 0 {
		b, ok := appendUnescaped(make([]byte, 0, len(text)), text)
		if !ok {
			return "", errors.New("an escape is a percent sign and two hexadecimal digits")
		}
		literal = string(b)
	}
	if literal == "." || literal == ".." {
		return "", errors.New("a dot segment never matches")
	}
	return literal, nil
}

func isParamName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isWord(c) && c != '.' && c != '-' {
			return false
		}
	}
	return s != ""
}

// isWord reports whether c is a letter, a digit or an underscore.
func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}
