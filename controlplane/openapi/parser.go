package openapi

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/fifegateway/fife/controlplane/release"
)

// Members of API Gateway's extension.
const (
	extension        = "x-amazon-apigateway-"
	integrationName  = extension + "integration"
	anyMethodName    = extension + "any-method"
	binaryTypesName  = extension + "binary-media-types"
	maxReferenceHops = 20
)

type parser struct {
	root    *node
	options Options
	doc     Document
	faults  faults

	swagger  bool   // Swagger 2.0
	extended bool   // whether any operation has an integration of API Gateway's
	prefix   string // what the base path puts before every path
	server   server // of operations without one of their own

	work  int                  // nodes that references have led to
	size  int                  // bytes of the routes
	used  map[[2]string]string // where each method and path of the result stands
	slots map[string]slotUse   // the variable of each parent

	patterns map[string]*regexp.Regexp // of responses, compiled once; nil of what is none

	warned   map[string]int // index in warning
	warning  []warned
	unwarned int
}

type slotUse struct{ variable, path string }

// warned is a warning and the places that it applies to.
type warned struct {
	pointer, what string
	more          int
}

// warn notes what is ignored at a place. What is said of several places is told
// once, with the first of them and how many follow; kind tells such warnings apart.
func (p *parser) warn(kind, pointer, what string) {
	if i, ok := p.warned[kind]; ok {
		p.warning[i].more++
		return
	}
	if len(p.warning) == maxWarnings {
		p.unwarned++
		return
	}
	p.warned[kind] = len(p.warning)
	p.warning = append(p.warning, warned{pointer: pointer, what: what})
}

// ignore warns of a member that Fife does not act on.
func (p *parser) ignore(pointer, name string) {
	p.warn("ignored "+name, join(pointer, name), "is ignored")
}

func (p *parser) warnings() []string {
	var texts []string
	for _, w := range p.warning {
		text := w.pointer + ": " + w.what
		if w.more > 0 {
			text += fmt.Sprintf(" (and so in %d more places)", w.more)
		}
		texts = append(texts, text)
	}
	if p.unwarned > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", p.unwarned))
	}
	return texts
}

func (p *parser) document() {
	if p.root.kind != object {
		p.faults.addf("", p.root.line, "it must be an object, and is %v", p.root.kind)
		return
	}
	if !p.version() {
		return
	}
	info := p.root.get("info")
	p.doc.Title = p.text("/info/title", info.get("title"))
	p.doc.Description = p.text("/info/description", info.get("description"))
	p.binaryMediaTypes()
	for _, m := range p.root.members {
		switch m.name {
		case binaryTypesName, extension + "importexport-version", extension + "documentation":
		case "security":
			if len(m.value.items) > 0 {
				p.security(m.value, "")
			}
		default:
			if strings.HasPrefix(m.name, extension) || m.name == "webhooks" {
				p.ignore("", m.name)
			}
		}
	}
	items := p.paths()
	p.extended = slices.ContainsFunc(items, pathItem.extends)
	p.servers()
	p.routes(items)
}

// version reads which specification the document follows.
func (p *parser) version() bool {
	swagger, openapi := p.root.get("swagger"), p.root.get("openapi")
	switch {
	case swagger != nil && swagger.text == "2.0":
		p.swagger = true
		return true
	case swagger != nil:
		p.faults.addf("/swagger", swagger.line, "%.20q must be 2.0", swagger.text)
	case openapi == nil:
		p.faults.addf("", p.root.line, "it has neither `openapi` nor `swagger`, so it is no OpenAPI document")
	case strings.HasPrefix(openapi.text, "3.0"), strings.HasPrefix(openapi.text, "3.1"):
		return true
	default:
		p.faults.addf("/openapi", openapi.line, "%.20q must be 3.0.x or 3.1.x", openapi.text)
	}
	return false
}

// text returns the text of a node that may be missing.
func (p *parser) text(pointer string, n *node) string {
	if n == nil || n.kind == null {
		return ""
	}
	if n.kind != text {
		p.faults.addf(pointer, n.line, "must be a text, and is %v", n.kind)
		return ""
	}
	return n.text
}

func (p *parser) binaryMediaTypes() {
	const pointer = "/" + binaryTypesName
	n := p.root.get(binaryTypesName)
	if n == nil {
		return
	}
	if n.kind != list {
		p.faults.addf(pointer, n.line, "must be a list of media types, and is %v", n.kind)
		return
	}
	for i, item := range n.items {
		p.doc.BinaryMediaTypes = append(p.doc.BinaryMediaTypes, p.text(join(pointer, fmt.Sprint(i)), item))
	}
	var v release.Violations
	release.CheckAPI(&v, "", &release.API{BinaryMediaTypes: p.doc.BinaryMediaTypes})
	for _, bad := range v {
		p.faults.addf(pointer, n.line, "%s", bad.Description)
	}
}

func (p *parser) security(n *node, pointer string) {
	if len(n.items) > 0 {
		p.warn("security", join(pointer, "security"), "is ignored: Fife does not authorize requests")
	}
}

// hop follows the reference of a node, if it has one, to another in the document.
// It returns the place and the node that it leads to, or nil after a fault.
func (p *parser) hop(pointer string, n *node, hops int) (string, *node) {
	ref := n.get("$ref")
	pointer = join(pointer, "$ref")
	to := p.text(pointer, ref)
	switch {
	case ref.kind != text:
		return pointer, nil
	case len(to) > maxName:
		p.faults.addf(pointer, ref.line, "has %d bytes, at most %d are allowed", len(to), maxName)
		return pointer, nil
	case !strings.HasPrefix(to, "#"):
		p.faults.addf(pointer, ref.line,
			"%.200q leads out of the document; put what it names into the document, as bundlers do", to)
		return pointer, nil
	case hops == maxReferenceHops:
		p.faults.addf(pointer, ref.line, "%.200q goes on to other references more than %d times", to, maxReferenceHops)
		return pointer, nil
	}
	target := p.root.find(to)
	if target == nil {
		p.faults.addf(pointer, ref.line, "%.200q leads to nothing", to)
		return pointer, nil
	}
	if p.work += target.size; p.work > maxNodes {
		if p.work-target.size <= maxNodes {
			p.faults.addf(pointer, ref.line, "the references lead to more than %d values", maxNodes)
		}
		return pointer, nil
	}
	return strings.TrimPrefix(to, "#"), target
}

// resolve follows the references of a node.
func (p *parser) resolve(pointer string, n *node) (string, *node) {
	for hops := 0; n != nil && n.get("$ref") != nil; hops++ {
		pointer, n = p.hop(pointer, n, hops)
	}
	return pointer, n
}

// merged returns a path item with the members of what it refers to, its own before
// those.
func (p *parser) merged(pointer string, n *node) (string, *node) {
	for hops := 0; n != nil && n.get("$ref") != nil; hops++ {
		at, target := p.hop(pointer, n, hops)
		if target == nil || len(n.members) == 1 || target.kind != object {
			pointer, n = at, target
			continue
		}
		both := &node{kind: object, line: n.line}
		for _, m := range n.members {
			if m.name != "$ref" {
				both.members = append(both.members, m)
			}
		}
		for _, m := range target.members {
			if m.name == "$ref" || n.get(m.name) == nil {
				both.members = append(both.members, m)
			}
		}
		n = both
	}
	return pointer, n
}
