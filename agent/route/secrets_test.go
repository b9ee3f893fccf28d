package route

import (
	"strings"
	"testing"
)

// secretVariant is a canary with a secret of its own and one of its stage.
func secretVariant(t *testing.T) *Variant {
	t.Helper()
	table := compile(t, Spec{
		APIs:        []APISpec{{ID: "demo"}},
		Deployments: []*Deployment{deployment(t, 1, "GET /")},
		Stages: []StageSpec{{
			API: "demo", ID: "prod", Deployment: 1, Variables: map[string]string{"p": "plain", "s": "hush"}, Secrets: []string{"s"},
			Canary: &CanarySpec{Deployment: 1, Overrides: map[string]string{"c": "quiet"}, Secrets: []string{"c"}},
		}},
	})
	s, _, _ := table.Lookup("", "/prod", "")
	if s.Base().Redact("hush quiet") != "${stageVariables.s} quiet" {
		t.Errorf("the base says %q", s.Base().Redact("hush quiet"))
	}
	return s.Canary()
}

func TestSecretsAreHidden(t *testing.T) {
	v := secretVariant(t)
	for source, want := range map[string]bool{
		"http://h/": false, "http://h/${stageVariables.p}": false, "http://${stageVariables.s}/x": true,
		"http://h/${stageVariables.p}?k=${stageVariables.c}": true, "http://h/{s}": false,
	} {
		template, err := parseTemplate(source)
		if err != nil {
			t.Fatal(err)
		}
		if v.Hides(&template) != want {
			t.Errorf("%s hides a secret: %v", source, !want)
		}
	}
	if got := v.Redact("a hush plain quiethush"); got != "a ${stageVariables.s} plain ${stageVariables.c}${stageVariables.s}" {
		t.Errorf("got %q", got)
	}
	if plain := variant(t, "GET /"); plain.HasSecrets() || plain.Redact("hush") != "hush" {
		t.Error("a variant without secrets has some")
	}
}

// TestBadValueIsNotTold: a compiler's error goes to the control plane, and into logs.
func TestBadValueIsNotTold(t *testing.T) {
	if err := checkVariables(map[string]string{"s": "hush hush"}); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("got %v", err)
	}
}
