package apigateway

import (
	"encoding/json"
	"slices"
	"strings"
)

// The operations of a patch that are used here.
const (
	opAdd     = "add"
	opRemove  = "remove"
	opReplace = "replace"
	opCopy    = "copy"
)

// patch is one operation on one member of an object.
type patch struct {
	Op    string
	Path  string
	Value string
	From  string

	tokens []string // of Path, decoded
}

// is reports whether the path has these tokens; "*" stands for any.
func (p patch) is(tokens ...string) bool {
	return slices.EqualFunc(p.tokens, tokens, func(got, want string) bool { return want == "*" || got == want })
}

// under reports whether the path begins with this token.
func (p patch) under(token string) bool { return len(p.tokens) > 0 && p.tokens[0] == token }

// patches reads the body of an update.
func (c *call) patches() ([]patch, error) {
	var req struct {
		PatchOperations []struct {
			Op, Path, From string
			Value          json.RawMessage
		} `json:"patchOperations"`
	}
	if err := c.read(&req); err != nil {
		return nil, err
	}
	patches := make([]patch, 0, len(req.PatchOperations))
	for _, o := range req.PatchOperations {
		p := patch{Op: o.Op, Path: o.Path, From: o.From}
		switch o.Op {
		case opAdd, opRemove, opReplace, opCopy, "move", "test":
		default:
			return nil, badRequest("Invalid patch operation specified. Must be one of: [add, remove, replace, move, copy, test]")
		}
		var ok bool
		if p.tokens, ok = parsePointer(o.Path); !ok {
			return nil, badRequest("Invalid patch path %s", o.Path)
		}
		// Values are strings; a client may send a number or a boolean as such.
		if len(o.Value) > 0 && string(o.Value) != "null" && json.Unmarshal(o.Value, &p.Value) != nil {
			if o.Value[0] == '{' || o.Value[0] == '[' {
				return nil, badRequest("Invalid patch value of %s: it must be a string", o.Path)
			}
			p.Value = string(o.Value)
		}
		patches = append(patches, p)
	}
	return patches, nil
}

// parsePointer returns the tokens of a JSON pointer (RFC 6901) that is not the whole
// document's.
func parsePointer(text string) (tokens []string, ok bool) {
	rest, ok := strings.CutPrefix(text, "/")
	if !ok {
		return nil, false
	}
	for token := range strings.SplitSeq(rest, "/") {
		for i := range len(token) {
			if token[i] == '~' && !strings.HasPrefix(token[i+1:], "0") && !strings.HasPrefix(token[i+1:], "1") {
				return nil, false
			}
		}
		tokens = append(tokens, pointerEscapes.Replace(token))
	}
	return tokens, true
}

// pointerEscapes decodes from left to right, so that ~01 is ~1 and no slash.
var pointerEscapes = strings.NewReplacer("~1", "/", "~0", "~")

// only returns the error for a path that none of an object's patches has, in the wording
// that most of the service's objects have for it.
func (p patch) only(op string, paths ...string) error {
	if p.Op != op {
		return badRequest("Invalid patch path  '%s' specified for op '%s'. Please choose supported operations", p.Path, p.Op)
	}
	return badRequest("Invalid patch path  '%s' specified for op '%s'. Must be one of: [%s]", p.Path, p.Op, strings.Join(paths, ", "))
}
