package route

import (
	"strings"
	"unsafe"
)

// MaxParams is how many variables a path template may have.
const MaxParams = 16

// Params are the path parameters of one match. The caller owns the value and
// may use it again for the next match: it holds no memory of its own, its
// values are pieces of the path that was matched. The zero value is empty.
type Params struct {
	names  []string
	values [MaxParams]string
}

// Len returns how many parameters there are.
func (p *Params) Len() int { return len(p.names) }

// At returns the name and the value of parameter i, counted from 0 in the order
// of the path. Values are as they came, percent-encoded. The value of a greedy
// parameter holds the slashes between its segments.
func (p *Params) At(i int) (name, value string) { return p.names[i], p.values[i] }

// Get returns the value of the named parameter, and whether there is one.
func (p *Params) Get(name string) (string, bool) {
	for i, n := range p.names {
		if n == name {
			return p.values[i], true
		}
	}
	return "", false
}

// Match finds the route for a request, or nil if there is none, and stores its
// path parameters in p, which must not be nil. The path is what Table.Lookup
// returned as rest: it begins with a slash and is still percent-encoded. A
// trailing slash is ignored.
//
// At each level a literal segment goes before a variable one. Methods count: a
// literal path that does not serve the method is left for a variable one that
// does. At one path an exact method goes before ANY, and GET does not serve
// HEAD.
func (v *Variant) Match(method, path string, p *Params) *Route {
	p.names = nil
	if path == "" || path[0] != '/' {
		return nil
	}
	w := walk{tree: v.Deployment.tree, method: methodIndex(method), escaped: strings.IndexByte(path, '%') >= 0, params: p}
	r := w.from(0, path, 0)
	if r != nil {
		p.names = r.params
	}
	return r
}

// walk is what stays the same during one match.
type walk struct {
	tree    *tree
	method  int
	escaped bool // whether the path has percent escapes
	params  *Params
}

// from looks below node n for path, which is empty or begins with a slash; depth
// is the number of variables above. It calls itself only where it may have to
// come back: at a literal with a variable beside it.
func (w *walk) from(at uint32, path string, depth int) *Route {
	for {
		n := &w.tree.nodes[at]
		if path == "" || path == "/" {
			return n.serve(w.method)
		}
		segment, rest := path[1:], ""
		if i := strings.IndexByte(segment, '/'); i >= 0 {
			segment, rest = segment[:i], segment[i:]
		}
		literal := w.literal(at, segment)
		if n.variable == 0 {
			if literal == 0 {
				return nil
			}
			at, path = literal, rest
			continue
		}
		if literal != 0 {
			if r := w.from(literal, rest, depth); r != nil {
				return r
			}
		}
		if n.greedy {
			if strings.Trim(path, "/") == "" {
				return nil
			}
			// A trailing slash stays: an upstream may know a directory by it.
			w.params.values[depth] = path[1:]
			return w.tree.nodes[n.variable].serve(w.method)
		}
		if segment == "" {
			return nil
		}
		w.params.values[depth] = segment
		at, path, depth = n.variable, rest, depth+1
	}
}

func (w *walk) literal(at uint32, segment string) uint32 {
	if w.escaped && strings.IndexByte(segment, '%') >= 0 {
		return w.tree.escaped(at, segment)
	}
	return w.tree.literal(at, segment)
}

// escaped is literal for a segment with percent escapes. It decodes on the
// stack: what does not fit there is longer than any literal.
func (t *tree) escaped(parent uint32, segment string) uint32 {
	var buf [maxPath]byte
	b, ok := appendUnescaped(buf[:0], segment)
	if !ok {
		return 0
	}
	return t.literal(parent, unsafe.String(unsafe.SliceData(b), len(b)))
}

// appendUnescaped appends s with its percent escapes decoded. It fails on an
// invalid escape, and when dst is full: it never allocates.
func appendUnescaped(dst []byte, s string) ([]byte, bool) {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return dst, false
			}
			c = unhex(s[i+1])<<4 | unhex(s[i+2])
			i += 2
		}
		if len(dst) == cap(dst) {
			return dst, false
		}
		dst = append(dst, c)
	}
	return dst, true
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

// The methods that a route can name; anyMethod is ANY.
const (
	methodGet = iota
	methodHead
	methodPost
	methodPut
	methodPatch
	methodDelete
	methodOptions
	anyMethod
	methodCount
)

// methodIndex returns the index of a request's method. One that no route can
// name, such as PROPFIND, is served by ANY alone.
func methodIndex(method string) int {
	switch method {
	case "GET":
		return methodGet
	case "HEAD":
		return methodHead
	case "POST":
		return methodPost
	case "PUT":
		return methodPut
	case "PATCH":
		return methodPatch
	case "DELETE":
		return methodDelete
	case "OPTIONS":
		return methodOptions
	}
	return anyMethod
}

// serve returns the route for a method at n, or nil.
func (n *node) serve(method int) *Route {
	if r := n.routes[method]; r != nil {
		return r
	}
	return n.routes[anyMethod]
}
