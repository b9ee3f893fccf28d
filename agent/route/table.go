package route

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"strings"
)

// Spec is everything an agent routes by, at one version.
type Spec struct {
	Version     Version
	APIs        []APISpec
	Deployments []*Deployment
	Stages      []StageSpec
}

// Table is one whole, immutable routing state. All its methods are safe for
// concurrent use and none of them allocates. The zero value routes nothing.
type Table struct {
	version Version
	hosts   map[string]*api // by lower-case host name
	apis    map[string]*api // by id
	only    *api            // the only API, if there is one
}

type api struct {
	stages map[string]*Stage // by id
}

// Stage is what one stage serves. It never changes.
type Stage struct {
	// API and Name say which stage it is.
	API, Name string
	// Sticky says where requests carry their key, and StickyName the name of
	// that header (in canonical form), cookie or query parameter.
	Sticky     KeySource
	StickyName string
	// AllowOverride lets requests choose their variant; if OverrideKey is set,
	// only those signed with it.
	AllowOverride bool
	OverrideKey   string
	// ExposeHeaders makes responses say what routed them.
	ExposeHeaders bool
	// FailClosed makes an agent without a lease refuse requests.
	FailClosed bool
	// ConsistentClients lets requests ask for what an earlier one was routed by.
	ConsistentClients bool
	// Throttle limits its requests.
	Throttle Throttle
	// Promotion is the number of the promotion that led to this configuration; 0
	// for none, or one that is not known.
	Promotion uint64

	next         *Stage // the same stage in the configuration held ready, or nil
	base, canary *Variant
	share        uint32 // of the canary in parts per million; 0 without one
	salt         uint64
}

// Base returns the variant that serves what the canary does not; never nil.
func (s *Stage) Base() *Variant { return s.base }

// Canary returns the variant on trial, or nil if there is none.
func (s *Stage) Canary() *Variant { return s.canary }

// At returns the stage as a promotion's number asks for it: in the configuration
// held ready if that is what the promotion leads to, else as it is.
func (s *Stage) At(promotion uint64) *Stage {
	if s.next != nil && promotion != 0 && s.next.Promotion == promotion {
		return s.next
	}
	return s
}

// Variant is a deployment with the variables that it is served with. It never
// changes.
type Variant struct {
	// Name is "base" or "canary".
	Name string
	// Deployment holds the routes.
	Deployment *Deployment
	// Variables are the stage's; for a canary its overrides are merged in.
	// Read only.
	Variables map[string]string

	secrets []string // names of those that must be shown nowhere
}

// Compile checks a state and builds its Table. Its cost does not depend on the
// number of routes: deployments come compiled. The result shares no memory with
// spec, besides the deployments. An error names what is wrong and means that
// the state as a whole must be refused.
//
// A stage must have the deployment of its base, and of that of its next
// configuration, which is checked like its own. A canary whose deployment is missing
// is served by the base instead.
func Compile(spec Spec) (*Table, error) {
	t := &Table{
		version: spec.Version,
		hosts:   make(map[string]*api),
		apis:    make(map[string]*api, len(spec.APIs)),
	}
	for i := range spec.APIs {
		if err := t.addAPI(&spec.APIs[i]); err != nil {
			return nil, fmt.Errorf("api %q: %w", spec.APIs[i].ID, err)
		}
	}
	deployments := make(map[deploymentKey]*Deployment, len(spec.Deployments))
	for _, d := range spec.Deployments {
		key := deploymentKey{d.API, d.Number}
		if deployments[key] != nil {
			return nil, fmt.Errorf("api %q, deployment %d: given twice", d.API, d.Number)
		}
		deployments[key] = d
	}
	for i := range spec.Stages {
		s := &spec.Stages[i]
		if err := t.addStage(s, deployments); err != nil {
			return nil, fmt.Errorf("api %q, stage %q: %w", s.API, s.ID, err)
		}
	}
	return t, nil
}

type deploymentKey struct {
	api    string
	number uint64
}

func (t *Table) addAPI(spec *APISpec) error {
	if err := checkAPI(spec.ID); err != nil {
		return err
	}
	if t.apis[spec.ID] != nil {
		return errors.New("given twice")
	}
	if len(spec.Hosts) > maxHosts {
		return fmt.Errorf("%d hosts: at most %d are allowed", len(spec.Hosts), maxHosts)
	}
	a := &api{stages: make(map[string]*Stage)}
	for _, h := range spec.Hosts {
		if err := checkHost(h); err != nil {
			return err
		}
		h = strings.ToLower(h)
		if t.hosts[h] != nil {
			return fmt.Errorf("host %q: a host belongs to one API, and is named there once", h)
		}
		t.hosts[h] = a
	}
	t.only = a
	if t.apis[spec.ID] = a; len(t.apis) > 1 {
		t.only = nil
	}
	return nil
}

func (t *Table) addStage(spec *StageSpec, deployments map[deploymentKey]*Deployment) error {
	if err := checkStage(spec); err != nil {
		return err
	}
	a := t.apis[spec.API]
	if a == nil {
		return errors.New("there is no such API")
	}
	if a.stages[spec.ID] != nil {
		return errors.New("given twice")
	}
	s := &Stage{
		API:               spec.API,
		Name:              spec.ID,
		Sticky:            spec.Sticky,
		StickyName:        spec.StickyName,
		AllowOverride:     spec.AllowOverride,
		OverrideKey:       spec.OverrideKey,
		ExposeHeaders:     spec.ExposeHeaders,
		FailClosed:        spec.FailClosed,
		ConsistentClients: spec.ConsistentClients,
		Throttle:          compileThrottle(spec.Throttle),
	}
	if s.Sticky == KeyHeader {
		s.StickyName = textproto.CanonicalMIMEHeaderKey(s.StickyName)
	}
	if spec.Next != nil {
		next := *s
		if err := next.configure(spec.Next, spec.Promotion, deployments); err != nil {
			return fmt.Errorf("next configuration: %w", err)
		}
		s.next = &next
	}
	own := ConfigSpec{Deployment: spec.Deployment, Variables: spec.Variables, Secrets: spec.Secrets, Canary: spec.Canary}
	if err := s.configure(&own, spec.Promoted, deployments); err != nil {
		return err
	}
	a.stages[spec.ID] = s
	return nil
}

