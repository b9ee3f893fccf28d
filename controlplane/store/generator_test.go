package store

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// This file draws commands at random. Names come from few, so that commands meet
// each other's results; ids that are prefixes of others try the keys' order.

func pick[T any](t *rapid.T, label string, from ...T) T {
	return rapid.SampledFrom(from).Draw(t, label)
}

func drawAPI(t *rapid.T) string   { return pick(t, "api", "a", "a-b", "ab") }
func drawStage(t *rapid.T) string { return pick(t, "stage", "s", "s-t", "S") }
func drawPath(t *rapid.T) string {
	return pick(t, "path", "/", "/x", "/x/{id}", "/x/{id}/y", "/x/{rest+}", "/xx", "/{a}/{b}", "/{a}/c")
}
func drawMethod(t *rapid.T) string  { return pick(t, "method", "ANY", "GET", "PUT") }
func drawNumber(t *rapid.T) uint64  { return rapid.Uint64Range(1, 6).Draw(t, "number") }
func drawFlag(t *rapid.T) bool      { return rapid.Bool().Draw(t, "flag") }
func drawIfRev(t *rapid.T) uint64   { return pick[uint64](t, "if", 0, 0, 0, 0, 0, 1, 2, 3, 9) }
func drawText(t *rapid.T) string    { return pick(t, "text", "", "text", "naïve\n") }
func drawTarget(t *rapid.T) int32   { return pick[int32](t, "target", 0, 0, 1, 2) }
func drawSeconds(t *rapid.T) int    { return rapid.IntRange(0, 7200).Draw(t, "seconds") }
func drawRequest(t *rapid.T) string { return pick(t, "request", "", "", "", "r1", "r2", "r3") }

func drawHosts(t *rapid.T) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"h", "i.example", "j"}), 0, 2, rapid.ID[string]).Draw(t, "hosts")
}

func drawVariables(t *rapid.T) map[string]string {
	m := map[string]string{}
	prefix := pick(t, "prefix", "a", "b")
	for i := range pick(t, "count", 0, 0, 1, 3, 60) {
		m[fmt.Sprint(prefix, i)] = pick(t, "value", "v", "w")
	}
	return m
}

func drawRoute(t *rapid.T) *storev1.Route {
	r := &release.Route{Method: drawMethod(t), Path: drawPath(t), Timeout: pick(t, "timeout", 0, time.Second)}
	r.Integration = pick[release.Integration](t, "integration", nil,
		release.HTTP{URI: "http://h", Method: "PUT"}, release.Lambda{Function: "f", Qualifier: "1"},
		release.Mock{Status: 200}, release.Mock{Status: 201, Headers: map[string]string{"b": "2", "a": "1"}, Body: "é"})
	return EncodeRoute(r)
}

func drawStageValues(t *rapid.T) *storev1.StageFields {
	return EncodeStageValues(release.StageValues{
		Description: drawText(t), Deployment: drawNumber(t), Variables: drawVariables(t),
		Split:         pick(t, "split", release.Split{}, release.Split{Source: release.KeyCookie, Name: "c", AllowOverride: true, OverrideKey: "k"}),
		ExposeHeaders: drawFlag(t), Canary: pick(t, "canary", nil, decodeCanary(drawCanary(t))),
		Annotations: pick(t, "notes", nil, map[string]string{"k": "v"}), OtherPromoter: drawFlag(t),
	})
}

func drawCanary(t *rapid.T) *storev1.Canary {
	return EncodeCanary(&release.Canary{
		Deployment: rapid.Uint64Range(0, 6).Draw(t, "number"), PartsPerMillion: pick[uint32](t, "share", 0, 1, release.Buckets),
		Overrides: drawVariables(t), Salt: rapid.Uint64().Draw(t, "salt"),
	})
}

func drawFields(t *rapid.T, all []string) []string {
	return rapid.SliceOfDistinct(rapid.SampledFrom(all), rapid.ID[string]).Draw(t, "fields")
}

