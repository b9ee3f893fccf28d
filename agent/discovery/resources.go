package discovery

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/fifegateway/fife/agent/route"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// held is all that an agent holds at one version. It never changes.
type held struct {
	agent     agent
	cluster   string        // whose state it is; empty for nothing
	version   route.Version // zero: nothing is held
	seen      route.Version // the highest ever applied; at least version
	resources map[string]resource
	digest    uint64
	table     *route.Table
}

// agent is whose state it is, for promotions that reach some agents first.
type agent struct {
	id     string
	labels map[string]string
}

// nothing is what a new agent holds.
func nothing() *held { return &held{table: new(route.Table)} }

// resource is one decoded resource. One of the pointers is set.
type resource struct {
	// pb is as received, for the disk; that of a deployment has lost its body,
	// which is large and has a file of its own.
	pb         *discoveryv1.Resource
	api        *route.APISpec
	deployment *route.Deployment
	stage      *discoveryv1.Stage
}

// decode checks that the body is of the kind that the name says and turns it into
// what route takes. A deployment is compiled, with all the checks that implies.
func decode(pb *discoveryv1.Resource) (resource, error) {
	name := pb.GetName()
	part := strings.Split(name, "/")
	switch body := pb.GetBody().(type) {
	case *discoveryv1.Resource_Api:
		if len(part) == 2 && part[0] == "apis" {
			return resource{pb: pb, api: &route.APISpec{ID: part[1], Hosts: body.Api.GetHosts()}}, nil
		}
	case *discoveryv1.Resource_Stage:
		if len(part) == 4 && part[0] == "apis" && part[2] == "stages" {
			if err := checkPromotion(body.Stage); err != nil {
				return resource{}, fmt.Errorf("resource %q: %w", name, err)
			}
			return resource{pb: pb, stage: body.Stage}, nil
		}
	case *discoveryv1.Resource_Deployment:
		if len(part) == 4 && part[0] == "apis" && part[2] == "deployments" {
			number, err := strconv.ParseUint(part[3], 10, 64)
			if err != nil || strconv.FormatUint(number, 10) != part[3] {
				return resource{}, fmt.Errorf("resource %q: a deployment has a number", name)
			}
			d, err := route.CompileDeployment(deploymentSpec(part[1], number, body.Deployment))
			if err != nil {
				return resource{}, err
			}
			return resource{pb: &discoveryv1.Resource{Name: name, Revision: pb.GetRevision()}, deployment: d}, nil
		}
	case nil:
		return resource{}, fmt.Errorf("resource %q: has no body, or one of a kind that this build does not know", name)
	}
	return resource{}, fmt.Errorf("resource %q: the name does not fit a body of type %T", name, pb.GetBody())
}

func deploymentSpec(api string, number uint64, d *discoveryv1.Deployment) route.DeploymentSpec {
	spec := route.DeploymentSpec{
		API:              api,
		Number:           number,
		DefaultTimeout:   d.GetDefaultTimeout().AsDuration(),
		BinaryMediaTypes: d.GetBinaryMediaTypes(),
		Routes:           make([]route.RouteSpec, len(d.GetRoutes())),
	}
	for i, r := range d.GetRoutes() {
		spec.Routes[i] = route.RouteSpec{
			Method:      r.GetMethod(),
			Path:        r.GetPath(),
			Timeout:     r.GetTimeout().AsDuration(),
			Integration: integrationSpec(r),
		}
	}
	return spec
}

// integrationSpec returns nil for a route without an integration that this build
// knows; compiling it then fails.
func integrationSpec(r *discoveryv1.Route) route.IntegrationSpec {
	switch i := r.GetIntegration().(type) {
	case *discoveryv1.Route_Http:
		return route.HTTPSpec{URI: i.Http.GetUri(), Method: i.Http.GetMethod()}
	case *discoveryv1.Route_Lambda:
		return route.LambdaSpec{Function: i.Lambda.GetFunction(), Qualifier: i.Lambda.GetQualifier()}
	case *discoveryv1.Route_Mock:
		spec := route.MockSpec{Status: int(i.Mock.GetStatus()), Headers: i.Mock.GetHeaders(), Body: i.Mock.GetBody()}
		for _, p := range i.Mock.GetParts() {
			spec.Parts = append(spec.Parts, route.MockPart{Text: p.GetText(), Variable: p.GetVariable(), Context: p.GetContext()})
		}
		return spec
	}
	return nil
}

