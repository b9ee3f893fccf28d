package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
)

// readJSON builds the tree of a JSON document.
func readJSON(doc []byte) (*node, error) {
	var whole json.RawMessage
	if err := json.Unmarshal(doc, &whole); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return nil, wrong(lineAt(doc, int(syntax.Offset)), "it is no JSON: %v", err)
		}
		return nil, wrong(0, "it is no JSON: %v", err)
	}
	r := &jsonReader{doc: doc, tokens: json.NewDecoder(bytes.NewReader(doc)), line: 1}
	r.tokens.UseNumber()
	return r.value(0)
}

type jsonReader struct {
	doc    []byte
	tokens *json.Decoder
	nodes  int
	offset int // up to which lines are counted
	line   int
}

func (r *jsonReader) next() (json.Token, error) {
	t, err := r.tokens.Token()
	if err != nil {
		return nil, wrong(r.line, "it is no JSON: %v", err)
	}
	end := int(r.tokens.InputOffset())
	r.line += bytes.Count(r.doc[r.offset:end], []byte("\n"))
	r.offset = end
	return t, nil
}

func (r *jsonReader) value(depth int) (*node, error) {
	token, err := r.next()
	if err != nil {
		return nil, err
	}
	n := &node{line: r.line, size: 1}
	if r.nodes++; r.nodes > maxNodes {
		return nil, wrong(r.line, "it has more than %d values", maxNodes)
	}
	switch token := token.(type) {
	case json.Delim:
		if depth == maxDepth {
			return nil, wrong(r.line, "it is nested deeper than %d levels", maxDepth)
		}
		if token == '{' {
			n.kind = object
			err = r.object(n, depth)
		} else {
			n.kind = list
			err = r.list(n, depth)
		}
	case string:
		n.kind, n.text = text, token
	case json.Number:
		n.kind, n.text = number, token.String()
	case bool:
		n.kind, n.text = boolean, "false"
		if token {
			n.text = "true"
		}
	}
	return n, err
}

func (r *jsonReader) object(n *node, depth int) error {
	seen := map[string]bool{}
	for r.tokens.More() {
		token, err := r.next()
		if err != nil {
			return err
		}
		name, _ := token.(string) // the document is valid, so it is one
		if len(name) > maxName {
			return wrong(r.line, "the name of a member has %d bytes, at most %d are allowed", len(name), maxName)
		}
		if seen[name] {
			return wrong(r.line, "member %.100q stands twice in one object", name)
		}
		seen[name] = true
		value, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.members = append(n.members, member{name, value})
		n.size += value.size
	}
	_, err := r.next()
	return err
}

func (r *jsonReader) list(n *node, depth int) error {
	for r.tokens.More() {
		value, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.items = append(n.items, value)
		n.size += value.size
	}
	_, err := r.next()
	return err
}
