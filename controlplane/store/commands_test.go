package store

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// args reads the arguments of a line of testdata. An argument that nobody has
// read by the end is a mistake in the line.
type args struct {
	t    testing.TB
	line *datadriven.TestData
	read map[string]bool
}

func readArgs(t testing.TB, line *datadriven.TestData) args {
	return args{t, line, map[string]bool{}}
}

func (a args) list(key string) []string {
	a.read[key] = true
	arg, _ := a.line.Arg(key)
	return arg.Vals
}

func (a args) has(key string) bool {
	a.read[key] = true
	return a.line.HasArg(key)
}

func (a args) text(key string) string { return strings.Join(a.list(key), ",") }

func (a args) number(key string) uint64 {
	text := a.text(key)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		a.line.Fatalf(a.t, "%s: %v", key, err)
	}
	return n
}

func (a args) duration(key string) time.Duration {
	text := a.text(key)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		a.line.Fatalf(a.t, "%s: %v", key, err)
	}
	return d
}

// pairs reads `key=(a=1, b=2)`.
func (a args) pairs(key string) map[string]string {
	var m map[string]string
	for _, p := range a.list(key) {
		name, value, ok := strings.Cut(p, "=")
		if !ok {
			a.line.Fatalf(a.t, "%s: %q is no pair", key, p)
		}
		if m == nil {
			m = map[string]string{}
		}
		m[name] = value
	}
	return m
}

func (a args) done() {
	for _, arg := range a.line.CmdArgs {
		if !a.read[arg.Key] {
			a.line.Fatalf(a.t, "%s takes no %s", a.line.Cmd, arg.Key)
		}
	}
}

// command builds the command that a line names, or returns nil if it names none.
func (a args) command() *storev1.Command {
	build, ok := builders[a.line.Cmd]
	if !ok {
		return nil
	}
	cmd := &storev1.Command{Actor: "op", Method: a.line.Cmd, RequestId: a.text("request")}
	if cmd.RequestId != "" {
		cmd.Fingerprint = []byte(a.line.Cmd + a.text("contents"))
	}
	if a.has("as") {
		need := a.list("need") // permission, API, stage
		cmd.Actor = a.text("as")
		cmd.Authorization = &storev1.Authorization{
			Groups: a.list("groups"), Token: a.text("token"), Permission: need[0], Api: need[1], Stage: need[2],
		}
	}
	build(a, cmd)
	a.done()
	return cmd
}

