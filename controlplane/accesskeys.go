package controlplane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/access"
	"github.com/fifegateway/fife/controlplane/identity"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// resealBatch is how many access keys one command seals anew.
const resealBatch = 500

// resealAccessKeys has the leader seal the secrets of access keys with the key that the
// cluster seals with, once that has been replaced: until then nodes keep the former key
// (see usesKey).
func (s *secrets) resealAccessKeys(ctx context.Context) error {
	st := s.store.Load()
	state := st.State()
	_, sealer, ok := s.clusterKey()
	current := state.Trust().GetKey()
	if !st.IsLeader() || !ok || current == "" || sealer.Keys()[0] != current {
		return nil
	}
	op := &storev1.ResealAccessKeys{}
	var errs []error
	for k := range state.AccessKeys("") {
		if identity.SealedBy(k.Sealed) == current {
			continue
		}
		secret, err := sealer.Open(k.Sealed, access.KeyContext(k.ID))
		if err != nil {
			errs = append(errs, fmt.Errorf("seal access key %s anew: %w", k.ID, err))
			continue
		}
		op.Keys = append(op.Keys, &storev1.AccessKey{Id: k.ID, Sealed: sealer.Seal(secret, access.KeyContext(k.ID))})
		if len(op.Keys) == resealBatch {
			break
		}
	}
	if len(op.GetKeys()) > 0 {
		_, err := st.Apply(ctx, &storev1.Command{
			Time: timestamppb.New(time.Now()), Actor: "server/" + s.config.Name, Method: "ResealAccessKeys",
			Op: &storev1.Command_ResealAccessKeys{ResealAccessKeys: op},
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
