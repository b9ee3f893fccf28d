package openapi

import (
	"bytes"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// kind is what a node is, in the words of JSON.
type kind int

const (
	null kind = iota
	boolean
	number
	text
	list
	object
)

func (k kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a text", "a list", "an object"}[k]
}

// node is a value of a document, whichever syntax it was written in. YAML's aliases
// make one node a part of several others, so nodes are never changed but for the index
// of a large object, which is made when it is first wanted.
type node struct {
	kind    kind
	line    int
	text    string // of a text, number or boolean
	items   []*node
	members []member // in the document's order, each name once
	index   map[string]*node
	size    int // nodes in it, itself included, and shared ones each time
}

type member struct {
	name  string
	value *node
}

// get returns a member of an object, or nil.
func (n *node) get(name string) *node {
	if n == nil || n.kind != object {
		return nil
	}
	if len(n.members) > 16 && n.index == nil {
		n.index = make(map[string]*node, len(n.members))
		for _, m := range n.members {
			n.index[m.name] = m.value
		}
	}
	if n.index != nil {
		return n.index[name]
	}
	for _, m := range n.members {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// read parses a document in either syntax: one whose first character is a brace is
// JSON.
func read(doc []byte) (*node, error) {
	if len(doc) > MaxDocument {
		return nil, wrong(0, "it has %d bytes, at most %d are allowed", len(doc), MaxDocument)
	}
	doc = bytes.TrimPrefix(doc, []byte("\ufeff"))
	if at := firstInvalid(doc); at >= 0 {
		return nil, wrong(lineAt(doc, at), "it is no UTF-8")
	}
	start := bytes.TrimLeft(doc, " \t\r\n")
	if len(start) == 0 {
		return nil, wrong(0, "it is empty")
	}
	if start[0] == '{' {
		return readJSON(doc)
	}
	return readYAML(doc)
}

func firstInvalid(doc []byte) int {
	if utf8.Valid(doc) {
		return -1
	}
	for i := 0; i < len(doc); {
		r, n := utf8.DecodeRune(doc[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

func lineAt(doc []byte, offset int) int {
	return 1 + bytes.Count(doc[:min(max(offset, 0), len(doc))], []byte("\n"))
}

var pointerEscape = strings.NewReplacer("~", "~0", "/", "~1")

// join returns the pointer of a member or item of what a pointer names.
func join(pointer string, names ...string) string {
	for _, name := range names {
		pointer += "/" + pointerEscape.Replace(name)
	}
	return pointer
}

// find follows a reference within the document, `#` and a JSON pointer, which as a
// URI's fragment may be percent-encoded. It returns nil if it leads nowhere.
func (n *node) find(reference string) *node {
	pointer, err := url.PathUnescape(strings.TrimPrefix(reference, "#"))
	if err != nil {
		return nil
	}
	if pointer == "" {
		return n
	}
	if pointer[0] != '/' {
		return nil
	}
	for name := range strings.SplitSeq(pointer[1:], "/") {
		name = strings.ReplaceAll(strings.ReplaceAll(name, "~1", "/"), "~0", "~")
		if n != nil && n.kind == list {
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(n.items) {
				return nil
			}
			n = n.items[i]
			continue
		}
		if n = n.get(name); n == nil {
			return nil
		}
	}
	return n
}
