package release_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/fifegateway/fife/controlplane/release"
)

// sealed stands for a secret value; "" for the one that there is.
func sealed(text string) string { return release.SealedValue([]byte(text)) }

func TestSealedValues(t *testing.T) {
	for _, text := range []string{"", "x", "\x00\xff", strings.Repeat("long", 300)} {
		got, ok := release.SealedBytes(sealed(text))
		if !ok || string(got) != text {
			t.Errorf("%q became %q, %v", text, got, ok)
		}
		var v release.Violations
		release.CheckVariables(&v, "f", vars("x", sealed(text)))
		if len(v) == 0 {
			t.Errorf("%q could be given as a plain value", sealed(text))
		}
	}
	for _, text := range []string{"", "plain", "sealed:eA", sealed("x")[:5], sealed("x") + "!"} {
		if got, ok := release.SealedBytes(text); ok {
			t.Errorf("%q is %q sealed", text, got)
		}
	}
	all := vars("a", "1", "b", sealed("2"), "c", sealed(""))
	if got := release.Secrets(all); strings.Join(got, " ") != "b c" {
		t.Errorf("secrets are %v", got)
	}
	if got := release.PlainVariables(all); !maps.Equal(got, vars("a", "1")) {
		t.Errorf("plain ones are %v", got)
	}
}