func drawAPIFields(t *rapid.T) *storev1.Api {
	return EncodeAPI(&release.API{
		ID: drawAPI(t), Description: drawText(t), Hosts: drawHosts(t),
		DefaultTimeout: pick(t, "timeout", 0, time.Second), BinaryMediaTypes: pick(t, "binary", nil, []string{"a/b"}),
	})
}

// drawCommand draws a command of any kind.
func drawCommand(t *rapid.T) *storev1.Command {
	cmd := &storev1.Command{
		Time:  timestamppb.New(clockStart.Add(time.Duration(drawSeconds(t)) * time.Second)),
		Actor: drawText(t), Method: "Method", RequestId: drawRequest(t),
	}
	if pick(t, "asked", false, false, true) {
		cmd.Actor = pick(t, "actor", "user:a", "user:ab")
		cmd.Authorization = &storev1.Authorization{
			Groups: pick(t, "groups", nil, []string{"a"}), Token: pick(t, "token", "", "", "s"),
			Permission: string(pick(t, "permission", access.Permissions()...)), Api: pick(t, "on", "", "a", "*"), Stage: pick(t, "on", "", "s", "*"),
		}
	}
	if cmd.GetRequestId() != "" {
		cmd.Fingerprint = []byte(pick(t, "fingerprint", "f", "f", "g"))
	}
	pick(t, "kind", draws...)(t, cmd)
	return cmd
}

// draws are weighted so that most sequences get as far as canaries.
var draws = []func(*rapid.T, *storev1.Command){
	drawInitCluster, drawPutNode, drawDeleteNode, drawCheckpoint, drawCreateAPI, drawCreateAPI, drawUpdateAPI, drawDeleteAPI,
	drawPutRoute, drawPutRoute, drawPutRoute, drawPutRoute, drawDeleteRoute, drawStageRoutes, drawStageRoutes, drawImportRoutes, drawImportRoutes,
	drawCreateDeployment, drawCreateDeployment, drawCreateDeployment, drawDeleteDeployment, drawDeleteDeployment,
	drawCreateStage, drawUpdateStage, drawDeleteStage, drawStartCanary, drawStartCanary, drawUpdateCanary,
	drawAbortCanary, drawPromoteCanary, drawRollback, drawConfigureAudit, drawRecordCalls, drawEditRoutes,
	drawCreateBinding, drawDeleteBinding, drawCreateUserToken, drawDeleteUserToken,
	drawCreateAccessKey, drawDeleteAccessKey, drawResealAccessKeys,
}

func drawConfigureAudit(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_ConfigureAudit{ConfigureAudit: &storev1.ConfigureAudit{Limits: encodeAuditLimits(AuditLimits{
		Retention: pick(t, "retention", time.Minute, time.Hour), MaxBytes: pick[uint64](t, "bytes", 500, 5_000),
	})}}
}

func drawRecordCalls(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_RecordCalls{RecordCalls: &storev1.RecordCalls{Calls: []*storev1.AuditEntry{
		{Time: c.GetTime(), Actor: drawText(t), Method: "Method", Resource: drawText(t), Code: pick[uint32](t, "code", 0, 7), Count: drawNumber(t)},
		{Method: "Other", Code: 16},
	}}}
}

func drawBinding(t *rapid.T) *storev1.Binding {
	return EncodeBinding(access.Binding{
		Subject: access.Subject(pick(t, "subject", "user:a", "user:ab", "group:a")), Role: pick(t, "role", access.Roles()...),
		API: pick(t, "pattern", "*", "a", "a*"), Stage: pick(t, "pattern", "*", "s"),
	})
}

func drawCreateBinding(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_CreateBinding{CreateBinding: &storev1.CreateBinding{Binding: drawBinding(t)}}
}

func drawDeleteBinding(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_DeleteBinding{DeleteBinding: &storev1.DeleteBinding{Binding: drawBinding(t)}}
}

