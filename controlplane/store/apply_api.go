package store

import (
	"fmt"
	"iter"
	"slices"

	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

func (t *tx) api(id string) (*release.API, error) {
	a, ok := t.next.API(id)
	if !ok {
		return nil, release.Missing(release.APIName(id))
	}
	return a, nil
}

func (t *tx) setAPI(a *release.API) {
	t.next.apis, _, _ = t.next.apis.Insert([]byte(a.ID), a)
}

func (t *tx) createAPI(op *storev1.CreateApi) (Outcome, error) {
	a := decodeAPI(op.GetApi())
	if _, ok := t.next.API(a.ID); ok {
		return Outcome{}, release.Taken(a.Name())
	}
	if t.next.apis.Len() >= MaxAPIs {
		return Outcome{}, release.TooMany("the cluster", "APIs", MaxAPIs)
	}
	a.CreateTime, a.UpdateTime, a.Revision = t.change.Time, t.change.Time, t.index
	if err := t.claimHosts(a, nil); err != nil {
		return Outcome{}, err
	}
	t.setAPI(a)
	t.touch(a.Name())
	return Outcome{API: a}, nil
}

func (t *tx) updateAPI(op *storev1.UpdateApi) (Outcome, error) {
	old, err := t.api(op.GetApi().GetId())
	if err != nil {
		return Outcome{}, err
	}
	if err := release.CheckRevision(old.Name(), old.Revision, op.GetIfRevision()); err != nil {
		return Outcome{}, err
	}
	a := old.Update(t.change.Time, decodeAPI(op.GetApi()), op.GetFields())
	a.Revision = t.index
	if err := t.needToTakeHosts(a, old); err != nil {
		return Outcome{}, err
	}
	if err := t.claimHosts(a, old); err != nil {
		return Outcome{}, err
	}
	t.setAPI(a)
	t.touch(a.Name())
	return Outcome{API: a}, nil
}

// claimHosts moves the host index from what an API had to what it has now.
func (t *tx) claimHosts(a, old *release.API) error {
	if old != nil {
		for _, h := range old.Hosts {
			t.next.hosts, _, _ = t.next.hosts.Delete([]byte(h))
		}
	}
	for _, h := range a.Hosts {
		if owner, ok := t.next.hosts.Get([]byte(h)); ok {
			return release.Taken(fmt.Sprintf("host %s of %s", h, release.APIName(owner)))
		}
		t.next.hosts, _, _ = t.next.hosts.Insert([]byte(h), a.ID)
	}
	return nil
}

// needToTakeHosts refuses to take a host from an API with a stage that requires another
// promoter: with another API behind it the host's callers would be served what that
// promoter has not seen.
func (t *tx) needToTakeHosts(a, old *release.API) error {
	if !slices.ContainsFunc(old.Hosts, func(h string) bool { return !slices.Contains(a.Hosts, h) }) {
		return nil
	}
	for s := range t.next.Stages(a.ID, "") {
		if err := t.needToUnprotect(s, nil); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) deleteAPI(op *storev1.DeleteApi) (Outcome, error) {
	a, err := t.api(op.GetApi())
	if err != nil {
		return Outcome{}, err
	}
	if err := release.CheckRevision(a.Name(), a.Revision, op.GetIfRevision()); err != nil {
		return Outcome{}, err
	}
	for s := range t.next.Stages(a.ID, "") {
		if !op.GetForce() {
			return Outcome{}, release.InUse(release.APIInUse, a.Name(), s.Name())
		}
		if err := t.dropStage(s); err != nil {
			return Outcome{}, err
		}
	}
	for _, h := range a.Hosts {
		t.next.hosts, _, _ = t.next.hosts.Delete([]byte(h))
	}
	t.next.routes, _ = t.next.routes.DeletePrefix(key(a.ID))
	t.next.deployments, _ = t.next.deployments.DeletePrefix(key(a.ID))
	t.next.staged, _, _ = t.next.staged.Delete([]byte(a.ID))
	t.next.apis, _, _ = t.next.apis.Delete([]byte(a.ID))
	t.touch(a.Name())
	return Outcome{}, nil
}

func (t *tx) putRoute(op *storev1.PutRoute) (Outcome, error) {
	a, err := t.api(op.GetApi())
	if err != nil {
		return Outcome{}, err
	}
	r := decodeRoute(op.GetRoute())
	old, replaces := t.next.Route(a.ID, r.Method, r.Path)
	if want := op.GetIfRevision(); want != 0 {
		if !replaces {
			return Outcome{}, release.Missing(fmt.Sprintf("route %s of %s", r, a.Name()))
		}
		if err := release.CheckRevision(fmt.Sprintf("route %s of %s", r, a.Name()), old.Revision, want); err != nil {
			return Outcome{}, err
		}
	}
	if err := t.checkSiblings(a.ID, r); err != nil {
		return Outcome{}, err
	}
	next := *a
	next.UpdateTime = t.change.Time
	if !replaces {
		if next.RouteCount++; next.RouteCount > release.MaxRoutes {
			return Outcome{}, release.TooMany(a.Name(), "routes", release.MaxRoutes)
		}
	}
	r.Revision = t.index
	t.next.routes, _, _ = t.next.routes.Insert(routeKey(a.ID, r.Method, r.Path), r)
	t.setAPI(&next)
	return Outcome{API: &next, Route: r}, nil
}

// checkSiblings refuses a route that has a variable where the draft has another.
func (t *tx) checkSiblings(api string, r *release.Route) error {
	for _, slot := range release.VariableSlots(r.Path) {
		parent := append(key(api), slot.Parent+"{"...)
		for sibling := range walk(t.next.routes, parent) {
			if err := release.CheckSibling(r, slot, sibling.Path); err != nil {
				return err
			}
			break // the siblings agree among themselves
		}
	}
	return nil
}

func (t *tx) deleteRoute(op *storev1.DeleteRoute) (Outcome, error) {
	a, err := t.api(op.GetApi())
	if err != nil {
		return Outcome{}, err
	}
	name := fmt.Sprintf("route %s %s of %s", op.GetMethod(), op.GetPath(), a.Name())
	r, ok := t.next.Route(a.ID, op.GetMethod(), op.GetPath())
	if !ok {
		return Outcome{}, release.Missing(name)
	}
	if err := release.CheckRevision(name, r.Revision, op.GetIfRevision()); err != nil {
		return Outcome{}, err
	}
	t.next.routes, _, _ = t.next.routes.Delete(routeKey(a.ID, r.Method, r.Path))
	next := *a
	next.UpdateTime = t.change.Time
	next.RouteCount--
	t.setAPI(&next)
	return Outcome{API: &next}, nil
}

// editRoutes does what its parts would do one after the other. What a part that is
// refused has left is thrown away with all else.
func (t *tx) editRoutes(op *storev1.EditRoutes) (Outcome, error) {
	a, err := t.api(op.GetApi())
	if err != nil {
		return Outcome{}, err
	}
	if err := release.CheckRevision(a.Name(), a.Revision, op.GetIfRevision()); err != nil {
		return Outcome{}, err
	}
	for _, d := range op.GetDelete() {
		if _, err := t.deleteRoute(d); err != nil {
			return Outcome{}, err
		}
	}
	for _, p := range op.GetPut() {
		if _, err := t.putRoute(p); err != nil {
			return Outcome{}, err
		}
	}
	if len(op.GetFields()) > 0 {
		return t.updateAPI(&storev1.UpdateApi{Api: op.GetValues(), Fields: op.GetFields()})
	}
	a, err = t.api(op.GetApi())
	return Outcome{API: a}, err
}

func (t *tx) createDeployment(op *storev1.CreateDeployment) (Outcome, error) {
	a, err := t.api(op.GetApi())
	if err != nil {
		return Outcome{}, err
	}
	if count(t.next.Deployments(a.ID, 0)) >= MaxDeployments {
		return Outcome{}, release.TooMany(a.Name(), "deployments", MaxDeployments)
	}
	draft := slices.Collect(t.next.Routes(a.ID, "", ""))
	d, err := release.Freeze(a, draft, op.GetDescription(), t.change.Time, t.index)
	if err != nil {
		return Outcome{}, err
	}
	next := *a
	next.LastDeployment = d.Number
	t.setAPI(&next)
	t.next.deployments, _, _ = t.next.deployments.Insert(deploymentKey(a.ID, d.Number), d)
	outcome := Outcome{API: &next, Deployment: d}
	if op.GetStage() != "" {
		outcome.Stage, err = t.deployTo(op, d.Number)
	}
	return outcome, err
}

func count[T any](values iter.Seq[T]) (n int) {
	for range values {
		n++
	}
	return n
}

func (t *tx) deleteDeployment(op *storev1.DeleteDeployment) (Outcome, error) {
	name := release.DeploymentName(op.GetApi(), op.GetNumber())
	d, ok := t.next.Deployment(op.GetApi(), op.GetNumber())
	if !ok {
		return Outcome{}, release.Missing(name)
	}
	if err := release.CheckRevision(name, d.Revision, op.GetIfRevision()); err != nil {
		return Outcome{}, err
	}
	for s := range t.next.Stages(d.API, "") {
		if s.Uses(d.Number) {
			return Outcome{}, release.InUse(release.DeploymentInUse, name, s.Name())
		}
	}
	t.next.deployments, _, _ = t.next.deployments.Delete(deploymentKey(d.API, d.Number))
	return Outcome{}, nil
}
