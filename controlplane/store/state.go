package store

import (
	"encoding/binary"
	"fmt"
	"iter"
	"time"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// Version names one committed state of what agents route by: the epoch, and the
// index of the last change that agents can see.
type Version struct {
	Epoch, Index uint64
}

// Compare returns -1, 0 or 1 as v is older than, the same as or newer than o.
func (v Version) Compare(o Version) int {
	if v.Epoch != o.Epoch {
		if v.Epoch < o.Epoch {
			return -1
		}
		return 1
	}
	switch {
	case v.Index < o.Index:
		return -1
	case v.Index > o.Index:
		return 1
	}
	return 0
}

// String returns the version as `EPOCH.INDEX`.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Epoch, v.Index) }

// Node is where a node of the control plane is reached.
type Node struct {
	ID          string
	GRPCAddress string
	Schema      uint32 // newest schema of commands that its build can read
}

// State is all that the cluster has agreed on after one entry of the log. It is
// immutable and safe for concurrent use: holding one holds a consistent view for
// as long as it is wanted. The values it returns must not be changed.
type State struct {
	clusterID string
	epoch     uint64
	index     uint64 // last command applied, refused ones included
	routing   uint64 // last command that agents can see

	// The floors of leases: what an agent must have applied to renew its lease; and
	// to get one, as what a node must have applied to get a grant.
	renewalFloor, entryFloor uint64

	nodes       *iradix.Tree[Node]                // by node id
	apis        *iradix.Tree[*release.API]        // by API id
	hosts       *iradix.Tree[string]              // API id by host
	routes      *iradix.Tree[*release.Route]      // drafts, by API, path, method
	deployments *iradix.Tree[*release.Deployment] // by API, number
	stages      *iradix.Tree[*release.Stage]      // by API, stage
	live        *iradix.Tree[int]                 // how many stages need a deployment on agents
	promoting   *iradix.Tree[*release.Stage]      // stages with an open promotion, by API, stage
	agents      *iradix.Tree[release.Agent]       // on the record, by id
	staged      *iradix.Tree[*staged]             // imports under way, by API id
	departed    *iradix.Tree[string]              // nodes that have left and may still hold a grant, by id
	trust       *storev1.Trust                    // nil until it is recorded
	joinTokens  *iradix.Tree[*storev1.JoinToken]  // by id
	enrolments  *iradix.Tree[*storev1.Enrolment]  // by CLASS/NAME
	bindings    *iradix.Tree[access.Binding]      // by subject, role, patterns
	tokens      *iradix.Tree[access.Token]        // bearer tokens, by id

	certificates *iradix.Tree[*storev1.UserCertificate] // by id
	accessKeys   *iradix.Tree[access.Key]               // by id
	changes      changeLog
	outcomes     outcomeLog
	auditLimits  AuditLimits
	auditLogs    [auditChains]auditLog
	checkpoint   *State // as of the last Checkpoint command; not replicated

	superseded chan struct{}
	rerouted   chan struct{}
}

func newState() *State {
	return &State{
		nodes:       iradix.New[Node](),
		apis:        iradix.New[*release.API](),
		hosts:       iradix.New[string](),
		routes:      iradix.New[*release.Route](),
		deployments: iradix.New[*release.Deployment](),
		stages:      iradix.New[*release.Stage](),
		live:        iradix.New[int](),
		promoting:   iradix.New[*release.Stage](),
		agents:      iradix.New[release.Agent](),
		staged:      iradix.New[*staged](),
		departed:    iradix.New[string](),
		joinTokens:  iradix.New[*storev1.JoinToken](),
		enrolments:  iradix.New[*storev1.Enrolment](),
		bindings:    iradix.New[access.Binding](),
		tokens:      iradix.New[access.Token](),

		certificates: iradix.New[*storev1.UserCertificate](),
		accessKeys:   iradix.New[access.Key](),
		changes:      changeLog{},
		outcomes:     newOutcomeLog(),
		superseded:   make(chan struct{}),
		rerouted:     make(chan struct{}),
	}
}

// ClusterID returns the cluster's identity; empty before the first command.
func (s *State) ClusterID() string { return s.clusterID }

// Version returns the version of what agents route by.
func (s *State) Version() Version { return Version{s.epoch, s.routing} }

// Applied returns the epoch and the index of the last command in the state,
// whether or not agents can see its effect.
func (s *State) Applied() Version { return Version{s.epoch, s.index} }

// Changed returns a channel that is closed when a newer state has taken this
// one's place.
func (s *State) Changed() <-chan struct{} { return s.superseded }

// Rerouted returns a channel that is closed when a state with another version has
// taken this one's place. Edits of a draft and refused commands leave it open.
func (s *State) Rerouted() <-chan struct{} { return s.rerouted }

// Node returns where a node is reached.
func (s *State) Node(id string) (Node, bool) { return s.nodes.Get([]byte(id)) }

// RenewalFloor returns the version that an agent must have applied to renew its
// lease.
func (s *State) RenewalFloor() Version { return Version{s.epoch, s.renewalFloor} }

// EntryFloor returns the version that a node must have applied to get a grant of the
// leader, and an agent without a lease to get one.
func (s *State) EntryFloor() Version { return Version{s.epoch, s.entryFloor} }

// Promoting yields the stages with an open promotion, in order of their names.
func (s *State) Promoting() iter.Seq[*release.Stage] { return walk(s.promoting, nil) }

// Agent returns an agent on the record.
func (s *State) Agent(id string) (release.Agent, bool) { return s.agents.Get([]byte(id)) }

// Agents yields the agents on the record in id order.
func (s *State) Agents() iter.Seq[release.Agent] { return walk(s.agents, nil) }

// Departed yields the ids of the nodes that have left and may still hold a grant.
func (s *State) Departed() iter.Seq[string] { return walk(s.departed, nil) }

// Nodes yields all nodes in id order.
func (s *State) Nodes() iter.Seq[Node] { return walk(s.nodes, nil) }

// API returns an API.
func (s *State) API(id string) (*release.API, bool) { return s.apis.Get([]byte(id)) }

// APIs yields all APIs in id order, from the id `from` on.
func (s *State) APIs(from string) iter.Seq[*release.API] { return walkFrom(s.apis, nil, []byte(from)) }

// Route returns a route of an API's draft.
func (s *State) Route(api, method, path string) (*release.Route, bool) {
	return s.routes.Get(routeKey(api, method, path))
}

// Routes yields the routes of an API's draft in path order, from the route with
// the given method and path on.
func (s *State) Routes(api, fromMethod, fromPath string) iter.Seq[*release.Route] {
	return walkFrom(s.routes, key(api), routeKey(api, fromMethod, fromPath))
}

// Deployment returns a deployment.
func (s *State) Deployment(api string, number uint64) (*release.Deployment, bool) {
	return s.deployments.Get(deploymentKey(api, number))
}

// Deployments yields an API's deployments, oldest first, from a number on.
func (s *State) Deployments(api string, from uint64) iter.Seq[*release.Deployment] {
	return walkFrom(s.deployments, key(api), deploymentKey(api, from))
}

// Stage returns a stage.
func (s *State) Stage(api, id string) (*release.Stage, bool) { return s.stages.Get(key(api, id)) }

// Stages yields an API's stages in id order, from an id on.
func (s *State) Stages(api, from string) iter.Seq[*release.Stage] {
	return walkFrom(s.stages, key(api), append(key(api), from...))
}

// AllStages yields the stages of all APIs in order of API and id, from a stage
// on.
func (s *State) AllStages(fromAPI, from string) iter.Seq[*release.Stage] {
	return walkFrom(s.stages, nil, append(key(fromAPI), from...))
}

// Live reports whether agents hold a deployment: a stage serves it, tries it as
// a canary or would restore it on a rollback.
func (s *State) Live(api string, number uint64) bool {
	n, _ := s.live.Get(deploymentKey(api, number))
	return n > 0
}

// key joins texts that hold no NUL, each ended by one, so that a key of fewer
// texts is a prefix of those that go on with the same ones.
func key(texts ...string) []byte {
	var k []byte
	for _, t := range texts {
		k = append(append(k, t...), 0)
	}
	return k
}

func routeKey(api, method, path string) []byte { return key(api, path, method) }

func deploymentKey(api string, number uint64) []byte {
	return binary.BigEndian.AppendUint64(key(api), number)
}

func walk[T any](t *iradix.Tree[T], prefix []byte) iter.Seq[T] { return walkFrom(t, prefix, prefix) }

// walkFrom yields the values whose keys begin with prefix and are not below
// from, in key order.
func walkFrom[T any](t *iradix.Tree[T], prefix, from []byte) iter.Seq[T] {
	return func(yield func(T) bool) {
		it := t.Root().Iterator()
		it.SeekLowerBound(from)
		for k, v, ok := it.Next(); ok; k, v, ok = it.Next() {
			if len(k) < len(prefix) || string(k[:len(prefix)]) != string(prefix) || !yield(v) {
				return
			}
		}
	}
}

// How much the state remembers of requests and changes.
const (
	outcomeLimit = 10_000
	outcomeTTL   = time.Hour
	changeLimit  = 10_000
)
