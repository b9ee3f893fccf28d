package route

import (
	"fmt"
	"hash/maphash"
	"math/bits"
)

// tree holds a deployment's paths, a node for each segment. All nodes lie in
// one slice and all literal edges in one hash table, so that a step down costs
// about two cache misses however many siblings there are.
type tree struct {
	seed  maphash.Seed
	nodes []node // nodes[0] is the root
	edges []edge // open addressing; the length is a power of two
}

// node is a point in the tree.
type node struct {
	// text is the literal, percent-decoded, or the variable as written, that
	// leads here from parent.
	text   string
	parent uint32
	// variable is the one variable child, or 0. greedy says of which kind.
	variable uint32
	greedy   bool
	// routes are what the path up to here serves, by method.
	routes [methodCount]*Route
}

// edge leads to the child whose hash has these upper bits; 0 is a free place.
type edge struct{ tag, child uint32 }

// newTree makes a tree with a root, and room for about n nodes.
func newTree(n int) *tree {
	return &tree{
		seed:  maphash.MakeSeed(),
		nodes: make([]node, 1, n+1),
		edges: make([]edge, 1<<bits.Len(uint(2*n))),
	}
}

// insert returns the node for a path, making it and those above it.
func (t *tree) insert(path pathTemplate) (*node, error) {
	at := uint32(0)
	for _, s := range path.segments {
		child, err := t.child(at, s)
		if err != nil {
			return nil, err
		}
		at = child
	}
	return &t.nodes[at], nil
}

// child returns the child of a node for one segment, making it if need be.
func (t *tree) child(parent uint32, s segment) (uint32, error) {
	if s.kind == literalSegment {
		if child := t.literal(parent, s.text); child != 0 {
			return child, nil
		}
		child := t.add(parent, s.text)
		t.link(child)
		return child, nil
	}
	if child := t.nodes[parent].variable; child != 0 {
		if other := t.nodes[child].text; other != s.text {
			return 0, fmt.Errorf("variable %s clashes with %s of another route: all routes that share a parent agree on one variable", s.text, other)
		}
		return child, nil
	}
	child := t.add(parent, s.text)
	t.nodes[parent].variable = child
	t.nodes[parent].greedy = s.kind == greedySegment
	return child, nil
}

func (t *tree) add(parent uint32, text string) uint32 {
	t.nodes = append(t.nodes, node{text: text, parent: parent})
	return uint32(len(t.nodes) - 1)
}

// link enters a literal child into the table, which is kept half empty.
func (t *tree) link(child uint32) {
	if 2*len(t.nodes) > len(t.edges) {
		old := t.edges
		t.edges = make([]edge, 2*len(old))
		for _, e := range old {
			if e.child != 0 {
				t.place(e.child)
			}
		}
	}
	t.place(child)
}

func (t *tree) place(child uint32) {
	n := &t.nodes[child]
	h := t.hash(n.parent, n.text)
	i := h
	for t.edges[i&uint64(len(t.edges)-1)].child != 0 {
		i++
	}
	t.edges[i&uint64(len(t.edges)-1)] = edge{tag: uint32(h >> 32), child: child}
}

// literal returns the child of a node for a decoded literal, or 0.
func (t *tree) literal(parent uint32, text string) uint32 {
	h := t.hash(parent, text)
	mask := uint64(len(t.edges) - 1)
	for i := h; ; i++ {
		e := t.edges[i&mask]
		if e.child == 0 {
			return 0
		}
		if e.tag == uint32(h>>32) {
			if n := &t.nodes[e.child]; n.parent == parent && n.text == text {
				return e.child
			}
		}
	}
}

func (t *tree) hash(parent uint32, text string) uint64 {
	hi, lo := bits.Mul64(maphash.String(t.seed, text)^uint64(parent), 0x9e3779b97f4a7c15)
	return hi ^ lo
}
