package store

import (
	"slices"
	"time"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// An import may have more routes than one entry of the log can hold. Those that do
// not fit are kept beside the drafts, part by part, and one last command makes all
// of them the draft. An import that stops on the way leaves parts behind, which no
// reader sees; the next import into the API, or an hour of the log's time, removes
// them.

// importTTL is how long the parts of an import are kept after the last of them.
const importTTL = time.Hour

// staged is what is kept for an import. It is never changed.
type staged struct {
	api   string
	id    string
	time  time.Time // of the last part
	parts [][]*release.Route
	count int
	size  int // about how many bytes
}

// Imported says what an import did to a draft.
type Imported struct {
	Added, Removed, Changed, Unchanged int
	Names                              release.RouteDiff // the first of each kind
}

// How many names of each kind an outcome keeps: outcomes are remembered.
const (
	importedNames = 100
	importedBytes = 8 << 10
)

func firstNames(names []string) []string {
	size := 0
	for i, name := range names {
		if size += len(name); i == importedNames || size > importedBytes {
			return slices.Clone(names[:i])
		}
	}
	return names
}

// dropAbandoned removes what imports have kept that nobody went on with.
func (s *State) dropAbandoned(now time.Time) {
	if s.staged.Len() == 0 {
		return
	}
	for i := range walk(s.staged, nil) {
		if now.Sub(i.time) > importTTL {
			s.staged, _, _ = s.staged.Delete([]byte(i.api))
		}
	}
}

func (t *tx) stageRoutes(op *storev1.StageRoutes) (Outcome, error) {
	id := []byte(op.GetApi())
	i, ok := t.next.staged.Get(id)
	switch {
	case op.GetPart() == 0:
		t.next.staged, _, _ = t.next.staged.Delete(id)
		if t.next.staged.Len() >= MaxImports {
			return Outcome{}, release.TooMany("the cluster", "imports under way", MaxImports)
		}
	case !ok || i.id != op.GetImport() || len(i.parts) != int(op.GetPart()):
		return Outcome{}, release.Superseded(release.APIName(op.GetApi()))
	}
	i = t.keepRoutes(op.GetApi(), op.GetImport(), t.change.Time, op.GetRoutes())
	switch {
	case i.count > release.MaxRoutes:
		return Outcome{}, release.TooMany("the import", "routes", release.MaxRoutes)
	case i.size > release.MaxDeployment:
		return Outcome{}, release.TooMany("the import", "bytes of routes", release.MaxDeployment)
	}
	return Outcome{}, nil
}

// keepRoutes adds a part to what is kept for an import.
func (t *tx) keepRoutes(api, id string, at time.Time, routes []*storev1.Route) *staged {
	next := &staged{api: api, id: id, time: at}
	if i, ok := t.next.staged.Get([]byte(api)); ok {
		next.parts, next.count, next.size = slices.Clone(i.parts), i.count, i.size
	}
	part := decodeRoutes(routes)
	for _, r := range part {
		next.size += r.Size()
	}
	next.parts = append(next.parts, part)
	next.count += len(part)
	t.next.staged, _, _ = t.next.staged.Insert([]byte(api), next)
	return next
}

// importRoutes makes the routes of an import the draft.
func (t *tx) importRoutes(op *storev1.ImportRoutes) (Outcome, error) {
	name := release.APIName(op.GetApi())
	var routes []*release.Route
	if op.GetParts() > 0 {
		i, ok := t.next.staged.Get([]byte(op.GetApi()))
		if !ok || i.id != op.GetImport() || len(i.parts) != int(op.GetParts()) {
			return Outcome{}, release.Superseded(name)
		}
		routes = slices.Concat(i.parts...)
		t.next.staged, _, _ = t.next.staged.Delete([]byte(op.GetApi()))
	}
	routes = append(routes, decodeRoutes(op.GetRoutes())...)
	old, err := t.importInto(op)
	if err != nil {
		return Outcome{}, err
	}
	a := *old
	a.UpdateTime = t.change.Time
	imported, err := t.replaceDraft(&a, routes, op.GetMerge())
	if err != nil {
		return Outcome{}, err
	}
	if types := op.GetBinaryMediaTypes(); len(types) > 0 && !slices.Equal(types, a.BinaryMediaTypes) {
		if err := t.need(access.APIsManage, a.ID, "*"); err != nil {
			return Outcome{}, err
		}
		a.BinaryMediaTypes, a.Revision = types, t.index
		t.touch(a.Name())
	}
	t.setAPI(&a)
	return Outcome{API: &a, Imported: imported}, nil
}

// importInto returns the API that an import is for, and makes it if it may.
func (t *tx) importInto(op *storev1.ImportRoutes) (*release.API, error) {
	a, err := t.api(op.GetApi())
	if err == nil {
		return a, release.CheckRevision(a.Name(), a.Revision, op.GetIfRevision())
	}
	if !op.GetCreate() || op.GetIfRevision() != 0 {
		return nil, err
	}
	created, err := t.createAPI(&storev1.CreateApi{Api: &storev1.Api{Id: op.GetApi(), Description: op.GetDescription()}})
	return created.API, err
}

// replaceDraft gives an API the routes of an import, and with merge leaves it those
// that the import does not have. Routes that stay as they were keep their revisions.
func (t *tx) replaceDraft(a *release.API, routes []*release.Route, merge bool) (*Imported, error) {
	before := slices.Collect(t.next.Routes(a.ID, "", ""))
	known := make(map[string]*release.Route, len(before))
	for _, r := range before {
		known[r.String()] = r
	}
	if !merge {
		t.next.routes, _ = t.next.routes.DeletePrefix(key(a.ID))
	}
	for _, r := range routes {
		if old := known[r.String()]; old != nil && old.Equal(r) {
			r = old
		} else {
			next := *r
			next.Revision = t.index
			r = &next
		}
		if err := t.checkSiblings(a.ID, r); err != nil {
			return nil, err
		}
		t.next.routes, _, _ = t.next.routes.Insert(routeKey(a.ID, r.Method, r.Path), r)
	}
	after := slices.Collect(t.next.Routes(a.ID, "", ""))
	if a.RouteCount = len(after); a.RouteCount > release.MaxRoutes {
		return nil, release.TooMany(a.Name(), "routes", release.MaxRoutes)
	}
	diff := release.DiffDrafts(before, after)
	i := &Imported{Added: len(diff.Added), Removed: len(diff.Removed), Changed: len(diff.Changed)}
	i.Names = release.RouteDiff{
		Added: firstNames(diff.Added), Removed: firstNames(diff.Removed), Changed: firstNames(diff.Changed),
	}
	i.Unchanged = len(routes) - i.Added - i.Changed
	return i, nil
}

func decodeRoutes(from []*storev1.Route) []*release.Route {
	routes := make([]*release.Route, len(from))
	for i, p := range from {
		routes[i] = decodeRoute(p)
	}
	return routes
}

func encodeStaged(i *staged, part []*release.Route) *storev1.StagedRoutes {
	p := &storev1.StagedRoutes{Api: i.api, Import: i.id, Time: encodeTime(i.time)}
	for _, r := range part {
		p.Routes = append(p.Routes, EncodeRoute(r))
	}
	return p
}
