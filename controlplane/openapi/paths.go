package openapi

import (
	"encoding/hex"
	"regexp"
	"slices"
	"strings"

	"github.com/fifegateway/fife/controlplane/release"
)

// operations are the members of a path item that become routes.
var operations = map[string]string{
	"get": "GET", "put": "PUT", "post": "POST", "delete": "DELETE", "options": "OPTIONS", "head": "HEAD", "patch": "PATCH",
	anyMethodName: release.MethodAny,
}

// pathItem is a path and what the document has under it.
type pathItem struct {
	key     string
	pointer string // of the item, which may stand elsewhere than its key
	node    *node
}

// extends reports whether an operation says how API Gateway is to integrate it.
func (i pathItem) extends() bool {
	return slices.ContainsFunc(i.node.members, func(m member) bool {
		_, ok := operations[m.name]
		return ok && m.value.get(integrationName) != nil
	})
}

// membersOf returns the members of an object, and none of anything else.
func (n *node) membersOf() []member {
	if n == nil {
		return nil
	}
	return n.members
}

func (p *parser) paths() (items []pathItem) {
	paths := p.root.get("paths")
	if paths == nil || paths.kind != object {
		p.faults.addf("/paths", p.root.line, "is missing, or no object")
		return nil
	}
	for _, m := range paths.members {
		if strings.HasPrefix(m.name, "x-") {
			continue
		}
		pointer, n := p.merged(join("/paths", m.name), m.value)
		switch {
		case n == nil:
		case n.kind != object:
			p.faults.addf(pointer, n.line, "must be an object, and is %v", n.kind)
		default:
			items = append(items, pathItem{m.name, pointer, n})
		}
	}
	return items
}

func (p *parser) routes(items []pathItem) {
	for _, item := range items {
		p.path(item)
		switch {
		case len(p.doc.Routes) > release.MaxRoutes:
			p.faults.addf("/paths", 0, "has more than %d operations, which is the most that an API can have", release.MaxRoutes)
			return
		case p.size > release.MaxDeployment:
			p.faults.addf("/paths", 0, "has routes of more than %d bytes, which is the most that can be deployed as one", release.MaxDeployment)
			return
		}
	}
}

// path makes the routes of one path.
func (p *parser) path(i pathItem) {
	path, pointer := release.CleanPath(p.prefix+decodePath(i.key)), i.pointer
	if !p.checkPath(join("/paths", i.key), i.node.line, path) {
		return
	}
	near := p.server
	if s := i.node.get("servers"); s != nil && !p.swagger {
		near = p.firstServer(join(pointer, "servers"), s)
	}
	for _, m := range i.node.members {
		at := join(pointer, m.name)
		if method, ok := operations[m.name]; ok {
			p.operation(at, method, path, i.key, m.value, near)
			continue
		}
		switch {
		case m.name == "summary", m.name == "description", m.name == "parameters", m.name == "servers", m.name == "$ref":
		case strings.HasPrefix(m.name, "x-") && !strings.HasPrefix(m.name, extension):
		default:
			p.ignore(pointer, m.name)
		}
	}
}

var escape = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)

// decodePath undoes the percent-encoding of characters that a path template may
// hold as they are. All others stay, and are found fault with.
func decodePath(path string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=:@"
	return escape.ReplaceAllStringFunc(path, func(escaped string) string {
		if c, err := hex.DecodeString(escaped[1:]); err == nil && strings.Contains(plain, string(c)) {
			return string(c)
		}
		return escaped
	})
}

// checkPath finds fault with a path, by itself and beside the others.
func (p *parser) checkPath(pointer string, line int, path string) bool {
	var v release.Violations
	release.CheckRouteKey(&v, "", release.MethodAny, path)
	for _, bad := range v {
		p.faults.addf(pointer, line, "%s", bad.Description)
	}
	if len(v) > 0 {
		return false
	}
	for _, slot := range release.VariableSlots(path) {
		other, ok := p.slots[slot.Parent]
		if ok && other.variable != slot.Variable {
			p.faults.addf(pointer, line, "puts %s under %s, where %q has %s; one parent has one variable, so rename one of them",
				slot.Variable, slot.Parent, other.path, other.variable)
			return false
		}
		p.slots[slot.Parent] = slotUse{slot.Variable, path}
	}
	return true
}

func (p *parser) operation(pointer, method, path, key string, op *node, near server) {
	if op.kind != object {
		p.faults.addf(pointer, op.line, "must be an object, and is %v", op.kind)
		return
	}
	if first, ok := p.used[[2]string{method, path}]; ok {
		p.faults.addf(pointer, op.line, "is the same route as %s, %s %s", first, method, path)
		return
	}
	p.used[[2]string{method, path}] = pointer
	for _, m := range op.members {
		switch {
		case m.name == integrationName:
		case m.name == "security":
			p.security(m.value, pointer)
		case strings.HasPrefix(m.name, extension):
			p.ignore(pointer, m.name)
		}
	}
	r := release.Route{Method: method, Path: path}
	switch n := op.get(integrationName); {
	case n != nil:
		p.integration(join(pointer, integrationName), n, &r)
	case p.extended:
		p.warn("no integration", pointer, "has no "+integrationName+", so the route has no integration and cannot be deployed")
	default:
		if s := op.get("servers"); s != nil && !p.swagger {
			near = p.firstServer(join(pointer, "servers"), s)
		}
		p.plain(pointer, op.line, key, near, &r)
	}
	p.size += r.Size()
	p.doc.Routes = append(p.doc.Routes, r)
}

// plain lets a route pass requests on to a server, under the path that the document
// gives.
func (p *parser) plain(pointer string, line int, key string, s server, r *release.Route) {
	if s.url == "" {
		p.warn("no server", pointer, "has no server with a host, so the route has no integration and cannot be deployed")
		return
	}
	r.Integration = release.HTTP{URI: strings.TrimSuffix(s.url, "/") + key}
	var v release.Violations
	release.CheckRoute(&v, "", r)
	for _, bad := range v {
		p.faults.addf(pointer, line, "with the server of %s: %s", s.pointer, bad.Description)
	}
}
