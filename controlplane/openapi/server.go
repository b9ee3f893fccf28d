package openapi

import (
	"net/url"
	"regexp"
	"strings"
)

// server is where operations are served.
type server struct {
	pointer string
	url     string // absolute, without a slash at the end; empty if there is no host
	path    string // its path
}

// servers reads where the API is served, and what of that the routes' paths get.
func (p *parser) servers() {
	if p.swagger {
		p.server = p.swaggerServer()
	} else if n := p.root.get("servers"); n != nil {
		p.server = p.firstServer("/servers", n)
	}
	base := "/" + strings.Join(strings.FieldsFunc(p.server.path, func(c rune) bool { return c == '/' }), "/")
	switch p.options.BasePath {
	case IgnoreBasePath:
		return
	case SplitBasePath:
		if next := strings.IndexByte(base[1:], '/'); next >= 0 {
			base = base[1+next:]
		} else {
			base = "/"
		}
	case PrependBasePath:
	}
	p.prefix = strings.TrimSuffix(decodePath(base), "/")
}

func (p *parser) swaggerServer() server {
	host := p.text("/host", p.root.get("host"))
	path := p.text("/basePath", p.root.get("basePath"))
	if path != "" && !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	s := server{pointer: "/host", path: path}
	if host == "" {
		return s
	}
	// https if the document allows it, or does not say.
	scheme := "https"
	if n := p.root.get("schemes"); n != nil && len(n.items) > 0 {
		scheme = ""
		for _, item := range n.items {
			if item.text == "https" || item.text == "http" && scheme == "" {
				scheme = item.text
			}
		}
		if scheme == "" {
			p.warn("schemes", "/schemes", "names neither http nor https, so the host is ignored")
			return s
		}
	}
	s.url = scheme + "://" + host + strings.TrimSuffix(path, "/")
	return s
}

var serverVariable = regexp.MustCompile(`\{([^{}]*)\}`)

// firstServer reads the first of a list of servers, with the defaults of its
// variables.
func (p *parser) firstServer(pointer string, n *node) server {
	if n.kind != list {
		p.faults.addf(pointer, n.line, "must be a list of servers, and is %v", n.kind)
		return server{}
	}
	if len(n.items) == 0 {
		return server{}
	}
	if len(n.items) > 1 && !p.extended {
		p.warn("servers", join(pointer, "1"), "is ignored, and so are those after it: requests go to the first server")
	}
	first := n.items[0]
	pointer = join(pointer, "0")
	raw := p.text(join(pointer, "url"), first.get("url"))
	filled := serverVariable.ReplaceAllStringFunc(raw, func(v string) string {
		name := v[1 : len(v)-1]
		value := first.get("variables").get(name).get("default")
		if value == nil || value.kind == object || value.kind == list || value.kind == null {
			p.faults.addf(join(pointer, "variables", name), first.line, "has no default, and %.200q needs one", raw)
			return "x"
		}
		return value.text
	})
	u, err := url.Parse(filled)
	if err != nil {
		p.faults.addf(join(pointer, "url"), first.line, "%.200q is no URL: %v", filled, err)
		return server{}
	}
	s := server{pointer: pointer, path: u.EscapedPath()}
	if u.Host != "" {
		s.url = strings.TrimSuffix(filled, "/")
	}
	return s
}
