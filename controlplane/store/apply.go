package store

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// apply returns the state after one command and what the command came to. It is
// pure: the same state, index and command give the same result on every replica.
// It panics on a command that it does not know, as going on without it would
// lead replicas apart.
func (s *State) apply(index uint64, cmd *storev1.Command) (*State, Outcome) {
	if cmd.GetSchema() > Schema {
		panic(fmt.Sprintf("apply index %d: the entry has schema %d, this build reads up to %d; run a newer build",
			index, cmd.GetSchema(), Schema))
	}
	t := &tx{next: s.successor(index, cmd), index: index, change: release.Change{
		Time:   decodeTime(cmd.GetTime()),
		Actor:  cmd.GetActor(),
		Method: cmd.GetMethod(),
	}, authorization: cmd.GetAuthorization()}
	if t.authorization != nil {
		t.change.Caller = cmd.GetActor()
	}
	if refusal := s.authorize(cmd); refusal != nil {
		return t.next, Outcome{Refusal: refusal, Version: s.Version()} // not remembered: it may be allowed later
	}
	id := cmd.GetRequestId()
	if id != "" {
		if first, ok := s.outcomes.find(id, cmd.GetFingerprint()); ok {
			if first.Refusal != nil {
				first.Version = s.Version()
			}
			return t.next, first
		}
	}
	outcome, err := t.do(cmd)
	if err != nil {
		refusal, ok := err.(*release.Refusal) //nolint:errorlint // rules return it bare; anything else is a bug
		if !ok {
			panic(fmt.Sprintf("apply index %d: %v", index, err))
		}
		t.next = s.successor(index, cmd)
		outcome = Outcome{Refusal: refusal}
	} else if len(t.names) > 0 {
		t.next.routing, t.next.rerouted = index, make(chan struct{})
		t.next.changes = t.next.changes.add(change{index: index, names: t.names})
	}
	outcome.Version = t.next.Version()
	// What may be allowed later, or to others, is not remembered.
	denied := outcome.Refusal != nil &&
		(outcome.Refusal.Reason == release.PermissionDenied || outcome.Refusal.Reason == release.SamePromoter)
	if id != "" && !denied {
		t.next.outcomes = t.next.outcomes.add(remembered{
			id: id, index: index, time: t.change.Time, fingerprint: cmd.GetFingerprint(), outcome: outcome,
		})
	}
	return t.next, outcome
}

// Preview returns the state that commands would lead to, one after the other, and
// what the last of them, or the first that is refused, would come to. Nothing is
// changed.
func (s *State) Preview(cmds ...*storev1.Command) (next *State, outcome Outcome) {
	next = s
	for _, cmd := range cmds {
		if next, outcome = next.apply(next.index+1, cmd); outcome.Refusal != nil {
			break
		}
	}
	return next, outcome
}

// successor returns a copy of the state as of a later index, at which a command
// is applied.
func (s *State) successor(index uint64, cmd *storev1.Command) *State {
	next := *s
	next.index = index
	next.superseded = make(chan struct{})
	next.dropAbandoned(decodeTime(cmd.GetTime()))
	return &next
}

// tx builds the next state. On an error what it has built is thrown away, so
// that operations may refuse at any point.
type tx struct {
	next   *State
	index  uint64
	change release.Change
	names  []string // resources that agents know and that were written or removed

	authorization *storev1.Authorization // of the command; nil if nobody is asked
}