var builders = map[string]func(args, *storev1.Command){
	"init-cluster": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_InitCluster{InitCluster: &storev1.InitCluster{ClusterId: a.text("id"), Epoch: a.number("epoch")}}
		if a.has("founder") {
			c.GetInitCluster().Bindings = []*storev1.Binding{EncodeBinding(founder)}
		}
	},
	"configure-audit": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_ConfigureAudit{ConfigureAudit: &storev1.ConfigureAudit{
			Limits: encodeAuditLimits(AuditLimits{Retention: a.duration("retention"), MaxBytes: a.number("bytes")}),
		}}
	},
	"record-calls": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_RecordCalls{RecordCalls: &storev1.RecordCalls{Calls: []*storev1.AuditEntry{{
			Time: encodeTime(clockStart), Actor: "somebody", Source: "192.0.2.1:5", Method: a.text("method"), Resource: a.text("resource"),
			Code: uint32(a.number("code")), Reason: a.text("reason"), Message: a.text("message"), Count: a.number("times"),
		}}}}
	},
	"put-node": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_PutNode{PutNode: &storev1.PutNode{
			Node: encodeNode(Node{ID: a.text("id"), GRPCAddress: a.text("address"), Schema: uint32(a.number("schema"))}),
		}}
	},
	"delete-node": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_DeleteNode{DeleteNode: &storev1.DeleteNode{Id: a.text("id"), DepartedOnly: a.has("departed-only")}}
	},
	"checkpoint": func(_ args, c *storev1.Command) {
		c.Op = &storev1.Command_Checkpoint{Checkpoint: &storev1.Checkpoint{}}
	},
	"create-api": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_CreateApi{CreateApi: &storev1.CreateApi{Api: a.api()}}
	},
	"update-api": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_UpdateApi{UpdateApi: &storev1.UpdateApi{
			Api: a.api(), Fields: a.list("fields"), IfRevision: a.number("if"),
		}}
	},
	"delete-api": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_DeleteApi{DeleteApi: &storev1.DeleteApi{
			Api: a.text("name"), IfRevision: a.number("if"), Force: a.has("force"),
		}}
	},
	"put-route": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_PutRoute{PutRoute: &storev1.PutRoute{
			Api: a.text("api"), Route: EncodeRoute(a.route()), IfRevision: a.number("if"),
		}}
	},
	"delete-route": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_DeleteRoute{DeleteRoute: &storev1.DeleteRoute{
			Api: a.text("api"), Method: a.text("method"), Path: a.text("path"), IfRevision: a.number("if"),
		}}
	},
	"stage-routes": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_StageRoutes{StageRoutes: &storev1.StageRoutes{
			Api: a.text("api"), Import: a.text("import"), Part: uint32(a.number("part")), Routes: a.mockRoutes(),
		}}
	},
	"import-routes": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_ImportRoutes{ImportRoutes: &storev1.ImportRoutes{
			Api: a.text("api"), Import: a.text("import"), Parts: uint32(a.number("parts")), Routes: a.mockRoutes(),
			Merge: a.has("merge"), IfRevision: a.number("if"), Create: a.has("create"), Description: a.text("description"),
			BinaryMediaTypes: a.list("binary"),
		}}
	},
	"edit-routes": func(a args, c *storev1.Command) {
		edit := &storev1.EditRoutes{Api: a.text("api"), Fields: a.list("fields"), IfRevision: a.number("if")}
		for _, r := range a.list("delete") {
			method, path, _ := strings.Cut(r, ":")
			edit.Delete = append(edit.Delete, &storev1.DeleteRoute{Api: edit.Api, Method: method, Path: path})
		}
		for _, r := range a.list("put") {
			method, path, _ := strings.Cut(r, ":")
			route := &release.Route{Method: method, Path: path, Integration: release.Mock{Status: 200}, Annotations: a.pairs("notes")}
			edit.Put = append(edit.Put, &storev1.PutRoute{Api: edit.Api, Route: EncodeRoute(route)})
		}
		edit.Values = EncodeAPI(&release.API{
			ID: edit.Api, Description: a.text("description"), Hosts: a.list("hosts"), Annotations: a.pairs("notes"),
		})
		c.Op = &storev1.Command_EditRoutes{EditRoutes: edit}
	},
	"deploy": func(a args, c *storev1.Command) {
		targets := map[string]storev1.Target{"": 0, "base": storev1.Target_TARGET_BASE, "canary": storev1.Target_TARGET_CANARY}
		c.Op = &storev1.Command_CreateDeployment{CreateDeployment: &storev1.CreateDeployment{
			Api: a.text("api"), Description: a.text("description"), Stage: a.text("stage"),
			Target: targets[a.text("target")], IfRevision: a.number("if"), Fields: a.list("fields"),
			Values: EncodeStageValues(release.StageValues{
				Variables: a.pairs("vars"), Canary: decodeCanary(a.stageCanary()), Annotations: a.pairs("notes"),
				OtherPromoter: a.has("other-promoter"),
			}),
		}}
	},
	"delete-deployment": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_DeleteDeployment{DeleteDeployment: &storev1.DeleteDeployment{
			Api: a.text("api"), Number: a.number("number"), IfRevision: a.number("if"),
		}}
	},
	"create-stage": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_CreateStage{CreateStage: &storev1.CreateStage{
			Api: a.text("api"), Stage: a.text("stage"), Values: a.stageValues(),
		}}
	},
	"update-stage": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_UpdateStage{UpdateStage: &storev1.UpdateStage{
			Api: a.text("api"), Stage: a.text("stage"), Values: a.stageValues(), Fields: a.list("fields"), IfRevision: a.number("if"),
		}}
	},
	"delete-stage": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_DeleteStage{DeleteStage: &storev1.DeleteStage{
			Api: a.text("api"), Stage: a.text("stage"), IfRevision: a.number("if"),
		}}
	},
	"start-canary": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_StartCanary{StartCanary: &storev1.StartCanary{
			Api: a.text("api"), Stage: a.text("stage"), Canary: a.canary(), Replace: a.has("replace"), IfRevision: a.number("if"),
		}}
	},
	"update-canary": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_UpdateCanary{UpdateCanary: &storev1.UpdateCanary{
			Api: a.text("api"), Stage: a.text("stage"), Canary: a.canary(), Fields: a.list("fields"), IfRevision: a.number("if"),
		}}
	},
	"abort-canary": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_AbortCanary{AbortCanary: &storev1.AbortCanary{
			Api: a.text("api"), Stage: a.text("stage"), IfRevision: a.number("if"),
		}}
	},
	"promote": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_PromoteCanary{PromoteCanary: &storev1.PromoteCanary{
			Api: a.text("api"), Stage: a.text("stage"), KeepCanary: a.has("keep"), IfRevision: a.number("if"),
			BreakGlass: a.has("break-glass"),
		}}
	},
	"open-promotion": func(a args, c *storev1.Command) {
		modes := map[string]uint32{"": 1, "version": 1, "timed": 2, "waves": 3}
		policies := map[string]uint32{"": 1, "abort": 1, "wait": 2, "fence": 3}
		c.Op = &storev1.Command_OpenPromotion{OpenPromotion: &storev1.OpenPromotion{
			Api: a.text("api"), Stage: a.text("stage"), KeepCanary: a.has("keep"), IfRevision: a.number("if"),
			Mode: modes[a.text("mode")], OnTimeout: policies[a.text("late")], PrepareTimeout: encodeDuration(a.duration("timeout")),
		}}
	},
	"move-promotion": func(a args, c *storev1.Command) {
		steps := map[string]uint32{
			"commit": StepCommit, "complete": StepComplete, "abort": StepAbort, "fence": StepFence,
			"wave": StepNextWave, "halt": StepHalt, "resume": StepResume,
		}
		m := &storev1.MovePromotion{
			Api: a.text("api"), Stage: a.text("stage"), Promotion: a.number("number"), IfRevision: a.number("if"),
			Step: steps[a.text("step")], Reason: a.text("reason"),
			Report: EncodeReport(release.PromotionReport{
				Agents: uint32(a.number("agents")), Prepared: uint32(a.number("prepared")),
				Fenced: a.list("fenced"), Stale: a.list("stale"), Refused: a.list("refused"), Window: a.duration("window"),
				ClockError: a.duration("clock-error"),
			}),
		}
		if flip := a.duration("flip"); flip != 0 {
			m.FlipTime = encodeTime(clockStart.Add(flip))
		}
		c.Op = &storev1.Command_MovePromotion{MovePromotion: m}
	},
	"register-agents": func(a args, c *storev1.Command) {
		op := &storev1.RegisterAgents{}
		for _, id := range a.list("ids") {
			op.Agents = append(op.Agents, &storev1.Agent{Id: id, Labels: a.pairs("labels")})
		}
		c.Op = &storev1.Command_RegisterAgents{RegisterAgents: op}
	},
	"forget-agents": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_ForgetAgents{ForgetAgents: &storev1.ForgetAgents{Ids: a.list("ids")}}
	},
	"put-trust": func(a args, c *storev1.Command) {
		trust := &storev1.Trust{Cluster: a.text("cluster"), Roots: [][]byte{[]byte(a.text("root"))}}
		if class := a.text("class"); class != "" {
			trust.Issuers = []*storev1.Issuer{{Class: class, Certificate: []byte(a.text("certificate")), SealedKey: []byte(a.text("sealed"))}}
		} else {
			trust.Issuers = issuersUnder(string(trust.GetRoots()[0]), a.text("sealed"))
		}
		c.Op = &storev1.Command_PutTrust{PutTrust: &storev1.PutTrust{Trust: trust}}
	},
	"start-rotation": func(a args, c *storev1.Command) {
		root := a.text("root")
		c.Op = &storev1.Command_StartRotation{StartRotation: &storev1.StartRotation{
			Root: []byte(root), Issuers: issuersUnder(root, a.text("sealed")), Key: a.text("key"),
		}}
	},
	"move-rotation": func(a args, c *storev1.Command) {
		phase := func(name string) storev1.RotationPhase {
			return storev1.RotationPhase(storev1.RotationPhase_value["ROTATION_PHASE_"+strings.ToUpper(a.text(name))])
		}
		c.Op = &storev1.Command_MoveRotation{MoveRotation: &storev1.MoveRotation{
			Root: []byte(a.text("root")), From: phase("from"), To: phase("to"),
		}}
	},
	"start-key-rotation": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_StartKeyRotation{StartKeyRotation: &storev1.StartKeyRotation{Key: a.text("key")}}
	},
	"reseal": func(a args, c *storev1.Command) {
		op := &storev1.ResealAuthorities{Key: a.text("key"), Issuers: issuersUnder(a.text("root"), a.text("sealed"))}
		if next := a.text("next"); next != "" {
			op.NextIssuers = issuersUnder(next, a.text("sealed"))
			op.Issuers = issuersOf(op.GetIssuers(), op.GetNextIssuers())
		}
		c.Op = &storev1.Command_ResealAuthorities{ResealAuthorities: op}
	},
	"put-join-token": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_PutJoinToken{PutJoinToken: &storev1.PutJoinToken{Token: &storev1.JoinToken{
			Id: a.text("id"), SecretSha256: []byte(a.text("secret")), Class: a.text("class"), Pattern: a.text("pattern"),
			Apis: a.list("apis"), ExpireTime: encodeTime(clockStart.Add(a.duration("ttl"))), Uses: uint32(a.number("uses")),
		}}}
	},
	"delete-join-token": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_DeleteJoinToken{DeleteJoinToken: &storev1.DeleteJoinToken{Id: a.text("id")}}
	},
	"use-join-token": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_UseJoinToken{UseJoinToken: &storev1.UseJoinToken{
			Id: a.text("id"), SecretSha256: []byte(a.text("secret")), Class: a.text("class"), Name: a.text("name"),
		}}
	},
	"revoke": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_RevokeIdentity{RevokeIdentity: &storev1.RevokeIdentity{Name: a.text("name")}}
	},
	"create-binding": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_CreateBinding{CreateBinding: &storev1.CreateBinding{Binding: a.binding()}}
	},
	"delete-binding": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_DeleteBinding{DeleteBinding: &storev1.DeleteBinding{Binding: a.binding()}}
	},
	"create-token": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_CreateUserToken{CreateUserToken: &storev1.CreateUserToken{Token: EncodeUserToken(access.Token{
			ID: a.text("id"), User: a.text("user"), Hash: access.HashSecret(a.text("secret")),
			CreateTime: clockStart, ExpireTime: clockStart.Add(a.duration("ttl")),
		})}}
	},
	"record-certificate": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_RecordCertificate{RecordCertificate: &storev1.RecordCertificate{Certificate: &storev1.UserCertificate{
			Id: a.text("id"), User: a.text("user"), Creator: c.GetActor(),
			CreateTime: encodeTime(clockStart), ExpireTime: encodeTime(clockStart.Add(a.duration("ttl"))),
		}}}
	},
	"delete-token": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_DeleteUserToken{DeleteUserToken: &storev1.DeleteUserToken{Id: a.text("id")}}
	},
	"create-access-key": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_CreateAccessKey{CreateAccessKey: &storev1.CreateAccessKey{Key: EncodeAccessKey(access.Key{
			ID: a.text("id"), User: a.text("user"), Sealed: []byte(a.text("sealed")),
			CreateTime: clockStart, ExpireTime: clockStart.Add(a.duration("ttl")),
		})}}
	},
	"delete-access-key": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_DeleteAccessKey{DeleteAccessKey: &storev1.DeleteAccessKey{Id: a.text("id")}}
	},
	"reseal-access-key": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_ResealAccessKeys{ResealAccessKeys: &storev1.ResealAccessKeys{
			Keys: []*storev1.AccessKey{{Id: a.text("id"), Sealed: []byte(a.text("sealed"))}},
		}}
	},
	"rollback": func(a args, c *storev1.Command) {
		c.Op = &storev1.Command_RollbackStage{RollbackStage: &storev1.RollbackStage{
			Api: a.text("api"), Stage: a.text("stage"), ToRevision: a.number("to"), IfRevision: a.number("if"),
		}}
	},
}

