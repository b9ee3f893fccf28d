package discovery

import (
	"errors"
	"fmt"
	"maps"

	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/release"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// opener opens the secrets of stages on their way to agents, and nowhere else. It is
// Config.Sealer.
type opener func() (*identity.Sealer, error)

var errNoSealer = errors.New("this node speaks plaintext, and has no key that opens secrets")

// stage puts the secrets of a stage in their places, and says which they are. The maps
// of the state, which p shares, stay as they are.
func (o opener) stage(s *release.Stage, p *discoveryv1.Stage) error {
	var failed error
	variables := func(vars map[string]string) (map[string]string, []string) {
		opened, names, err := o.variables(s, vars)
		failed = errors.Join(failed, err)
		return opened, names
	}
	canary := func(c *discoveryv1.Canary) {
		if c != nil {
			c.VariableOverrides, c.SecretOverrides = variables(c.GetVariableOverrides())
		}
	}
	p.Variables, p.SecretVariables = variables(p.GetVariables())
	canary(p.GetCanary())
	for _, c := range []*discoveryv1.StageConfig{p.GetNext(), p.GetFormer()} {
		if c != nil {
			c.Variables, c.SecretVariables = variables(c.GetVariables())
			canary(c.GetCanary())
		}
	}
	if sealed, ok := release.SealedBytes(p.GetOverrideKey()); ok {
		key, err := o.open(sealed, release.OverrideKeyContext(s.API, s.ID))
		p.OverrideKey, failed = key, errors.Join(failed, err)
	}
	if failed != nil {
		return fmt.Errorf("open the secrets of %s: %w", s.Name(), failed)
	}
	return nil
}

func (o opener) variables(s *release.Stage, vars map[string]string) (opened map[string]string, names []string, err error) {
	if names = release.Secrets(vars); len(names) == 0 {
		return vars, nil, nil
	}
	opened = maps.Clone(vars)
	for _, name := range names {
		sealed, _ := release.SealedBytes(vars[name]) // what cannot be decoded cannot be opened either
		if opened[name], err = o.open(sealed, release.SecretContext(s.API, s.ID, name)); err != nil {
			return nil, nil, err
		}
	}
	return opened, names, nil
}

func (o opener) open(sealed []byte, context string) (string, error) {
	if o == nil {
		return "", errNoSealer
	}
	sealer, err := o()
	switch {
	case err != nil:
		return "", err
	case sealer == nil:
		return "", errNoSealer
	}
	value, err := sealer.Open(sealed, context)
	return string(value), err
}
