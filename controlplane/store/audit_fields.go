package store

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// subject is what a command is about: its name, and how its fields read in a state.
// The fields of what does not exist are none.
type subject struct {
	name   string
	fields func(*State) map[string]string
}

// subjectOf returns what a command is about. Of a command that it does not know it
// says which kind of command it is.
func subjectOf(cmd *storev1.Command, outcome Outcome) subject {
	switch op := cmd.GetOp().(type) {
	case *storev1.Command_InitCluster, *storev1.Command_ConfigureAudit:
		return subject{"cluster", clusterFields}
	case *storev1.Command_PutNode:
		return nodeSubject(op.PutNode.GetNode().GetId())
	case *storev1.Command_DeleteNode:
		return nodeSubject(op.DeleteNode.GetId())
	case *storev1.Command_CreateApi:
		return apiSubject(op.CreateApi.GetApi().GetId())
	case *storev1.Command_UpdateApi:
		return apiSubject(op.UpdateApi.GetApi().GetId())
	case *storev1.Command_DeleteApi:
		return apiSubject(op.DeleteApi.GetApi())
	case *storev1.Command_PutRoute:
		return routeSubject(op.PutRoute.GetApi(), op.PutRoute.GetRoute().GetMethod(), op.PutRoute.GetRoute().GetPath())
	case *storev1.Command_DeleteRoute:
		return routeSubject(op.DeleteRoute.GetApi(), op.DeleteRoute.GetMethod(), op.DeleteRoute.GetPath())
	case *storev1.Command_CreateDeployment:
		return createdDeploymentSubject(op.CreateDeployment, outcome)
	case *storev1.Command_DeleteDeployment:
		return deploymentSubject(op.DeleteDeployment.GetApi(), op.DeleteDeployment.GetNumber())
	case *storev1.Command_PutJoinToken:
		return tokenSubject(op.PutJoinToken.GetToken().GetId())
	case *storev1.Command_DeleteJoinToken:
		return tokenSubject(op.DeleteJoinToken.GetId())
	case *storev1.Command_UseJoinToken:
		return enrolmentSubject(op.UseJoinToken.GetClass() + "/" + op.UseJoinToken.GetName())
	case *storev1.Command_RevokeIdentity:
		return enrolmentSubject(op.RevokeIdentity.GetName())
	case *storev1.Command_CreateBinding:
		return bindingSubject(op.CreateBinding.GetBinding())
	case *storev1.Command_DeleteBinding:
		return bindingSubject(op.DeleteBinding.GetBinding())
	case *storev1.Command_CreateUserToken:
		return userTokenSubject(op.CreateUserToken.GetToken().GetId())
	case *storev1.Command_DeleteUserToken:
		return userTokenSubject(op.DeleteUserToken.GetId())
	case *storev1.Command_RecordCertificate:
		return certificateSubject(op.RecordCertificate.GetCertificate().GetId())
	case *storev1.Command_PutTrust, *storev1.Command_StartRotation, *storev1.Command_MoveRotation,
		*storev1.Command_StartKeyRotation, *storev1.Command_ResealAuthorities:
		return subject{"authority", authorityFields}
	case *storev1.Command_CreateAccessKey:
		return accessKeySubject(op.CreateAccessKey.GetKey().GetId())
	case *storev1.Command_DeleteAccessKey:
		return accessKeySubject(op.DeleteAccessKey.GetId())
	case *storev1.Command_ResealAccessKeys:
		return subject{"accessKeys", func(*State) map[string]string { return nil }}
	}
	if ref, ok := stageOf(cmd); ok {
		return stageSubject(ref.GetApi(), ref.GetStage())
	}
	m := cmd.ProtoReflect()
	kind := ""
	if f := m.WhichOneof(m.Descriptor().Oneofs().ByName("op")); f != nil {
		kind = string(f.Name())
	}
	return subject{kind, func(*State) map[string]string { return nil }}
}

