// Package openapi reads the routes of an API from an OpenAPI document, as Amazon
// API Gateway's import does, and writes them as one.
//
// Everything here is pure: bytes in, values out. Documents come from strangers'
// tools, so size, depth and the work that references can cause are bounded, and
// all that is wrong with a document is reported at once, with the place.
package openapi

import (
	"regexp"
	"slices"

	"github.com/fifegateway/fife/controlplane/release"
)

// Limits of a document.
const (
	MaxDocument = 6 << 20 // bytes, as API Gateway allows
	maxDepth    = 200     // of nested objects and lists
	maxNodes    = 1_500_000
	maxName     = 4096 // bytes of a member's name, and of a reference
	maxTags     = 100  // directives of YAML
	maxPatterns = 1000 // of mocks' responses, different ones
	maxFaults   = 100  // that are named
	maxWarnings = 100
)

// BasePath says what becomes of the path that a document's API is served under:
// `basePath` in Swagger 2.0, the path of the first server in OpenAPI 3. The modes
// are those of API Gateway.
type BasePath int

// The modes.
const (
	IgnoreBasePath  BasePath = iota // routes have the paths of the document
	PrependBasePath                 // the base path is put before every path
	SplitBasePath                   // as PrependBasePath, without its first segment
)

// Options say how a document is read.
type Options struct {
	BasePath BasePath
}

// Clip returns the beginning of a text that may be the description of an API.
func Clip(text string) string {
	if runes := []rune(text); len(runes) > release.MaxDescription {
		return string(runes[:release.MaxDescription])
	}
	return text
}

// Document is what a gateway takes from an OpenAPI document.
type Document struct {
	Title            string
	Description      string // may be longer than an API's may be
	BinaryMediaTypes []string
	Routes           []release.Route // in path order; each passes release.CheckRoute
	// Warnings name, each with the first place that it applies to, what the document
	// asks for and Fife does not do.
	Warnings []string
}

// Parse reads an OpenAPI 3.0 or 3.1 or a Swagger 2.0 document, in JSON or YAML. Its
// errors are *Error.
//
// A document with an `x-amazon-apigateway-integration` anywhere is read as API
// Gateway does: an operation without one gets a route without an integration. In
// any other document an operation becomes an HTTP integration with its server and
// path; if there is no server with a host, the integration is left out, too.
func Parse(doc []byte, o Options) (*Document, error) {
	root, err := read(doc)
	if err != nil {
		return nil, err
	}
	p := &parser{root: root, options: o, warned: map[string]int{}, used: map[[2]string]string{}, slots: map[string]slotUse{}, patterns: map[string]*regexp.Regexp{}}
	p.document()
	if err := p.faults.err(); err != nil {
		return nil, err
	}
	slices.SortFunc(p.doc.Routes, func(a, b release.Route) int { return release.CompareRoutes(&a, &b) })
	p.doc.Warnings = p.warnings()
	return &p.doc, nil
}
