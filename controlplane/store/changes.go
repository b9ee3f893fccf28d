package store

import (
	"iter"
	"slices"
	"sort"

	"github.com/fifegateway/fife/controlplane/release"
)

// changeLog remembers which of the resources that agents know each command wrote
// or removed, so that an agent can be brought from an older version to the
// present one without sending it everything.
type changeLog struct {
	entries queue[change] // by index
	floor   uint64        // changes up to this index are forgotten
}

type change struct {
	index uint64
	names []string
}

func (l changeLog) add(c change) changeLog {
	l.entries = l.entries.push(c)
	for l.entries.len() > changeLimit {
		l.floor = l.entries.at(0).index
		l.entries = l.entries.pop()
	}
	return l
}

// Since returns the names of the resources that agents know and that changed
// after the version of the given index, each once, in no order of note. A name
// that the state has no resource for was removed. ok is false if the state no
// longer remembers that far back.
func (s *State) Since(index uint64) (names []string, ok bool) {
	if index < s.changes.floor {
		return nil, false
	}
	seen := map[string]bool{}
	entries := s.changes.entries
	newer := sort.Search(entries.len(), func(i int) bool { return entries.at(i).index > index })
	for c := range entries.from(newer) {
		for _, name := range c.names {
			if !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names, true
}

// Resource is one thing that agents hold; exactly one field is set.
type Resource struct {
	API        *release.API
	Deployment *release.Deployment
	Stage      *release.Stage
}

// Name returns the resource's name.
func (r Resource) Name() string {
	switch {
	case r.API != nil:
		return r.API.Name()
	case r.Deployment != nil:
		return r.Deployment.Name()
	}
	return r.Stage.Name()
}

// Revision returns the index of the change that last wrote the resource.
func (r Resource) Revision() uint64 {
	switch {
	case r.API != nil:
		return r.API.Revision
	case r.Deployment != nil:
		return r.Deployment.Revision
	}
	return r.Stage.Index
}

// Resource returns what agents hold under a name; ok is false if they hold
// nothing.
func (s *State) Resource(name string) (r Resource, ok bool) {
	api, kind, id := splitName(name)
	switch kind {
	case "":
		r.API, ok = s.API(api)
	case "deployments":
		number := parseNumber(id)
		if s.Live(api, number) {
			r.Deployment, ok = s.Deployment(api, number)
		}
	case "stages":
		r.Stage, ok = s.Stage(api, id)
	}
	return r, ok
}

// Resources yields all that agents hold, of the given APIs or, if none are
// given, of all.
func (s *State) Resources(apis []string) iter.Seq[Resource] {
	return func(yield func(Resource) bool) {
		for api := range s.APIs("") {
			if len(apis) > 0 && !slices.Contains(apis, api.ID) {
				continue
			}
			if !yield(Resource{API: api}) {
				return
			}
			for d := range s.Deployments(api.ID, 0) {
				if s.Live(api.ID, d.Number) && !yield(Resource{Deployment: d}) {
					return
				}
			}
			for stage := range s.Stages(api.ID, "") {
				if !yield(Resource{Stage: stage}) {
					return
				}
			}
		}
	}
}