// stageSpec returns what a stage is for one agent: of its configurations, the one
// that the agent routes by and the one that it holds ready.
func (a *agent) stageSpec(name string, s *discoveryv1.Stage) route.StageSpec {
	part := strings.Split(name, "/")
	spec := route.StageSpec{
		API:               part[1],
		ID:                part[3],
		AllowOverride:     s.GetAllowOverride(),
		OverrideKey:       s.GetOverrideKey(),
		ExposeHeaders:     s.GetExposeHeaders(),
		FailClosed:        s.GetFailClosed(),
		ConsistentClients: s.GetConsistentClients(),
		Promoted:          s.GetPromoted(),
		Promotion:         s.GetPromotion(),
		Throttle: route.ThrottleSpec{
			Millirate:   s.GetThrottle().GetMillirequestsPerSecond(),
			Burst:       s.GetThrottle().GetBurst(),
			Concurrency: s.GetThrottle().GetConcurrency(),
		},
	}
	own := configSpec(s)
	var next *route.ConfigSpec
	switch {
	case s.GetFormer() != nil:
		// Which promotion led to the former configuration is not known any more.
		next, own = own, configSpec(s.GetFormer())
		spec.Promotion, spec.Promoted = s.GetPromoted(), 0
	case s.GetNext() != nil && a.in(s.GetWave()):
		// The own one may come back, but not by what a request says.
		next, own = own, configSpec(s.GetNext())
		spec.Promotion, spec.Promoted = 0, s.GetPromotion()
	case s.GetNext() != nil:
		next = configSpec(s.GetNext())
	}
	spec.Deployment, spec.Variables, spec.Secrets, spec.Canary, spec.Next = own.Deployment, own.Variables, own.Secrets, own.Canary, next
	switch k := s.GetStickyKey().GetSource().(type) {
	case *discoveryv1.StickyKey_Header:
		spec.Sticky, spec.StickyName = route.KeyHeader, k.Header
	case *discoveryv1.StickyKey_Cookie:
		spec.Sticky, spec.StickyName = route.KeyCookie, k.Cookie
	case *discoveryv1.StickyKey_QueryParameter:
		spec.Sticky, spec.StickyName = route.KeyQuery, k.QueryParameter
	case *discoveryv1.StickyKey_ClientIp:
		spec.Sticky = route.KeyClientIP
	}
	return spec
}

// config is a discoveryv1.Stage or a discoveryv1.StageConfig.
type config interface {
	GetDeployment() uint64
	GetVariables() map[string]string
	GetSecretVariables() []string
	GetCanary() *discoveryv1.Canary
}

func configSpec(c config) *route.ConfigSpec {
	spec := &route.ConfigSpec{Deployment: c.GetDeployment(), Variables: c.GetVariables(), Secrets: c.GetSecretVariables()}
	if c := c.GetCanary(); c != nil {
		spec.Canary = &route.CanarySpec{
			Deployment:      c.GetDeployment(),
			PartsPerMillion: c.GetPartsPerMillion(),
			Overrides:       c.GetVariableOverrides(),
			Secrets:         c.GetSecretOverrides(),
			Salt:            c.GetSalt(),
		}
	}
	return spec
}

// compile builds the table of what is held, in name order, so that of two
// errors the same one is always reported.
func (h *held) compile() (*route.Table, error) {
	spec := route.Spec{Version: h.version}
	for _, name := range slices.Sorted(maps.Keys(h.resources)) {
		switch r := h.resources[name]; {
		case r.api != nil:
			spec.APIs = append(spec.APIs, *r.api)
		case r.deployment != nil:
			spec.Deployments = append(spec.Deployments, r.deployment)
		case r.stage != nil:
			spec.Stages = append(spec.Stages, h.agent.stageSpec(name, r.stage))
		}
	}
	return route.Compile(spec)
}

// digest is what one resource adds to the sum that both ends compare.
func digest(pb *discoveryv1.Resource) uint64 {
	return xxhash.Sum64String(pb.GetName() + "@" + strconv.FormatUint(pb.GetRevision(), 10))
}

func fromProto(v *discoveryv1.Version) route.Version {
	return route.Version{Epoch: v.GetEpoch(), Index: v.GetIndex()}
}

// toProto returns nil, which means none, for the zero version.
func toProto(v route.Version) *discoveryv1.Version {
	if v.IsZero() {
		return nil
	}
	return &discoveryv1.Version{Epoch: v.Epoch, Index: v.Index}
}