func (a args) binding() *storev1.Binding {
	return EncodeBinding(access.Binding{
		Subject: access.Subject(a.text("subject")), Role: access.Role(a.text("role")), API: a.text("api"), Stage: a.text("stage"),
	})
}

func (a args) api() *storev1.Api {
	return EncodeAPI(&release.API{
		ID: a.text("name"), Description: a.text("description"), Hosts: a.list("hosts"),
		DefaultTimeout: a.duration("timeout"), BinaryMediaTypes: a.list("binary"), Annotations: a.pairs("notes"),
	})
}

func (a args) route() *release.Route {
	r := &release.Route{Method: a.text("method"), Path: a.text("path"), Timeout: a.duration("timeout"), Annotations: a.pairs("notes")}
	switch {
	case a.has("http"):
		r.Integration = release.HTTP{URI: a.text("http"), Method: a.text("upstream")}
	case a.has("lambda"):
		r.Integration = release.Lambda{Function: a.text("lambda"), Qualifier: a.text("qualifier")}
	case a.has("mock"):
		r.Integration = release.Mock{Status: int(a.number("mock")), Headers: a.pairs("headers"), Body: a.text("body")}
	}
	return r
}

// mockRoutes reads `routes=(GET:/a, PUT:/b:201)`, mocks of a status.
func (a args) mockRoutes() (routes []*storev1.Route) {
	for _, text := range a.list("routes") {
		parts := strings.Split(text+":200", ":")
		status, err := strconv.Atoi(parts[2])
		if err != nil {
			a.line.Fatalf(a.t, "routes: %v", err)
		}
		routes = append(routes, EncodeRoute(&release.Route{Method: parts[0], Path: parts[1], Integration: release.Mock{Status: status}}))
	}
	return routes
}

