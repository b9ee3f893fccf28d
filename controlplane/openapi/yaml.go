package openapi

import (
	"bytes"
	"errors"
	"io"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

// readYAML builds the tree of a YAML document. An alias becomes another reference
// to the node that it names; how large the tree would be if it were written out is
// counted and bounded, so nothing that walks it can be made to walk for long.
func readYAML(doc []byte) (*node, error) {
	if n := separators(doc); n > maxNodes {
		return nil, wrong(0, "it has more than %d values", maxNodes)
	}
	// The library compares every directive with all before it.
	if n := bytes.Count(doc, []byte("%TAG")); n > maxTags {
		return nil, wrong(0, "it has %d %%TAG directives, at most %d are allowed", n, maxTags)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(doc))
	var first, second yaml.Node
	if err := decoder.Decode(&first); err != nil {
		return nil, wrong(0, "it is no YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, wrong(second.Line, "it goes on after the end of the first YAML document")
	}
	r := &yamlReader{made: map[*yaml.Node]*node{}}
	return r.value(&first, 0)
}

// separators returns an upper bound of the nodes of a YAML document, before they
// take memory.
func separators(doc []byte) (n int) {
	for _, c := range doc {
		switch c {
		case '\n', ',', ':', '[', '{', '-', '?':
			n++
		}
	}
	return n
}

type yamlReader struct {
	made map[*yaml.Node]*node // of nodes with an anchor; nil while they are being made
}

func (r *yamlReader) value(y *yaml.Node, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, wrong(y.Line, "it is nested deeper than %d levels", maxDepth)
	}
	switch {
	case y.Kind == yaml.DocumentNode && len(y.Content) == 1:
		return r.value(y.Content[0], depth)
	case y.Kind == yaml.AliasNode:
		n := r.made[y.Alias]
		if n == nil {
			return nil, wrong(y.Line, "alias *%s stands within what it names", y.Value)
		}
		return n, nil
	}
	n := &node{line: y.Line, size: 1}
	if y.Anchor != "" {
		r.made[y] = nil
	}
	var err error
	switch y.Kind {
	case yaml.MappingNode:
		n.kind = object
		err = r.object(n, y, depth)
	case yaml.SequenceNode:
		n.kind = list
		err = r.list(n, y, depth)
	default:
		n.kind, n.text = scalar(y)
	}
	if err == nil && n.size > maxNodes {
		err = wrong(y.Line, "it has more than %d values, those that aliases repeat counted", maxNodes)
	}
	if y.Anchor != "" {
		r.made[y] = n
	}
	return n, err
}

func scalar(y *yaml.Node) (kind, string) {
	switch y.ShortTag() {
	case "!!null":
		return null, ""
	case "!!bool":
		return boolean, strings.ToLower(y.Value)
	case "!!int", "!!float":
		return number, y.Value
	}
	return text, y.Value
}

func (r *yamlReader) list(n *node, y *yaml.Node, depth int) error {
	for _, item := range y.Content {
		value, err := r.value(item, depth+1)
		if err != nil {
			return err
		}
		n.items = append(n.items, value)
		n.size += value.size
	}
	return nil
}

func (r *yamlReader) object(n *node, y *yaml.Node, depth int) error {
	seen := map[string]bool{}
	var merged *node
	for i := 0; i+1 < len(y.Content); i += 2 {
		key := y.Content[i]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			return wrong(key.Line, "the name of a member must be a text")
		}
		if len(key.Value) > maxName {
			return wrong(key.Line, "the name of a member has %d bytes, at most %d are allowed", len(key.Value), maxName)
		}
		value, err := r.value(y.Content[i+1], depth+1)
		if err != nil {
			return err
		}
		if seen[key.Value] {
			return wrong(key.Line, "member %.100q stands twice in one object", key.Value)
		}
		seen[key.Value] = true
		n.size += value.size
		if key.ShortTag() == "!!merge" {
			merged = value
			continue
		}
		n.members = append(n.members, member{key.Value, value})
	}
	return merge(n, merged, seen)
}

// merge adds the members of `<<`, an object or a list of them, that an object does
// not have itself; of two the first counts.
func merge(n, merged *node, seen map[string]bool) error {
	if merged == nil {
		return nil
	}
	from := []*node{merged}
	if merged.kind == list {
		from = merged.items
	}
	for _, f := range from {
		if f.kind != object {
			return wrong(f.line, "<< must name an object or a list of objects, and is %v", f.kind)
		}
		for _, m := range f.members {
			if !seen[m.name] {
				seen[m.name] = true
				n.members = append(n.members, m)
			}
		}
	}
	return nil
}
