package apigateway

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// resource is a path of an API, with the draft routes on it by method.
type resource struct {
	id, path string
	methods  map[string]*fifev1.Route
}

// part returns the last segment of the path; empty for the root.
func (r *resource) part() string { return r.path[strings.LastIndexByte(r.path, '/')+1:] }

func parentPath(path string) string { return cmp.Or(path[:strings.LastIndexByte(path, '/')], "/") }

// draft is what an API's draft looks like to Amazon's users.
type draft struct {
	api    *fifev1.Api
	notes  apiNotes
	byID   map[string]*resource
	byPath map[string]*resource
}

// hashID returns an id of n letters and digits that is the same for the same API and path
// everywhere: agents show it as requestContext.resourceId.
func hashID(n int, api, path string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(api + path)) // a hash never fails
	sum := h.Sum64()
	id := make([]byte, n)
	for i := range id {
		id[i] = "0123456789abcdefghijklmnopqrstuvwxyz"[sum%36]
		sum /= 36
	}
	return string(id)
}

func rootID(api string) string { return hashID(10, api, "/") }

// readDraft reads an API with its draft.
func (g *Gateway) readDraft(c *call, id string) (*draft, error) {
	a, err := g.getAPI(c, id)
	if err != nil {
		return nil, err
	}
	d := &draft{api: a, byID: map[string]*resource{}, byPath: map[string]*resource{}}
	readNotes(a.GetAnnotations(), &d.notes)
	d.add(rootID(id), "/")
	for _, known := range slices.Sorted(maps.Keys(d.notes.Resources)) {
		d.add(known, d.notes.Resources[known])
	}
	token := ""
	for {
		resp, err := g.apis.ListRoutes(c.ctx, &fifev1.ListRoutesRequest{Parent: a.GetName(), PageSize: 1000, PageToken: token})
		if err != nil {
			return nil, err
		}
		for _, r := range resp.GetRoutes() {
			d.derive(r.GetPath()).methods[r.GetMethod()] = r
		}
		if token = resp.GetNextPageToken(); token == "" {
			break
		}
	}
	for _, r := range slices.Collect(maps.Values(d.byID)) {
		d.derive(r.path) // and what is above it
	}
	return d, nil
}

func (d *draft) add(id, path string) *resource {
	r := &resource{id: id, path: path, methods: map[string]*fifev1.Route{}}
	d.byID[id], d.byPath[path] = r, r
	return r
}

// derive returns the resource of a path, and makes it and those above it up if need be.
func (d *draft) derive(path string) *resource {
	if r, ok := d.byPath[path]; ok {
		return r
	}
	d.derive(parentPath(path))
	api := idOf(d.api)
	id := hashID(6, api, path)
	for i := 0; d.byID[id] != nil; i++ {
		id = hashID(6, api, fmt.Sprint(path, " ", i)) // no path has a blank
	}
	return d.add(id, path)
}

// find returns a resource by its id.
func (d *draft) find(id string) (*resource, error) {
	if r, ok := d.byID[id]; ok {
		return r, nil
	}
	return nil, errNoResource
}

// sorted returns the resources in path order.
func (d *draft) sorted() []*resource {
	return slices.SortedFunc(maps.Values(d.byID), func(a, b *resource) int { return strings.Compare(a.path, b.path) })
}

// below returns a resource and all under it, in path order.
func (d *draft) below(r *resource) []*resource {
	prefix := strings.TrimSuffix(r.path, "/") + "/"
	return slices.DeleteFunc(d.sorted(), func(o *resource) bool { return o != r && !strings.HasPrefix(o.path, prefix) })
}

// resourceShape is the service's shape of a resource.
type resourceShape struct {
	ID              string         `json:"id"`
	ParentID        string         `json:"parentId,omitempty"`
	PathPart        string         `json:"pathPart,omitempty"`
	Path            string         `json:"path"`
	ResourceMethods map[string]any `json:"resourceMethods,omitempty"`
}