func (a args) stageValues() *storev1.StageFields {
	sources := map[string]release.KeySource{
		"": release.KeyNone, "header": release.KeyHeader, "cookie": release.KeyCookie,
		"query": release.KeyQuery, "client-ip": release.KeyClientIP,
	}
	return EncodeStageValues(release.StageValues{
		Description: a.text("description"), Deployment: a.number("deployment"), Variables: a.pairs("vars"),
		Split: release.Split{
			Source: sources[a.text("sticky")], Name: a.text("key"), AllowOverride: a.has("override"), OverrideKey: a.text("signed"),
		},
		ExposeHeaders: a.has("expose"), KeepOverrideKey: a.has("keep-key"),
		FailClosed: a.has("fail-closed"), Consistent: a.has("consistent"), Waves: a.waves(),
		Throttle: release.Throttle{
			Millirate: uint32(a.number("millirate")), Burst: uint32(a.number("burst")), Concurrency: uint32(a.number("concurrency")),
		},
		Canary: decodeCanary(a.stageCanary()), Annotations: a.pairs("notes"), OtherPromoter: a.has("other-promoter"),
	})
}

// stageCanary reads the canary among a stage's values.
func (a args) stageCanary() *storev1.Canary {
	c := release.Canary{
		Deployment: a.number("canary"), PartsPerMillion: uint32(a.number("share") * 10_000),
		Overrides: a.pairs("overrides"), Salt: a.number("salt"),
	}
	if !a.has("canary") {
		return nil
	}
	return EncodeCanary(&c)
}

