package api

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fifegateway/fife/controlplane/release"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// This file turns what operators send into release's values and notes every
// field that is wrong, so that a caller learns of all of them at once.

func parseAPIFields(v *release.Violations, id string, p *fifev1.Api) *release.API {
	a := &release.API{
		ID:               id,
		Description:      p.GetDescription(),
		Hosts:            p.GetHosts(),
		DefaultTimeout:   parseDuration(v, "api.default_timeout", p.GetDefaultTimeout()),
		BinaryMediaTypes: p.GetBinaryMediaTypes(),
		Annotations:      p.GetAnnotations(),
	}
	release.CheckAPI(v, "api.", a)
	return a
}

func parseRoute(v *release.Violations, field string, p *fifev1.Route) *release.Route {
	r := &release.Route{
		Method:      p.GetMethod(),
		Path:        release.CleanPath(p.GetPath()),
		Timeout:     parseDuration(v, field+".timeout", p.GetTimeout()),
		Integration: parseIntegration(v, field+".integration", p.GetIntegration()),
		Annotations: p.GetAnnotations(),
	}
	release.CheckRoute(v, field+".", r)
	return r
}

func parseIntegration(v *release.Violations, field string, p *fifev1.Integration) release.Integration {
	switch k := p.GetKind().(type) {
	case *fifev1.Integration_Http:
		return release.HTTP{URI: k.Http.GetUri(), Method: k.Http.GetMethod()}
	case *fifev1.Integration_Lambda:
		return release.Lambda{Function: k.Lambda.GetFunction(), Qualifier: k.Lambda.GetQualifier()}
	case *fifev1.Integration_Mock:
		status := int(k.Mock.GetStatus())
		if status == 0 {
			status = 200
		}
		return release.Mock{Status: status, Headers: k.Mock.GetHeaders(), Body: k.Mock.GetBody(), Template: k.Mock.GetTemplate()}
	}
	if p != nil {
		v.Addf(field, "has no kind: set http, lambda or mock")
	}
	return nil
}

func parseStageValues(v *release.Violations, api string, p *fifev1.Stage) release.StageValues {
	values := release.StageValues{
		Description:   p.GetDescription(),
		Deployment:    parseDeploymentOf(v, "stage.deployment", p.GetDeployment(), api),
		Variables:     p.GetVariables(),
		Split:         parseSplit(v, p.GetSplit()),
		ExposeHeaders: p.GetExposeHeaders(),
		FailClosed:    p.GetStalePolicy() == fifev1.StalePolicy_STALE_POLICY_FAIL_CLOSED,
		Consistent:    p.GetConsistentClients(),
		Waves:         parseWaves(v, p.GetWaves()),
		Throttle:      parseThrottle(v, p.GetThrottle()),
		OtherPromoter: p.GetRequireOtherPromoter(),
		Annotations:   p.GetAnnotations(),
	}
	if p.GetCanary() != nil {
		canary := parseCanary(v, "stage.canary", api, p.GetCanary())
		canary.Salt = newSalt()
		values.Canary = &canary
	}
	if n := p.GetStalePolicy(); n < 0 || n > fifev1.StalePolicy_STALE_POLICY_FAIL_CLOSED {
		v.Addf("stage.stale_policy", "%v is unknown", n)
	}
	split := p.GetSplit()
	values.KeepOverrideKey = split.GetOverrideKeySet() && split.GetOverrideKey() == "" && split.GetAllowOverride()
	release.CheckDescription(v, "stage.description", values.Description)
	release.CheckVariables(v, "stage.variables", values.Variables)
	release.CheckSplit(v, "stage.split", values.Split)
	release.CheckAnnotations(v, "stage.annotations", values.Annotations, release.MaxAnnotationBytes)
	return values
}

func parseSplit(v *release.Violations, p *fifev1.SplitPolicy) release.Split {
	s := release.Split{AllowOverride: p.GetAllowOverride(), OverrideKey: p.GetOverrideKey()}
	switch k := p.GetStickyKey().GetSource().(type) {
	case *fifev1.StickyKey_Header:
		s.Source, s.Name = release.KeyHeader, k.Header
	case *fifev1.StickyKey_Cookie:
		s.Source, s.Name = release.KeyCookie, k.Cookie
	case *fifev1.StickyKey_QueryParameter:
		s.Source, s.Name = release.KeyQuery, k.QueryParameter
	case *fifev1.StickyKey_ClientIp:
		s.Source = release.KeyClientIP
		if !k.ClientIp {
			v.Addf("stage.split.sticky_key.client_ip", "must be true, or unset with the whole sticky_key")
		}
	default:
		if p.GetStickyKey() != nil {
			v.Addf("stage.split.sticky_key", "has no source: set header, cookie, query_parameter or client_ip")
		}
	}
	return s
}

func parseThrottle(v *release.Violations, p *fifev1.Throttle) release.Throttle {
	return release.NewThrottle(v, "stage.throttle", p.GetRateLimit(), p.GetBurstLimit(), p.GetConcurrencyLimit())
}

func parseCanary(v *release.Violations, field, api string, p *fifev1.Canary) release.Canary {
	c := release.Canary{
		Deployment:      parseDeploymentOf(v, field+".deployment", p.GetDeployment(), api),
		PartsPerMillion: release.PartsPerMillion(v, field+".percent", p.GetPercent()),
		Overrides:       p.GetVariableOverrides(),
	}
	release.CheckVariables(v, field+".variable_overrides", c.Overrides)
	return c
}

func parseDuration(v *release.Violations, field string, p *durationpb.Duration) time.Duration {
	if p == nil {
		return 0
	}
	if err := p.CheckValid(); err != nil {
		v.Addf(field, "is no duration: %v", err)
		return 0
	}
	d := p.AsDuration()
	if d == 0 {
		v.Addf(field, "0s must be unset for the default, or lie between %v and %v", release.MinTimeout, release.MaxTimeout)
	}
	return d
}