func drawCreateUserToken(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_CreateUserToken{CreateUserToken: &storev1.CreateUserToken{Token: EncodeUserToken(access.Token{
		ID: drawStage(t), User: "a", CreateTime: clockStart, ExpireTime: clockStart.Add(time.Duration(drawSeconds(t)) * time.Second),
	})}}
}

func drawDeleteUserToken(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_DeleteUserToken{DeleteUserToken: &storev1.DeleteUserToken{Id: drawStage(t)}}
}

func drawCreateAccessKey(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_CreateAccessKey{CreateAccessKey: &storev1.CreateAccessKey{Key: EncodeAccessKey(access.Key{
		ID: drawStage(t), User: "a", Sealed: []byte(drawText(t)),
		CreateTime: clockStart, ExpireTime: clockStart.Add(time.Duration(drawSeconds(t)) * time.Second),
	})}}
}

func drawDeleteAccessKey(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_DeleteAccessKey{DeleteAccessKey: &storev1.DeleteAccessKey{Id: drawStage(t)}}
}

func drawResealAccessKeys(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_ResealAccessKeys{ResealAccessKeys: &storev1.ResealAccessKeys{Keys: []*storev1.AccessKey{
		{Id: drawStage(t), Sealed: []byte(drawText(t))},
	}}}
}

func drawInitCluster(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_InitCluster{InitCluster: &storev1.InitCluster{ClusterId: drawText(t), Epoch: drawNumber(t)}}
}

func drawPutNode(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_PutNode{PutNode: &storev1.PutNode{Node: &storev1.Node{Id: drawStage(t), GrpcAddress: drawText(t), Schema: 1}}}
}

func drawDeleteNode(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_DeleteNode{DeleteNode: &storev1.DeleteNode{Id: drawStage(t), DepartedOnly: rapid.Bool().Draw(t, "departed only")}}
}

func drawCheckpoint(_ *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_Checkpoint{Checkpoint: &storev1.Checkpoint{}}
}

func drawCreateAPI(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_CreateApi{CreateApi: &storev1.CreateApi{Api: drawAPIFields(t)}}
}

func drawUpdateAPI(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_UpdateApi{UpdateApi: &storev1.UpdateApi{
		Api: drawAPIFields(t), Fields: drawFields(t, release.APIFields()), IfRevision: drawIfRev(t),
	}}
}

func drawDeleteAPI(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_DeleteApi{DeleteApi: &storev1.DeleteApi{
		Api: drawAPI(t), IfRevision: drawIfRev(t), Force: drawFlag(t),
	}}
}

func drawPutRoute(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_PutRoute{PutRoute: &storev1.PutRoute{Api: drawAPI(t), Route: drawRoute(t), IfRevision: drawIfRev(t)}}
}

func drawDeleteRoute(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_DeleteRoute{DeleteRoute: &storev1.DeleteRoute{
		Api: drawAPI(t), Method: drawMethod(t), Path: drawPath(t), IfRevision: drawIfRev(t),
	}}
}

func drawRoutes(t *rapid.T) []*storev1.Route {
	return rapid.SliceOfN(rapid.Custom(drawRoute), 0, 3).Draw(t, "routes")
}

func drawStageRoutes(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_StageRoutes{StageRoutes: &storev1.StageRoutes{
		Api: drawAPI(t), Import: pick(t, "import", "i", "j"), Part: pick[uint32](t, "part", 0, 0, 1, 2), Routes: drawRoutes(t),
	}}
}

func drawImportRoutes(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_ImportRoutes{ImportRoutes: &storev1.ImportRoutes{
		Api: drawAPI(t), Import: pick(t, "import", "i", "j"), Parts: pick[uint32](t, "parts", 0, 0, 1, 2), Routes: drawRoutes(t),
		Merge: drawFlag(t), IfRevision: drawIfRev(t), Create: drawFlag(t), BinaryMediaTypes: pick(t, "binary", nil, []string{"a/b"}),
	}}
}

