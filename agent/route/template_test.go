package route

import (
	"errors"
	"testing"
)

func TestTemplateExpand(t *testing.T) {
	v := variant(t, "GET /{id}/{rest+}")
	var p Params
	v.Match("GET", "/%37/a/b", &p)
	vars := map[string]string{"host": "h.example:8080", "q": "x=1&y"}
	tests := []struct{ template, want string }{
		{"", ""},
		{"http://h/x", "http://h/x"},
		{"http://${stageVariables.host}/", "http://h.example:8080/"},
		{"${stageVariables.host}", "h.example:8080"},
		{"${stageVariables.host}${stageVariables.q}", "h.example:8080x=1&y"},
		{"http://h/{id}/{rest}?${stageVariables.q}=2", "http://h/%37/a/b?x=1&y=2"},
		{"{rest+}", "a/b"},
		{"$LATEST", "$LATEST"},
		{"$${stageVariables.q}$", "$x=1&y$"},
	}
	for _, tt := range tests {
		template, err := parseTemplate(tt.template)
		if err != nil {
			t.Errorf("%s: %v", tt.template, err)
			continue
		}
		got, err := template.Expand(vars, &p)
		if err != nil || got != tt.want {
			t.Errorf("%s: Expand = %q, %v, want %q", tt.template, got, err, tt.want)
		}
		if template.String() != tt.template {
			t.Errorf("String() = %q, want %q", template.String(), tt.template)
		}
		if constant := got == tt.template; template.Constant() != constant {
			t.Errorf("%s: Constant() = %v", tt.template, template.Constant())
		}
	}
}

func TestTemplateZeroValue(t *testing.T) {
	var template Template
	if got, err := template.Expand(nil, nil); err != nil || got != "" || !template.Constant() {
		t.Errorf("Expand = %q, %v", got, err)
	}
}

func TestTemplateUnset(t *testing.T) {
	template, err := parseTemplate("http://h/${stageVariables.a}/${stageVariables.b}")
	if err != nil {
		t.Fatal(err)
	}
	_, err = template.Expand(map[string]string{"a": "x"}, nil)
	var unset *UnsetVariableError
	if !errors.As(err, &unset) || unset.Name != "b" {
		t.Errorf("Expand without b: %v", err)
	}
	template, err = parseTemplate("/{id}")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := template.Expand(nil, nil); err == nil {
		t.Errorf("Expand without parameters = %q", got)
	}
}

func TestParseTemplateRefuses(t *testing.T) {
	for _, s := range []string{
		"{", "}", "}{", "{id}}{", "{{id}}", "a}b", "{id", "{}", "{+}", "{a b}", "{a{b}}", "${", "${}", "${stageVariables.}", "${stageVariables.a",
		"${stageVariables.a-b}", "${stagevariables.a}", "${context.stage}", "${a}",
	} {
		if template, err := parseTemplate(s); err == nil {
			t.Errorf("parseTemplate(%q) = %v, want an error", s, template)
		}
	}
}
