package discovery

import (
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// This file turns what agents hold into what is sent to them.

func encodeVersion(v store.Version) *discoveryv1.Version {
	return &discoveryv1.Version{Epoch: v.Epoch, Index: v.Index}
}

func decodeVersion(p *discoveryv1.Version) store.Version {
	return store.Version{Epoch: p.GetEpoch(), Index: p.GetIndex()}
}

// resourceDigest is a resource's part of a frame's digest.
func resourceDigest(r store.Resource) uint64 {
	return xxhash.Sum64String(fmt.Sprintf("%s@%d", r.Name(), r.Revision()))
}

func encodeResource(r store.Resource, open opener) (*discoveryv1.Resource, error) {
	p := &discoveryv1.Resource{Name: r.Name(), Revision: r.Revision()}
	switch {
	case r.API != nil:
		p.Body = &discoveryv1.Resource_Api{Api: &discoveryv1.Api{Hosts: r.API.Hosts}}
	case r.Deployment != nil:
		p.Body = &discoveryv1.Resource_Deployment{Deployment: encodeDeployment(r.Deployment)}
	case r.Stage != nil:
		stage := encodeStage(r.Stage)
		if err := open.stage(r.Stage, stage); err != nil {
			return nil, err
		}
		p.Body = &discoveryv1.Resource_Stage{Stage: stage}
	}
	return p, nil
}

func encodeDeployment(d *release.Deployment) *discoveryv1.Deployment {
	p := &discoveryv1.Deployment{
		DefaultTimeout:   durationpb.New(d.DefaultTimeout),
		BinaryMediaTypes: d.BinaryMediaTypes,
		Routes:           make([]*discoveryv1.Route, len(d.Routes)),
	}
	for i, r := range d.Routes {
		p.Routes[i] = encodeRoute(r)
	}
	return p
}

func encodeRoute(r *release.Route) *discoveryv1.Route {
	p := &discoveryv1.Route{Method: r.Method, Path: r.Path, Timeout: encodeDuration(r.Timeout)}
	switch i := r.Integration.(type) {
	case release.HTTP:
		p.Integration = &discoveryv1.Route_Http{Http: &discoveryv1.HttpIntegration{Uri: i.URI, Method: i.Method}}
	case release.Lambda:
		p.Integration = &discoveryv1.Route_Lambda{Lambda: &discoveryv1.LambdaIntegration{
			Function: i.Function, Qualifier: i.Qualifier,
		}}
	case release.Mock:
		p.Integration = &discoveryv1.Route_Mock{Mock: encodeMock(i)}
	}
	return p
}

// encodeMock sends a template taken apart, so that agents need not know its language.
func encodeMock(m release.Mock) *discoveryv1.MockIntegration {
	p := &discoveryv1.MockIntegration{Status: int32(m.Status), Headers: m.Headers, Body: m.Body}
	if !m.Template {
		return p
	}
	parts, err := release.ParseTemplate(m.Body)
	if err != nil {
		return p // no template that can be put is refused
	}
	p.Body = ""
	for _, part := range parts {
		switch {
		case part.Variable != "":
			p.Parts = append(p.Parts, &discoveryv1.MockPart{Part: &discoveryv1.MockPart_Variable{Variable: part.Variable}})
		case part.Context != "":
			p.Parts = append(p.Parts, &discoveryv1.MockPart{Part: &discoveryv1.MockPart_Context{Context: part.Context}})
		default:
			p.Parts = append(p.Parts, &discoveryv1.MockPart{Part: &discoveryv1.MockPart_Text{Text: part.Text}})
		}
	}
	return p
}

func encodeStage(s *release.Stage) *discoveryv1.Stage {
	p := &discoveryv1.Stage{
		Deployment:    s.Config.Deployment,
		Variables:     s.Config.Variables,
		AllowOverride: s.Split.AllowOverride,
		OverrideKey:   s.Split.OverrideKey,
		ExposeHeaders: s.ExposeHeaders,
		StickyKey:     encodeStickyKey(s.Split),
		Canary:        encodeCanary(s.Config.Canary),
		FailClosed:    s.FailClosed,
		Promoted:      s.Promoted,
		Throttle:      encodeThrottle(s.Throttle),

		ConsistentClients: s.Consistent,
	}
	encodePromotion(p, s)
	return p
}

// encodePromotion adds what an agent needs of an open promotion: what it leads to,
// held ready until it is committed, or what to route by until a common time.
func encodePromotion(p *discoveryv1.Stage, s *release.Stage) {
	open := s.Promotion
	switch {
	case open.Undecided():
		p.Promotion, p.Next = open.Number, encodeConfig(open.Config)
		for _, w := range open.Waves {
			p.Wave = append(p.Wave, &discoveryv1.AgentSelector{
				Agents: w.Agents, Labels: w.Labels, PartsPerMillion: w.PartsPerMillion,
			})
		}
	case open.Open() && !open.FlipTime.IsZero():
		p.Promotion, p.Former, p.FlipTime = open.Number, encodeConfig(open.Former), timestamppb.New(open.FlipTime)
	}
}

func encodeThrottle(t release.Throttle) *discoveryv1.Throttle {
	if t == (release.Throttle{}) {
		return nil
	}
	return &discoveryv1.Throttle{MillirequestsPerSecond: t.Millirate, Burst: t.Bucket(), Concurrency: t.Concurrency}
}

func encodeConfig(c release.Config) *discoveryv1.StageConfig {
	return &discoveryv1.StageConfig{Deployment: c.Deployment, Variables: c.Variables, Canary: encodeCanary(c.Canary)}
}

func encodeCanary(c *release.Canary) *discoveryv1.Canary {
	if c == nil {
		return nil
	}
	return &discoveryv1.Canary{
		Deployment:        c.Deployment,
		PartsPerMillion:   c.PartsPerMillion,
		VariableOverrides: c.Overrides,
		Salt:              c.Salt,
	}
}

func encodeStickyKey(s release.Split) *discoveryv1.StickyKey {
	switch s.Source {
	case release.KeyHeader:
		return &discoveryv1.StickyKey{Source: &discoveryv1.StickyKey_Header{Header: s.Name}}
	case release.KeyCookie:
		return &discoveryv1.StickyKey{Source: &discoveryv1.StickyKey_Cookie{Cookie: s.Name}}
	case release.KeyQuery:
		return &discoveryv1.StickyKey{Source: &discoveryv1.StickyKey_QueryParameter{QueryParameter: s.Name}}
	case release.KeyClientIP:
		return &discoveryv1.StickyKey{Source: &discoveryv1.StickyKey_ClientIp{ClientIp: true}}
	}
	return nil
}

func encodeDuration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}
