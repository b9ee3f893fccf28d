package release

import (
	"cmp"
	"encoding/base64"
	"iter"
	"maps"
	"strings"
)

// A secret, which is a variable's value or the key of signed overrides, is sealed before
// it gets here and opened after it has left: what the rules move about, and what is in
// the log, is a text that no plain one can be, as it begins with a NUL.
const sealedMark = "\x00sealed:"

// The fields that hold secrets, as update masks name them.
const (
	FieldSecretVariables = "secret_variables"
	FieldSecretOverrides = "secret_overrides"
)

// SealedValue returns what stands for a secret. Sealed as nothing it stands, in a
// request, for the value that there is.
func SealedValue(sealed []byte) string {
	return sealedMark + base64.RawStdEncoding.EncodeToString(sealed)
}

// SealedBytes returns what a text stands for, sealed; ok is false for a plain one.
func SealedBytes(value string) (sealed []byte, ok bool) {
	text, ok := strings.CutPrefix(value, sealedMark)
	if !ok {
		return nil, false
	}
	sealed, err := base64.RawStdEncoding.DecodeString(text)
	return sealed, err == nil
}

// SecretContext is what a secret variable of a stage is sealed for: in another place it
// does not open. Overrides of canaries have that of the variable, since promotions make
// them the stage's.
func SecretContext(api, stage, name string) string {
	return StageName(api, stage) + "/variables/" + name
}

// OverrideKeyContext is what the key of a stage's signed overrides is sealed for.
func OverrideKeyContext(api, stage string) string { return StageName(api, stage) + "/override_key" }

// Sealed returns all that is sealed in a stage, what its history would restore
// included, each as its text and what it was sealed for.
func (s *Stage) Sealed() iter.Seq2[string, string] {
	return func(yield func(text, context string) bool) {
		stopped := false
		note := func(text, context string) {
			if !stopped && strings.HasPrefix(text, sealedMark) {
				stopped = !yield(text, context)
			}
		}
		config := func(c Config) {
			for _, vars := range []map[string]string{c.Variables, c.overrides()} {
				for name, text := range vars {
					note(text, SecretContext(s.API, s.ID, name))
				}
			}
		}
		note(s.Split.OverrideKey, OverrideKeyContext(s.API, s.ID))
		config(s.Config)
		for _, r := range s.History {
			config(r.Config)
		}
		if s.Promotion != nil {
			config(s.Promotion.Config)
			config(s.Promotion.Former)
		}
	}
}

func (c Config) overrides() map[string]string {
	if c.Canary == nil {
		return nil
	}
	return c.Canary.Overrides
}

// Secrets returns the names of the secrets among variables, in order.
func Secrets(vars map[string]string) []string {
	var names []string
	for _, name := range sortedKeys(vars) {
		if strings.HasPrefix(vars[name], sealedMark) {
			names = append(names, name)
		}
	}
	return names
}

// PlainVariables returns the variables that are no secrets.
func PlainVariables(vars map[string]string) map[string]string {
	secrets := Secrets(vars)
	if len(secrets) == 0 {
		return vars
	}
	plain := maps.Clone(vars)
	for _, name := range secrets {
		delete(plain, name)
	}
	return plain
}

// CheckSecrets notes what is wrong with secrets and never shows one. An empty one is
// that which the stage has.
func CheckSecrets(v *Violations, field string, secrets, plain map[string]string) {
	for _, name := range sortedKeys(secrets) {
		CheckVariables(v, field, map[string]string{name: "x"})
		var bad Violations
		CheckVariables(&bad, field, map[string]string{"x": cmp.Or(secrets[name], "x")})
		if len(bad) > 0 {
			v.Addf(field, "the value of %q must have 1 to %d letters, digits and -._~:/?#&=,", name, MaxVariableValue)
		}
		if _, both := plain[name]; both {
			v.Addf(field, "%q is a plain variable in the same request", name)
		}
	}
}

// editVariables returns variables with the plain ones, the secrets or both taken from
// values. A plain one that becomes secret is plain no more; a secret becomes plain only
// if both are given, so that nobody who knows nothing of it lays it open. It refuses a
// secret that is to stay and that there is not.
func editVariables(field string, vars, values map[string]string, plain, secret bool) (map[string]string, error) {
	kept, opened := secretsAmong(vars), PlainVariables(vars)
	if secret {
		set := secretsAmong(values)
		for name, value := range set {
			if value != sealedMark {
				continue
			}
			if set[name] = kept[name]; set[name] == "" {
				return nil, badSecret(field, "there is no secret %q that could stay: give it a value", name)
			}
		}
		kept = set
		opened = withoutNames(opened, set)
	}
	if plain {
		opened = PlainVariables(values)
		for _, name := range sortedKeys(kept) {
			if _, both := opened[name]; both {
				return nil, badSecret(field, "%q is secret: give it as a secret, or remove that", name)
			}
		}
	}
	return MergeVariables(opened, kept), nil
}

// CheckOverrides notes secrets that a canary overrides in the open: promoted, it would
// lay open what was secret.
func CheckOverrides(v *Violations, field string, vars, overrides map[string]string) {
	plain := PlainVariables(overrides)
	for _, name := range Secrets(vars) {
		if _, both := plain[name]; both {
			v.Addf(field, "%q is secret: override it with a secret", name)
		}
	}
}

func checkOverrides(vars, overrides map[string]string) error {
	var v Violations
	CheckOverrides(&v, "canary.variable_overrides", vars, overrides)
	return v.Err()
}

// replaceCanary returns a canary whose secrets that are to stay are those of the open
// one.
func (s *Stage) replaceCanary(canary *Canary) (*Canary, error) {
	if canary == nil {
		return nil, nil
	}
	next := *canary
	var had map[string]string
	if s.Config.Canary != nil {
		had = s.Config.Canary.Overrides
	}
	var err error
	next.Overrides, err = editVariables("canary.secret_overrides", had, canary.Overrides, true, true)
	return &next, err
}

func badSecret(field, format string, args ...any) error {
	var v Violations
	v.Addf(field, format, args...)
	return v.Err()
}

func secretsAmong(vars map[string]string) map[string]string {
	secrets := map[string]string{}
	for _, name := range Secrets(vars) {
		secrets[name] = vars[name]
	}
	return secrets
}

func withoutNames(vars, names map[string]string) map[string]string {
	vars = maps.Clone(vars)
	maps.DeleteFunc(vars, func(name, _ string) bool { _, gone := names[name]; return gone })
	return vars
}
