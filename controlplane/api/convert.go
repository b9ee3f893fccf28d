package api

import (
	"encoding/hex"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// This file turns release's values into what operators see. The way back, which
// may find fault, is in parse.go.

func fromVersion(v *fifev1.Version) store.Version {
	return store.Version{Epoch: v.GetEpoch(), Index: v.GetIndex()}
}

func toVersion(v store.Version) *fifev1.Version {
	if v == (store.Version{}) {
		return nil
	}
	return &fifev1.Version{Epoch: v.Epoch, Index: v.Index}
}

func toTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func toDuration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func toAPI(a *release.API) *fifev1.Api {
	return &fifev1.Api{
		Name:             a.Name(),
		Description:      a.Description,
		Hosts:            a.Hosts,
		DefaultTimeout:   toDuration(a.DefaultTimeout),
		BinaryMediaTypes: a.BinaryMediaTypes,
		CreateTime:       toTime(a.CreateTime),
		UpdateTime:       toTime(a.UpdateTime),
		Etag:             release.Etag(a.Revision),
		RouteCount:       int32(a.RouteCount),
		Annotations:      a.Annotations,
	}
}

func toRoute(r *release.Route) *fifev1.Route {
	p := &fifev1.Route{
		Method:      r.Method,
		Path:        r.Path,
		Integration: toIntegration(r.Integration),
		Timeout:     toDuration(r.Timeout),
		Annotations: r.Annotations,
	}
	if r.Revision != 0 {
		p.Etag = release.Etag(r.Revision)
	}
	return p
}

func toIntegration(i release.Integration) *fifev1.Integration {
	switch i := i.(type) {
	case release.HTTP:
		return &fifev1.Integration{Kind: &fifev1.Integration_Http{
			Http: &fifev1.HttpIntegration{Uri: i.URI, Method: i.Method},
		}}
	case release.Lambda:
		return &fifev1.Integration{Kind: &fifev1.Integration_Lambda{
			Lambda: &fifev1.LambdaIntegration{Function: i.Function, Qualifier: i.Qualifier},
		}}
	case release.Mock:
		return &fifev1.Integration{Kind: &fifev1.Integration_Mock{
			Mock: &fifev1.MockIntegration{Status: int32(i.Status), Headers: i.Headers, Body: i.Body, Template: i.Template},
		}}
	}
	return nil
}

func toDeployment(d *release.Deployment) *fifev1.Deployment {
	return &fifev1.Deployment{
		Name:             d.Name(),
		Description:      d.Description,
		CreateTime:       toTime(d.CreateTime),
		Digest:           hex.EncodeToString(d.Digest[:]),
		RouteCount:       int32(d.RouteCount),
		DefaultTimeout:   toDuration(d.DefaultTimeout),
		BinaryMediaTypes: d.BinaryMediaTypes,
		Etag:             release.Etag(d.Revision),
	}
}

func toStage(s *release.Stage) *fifev1.Stage {
	return &fifev1.Stage{
		Name:          s.Name(),
		Description:   s.Description,
		Deployment:    release.DeploymentName(s.API, s.Config.Deployment),
		Variables:     release.PlainVariables(s.Config.Variables),
		Canary:        toCanary(s.API, s.Config.Canary),
		Split:         toSplit(s.Split),
		ExposeHeaders: s.ExposeHeaders,
		Revision:      s.Revision,
		Etag:          release.Etag(s.Index),
		CreateTime:    toTime(s.CreateTime),
		UpdateTime:    toTime(s.UpdateTime),
		StalePolicy:   toStalePolicy(s.FailClosed),
		Waves:         toWaves(s.Waves),
		Throttle:      toThrottle(s.Throttle),
		Promotion:     toPromotion(s.API, s.Promotion),

		RequireOtherPromoter: s.OtherPromoter,

		ConsistentClients: s.Consistent,
		Annotations:       s.Annotations,
		SecretVariables:   hidden(s.Config.Variables),
	}
}

func toStalePolicy(failClosed bool) fifev1.StalePolicy {
	if failClosed {
		return fifev1.StalePolicy_STALE_POLICY_FAIL_CLOSED
	}
	return fifev1.StalePolicy_STALE_POLICY_SERVE_STALE
}

func toCanary(api string, c *release.Canary) *fifev1.Canary {
	if c == nil {
		return nil
	}
	return &fifev1.Canary{
		Deployment:        release.DeploymentName(api, c.Deployment),
		Percent:           release.Percent(c.PartsPerMillion),
		VariableOverrides: release.PlainVariables(c.Overrides),
		SecretOverrides:   hidden(c.Overrides),
		Salt:              c.Salt,
		StartTime:         toTime(c.StartTime),
		Authors:           c.Authors,
	}
}

// toSplit never shows the override key.
func toSplit(s release.Split) *fifev1.SplitPolicy {
	if s == (release.Split{}) {
		return nil
	}
	p := &fifev1.SplitPolicy{AllowOverride: s.AllowOverride, OverrideKeySet: s.OverrideKey != ""}
	switch s.Source {
	case release.KeyHeader:
		p.StickyKey = &fifev1.StickyKey{Source: &fifev1.StickyKey_Header{Header: s.Name}}
	case release.KeyCookie:
		p.StickyKey = &fifev1.StickyKey{Source: &fifev1.StickyKey_Cookie{Cookie: s.Name}}
	case release.KeyQuery:
		p.StickyKey = &fifev1.StickyKey{Source: &fifev1.StickyKey_QueryParameter{QueryParameter: s.Name}}
	case release.KeyClientIP:
		p.StickyKey = &fifev1.StickyKey{Source: &fifev1.StickyKey_ClientIp{ClientIp: true}}
	}
	return p
}

func toThrottle(t release.Throttle) *fifev1.Throttle {
	if t == (release.Throttle{}) {
		return nil
	}
	return &fifev1.Throttle{
		RateLimit: t.Rate(), BurstLimit: int32(t.Burst), ConcurrencyLimit: int32(t.Concurrency),
	}
}

func toConfig(api string, c release.Config) *fifev1.StageConfig {
	return &fifev1.StageConfig{
		Deployment:      release.DeploymentName(api, c.Deployment),
		Variables:       release.PlainVariables(c.Variables),
		SecretVariables: release.Secrets(c.Variables),
		Canary:          toCanary(api, c.Canary),
	}
}