// stageOf returns the stage that a command names, if it is one on a stage.
func stageOf(cmd *storev1.Command) (ref interface {
	GetApi() string
	GetStage() string
}, ok bool,
) {
	m := cmd.ProtoReflect()
	f := m.WhichOneof(m.Descriptor().Oneofs().ByName("op"))
	if f == nil {
		return nil, false
	}
	ref, ok = m.Get(f).Message().Interface().(interface {
		GetApi() string
		GetStage() string
	})
	return ref, ok
}

func nodeSubject(id string) subject {
	return subject{"members/" + id, func(s *State) map[string]string {
		n, ok := s.Node(id)
		if !ok {
			return nil
		}
		return map[string]string{"grpc_address": n.GRPCAddress, "schema": fmt.Sprint(n.Schema)}
	}}
}

func tokenSubject(id string) subject {
	return subject{tokenName(id), func(s *State) map[string]string {
		t, ok := s.JoinToken(id)
		if !ok {
			return nil
		}
		f := map[string]string{"class": t.GetClass(), "uses": fmt.Sprint(t.GetUses())}
		set(f, "pattern", t.GetPattern())
		set(f, "apis", strings.Join(t.GetApis(), " "))
		return f
	}}
}

func accessKeySubject(id string) subject {
	return subject{AccessKeyName(id), func(s *State) map[string]string {
		k, ok := s.AccessKey(id)
		if !ok {
			return nil
		}
		return map[string]string{"user": k.User, "expire_time": k.ExpireTime.UTC().Format(time.RFC3339)}
	}}
}

func enrolmentSubject(name string) subject {
	return subject{name, func(s *State) map[string]string {
		e, ok := s.Enrolment(name)
		if !ok {
			return nil
		}
		f := map[string]string{"exists": "true"}
		set(f, "apis", strings.Join(e.GetApis(), " "))
		for field, at := range map[string]time.Time{
			"join_time": decodeTime(e.GetJoinTime()), "revoke_time": decodeTime(e.GetRevokeTime()),
		} {
			if !at.IsZero() {
				f[field] = at.UTC().Format(time.RFC3339)
			}
		}
		return f
	}}
}

// bindingSubject names a binding by all of it: it has no other name.
func bindingSubject(p *storev1.Binding) subject {
	b := decodeBinding(p)
	return subject{"bindings/" + string(b.Subject), func(s *State) map[string]string {
		if _, ok := s.bindings.Get(bindingKey(b)); !ok {
			return nil
		}
		return map[string]string{"role": string(b.Role), "api": b.API, "stage": b.Stage}
	}}
}

func userTokenSubject(id string) subject {
	return subject{UserTokenName(id), func(s *State) map[string]string {
		t, ok := s.UserToken(id)
		if !ok {
			return nil
		}
		return map[string]string{"user": t.User, "expire_time": t.ExpireTime.UTC().Format(time.RFC3339)}
	}}
}

func certificateSubject(id string) subject {
	return subject{UserCertificateName(id), func(s *State) map[string]string {
		c, ok := s.UserCertificate(id)
		if !ok {
			return nil
		}
		return map[string]string{"user": c.GetUser(), "expire_time": decodeTime(c.GetExpireTime()).UTC().Format(time.RFC3339)}
	}}
}

// authorityFields are those of whom the cluster trusts, by fingerprints.
func authorityFields(s *State) map[string]string {
	if s.trust == nil {
		return nil
	}
	f := map[string]string{"cluster": s.trust.GetCluster()}
	for i, root := range s.trust.GetRoots() {
		f[fmt.Sprintf("roots.%d", i+1)] = fmt.Sprintf("%x", sha256.Sum256(root))
	}
	for _, issuer := range s.trust.GetIssuers() {
		f["issuers."+issuer.GetClass()] = fmt.Sprintf("%x", sha256.Sum256(issuer.GetCertificate()))
	}
	if r := s.trust.GetRotation(); r != nil {
		f["rotation"] = PhaseName(r.GetPhase())
	}
	set(f, "key", s.trust.GetKey())
	set(f, "next_key", s.trust.GetNextKey())
	return f
}

