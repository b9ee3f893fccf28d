package release

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"time"
)

// Deployment is an API's draft as it was at one moment. It never changes.
type Deployment struct {
	API              string
	Number           uint64
	Description      string
	CreateTime       time.Time
	Digest           [sha256.Size]byte
	DefaultTimeout   time.Duration // never 0
	BinaryMediaTypes []string
	Revision         uint64 // index of the change that made it
	RouteCount       int
	Routes           []*Route // in path order; every one has an integration
}

// Name returns the deployment's resource name.
func (d *Deployment) Name() string { return DeploymentName(d.API, d.Number) }

// Freeze makes the next deployment of an API from its draft, which must be in
// path order. It refuses an API without routes and a route without an
// integration.
func Freeze(api *API, draft []*Route, description string, at time.Time, index uint64) (*Deployment, error) {
	if len(draft) == 0 {
		return nil, refuse(APIEmpty, api.Name(),
			"%s has no routes, so there is nothing to deploy; put a route first", api.Name())
	}
	d := &Deployment{
		API:              api.ID,
		Number:           api.LastDeployment + 1,
		Description:      description,
		CreateTime:       at,
		DefaultTimeout:   api.DefaultTimeout,
		BinaryMediaTypes: api.BinaryMediaTypes,
		Revision:         index,
		RouteCount:       len(draft),
		Routes:           make([]*Route, len(draft)),
	}
	if d.DefaultTimeout == 0 {
		d.DefaultTimeout = DefaultTimeout
	}
	for i, r := range draft {
		if r.Integration == nil {
			return nil, refuse(RouteIncomplete, api.Name(),
				"route %s of %s has no integration; put the route again with one", r, api.Name()).with("route", r.String())
		}
		frozen := *r
		frozen.Revision, frozen.Annotations = 0, nil
		d.Routes[i] = &frozen
	}
	if size := d.size(); size > MaxDeployment {
		return nil, refuse(LimitReached, api.Name(), "the routes of %s have %d bytes, at most %d can be deployed as one",
			api.Name(), size, MaxDeployment).with("limit", fmt.Sprint(MaxDeployment))
	}
	d.Digest = d.digest()
	return d, nil
}

// size returns about how many bytes the deployment has on its way to agents.
func (d *Deployment) size() (n int) {
	for _, r := range d.Routes {
		n += r.Size()
	}
	return n
}

// Size returns about how many bytes the route has in a log entry and on its way to
// agents. The sizes of a deployment's routes come to MaxDeployment at most.
func (r *Route) Size() int {
	n := len(r.Method) + len(r.Path)
	if r.Integration != nil {
		for _, text := range r.Integration.canonical() {
			n += len(text)
		}
	}
	return n
}

// digest hashes all that decides how the deployment answers. Every text is
// preceded by its length and every list by its count, so that no two contents
// share an encoding.
func (d *Deployment) digest() [sha256.Size]byte {
	h := sha256.New()
	writeUint(h, uint64(d.DefaultTimeout))
	writeTexts(h, d.BinaryMediaTypes)
	writeUint(h, uint64(len(d.Routes)))
	for _, r := range d.Routes {
		writeTexts(h, []string{r.Method, r.Path})
		writeUint(h, uint64(r.Timeout))
		writeTexts(h, r.Integration.canonical())
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func writeUint(h hash.Hash, n uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	_, _ = h.Write(b[:]) // a hash never fails
}

func writeTexts(h hash.Hash, texts []string) {
	writeUint(h, uint64(len(texts)))
	for _, t := range texts {
		writeUint(h, uint64(len(t)))
		_, _ = io.WriteString(h, t)
	}
}

// RouteDiff says how the routes of one deployment differ from those of another,
// as `METHOD /path`, in path order.
type RouteDiff struct {
	Added, Removed, Changed []string
}

// DiffRoutes compares two deployments; from may be nil, which has no routes.
func DiffRoutes(from, to *Deployment) RouteDiff {
	var before []*Route
	if from != nil {
		before = from.Routes
	}
	return diffRoutes(before, to.Routes, func(a, b *Route) bool { return sameAnswer(from, a, to, b) })
}

// DiffDrafts compares two drafts, which must be in path order.
func DiffDrafts(before, after []*Route) RouteDiff { return diffRoutes(before, after, (*Route).Equal) }

func diffRoutes(before, after []*Route, same func(a, b *Route) bool) RouteDiff {
	var diff RouteDiff
	for len(before) > 0 || len(after) > 0 {
		switch order := compareHeads(before, after); {
		case order < 0:
			diff.Removed = append(diff.Removed, before[0].String())
			before = before[1:]
		case order > 0:
			diff.Added = append(diff.Added, after[0].String())
			after = after[1:]
		default:
			if !same(before[0], after[0]) {
				diff.Changed = append(diff.Changed, after[0].String())
			}
			before, after = before[1:], after[1:]
		}
	}
	return diff
}

// compareHeads orders the first routes of two lists; an empty list comes last.
func compareHeads(a, b []*Route) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return CompareRoutes(a[0], b[0])
}

// CompareRoutes orders routes by path, then by method.
func CompareRoutes(a, b *Route) int {
	if c := strings.Compare(a.Path, b.Path); c != 0 {
		return c
	}
	return strings.Compare(a.Method, b.Method)
}

func sameAnswer(da *Deployment, a *Route, db *Deployment, b *Route) bool {
	timeout := func(d *Deployment, r *Route) time.Duration {
		if r.Timeout != 0 {
			return r.Timeout
		}
		return d.DefaultTimeout
	}
	return timeout(da, a) == timeout(db, b) && sameIntegration(a.Integration, b.Integration)
}

func sameIntegration(a, b Integration) bool {
	if a == nil || b == nil {
		return a == b
	}
	return slices.Equal(a.canonical(), b.canonical())
}
