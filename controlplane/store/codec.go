package store

import (
	"maps"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// This file translates between release's values and what is on disk. Encode
// functions are exported for those who build commands.

// EncodeAPI returns what is kept of an API.
func EncodeAPI(a *release.API) *storev1.Api {
	return &storev1.Api{
		Id:               a.ID,
		Description:      a.Description,
		Hosts:            a.Hosts,
		DefaultTimeout:   encodeDuration(a.DefaultTimeout),
		BinaryMediaTypes: a.BinaryMediaTypes,
		CreateTime:       encodeTime(a.CreateTime),
		UpdateTime:       encodeTime(a.UpdateTime),
		Revision:         a.Revision,
		LastDeployment:   a.LastDeployment,
		RouteCount:       uint32(a.RouteCount),
		Annotations:      a.Annotations,
	}
}

func decodeAPI(p *storev1.Api) *release.API {
	return &release.API{
		ID:               p.GetId(),
		Description:      p.GetDescription(),
		Hosts:            p.GetHosts(),
		DefaultTimeout:   p.GetDefaultTimeout().AsDuration(),
		BinaryMediaTypes: p.GetBinaryMediaTypes(),
		CreateTime:       decodeTime(p.GetCreateTime()),
		UpdateTime:       decodeTime(p.GetUpdateTime()),
		Revision:         p.GetRevision(),
		LastDeployment:   p.GetLastDeployment(),
		RouteCount:       int(p.GetRouteCount()),
		Annotations:      p.GetAnnotations(),
	}
}

// EncodeRoute returns what is kept of a route.
func EncodeRoute(r *release.Route) *storev1.Route {
	p := &storev1.Route{
		Method:      r.Method,
		Path:        r.Path,
		Timeout:     encodeDuration(r.Timeout),
		Revision:    r.Revision,
		Annotations: r.Annotations,
	}
	switch i := r.Integration.(type) {
	case release.HTTP:
		p.Integration = &storev1.Route_Http{Http: &storev1.HttpIntegration{Uri: i.URI, Method: i.Method}}
	case release.Lambda:
		p.Integration = &storev1.Route_Lambda{Lambda: &storev1.LambdaIntegration{
			Function: i.Function, Qualifier: i.Qualifier,
		}}
	case release.Mock:
		p.Integration = &storev1.Route_Mock{Mock: &storev1.MockIntegration{
			Status: int32(i.Status), Headers: i.Headers, Body: i.Body, Template: i.Template,
		}}
	}
	return p
}

func decodeRoute(p *storev1.Route) *release.Route {
	r := &release.Route{
		Method:      p.GetMethod(),
		Path:        p.GetPath(),
		Timeout:     p.GetTimeout().AsDuration(),
		Revision:    p.GetRevision(),
		Annotations: p.GetAnnotations(),
	}
	switch i := p.GetIntegration().(type) {
	case *storev1.Route_Http:
		r.Integration = release.HTTP{URI: i.Http.GetUri(), Method: i.Http.GetMethod()}
	case *storev1.Route_Lambda:
		r.Integration = release.Lambda{Function: i.Lambda.GetFunction(), Qualifier: i.Lambda.GetQualifier()}
	case *storev1.Route_Mock:
		r.Integration = release.Mock{
			Status: int(i.Mock.GetStatus()), Headers: i.Mock.GetHeaders(), Body: i.Mock.GetBody(), Template: i.Mock.GetTemplate(),
		}
	}
	return r
}

// encodeDeployment leaves the routes out: a snapshot writes them in pieces.
func encodeDeployment(d *release.Deployment) *storev1.Deployment {
	return &storev1.Deployment{
		Api:              d.API,
		Number:           d.Number,
		Description:      d.Description,
		CreateTime:       encodeTime(d.CreateTime),
		Digest:           d.Digest[:],
		DefaultTimeout:   encodeDuration(d.DefaultTimeout),
		BinaryMediaTypes: d.BinaryMediaTypes,
		Revision:         d.Revision,
		RouteCount:       uint32(d.RouteCount),
	}
}

func decodeDeployment(p *storev1.Deployment) *release.Deployment {
	d := &release.Deployment{
		API:              p.GetApi(),
		Number:           p.GetNumber(),
		Description:      p.GetDescription(),
		CreateTime:       decodeTime(p.GetCreateTime()),
		DefaultTimeout:   p.GetDefaultTimeout().AsDuration(),
		BinaryMediaTypes: p.GetBinaryMediaTypes(),
		Revision:         p.GetRevision(),
		RouteCount:       int(p.GetRouteCount()),
	}
	copy(d.Digest[:], p.GetDigest())
	return d
}

// EncodeStageValues returns what is kept of the fields of a stage that callers
// set.
func EncodeStageValues(v release.StageValues) *storev1.StageFields {
	return &storev1.StageFields{
		Description:   v.Description,
		Deployment:    v.Deployment,
		Variables:     v.Variables,
		Split:         encodeSplit(v.Split),
		ExposeHeaders: v.ExposeHeaders,
		FailClosed:    v.FailClosed,
		Waves:         encodeWaves(v.Waves),
		Throttle:      encodeThrottle(v.Throttle),

		RequireOtherPromoter: v.OtherPromoter,

		ConsistentClients: v.Consistent,
		KeepOverrideKey:   v.KeepOverrideKey,
		Canary:            EncodeCanary(v.Canary),
		Annotations:       v.Annotations,
	}
}

func decodeStageValues(p *storev1.StageFields) release.StageValues {
	return release.StageValues{
		Description:   p.GetDescription(),
		Deployment:    p.GetDeployment(),
		Variables:     p.GetVariables(),
		Split:         decodeSplit(p.GetSplit()),
		ExposeHeaders: p.GetExposeHeaders(),
		FailClosed:    p.GetFailClosed(),
		Consistent:    p.GetConsistentClients(),
		Waves:         decodeWaves(p.GetWaves()),
		Throttle:      decodeThrottle(p.GetThrottle()),
		OtherPromoter: p.GetRequireOtherPromoter(),

		KeepOverrideKey: p.GetKeepOverrideKey(),
		Canary:          decodeCanary(p.GetCanary()),
		Annotations:     p.GetAnnotations(),
	}
}

// EncodeCanary returns what is kept of a canary.
func EncodeCanary(c *release.Canary) *storev1.Canary {
	if c == nil {
		return nil
	}
	return &storev1.Canary{
		Deployment:      c.Deployment,
		PartsPerMillion: c.PartsPerMillion,
		Overrides:       c.Overrides,
		Salt:            c.Salt,
		StartTime:       encodeTime(c.StartTime),
		Authors:         c.Authors,
	}
}

func decodeCanary(p *storev1.Canary) *release.Canary {
	if p == nil {
		return nil
	}
	return &release.Canary{
		Deployment:      p.GetDeployment(),
		PartsPerMillion: p.GetPartsPerMillion(),
		Overrides:       p.GetOverrides(),
		Salt:            p.GetSalt(),
		StartTime:       decodeTime(p.GetStartTime()),
		Authors:         p.GetAuthors(),
	}
}

func encodeSplit(s release.Split) *storev1.Split {
	return &storev1.Split{
		Source:        storev1.KeySource(s.Source),
		Name:          s.Name,
		AllowOverride: s.AllowOverride,
		OverrideKey:   s.OverrideKey,
	}
}

func decodeSplit(p *storev1.Split) release.Split {
	return release.Split{
		Source:        release.KeySource(p.GetSource()),
		Name:          p.GetName(),
		AllowOverride: p.GetAllowOverride(),
		OverrideKey:   p.GetOverrideKey(),
	}
}

func encodeThrottle(t release.Throttle) *storev1.Throttle {
	if t == (release.Throttle{}) {
		return nil
	}
	return &storev1.Throttle{MillirequestsPerSecond: t.Millirate, Burst: t.Burst, Concurrency: t.Concurrency}
}

func decodeThrottle(p *storev1.Throttle) release.Throttle {
	return release.Throttle{Millirate: p.GetMillirequestsPerSecond(), Burst: p.GetBurst(), Concurrency: p.GetConcurrency()}
}

func encodeConfig(c release.Config) *storev1.StageConfig {
	return &storev1.StageConfig{
		Deployment: c.Deployment,
		Variables:  c.Variables,
		Canary:     EncodeCanary(c.Canary),
	}
}

func decodeConfig(p *storev1.StageConfig) release.Config {
	return release.Config{
		Deployment: p.GetDeployment(),
		Variables:  p.GetVariables(),
		Canary:     decodeCanary(p.GetCanary()),
	}
}

func encodeStage(s *release.Stage) *storev1.Stage {
	p := &storev1.Stage{
		Api:           s.API,
		Id:            s.ID,
		Description:   s.Description,
		Config:        encodeConfig(s.Config),
		Split:         encodeSplit(s.Split),
		ExposeHeaders: s.ExposeHeaders,
		CreateTime:    encodeTime(s.CreateTime),
		UpdateTime:    encodeTime(s.UpdateTime),
		Revision:      s.Revision,
		Index:         s.Index,
		FailClosed:    s.FailClosed,
		Waves:         encodeWaves(s.Waves),
		Throttle:      encodeThrottle(s.Throttle),
		Promotion:     encodePromotion(s.Promotion),
		Promoted:      s.Promoted,

		RequireOtherPromoter: s.OtherPromoter,

		ConsistentClients: s.Consistent,
		Annotations:       s.Annotations,
	}
	for _, r := range s.History {
		p.History = append(p.History, &storev1.StageRevision{
			Number: r.Number,
			Time:   encodeTime(r.Change.Time),
			Actor:  r.Change.Actor,
			Method: r.Change.Method,
			Note:   r.Change.Note,
			Config: encodeConfig(r.Config),
		})
	}
	return p
}

func decodeStage(p *storev1.Stage) *release.Stage {
	s := &release.Stage{
		API:           p.GetApi(),
		ID:            p.GetId(),
		Description:   p.GetDescription(),
		Config:        decodeConfig(p.GetConfig()),
		Split:         decodeSplit(p.GetSplit()),
		ExposeHeaders: p.GetExposeHeaders(),
		CreateTime:    decodeTime(p.GetCreateTime()),
		UpdateTime:    decodeTime(p.GetUpdateTime()),
		Revision:      p.GetRevision(),
		Index:         p.GetIndex(),
		FailClosed:    p.GetFailClosed(),
		Consistent:    p.GetConsistentClients(),
		Waves:         decodeWaves(p.GetWaves()),
		Throttle:      decodeThrottle(p.GetThrottle()),
		Promotion:     decodePromotion(p.GetPromotion()),
		Promoted:      p.GetPromoted(),
		OtherPromoter: p.GetRequireOtherPromoter(),
		Annotations:   p.GetAnnotations(),
	}
	var previous release.Config
	for _, r := range p.GetHistory() {
		config := decodeConfig(r.GetConfig())
		if maps.Equal(config.Variables, previous.Variables) {
			config.Variables = previous.Variables // shared, as before the snapshot
		}
		previous = config
		s.History = append(s.History, &release.Revision{
			Number: r.GetNumber(),
			Change: release.Change{
				Time:   decodeTime(r.GetTime()),
				Actor:  r.GetActor(),
				Method: r.GetMethod(),
				Note:   r.GetNote(),
			},
			Config: config,
		})
	}
	return s
}

func encodeRefusal(r *release.Refusal) *storev1.Refusal {
	if r == nil {
		return nil
	}
	p := &storev1.Refusal{Kind: string(r.Reason), Message: r.Message, Metadata: r.Metadata}
	for _, v := range r.Violations {
		p.Violations = append(p.Violations, &storev1.FieldViolation{Field: v.Field, Description: v.Description})
	}
	return p
}

func decodeRefusal(p *storev1.Refusal) *release.Refusal {
	if p == nil {
		return nil
	}
	r := &release.Refusal{Reason: release.Reason(p.GetKind()), Message: p.GetMessage(), Metadata: p.GetMetadata()}
	for _, v := range p.GetViolations() {
		r.Violations = append(r.Violations, release.Violation{Field: v.GetField(), Description: v.GetDescription()})
	}
	return r
}

func encodeDuration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func encodeTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func decodeTime(p *timestamppb.Timestamp) time.Time {
	if p == nil {
		return time.Time{}
	}
	return p.AsTime()
}

func encodeNode(n Node) *storev1.Node {
	return &storev1.Node{Id: n.ID, GrpcAddress: n.GRPCAddress, Schema: n.Schema}
}

func decodeNode(p *storev1.Node) Node {
	return Node{ID: p.GetId(), GRPCAddress: p.GetGrpcAddress(), Schema: max(p.GetSchema(), 1)}
}

func encodeRemembered(r remembered) *storev1.Outcome {
	o := r.outcome
	p := &storev1.Outcome{
		RequestId:   r.id,
		Fingerprint: r.fingerprint,
		Index:       r.index,
		Time:        encodeTime(r.time),
		Refusal:     encodeRefusal(o.Refusal),
		Epoch:       o.Version.Epoch,
		Routing:     o.Version.Index,
	}
	if o.API != nil {
		p.Api = EncodeAPI(o.API)
	}
	if o.Route != nil {
		p.Route = EncodeRoute(o.Route)
	}
	if o.Deployment != nil {
		p.Deployment = encodeDeployment(o.Deployment)
	}
	if o.Stage != nil {
		p.Stage = encodeStage(o.Stage)
	}
	if i := o.Imported; i != nil {
		p.Imported = &storev1.Imported{
			Added: uint32(i.Added), Removed: uint32(i.Removed), Changed: uint32(i.Changed), Unchanged: uint32(i.Unchanged),
			RoutesAdded: i.Names.Added, RoutesRemoved: i.Names.Removed, RoutesChanged: i.Names.Changed,
		}
	}
	return p
}

func decodeRemembered(p *storev1.Outcome) remembered {
	r := remembered{
		id:          p.GetRequestId(),
		index:       p.GetIndex(),
		time:        decodeTime(p.GetTime()),
		fingerprint: p.GetFingerprint(),
		outcome: Outcome{
			Refusal: decodeRefusal(p.GetRefusal()),
			Version: Version{p.GetEpoch(), p.GetRouting()},
		},
	}
	if p.GetApi() != nil {
		r.outcome.API = decodeAPI(p.GetApi())
	}
	if p.GetRoute() != nil {
		r.outcome.Route = decodeRoute(p.GetRoute())
	}
	if p.GetDeployment() != nil {
		r.outcome.Deployment = decodeDeployment(p.GetDeployment())
	}
	if p.GetStage() != nil {
		r.outcome.Stage = decodeStage(p.GetStage())
	}
	if i := p.GetImported(); i != nil {
		r.outcome.Imported = &Imported{
			Added: int(i.GetAdded()), Removed: int(i.GetRemoved()), Changed: int(i.GetChanged()), Unchanged: int(i.GetUnchanged()),
			Names: release.RouteDiff{Added: i.GetRoutesAdded(), Removed: i.GetRoutesRemoved(), Changed: i.GetRoutesChanged()},
		}
	}
	return r
}