func clusterFields(s *State) map[string]string {
	f := map[string]string{}
	set(f, "cluster_id", s.clusterID)
	if s.auditLimits != (AuditLimits{}) {
		f["audit.retention"], f["audit.max_bytes"] = s.auditLimits.Retention.String(), fmt.Sprint(s.auditLimits.MaxBytes)
	}
	return f
}

func apiSubject(id string) subject {
	return subject{release.APIName(id), func(s *State) map[string]string {
		a, ok := s.API(id)
		if !ok {
			return nil
		}
		f := map[string]string{"exists": "true"}
		set(f, "description", a.Description)
		set(f, "hosts", strings.Join(a.Hosts, " "))
		set(f, "binary_media_types", strings.Join(a.BinaryMediaTypes, " "))
		if a.DefaultTimeout != 0 {
			f["default_timeout"] = a.DefaultTimeout.String()
		}
		return f
	}}
}

func routeSubject(api, method, path string) subject {
	return subject{release.APIName(api) + "/routes/" + method + " " + path, func(s *State) map[string]string {
		r, ok := s.Route(api, method, path)
		if !ok {
			return nil
		}
		f := map[string]string{"exists": "true"}
		if r.Timeout != 0 {
			f["timeout"] = r.Timeout.String()
		}
		switch i := r.Integration.(type) {
		case release.HTTP:
			f["http.uri"] = i.URI
			set(f, "http.method", i.Method)
		case release.Lambda:
			f["lambda.function"] = i.Function
			set(f, "lambda.qualifier", i.Qualifier)
		case release.Mock:
			f["mock.status"] = fmt.Sprint(i.Status)
			set(f, "mock.body", i.Body)
			if i.Template {
				f["mock.template"] = "true"
			}
			pairs(f, "mock.headers.", i.Headers)
		}
		return f
	}}
}

func deploymentSubject(api string, number uint64) subject {
	return subject{release.DeploymentName(api, number), func(s *State) map[string]string {
		d, ok := s.Deployment(api, number)
		if !ok {
			return nil
		}
		f := map[string]string{"digest": fmt.Sprintf("%x", d.Digest), "routes": fmt.Sprint(d.RouteCount)}
		set(f, "description", d.Description)
		return f
	}}
}

// createdDeploymentSubject is a deployment with the stage that it is put on.
func createdDeploymentSubject(op *storev1.CreateDeployment, outcome Outcome) subject {
	if outcome.Deployment == nil {
		if op.GetStage() != "" {
			return stageSubject(op.GetApi(), op.GetStage())
		}
		return apiSubject(op.GetApi())
	}
	made := deploymentSubject(op.GetApi(), outcome.Deployment.Number)
	if op.GetStage() == "" {
		return made
	}
	stage := stageSubject(op.GetApi(), op.GetStage())
	return subject{made.name, func(s *State) map[string]string {
		f := map[string]string{}
		maps.Copy(f, made.fields(s))
		pairs(f, "stages/"+op.GetStage()+".", stage.fields(s))
		return f
	}}
}

func stageSubject(api, id string) subject {
	return subject{release.StageName(api, id), func(s *State) map[string]string {
		stage, ok := s.Stage(api, id)
		if !ok {
			return nil
		}
		f := map[string]string{}
		set(f, "description", stage.Description)
		configFields(f, "", stage.Config)
		splitFields(f, stage.Split)
		for name, on := range map[string]bool{
			"expose_headers": stage.ExposeHeaders, "fail_closed": stage.FailClosed, "consistent_clients": stage.Consistent,
			"require_other_promoter": stage.OtherPromoter,
		} {
			if on {
				f[name] = "true"
			}
		}
		for i, w := range stage.Waves {
			f[fmt.Sprintf("waves.%d", i+1)] = fmt.Sprintf("%s %v %d %v", w.OnePerLabel, w.Labels, w.PartsPerMillion, w.Dwell)
		}
		if stage.Throttle != (release.Throttle{}) {
			f["throttle"] = stage.Throttle.String()
		}
		promotionFields(f, stage.Promotion)
		return f
	}}
}