func TestEditSecrets(t *testing.T) {
	had := vars("p", "1", "s", sealed("old"))
	tests := map[string]struct {
		values map[string]string
		fields []string
		want   map[string]string // nil if it is refused
	}{
		"plain ones alone":       {vars("q", "2"), []string{release.FieldVariables}, vars("q", "2", "s", sealed("old"))},
		"no plain ones":          {nil, []string{release.FieldVariables}, vars("s", sealed("old"))},
		"another secret":         {vars("s", sealed("new")), []string{release.FieldSecretVariables}, vars("p", "1", "s", sealed("new"))},
		"one that stays":         {vars("s", sealed(""), "t", sealed("t")), []string{release.FieldSecretVariables}, vars("p", "1", "s", sealed("old"), "t", sealed("t"))},
		"no secrets":             {nil, []string{release.FieldSecretVariables}, vars("p", "1")},
		"a plain one is secret":  {vars("p", sealed("new"), "s", sealed("")), []string{release.FieldSecretVariables}, vars("p", sealed("new"), "s", sealed("old"))},
		"both":                   {vars("s", "1", "p", sealed("p")), []string{release.FieldSecretVariables, release.FieldVariables}, vars("s", "1", "p", sealed("p"))},
		"neither":                {vars("x", "1", "y", sealed("y")), []string{release.FieldDescription}, had},
		"one stays that is none": {vars("p", sealed("")), []string{release.FieldSecretVariables}, nil},
		"a secret laid open":     {vars("s", "1"), []string{release.FieldVariables}, nil},
		"too many":               {sealedVars(release.MaxVariables), []string{release.FieldSecretVariables}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := release.NewStage(change(1), "demo", "prod", release.StageValues{Deployment: 1, Variables: had})
			got, err := s.Update(change(2), release.StageValues{Variables: tt.values}, tt.fields)
			switch {
			case tt.want == nil && err == nil:
				t.Errorf("it became %q", got.Config.Variables)
			case tt.want != nil && (err != nil || !maps.Equal(got.Config.Variables, tt.want)):
				t.Errorf("it became %v, %v, want %q", got, err, tt.want)
			}
			if tt.want == nil && name != "too many" {
				_ = wantRefusal(t, err, release.InvalidField)
			}

			// The same rules hold for the overrides of a canary.
			if name == "too many" {
				return
			}
			fields := make([]string, len(tt.fields))
			for i, f := range tt.fields {
				fields[i] = map[string]string{
					release.FieldVariables: release.FieldVariableOverrides, release.FieldSecretVariables: release.FieldSecretOverrides,
					release.FieldDescription: release.FieldPercent,
				}[f]
			}
			s = made(t)(release.NewStage(change(1), "demo", "prod", release.StageValues{Deployment: 1}).
				StartCanary(change(2), release.Canary{Overrides: had}, false))
			got, err = s.UpdateCanary(change(3), release.Canary{Overrides: tt.values}, fields)
			if (tt.want == nil) != (err != nil) || (err == nil && !maps.Equal(got.Config.Canary.Overrides, tt.want)) {
				t.Errorf("overrides became %v, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func sealedVars(n int) map[string]string {
	m := manyVars("s", n)
	for name := range m {
		m[name] = sealed(name)
	}
	return m
}

// TestSecretsOfCanaries: a canary may override a secret by another one, which a
// promotion makes the stage's and a rollback takes back, and never in the open.
func TestSecretsOfCanaries(t *testing.T) {
	s := release.NewStage(change(1), "demo", "prod", release.StageValues{Deployment: 1, Variables: vars("s", sealed("old"))})
	open, hidden := release.Canary{Deployment: 2, Overrides: vars("s", "1")}, release.Canary{Deployment: 2, Overrides: vars("s", sealed("new"))}
	_, err := s.StartCanary(change(2), open, false)
	_ = wantRefusal(t, err, release.InvalidField)
	_, err = s.Update(change(2), release.StageValues{Canary: &open}, []string{release.FieldCanary})
	_ = wantRefusal(t, err, release.InvalidField)
	with := made(t)(s.StartCanary(change(2), hidden, false))
	_, err = with.UpdateCanary(change(3), open, []string{release.FieldSecretOverrides, release.FieldVariableOverrides})
	_ = wantRefusal(t, err, release.InvalidField)
	plain := made(t)(release.NewStage(change(1), "demo", "prod", release.StageValues{Deployment: 1}).StartCanary(change(2), open, false))
	_, err = plain.Update(change(3), release.StageValues{Variables: vars("s", sealed("x"))}, []string{release.FieldSecretVariables})
	_ = wantRefusal(t, err, release.InvalidField)

	// Who replaces the whole canary and knows not what is secret in it leaves that.
	kept := made(t)(with.Update(change(3), release.StageValues{Canary: &release.Canary{
		Deployment: 2, Overrides: vars("s", sealed(""), "o", "1"),
	}}, []string{release.FieldCanary}))
	if !maps.Equal(kept.Config.Canary.Overrides, vars("s", sealed("new"), "o", "1")) {
		t.Errorf("overrides are %q", kept.Config.Canary.Overrides)
	}
	_, err = s.Update(change(3), release.StageValues{Canary: &release.Canary{Overrides: vars("s", sealed(""))}}, []string{release.FieldCanary})
	_ = wantRefusal(t, err, release.InvalidField)

	promoted := made(t)(with.PromoteCanary(change(3), false, false))
	if !maps.Equal(promoted.Config.Variables, vars("s", sealed("new"))) {
		t.Errorf("promoted: %q", promoted.Config.Variables)
	}
	back := made(t)(promoted.Rollback(change(4), 0))
	if !maps.Equal(back.Config.Variables, vars("s", sealed("old"))) {
		t.Errorf("rolled back: %q", back.Config.Variables)
	}
}

// TestSealed: what is sealed is found wherever a stage keeps it.
func TestSealed(t *testing.T) {
	s := release.NewStage(change(1), "demo", "prod", release.StageValues{
		Deployment: 1, Variables: vars("s", sealed("1"), "p", "plain"), Split: release.Split{AllowOverride: true, OverrideKey: sealed("key")},
	})
	s = made(t)(s.Update(change(2), release.StageValues{Variables: vars("s", sealed("2"))}, []string{release.FieldSecretVariables}))
	s = made(t)(s.StartCanary(change(3), release.Canary{Deployment: 2, Overrides: vars("s", sealed("3"), "o", sealed("4"))}, false))
	found := map[string]string{}
	for text, context := range s.Sealed() {
		found[text] = context
	}
	const at = "apis/demo/stages/prod/"
	want := vars(sealed("1"), at+"variables/s", sealed("2"), at+"variables/s", sealed("3"), at+"variables/s",
		sealed("4"), at+"variables/o", sealed("key"), at+"override_key")
	if !maps.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
	n := 0
	for range s.Sealed() {
		if n++; n == 1 {
			break // whoever has seen enough may go
		}
	}
}

func TestCheckSecrets(t *testing.T) {
	for name, tt := range map[string]struct {
		secrets map[string]string
		plain   map[string]string
		fault   fault
	}{
		"good":      {secrets: vars("s", "value")},
		"kept":      {secrets: vars("s", "")},
		"bad value": {vars("s", "hunter 2"), nil, fault{"f", "the value of \"s\" must have"}},
		"long":      {vars("s", strings.Repeat("v", 513)), nil, fault{"f", "the value of \"s\" must have"}},
		"bad name":  {vars("no name", "value"), nil, fault{"f", "name \"no name\""}},
		"twice":     {vars("s", "value"), vars("s", "1"), fault{"f", "is a plain variable"}},
	} {
		var v release.Violations
		release.CheckSecrets(&v, "f", tt.secrets, tt.plain)
		wantFault(t, v, tt.fault)
		for _, found := range v {
			for _, value := range tt.secrets {
				if value != "" && strings.Contains(found.Description, value) {
					t.Errorf("%s: the fault shows the secret: %s", name, found.Description)
				}
			}
		}
	}
}