// waves reads `waves=(region, tier=canary, 10%)`, each of which may end in `@5m`.
func (a args) waves() (waves []release.Wave) {
	for _, text := range a.list("waves") {
		text, dwell, _ := strings.Cut(text, "@")
		var w release.Wave
		if dwell != "" {
			d, err := time.ParseDuration(dwell)
			if err != nil {
				a.line.Fatalf(a.t, "waves: %v", err)
			}
			w.Dwell = d
		}
		if name, value, ok := strings.Cut(text, "="); ok {
			w.Labels = map[string]string{name: value}
		} else if share, ok := strings.CutSuffix(text, "%"); ok {
			n, err := strconv.Atoi(share)
			if err != nil {
				a.line.Fatalf(a.t, "waves: %v", err)
			}
			w.PartsPerMillion = uint32(n) * 10_000
		} else {
			w.OnePerLabel = text
		}
		waves = append(waves, w)
	}
	return waves
}

func (a args) canary() *storev1.Canary {
	return EncodeCanary(&release.Canary{
		Deployment: a.number("deployment"), PartsPerMillion: uint32(a.number("percent") * 10_000),
		Overrides: a.pairs("vars"), Salt: a.number("salt"),
	})
}

// issuersUnder returns the authorities of a root, one for each class.
func issuersUnder(root, sealed string) (out []*storev1.Issuer) {
	for _, class := range []string{"server", "agent", "user"} {
		out = append(out, &storev1.Issuer{Class: class, Certificate: []byte(root + "-" + class), SealedKey: []byte(sealed)})
	}
	return out
}