func configFields(f map[string]string, prefix string, c release.Config) {
	f[prefix+"deployment"] = fmt.Sprint(c.Deployment)
	pairs(f, prefix+"variables.", c.Variables)
	if k := c.Canary; k != nil {
		f[prefix+"canary.deployment"] = fmt.Sprint(k.Deployment)
		f[prefix+"canary.percent"] = fmt.Sprint(release.Percent(k.PartsPerMillion))
		f[prefix+"canary.salt"] = fmt.Sprint(k.Salt)
		set(f, prefix+"canary.authors", strings.Join(k.Authors, " "))
		pairs(f, prefix+"canary.variable_overrides.", k.Overrides)
	}
}

func splitFields(f map[string]string, p release.Split) {
	if p.Source != release.KeyNone {
		f["split.source"] = [...]string{"", "header", "cookie", "query", "client IP"}[p.Source]
	}
	set(f, "split.name", p.Name)
	if p.AllowOverride {
		f["split.allow_override"] = "true"
	}
	if p.OverrideKey != "" {
		f["split.override_key"] = secretTag(p.OverrideKey)
	}
}

func promotionFields(f map[string]string, p *release.Promotion) {
	if p == nil {
		return
	}
	f["promotion"] = fmt.Sprint(p.Number)
	f["promotion.state"] = p.State.String()
	set(f, "promotion.reason", p.Reason)
	if n := len(p.Waves); n > 0 {
		f["promotion.waves"] = fmt.Sprint(n)
	}
	if p.Fenced != 0 {
		f["promotion.fenced"] = fmt.Sprint(p.Fenced)
	}
	if !p.FlipTime.IsZero() {
		f["promotion.flip_time"] = p.FlipTime.UTC().String()
	}
}

func set(f map[string]string, name, value string) {
	if value != "" {
		f[name] = value
	}
}

func pairs(f map[string]string, prefix string, m map[string]string) {
	for k, v := range m {
		if _, ok := release.SealedBytes(v); ok {
			v = secretTag(v)
		}
		f[prefix+k] = v
	}
}

// maxAuditFields is how many bytes of fields an entry holds of each side, and
// maxAuditField how many of one.
const (
	maxAuditFields = 4 << 10
	maxAuditField  = 256
)

// differences returns the fields that differ, each as it was and as it is, up to a
// bound; what is beyond it is counted in the field "...".
func differences(was, is map[string]string) (before, after map[string]string) {
	before, after = map[string]string{}, map[string]string{}
	names := map[string]bool{}
	for name := range was {
		names[name] = true
	}
	for name := range is {
		names[name] = true
	}
	size, left := 0, 0
	for _, name := range slices.Sorted(maps.Keys(names)) {
		w, had := was[name]
		i, has := is[name]
		if had == has && w == i {
			continue
		}
		short := cut(name, maxAuditField)
		w, i = cut(w, maxAuditField), cut(i, maxAuditField)
		if size += len(short) + max(len(w), len(i)); size > maxAuditFields {
			left++
			continue
		}
		if had {
			before[short] = w
		}
		if has {
			after[short] = i
		}
	}
	if left > 0 {
		after["..."] = fmt.Sprintf("%d more fields have changed", left)
	}
	return before, after
}

// secretTag stands for a secret in the audit. What is sealed is another text each time,
// and so the tag shows that a value was set, and says nothing of it. One that is not
// sealed has no tag, as values could be tried against that.
func secretTag(text string) string {
	sealed, ok := release.SealedBytes(text)
	if !ok {
		return "(secret)"
	}
	sum := sha256.Sum256(sealed)
	return fmt.Sprintf("(secret %x)", sum[:4])
}