func (d *draft) shape(r *resource, embed bool) *resourceShape {
	s := &resourceShape{ID: r.id, PathPart: r.part(), Path: r.path}
	if r.path != "/" {
		s.ParentID = d.byPath[parentPath(r.path)].id
	}
	if len(r.methods) > 0 {
		s.ResourceMethods = map[string]any{}
	}
	for name, route := range r.methods {
		s.ResourceMethods[name] = struct{}{}
		if embed {
			s.ResourceMethods[name] = d.shown(d.method(r, route))
		}
	}
	return s
}

func (c *call) embeds(what string) bool { return slices.Contains(c.query["embed"], what) }

func (g *Gateway) getResource(c *call) (answer, error) {
	d, err := g.readDraft(c, c.path[0])
	if err != nil {
		return answer{}, err
	}
	r, err := d.find(c.path[1])
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, d.shape(r, c.embeds("methods"))}, nil
}

func (g *Gateway) getResources(c *call) (answer, error) {
	size, err := c.pageSize()
	if err != nil {
		return answer{}, err
	}
	d, err := g.readDraft(c, c.path[0])
	if err != nil {
		return answer{}, err
	}
	page := list[*resourceShape]{Item: []*resourceShape{}}
	after, err := base64.RawURLEncoding.DecodeString(c.query.Get("position"))
	if err != nil {
		return answer{}, badRequest("Invalid position specified: %s", c.query.Get("position"))
	}
	for _, r := range d.sorted() {
		if r.path <= string(after) {
			continue
		}
		if n := len(page.Item); n == int(size) {
			page.Position = base64.RawURLEncoding.EncodeToString([]byte(page.Item[n-1].Path))
			break
		}
		page.Item = append(page.Item, d.shape(r, c.embeds("methods")))
	}
	return answer{http.StatusOK, page}, nil
}

var pathPart = regexp.MustCompile(`^(?:[A-Za-z0-9._:-]+|\{[A-Za-z0-9._-]+\+?\})$`)

// checkPlace refuses a resource that cannot be where it is to be.
func (d *draft) checkPlace(parent *resource, part string, moved *resource) error {
	if !pathPart.MatchString(part) {
		return badRequest("Resource's path part only allow a-zA-Z0-9._-: or a valid greedy path variable and curly braces at the beginning and the end.")
	}
	if strings.HasSuffix(parent.path, "+}") {
		return badRequest("Cannot create a child of a resource with a greedy path variable: %s", parent.part())
	}
	for _, r := range d.sorted() {
		if r == moved || r.path == "/" || parentPath(r.path) != parent.path {
			continue
		}
		switch {
		case r.part() == part:
			return conflict("Another resource with the same parent already has this name: %s", part)
		case r.part()[0] == '{' && part[0] == '{':
			return badRequest("A sibling (%s) of this resource already has a variable path part -- only one is allowed", r.part())
		}
	}
	return nil
}

func join(parent, part string) string { return strings.TrimSuffix(parent, "/") + "/" + part }

func (g *Gateway) createResource(c *call) (answer, error) {
	var req struct {
		PathPart string `json:"pathPart"`
	}
	if err := c.read(&req); err != nil {
		return answer{}, err
	}
	var shape *resourceShape
	err := retry(func() error {
		d, err := g.readDraft(c, c.path[0])
		if err != nil {
			return err
		}
		parent, err := d.find(c.path[1])
		if err != nil {
			return err
		}
		if err := d.checkPlace(parent, req.PathPart, nil); err != nil {
			return err
		}
		r := d.derive(join(parent.path, req.PathPart))
		shape = d.shape(r, false)
		d.keep(r)
		return g.edit(c, d, nil, nil)
	})
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusCreated, shape}, nil
}