// configure makes s serve a configuration, which a promotion has led to.
func (s *Stage) configure(spec *ConfigSpec, promotion uint64, deployments map[deploymentKey]*Deployment) error {
	if err := checkConfig(spec); err != nil {
		return err
	}
	d := deployments[deploymentKey{s.API, spec.Deployment}]
	if d == nil {
		return fmt.Errorf("deployment %d of its base is missing", spec.Deployment)
	}
	s.Promotion = promotion
	s.base = &Variant{Name: "base", Deployment: d, Variables: maps.Clone(spec.Variables), secrets: slices.Clone(spec.Secrets)}
	if c := spec.Canary; c != nil {
		s.salt = c.Salt
		if d := deployments[deploymentKey{s.API, c.Deployment}]; d != nil {
			merged := make(map[string]string, len(spec.Variables)+len(c.Overrides))
			maps.Copy(merged, spec.Variables)
			maps.Copy(merged, c.Overrides)
			s.canary = &Variant{Name: "canary", Deployment: d, Variables: merged, secrets: slices.Concat(spec.Secrets, c.Secrets)}
			s.share = c.PartsPerMillion
		}
	}
	return nil
}

// Version returns the state that the table was compiled from.
func (t *Table) Version() Version { return t.version }

// Lookup finds the stage for a request, and the rest of its path: "/canary/x/y"
// is stage "canary" and rest "/x/y", "/canary" is rest "/". The path is the
// escaped one of the request, already normalised.
//
// A path that begins with "/_aws/execute-api/{api}" names the API, whatever the host,
// and goes on with the stage. Otherwise the host, which may carry a port, chooses it: by
// an entry of its hosts, else by its first label in "{api}.execute-api.*" or
// "{api}.localhost". A host that names no API falls to defaultAPI, or if that is empty
// to the only API there is.
func (t *Table) Lookup(host, path, defaultAPI string) (stage *Stage, rest string, ok bool) {
	var a *api
	if id, below, named := cutExecuteAPI(path); named {
		a, path = t.apis[id], below
	} else {
		a = t.api(host, defaultAPI)
	}
	if a == nil || path == "" || path[0] != '/' {
		return nil, "", false
	}
	id, rest := path[1:], "/"
	if i := strings.IndexByte(id, '/'); i >= 0 {
		id, rest = id[:i], id[i:]
	}
	if strings.IndexByte(id, '%') < 0 {
		stage = a.stages[id]
	} else {
		var buf [maxStageID]byte
		if b, ok := appendUnescaped(buf[:0], id); ok {
			stage = a.stages[string(b)]
		}
	}
	if stage == nil {
		return nil, "", false
	}
	return stage, rest, true
}

// cutExecuteAPI splits "/_aws/execute-api/{api}/{stage}/..." into the API's id and the
// path from the stage on.
func cutExecuteAPI(path string) (api, below string, ok bool) {
	after, ok := strings.CutPrefix(path, "/_aws/execute-api/")
	if !ok {
		return "", path, false
	}
	i := strings.IndexByte(after, '/')
	if i < 0 {
		return after, "", true
	}
	return after[:i], after[i:], true
}

// StagePath returns a request's path from the stage on: what is left of one that names
// its API, and any other as it is.
func StagePath(path string) string {
	_, below, _ := cutExecuteAPI(path)
	return below
}

// ExecuteAPI reports whether a request has one of the URLs of Amazon API Gateway and of
// what stands in for it: "{api}.execute-api.*" or "/_aws/execute-api/{api}".
func ExecuteAPI(host, path string) bool {
	return strings.Contains(host, ".execute-api.") || strings.HasPrefix(path, "/_aws/execute-api/")
}

func (t *Table) api(host, defaultAPI string) *api {
	if a := t.hosts[host]; a != nil { // most come as they were declared
		return a
	}
	var buf [maxHost]byte
	if name, ok := appendHostname(buf[:0], host); ok {
		if a := t.hosts[string(name)]; a != nil {
			return a
		}
		if a := t.apis[string(apiLabel(name))]; a != nil {
			return a
		}
	}
	if defaultAPI != "" {
		return t.apis[defaultAPI]
	}
	return t.only
}

// appendHostname appends host in lower case, without its port and the dot of a
// fully qualified name. It fails when dst is full: it never allocates.
func appendHostname(dst []byte, host string) ([]byte, bool) {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.IndexByte(host[i:], ']') < 0 {
		host = host[:i]
	}
	host = strings.TrimSuffix(host, ".")
	if len(host) > cap(dst) {
		return nil, false
	}
	for i := range len(host) {
		c := host[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst, true
}

// apiLabel returns the first label of "{api}.execute-api.*" or
// "{api}.localhost", else nil.
func apiLabel(host []byte) []byte {
	label, rest, _ := bytes.Cut(host, []byte("."))
	if bytes.Equal(rest, []byte("localhost")) || bytes.HasPrefix(rest, []byte("execute-api.")) {
		return label
	}
	return nil
}
