package api

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// Sealer returns what seals the secrets of stages; nil on a node that never has a key,
// as it speaks plaintext. The error says that it has none yet.
type Sealer func() (*identity.Sealer, error)

// ErrNoKey says that a node cannot seal or open secrets yet. Trying again helps.
var ErrNoKey = errors.New("secrets can be neither sealed nor opened")

// ErrOtherKey says that a backup holds secrets which the cluster has no key for.
var ErrOtherKey = errors.New("the backup's secrets are sealed with a key that this cluster does not have")

// current returns what seals now.
func (s Sealer) current() (*identity.Sealer, error) {
	if s == nil {
		return nil, nil
	}
	return s()
}

// sealStage seals the secrets that a request sets on a stage: from here on nobody but
// the agents sees them. isNew says that there are none yet that could stay. Without
// a key secret variables are refused, and the key of signed overrides, which clusters
// without TLS have always taken, stays as it is.
func (c changer) sealStage(
	v *release.Violations, api, id string, values *release.StageValues, p *fifev1.Stage, isNew bool,
) error {
	sealer, err := c.sealer.current()
	if err != nil {
		return err
	}
	if key := values.Split.OverrideKey; sealer != nil && key != "" {
		values.Split.OverrideKey = release.SealedValue(sealer.Seal([]byte(key), release.OverrideKeyContext(api, id)))
	}
	secrets := secretsOf{"stage.secret_variables", p.GetSecretVariables(), isNew}
	values.Variables = secrets.seal(v, sealer, api, id, values.Variables)
	if values.Canary == nil {
		return nil
	}
	if err := c.sealCanary(v, "stage.canary", api, id, values.Canary, p.GetCanary(), isNew); err != nil {
		return err
	}
	if isNew { // of another, apply knows what the stage has
		release.CheckOverrides(v, "stage.canary.variable_overrides", values.Variables, values.Canary.Overrides)
		if n := len(release.MergeVariables(values.Variables, values.Canary.Overrides)); n > release.MaxVariables {
			v.Addf("stage.canary.secret_overrides", "with the variables there are %d entries, at most %d are allowed", n, release.MaxVariables)
		}
	}
	return nil
}

// sealCanary is sealStage for a canary.
func (c changer) sealCanary(
	v *release.Violations, field, api, id string, canary *release.Canary, p *fifev1.Canary, isNew bool,
) error {
	sealer, err := c.sealer.current()
	if err != nil {
		return err
	}
	secrets := secretsOf{field + ".secret_overrides", p.GetSecretOverrides(), isNew}
	canary.Overrides = secrets.seal(v, sealer, api, id, canary.Overrides)
	return nil
}

// secretsOf are the secrets in a field of a request.
type secretsOf struct {
	field  string
	values map[string]string
	isNew  bool
}

// seal returns plain variables with the secrets beside them, sealed.
func (s secretsOf) seal(
	v *release.Violations, sealer *identity.Sealer, api, stage string, plain map[string]string,
) map[string]string {
	if len(s.values) == 0 {
		return plain
	}
	if sealer == nil {
		v.Addf(s.field, "secrets need TLS: this node speaks plaintext, and has no key to seal them with")
		return plain
	}
	release.CheckSecrets(v, s.field, s.values, plain)
	all := maps.Clone(plain)
	if all == nil {
		all = map[string]string{}
	}
	for name, value := range s.values {
		switch {
		case value != "":
			all[name] = release.SealedValue(sealer.Seal([]byte(value), release.SecretContext(api, stage, name)))
		case s.isNew:
			v.Addf(s.field, "%q has no value, and there is none that could stay", name)
		default:
			all[name] = release.SealedValue(nil)
		}
	}
	if len(all) > release.MaxVariables {
		v.Addf(s.field, "with the variables there are %d entries, at most %d are allowed", len(all), release.MaxVariables)
	}
	return all
}

// withSecrets returns the fields of a change with that of secrets, if a request that
// names no fields has some.
func withSecrets(fields, named []string, secrets map[string]string, field string) []string {
	if len(secrets) == 0 || slices.Contains(fields, field) || (len(named) > 0 && named[0] != "*") {
		return fields
	}
	return append(slices.Clone(fields), field)
}

// hidden returns the names of secrets as they are shown, without values.
func hidden(vars map[string]string) map[string]string {
	var shown map[string]string
	for _, name := range release.Secrets(vars) {
		if shown == nil {
			shown = map[string]string{}
		}
		shown[name] = ""
	}
	return shown
}

// withoutSecrets returns a request as it may be summed up in the log: from a sum, a
// secret of few possible values could be guessed.
func withoutSecrets(req proto.Message) proto.Message {
	carrier, _ := req.(interface{ GetStage() *fifev1.Stage })
	started, _ := req.(interface{ GetCanary() *fifev1.Canary })
	if carrier == nil && started == nil {
		return req
	}
	req = proto.Clone(req)
	if carrier, ok := req.(interface{ GetStage() *fifev1.Stage }); ok && carrier.GetStage() != nil {
		blank(carrier.GetStage().GetSecretVariables())
		blank(carrier.GetStage().GetCanary().GetSecretOverrides())
		if split := carrier.GetStage().GetSplit(); split.GetOverrideKey() != "" {
			split.OverrideKey, split.OverrideKeySet = "", true
		}
	}
	if started, ok := req.(interface{ GetCanary() *fifev1.Canary }); ok {
		blank(started.GetCanary().GetSecretOverrides())
	}
	return req
}

func blank(secrets map[string]string) {
	for name := range secrets {
		secrets[name] = ""
	}
}

// checkSecrets refuses a state with secrets that this node cannot open, of which no
// agent would get the stages.
func (s *clusterService) checkSecrets(backup *store.State) error {
	sealer, err := s.sealer.current()
	if err != nil {
		return err
	}
	for stage := range backup.AllStages("", "") {
		for text, context := range stage.Sealed() {
			if sealer == nil {
				return fmt.Errorf("%w, as it has none: it speaks plaintext; %s has secrets", ErrOtherKey, stage.Name())
			}
			sealed, _ := release.SealedBytes(text) // what cannot be decoded cannot be opened either
			if _, err := sealer.Open(sealed, context); err != nil {
				return fmt.Errorf("%w: %w; found the cluster with the cluster.key of the old one", ErrOtherKey, err)
			}
		}
	}
	return nil
}