// keep notes a resource, so that it stays with no route on it.
func (d *draft) keep(r *resource) {
	if r.path == "/" {
		return
	}
	if d.notes.Resources == nil {
		d.notes.Resources = map[string]string{}
	}
	d.notes.Resources[r.id] = r.path
}

// edit writes a draft's notes and the given routes, as one change, on condition that the
// API's own fields and the given routes are as they were read.
func (g *Gateway) edit(c *call, d *draft, remove []*fifev1.RouteKey, put []*fifev1.Route) error {
	d.api.Annotations = withNotes(d.api.GetAnnotations(), d.notes)
	_, err := g.apis.EditRoutes(c.ctx, &fifev1.EditRoutesRequest{
		Parent: d.api.GetName(), DeleteRoutes: remove, PutRoutes: put,
		Api: d.api, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"annotations"}},
	})
	return err
}

func key(r *fifev1.Route) *fifev1.RouteKey {
	return &fifev1.RouteKey{Method: r.GetMethod(), Path: r.GetPath(), Etag: r.GetEtag()}
}

func (g *Gateway) deleteResource(c *call) (answer, error) {
	err := retry(func() error {
		d, err := g.readDraft(c, c.path[0])
		if err != nil {
			return err
		}
		r, err := d.find(c.path[1])
		if err != nil {
			return err
		}
		if r.path == "/" {
			return badRequest("The root resource cannot be deleted")
		}
		var gone []*fifev1.RouteKey
		for _, o := range d.below(r) {
			delete(d.notes.Resources, o.id)
			for _, name := range slices.Sorted(maps.Keys(o.methods)) {
				gone = append(gone, key(o.methods[name]))
			}
		}
		if parent := d.byPath[parentPath(r.path)]; len(parent.methods) == 0 {
			d.keep(parent) // it may have been there for the sake of this one only
		}
		return g.edit(c, d, gone, nil)
	})
	return answer{status: http.StatusAccepted}, err
}

func (g *Gateway) updateResource(c *call) (answer, error) {
	patches, err := c.patches()
	if err != nil {
		return answer{}, err
	}
	var shape *resourceShape
	err = retry(func() error {
		d, err := g.readDraft(c, c.path[0])
		if err != nil {
			return err
		}
		r, err := d.find(c.path[1])
		if err != nil {
			return err
		}
		part, parent := r.part(), d.byPath[parentPath(r.path)]
		for _, p := range patches {
			switch {
			case p.is("pathPart") && p.Op == opReplace && r.path != "/":
				part = p.Value
			case p.is("parentId") && p.Op == opReplace && r.path != "/":
				if parent, err = d.find(p.Value); err != nil {
					return err
				}
			default:
				return p.only(opReplace, "/parentId", "/pathPart")
			}
		}
		if slices.Contains(d.below(r), parent) && r.path != "/" {
			return badRequest("Resources cannot be cyclical.")
		}
		if r.path == "/" || join(parent.path, part) == r.path {
			shape = d.shape(r, false)
			return nil
		}
		if err := d.checkPlace(parent, part, r); err != nil {
			return err
		}
		gone, put := d.move(r, join(parent.path, part))
		shape = d.shape(r, false)
		return g.edit(c, d, gone, put)
	})
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, shape}, nil
}

// move gives a resource, and all under it, another path. They keep their ids.
func (d *draft) move(r *resource, to string) (gone []*fifev1.RouteKey, put []*fifev1.Route) {
	from := r.path
	if old := d.byPath[parentPath(from)]; len(old.methods) == 0 {
		d.keep(old)
	}
	for _, o := range d.below(r) {
		delete(d.byPath, o.path)
		o.path = to + strings.TrimPrefix(o.path, from)
		d.byPath[o.path] = o
		d.keep(o)
		for _, name := range slices.Sorted(maps.Keys(o.methods)) {
			route := o.methods[name]
			gone = append(gone, key(route))
			route.Path, route.Etag = o.path, ""
			put = append(put, route)
		}
	}
	return gone, put
}