func drawCreateDeployment(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_CreateDeployment{CreateDeployment: &storev1.CreateDeployment{
		Api: drawAPI(t), Description: drawText(t), Stage: pick(t, "stage", "", "s", "S"),
		Target: storev1.Target(drawTarget(t)), IfRevision: drawIfRev(t),
		Values: drawStageValues(t), Fields: drawDeployedFields(t),
	}}
}

// drawDeployedFields draws what else a deployment sets on its stage: mostly nothing.
func drawDeployedFields(t *rapid.T) []string {
	return pick(t, "fields", nil, nil, []string{release.FieldVariables}, []string{release.FieldVariables, release.FieldCanary})
}

func drawEditRoutes(t *rapid.T, c *storev1.Command) {
	api := drawAPI(t)
	c.Op = &storev1.Command_EditRoutes{EditRoutes: &storev1.EditRoutes{
		Api:    api,
		Delete: []*storev1.DeleteRoute{{Api: api, Method: drawMethod(t), Path: drawPath(t)}},
		Put:    []*storev1.PutRoute{{Api: api, Route: drawRoute(t)}, {Api: api, Route: drawRoute(t)}},
		Fields: drawFields(t, []string{release.FieldDescription, release.FieldAnnotations}),
		Values: drawAPIFields(t), IfRevision: drawIfRev(t),
	}}
	c.GetEditRoutes().Values.Id = api
}

func drawDeleteDeployment(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_DeleteDeployment{DeleteDeployment: &storev1.DeleteDeployment{
		Api: drawAPI(t), Number: drawNumber(t), IfRevision: drawIfRev(t),
	}}
}

func drawCreateStage(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_CreateStage{CreateStage: &storev1.CreateStage{Api: drawAPI(t), Stage: drawStage(t), Values: drawStageValues(t)}}
}

func drawUpdateStage(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_UpdateStage{UpdateStage: &storev1.UpdateStage{
		Api: drawAPI(t), Stage: drawStage(t), Values: drawStageValues(t),
		Fields: drawFields(t, append(release.StageFields(), release.FieldCanary, release.FieldAnnotations, release.FieldOtherPromoter)), IfRevision: drawIfRev(t),
	}}
}

func drawDeleteStage(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_DeleteStage{DeleteStage: &storev1.DeleteStage{Api: drawAPI(t), Stage: drawStage(t), IfRevision: drawIfRev(t)}}
}

func drawStartCanary(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_StartCanary{StartCanary: &storev1.StartCanary{
		Api: drawAPI(t), Stage: drawStage(t), Canary: drawCanary(t), Replace: drawFlag(t), IfRevision: drawIfRev(t),
	}}
}

func drawUpdateCanary(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_UpdateCanary{UpdateCanary: &storev1.UpdateCanary{
		Api: drawAPI(t), Stage: drawStage(t), Canary: drawCanary(t),
		Fields: drawFields(t, []string{release.FieldPercent, release.FieldVariableOverrides}), IfRevision: drawIfRev(t),
	}}
}

func drawAbortCanary(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_AbortCanary{AbortCanary: &storev1.AbortCanary{Api: drawAPI(t), Stage: drawStage(t), IfRevision: drawIfRev(t)}}
}

func drawPromoteCanary(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_PromoteCanary{PromoteCanary: &storev1.PromoteCanary{
		Api: drawAPI(t), Stage: drawStage(t), KeepCanary: drawFlag(t), IfRevision: drawIfRev(t),
	}}
}

func drawRollback(t *rapid.T, c *storev1.Command) {
	c.Op = &storev1.Command_RollbackStage{RollbackStage: &storev1.RollbackStage{
		Api: drawAPI(t), Stage: drawStage(t), ToRevision: pick[uint64](t, "to", 0, 0, 1, 2, 9), IfRevision: drawIfRev(t),
	}}
}