func (t *tx) do(cmd *storev1.Command) (Outcome, error) {
	switch op := cmd.GetOp().(type) {
	case *storev1.Command_InitCluster:
		return t.initCluster(op.InitCluster)
	case *storev1.Command_PutNode:
		return t.putNode(op.PutNode)
	case *storev1.Command_DeleteNode:
		return t.deleteNode(op.DeleteNode)
	case *storev1.Command_Checkpoint:
		return t.takeCheckpoint()
	case *storev1.Command_CreateApi:
		return t.createAPI(op.CreateApi)
	case *storev1.Command_UpdateApi:
		return t.updateAPI(op.UpdateApi)
	case *storev1.Command_DeleteApi:
		return t.deleteAPI(op.DeleteApi)
	case *storev1.Command_PutRoute:
		return t.putRoute(op.PutRoute)
	case *storev1.Command_DeleteRoute:
		return t.deleteRoute(op.DeleteRoute)
	case *storev1.Command_StageRoutes:
		return t.stageRoutes(op.StageRoutes)
	case *storev1.Command_ImportRoutes:
		return t.importRoutes(op.ImportRoutes)
	case *storev1.Command_EditRoutes:
		return t.editRoutes(op.EditRoutes)
	case *storev1.Command_CreateDeployment:
		return t.createDeployment(op.CreateDeployment)
	case *storev1.Command_DeleteDeployment:
		return t.deleteDeployment(op.DeleteDeployment)
	case *storev1.Command_CreateStage:
		return t.createStage(op.CreateStage)
	case *storev1.Command_UpdateStage:
		return t.updateStage(op.UpdateStage)
	case *storev1.Command_DeleteStage:
		return t.deleteStage(op.DeleteStage)
	case *storev1.Command_StartCanary:
		return t.startCanary(op.StartCanary)
	case *storev1.Command_UpdateCanary:
		return t.updateCanary(op.UpdateCanary)
	case *storev1.Command_AbortCanary:
		return t.abortCanary(op.AbortCanary)
	case *storev1.Command_PromoteCanary:
		return t.promoteCanary(op.PromoteCanary)
	case *storev1.Command_RollbackStage:
		return t.rollbackStage(op.RollbackStage)
	case *storev1.Command_OpenPromotion:
		return t.openPromotion(op.OpenPromotion)
	case *storev1.Command_MovePromotion:
		return t.movePromotion(op.MovePromotion)
	case *storev1.Command_RegisterAgents:
		return t.registerAgents(op.RegisterAgents)
	case *storev1.Command_ForgetAgents:
		return t.forgetAgents(op.ForgetAgents)
	case *storev1.Command_ConfigureAudit:
		return t.configureAudit(op.ConfigureAudit)
	case *storev1.Command_RecordCalls:
		return Outcome{}, nil // it has a place in the audit and no other effect
	case *storev1.Command_PutTrust:
		return t.putTrust(op.PutTrust)
	case *storev1.Command_PutJoinToken:
		return t.putJoinToken(op.PutJoinToken)
	case *storev1.Command_DeleteJoinToken:
		return t.deleteJoinToken(op.DeleteJoinToken)
	case *storev1.Command_UseJoinToken:
		return t.useJoinToken(op.UseJoinToken)
	case *storev1.Command_RevokeIdentity:
		return t.revokeIdentity(op.RevokeIdentity)
	case *storev1.Command_StartRotation:
		return t.startRotation(op.StartRotation)
	case *storev1.Command_MoveRotation:
		return t.moveRotation(op.MoveRotation)
	case *storev1.Command_StartKeyRotation:
		return t.startKeyRotation(op.StartKeyRotation)
	case *storev1.Command_ResealAuthorities:
		return t.resealAuthorities(op.ResealAuthorities)
	case *storev1.Command_CreateBinding:
		return t.createBinding(op.CreateBinding)
	case *storev1.Command_DeleteBinding:
		return t.deleteBinding(op.DeleteBinding)
	case *storev1.Command_CreateUserToken:
		return t.createUserToken(op.CreateUserToken)
	case *storev1.Command_DeleteUserToken:
		return t.deleteUserToken(op.DeleteUserToken)
	case *storev1.Command_RecordCertificate:
		return t.recordCertificate(op.RecordCertificate)
	case *storev1.Command_CreateAccessKey:
		return t.createAccessKey(op.CreateAccessKey)
	case *storev1.Command_DeleteAccessKey:
		return t.deleteAccessKey(op.DeleteAccessKey)
	case *storev1.Command_ResealAccessKeys:
		t.resealAccessKeys(op.ResealAccessKeys)
		return Outcome{}, nil
	}
	panic(fmt.Sprintf("apply index %d: unknown command %T; this build is too old for the log", t.index, cmd.GetOp()))
}

// initCluster gives the cluster its identity, once: a second one, which a node
// may propose that lost its leadership over the first, changes nothing.
func (t *tx) initCluster(op *storev1.InitCluster) (Outcome, error) {
	if t.next.clusterID == "" {
		t.next.clusterID, t.next.epoch = op.GetClusterId(), op.GetEpoch()
		t.next.auditLimits = decodeAuditLimits(op.GetAudit())
		for _, p := range op.GetBindings() {
			b := decodeBinding(p)
			t.next.bindings, _, _ = t.next.bindings.Insert(bindingKey(b), b)
		}
		t.next.routing, t.next.rerouted = t.index, make(chan struct{})
	}
	return Outcome{}, nil
}

func (t *tx) putNode(op *storev1.PutNode) (Outcome, error) {
	n := decodeNode(op.GetNode())
	t.next.nodes, _, _ = t.next.nodes.Insert([]byte(n.ID), n)
	t.next.departed, _, _ = t.next.departed.Delete([]byte(n.ID))
	return Outcome{}, nil
}

// deleteNode notes of a node that leaves that it may still hold a grant, or forgets that.
// What a node that has left says of callers is not to be believed any more: its
// certificate is void.
func (t *tx) deleteNode(op *storev1.DeleteNode) (Outcome, error) {
	id := []byte(op.GetId())
	if op.GetDepartedOnly() {
		t.next.departed, _, _ = t.next.departed.Delete(id)
		return Outcome{}, nil
	}
	t.next.nodes, _, _ = t.next.nodes.Delete(id)
	t.next.departed, _, _ = t.next.departed.Insert(id, op.GetId())
	if t.next.trust != nil {
		name := "server/" + op.GetId()
		before, _ := t.next.Enrolment(name)
		t.revoke(name, before)
	}
	return Outcome{}, nil
}

// takeCheckpoint keeps the state for comparison between nodes: see StateHash.
func (t *tx) takeCheckpoint() (Outcome, error) {
	t.next.checkpoint = nil
	kept := *t.next
	t.next.checkpoint = &kept
	return Outcome{Checkpoint: t.index}, nil
}

func (t *tx) touch(name string) { t.names = append(t.names, name) }

// splitName takes a resource name of the kinds that agents know apart. It is
// used on names that this package made.
func splitName(name string) (api, kind, id string) {
	api, rest, _ := strings.Cut(strings.TrimPrefix(name, "apis/"), "/")
	kind, id, _ = strings.Cut(rest, "/")
	return api, kind, id
}

func parseNumber(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0 // no deployment has this number
	}
	return n
}
