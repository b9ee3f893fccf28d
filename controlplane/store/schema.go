package store

import (
	"errors"
	"fmt"
	"slices"

	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// Schema is the newest version of the log's format that this build reads. A build
// that adds a command, or a field that changes what a command does, raises it and
// says so in commandSchema; nodes record what they read, and nobody writes what
// some node could not follow.
const Schema = 2

// ErrNotSupported says that a command needs a build that not all nodes run yet.
var ErrNotSupported = errors.New("not all nodes can read this change yet")

// commandSchema returns the oldest schema that has all of a command. Schema 2 has
// throttles, the audit, imports, edits of many routes, who joins, permissions and
// secrets; a command without them is as it was before.
func commandSchema(cmd *storev1.Command) uint32 {
	newer := false
	switch op := cmd.GetOp().(type) {
	case *storev1.Command_ConfigureAudit, *storev1.Command_RecordCalls,
		*storev1.Command_StageRoutes, *storev1.Command_ImportRoutes, *storev1.Command_EditRoutes,
		*storev1.Command_PutTrust, *storev1.Command_PutJoinToken, *storev1.Command_DeleteJoinToken,
		*storev1.Command_UseJoinToken, *storev1.Command_RevokeIdentity,
		*storev1.Command_StartRotation, *storev1.Command_MoveRotation,
		*storev1.Command_StartKeyRotation, *storev1.Command_ResealAuthorities,
		*storev1.Command_CreateBinding, *storev1.Command_DeleteBinding,
		*storev1.Command_CreateUserToken, *storev1.Command_DeleteUserToken, *storev1.Command_RecordCertificate,
		*storev1.Command_CreateAccessKey, *storev1.Command_DeleteAccessKey, *storev1.Command_ResealAccessKeys:
		newer = true
	case *storev1.Command_InitCluster:
		newer = op.InitCluster.GetAudit() != nil || len(op.InitCluster.GetBindings()) > 0
	case *storev1.Command_CreateStage:
		newer = newerValues(op.CreateStage.GetValues())
	case *storev1.Command_UpdateStage:
		newer = newerValues(op.UpdateStage.GetValues()) ||
			slices.Contains(op.UpdateStage.GetFields(), release.FieldSecretVariables)
	case *storev1.Command_CreateDeployment:
		newer = newerValues(op.CreateDeployment.GetValues()) || len(op.CreateDeployment.GetFields()) > 0
	case *storev1.Command_StartCanary:
		newer = len(release.Secrets(op.StartCanary.GetCanary().GetOverrides())) > 0
	case *storev1.Command_UpdateCanary:
		newer = len(release.Secrets(op.UpdateCanary.GetCanary().GetOverrides())) > 0 ||
			slices.Contains(op.UpdateCanary.GetFields(), release.FieldSecretOverrides)
	}
	if newer || cmd.GetAuthorization() != nil {
		return 2
	}
	return 1
}

// newerValues reports whether a build of schema 1 does not know some of a stage's fields.
func newerValues(v *storev1.StageFields) bool {
	return v.GetThrottle() != nil || v.GetRequireOtherPromoter() || hasSecrets(v)
}

// hasSecrets reports whether something is sealed in the fields of a stage, which a build
// of schema 1 would take for what it stands for.
func hasSecrets(f *storev1.StageFields) bool {
	_, key := release.SealedBytes(f.GetSplit().GetOverrideKey())
	return key || len(release.Secrets(f.GetVariables())) > 0 || len(release.Secrets(f.GetCanary().GetOverrides())) > 0
}

// checkSchema refuses a command that a node of the cluster could not read.
func (s *State) checkSchema(cmd *storev1.Command) error {
	for n := range s.Nodes() {
		if n.Schema < cmd.GetSchema() {
			return fmt.Errorf("%w: it has schema %d, node %s reads up to %d; upgrade that node first",
				ErrNotSupported, cmd.GetSchema(), n.ID, n.Schema)
		}
	}
	return nil
}
