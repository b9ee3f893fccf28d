package release

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseTemplate(t *testing.T) {
	text := func(s string) TemplatePart { return TemplatePart{Text: s} }
	for _, tt := range []struct {
		template string
		want     []TemplatePart
		refused  string // a piece of the error
	}{
		{"", nil, ""},
		{"plain $5 # no. 1 $", []TemplatePart{text("plain $5 # no. 1 $")}, ""},
		{`{"version": "$stageVariables.version"}`, []TemplatePart{text(`{"version": "`), {Variable: "version"}, text(`"}`)}, ""},
		{"${stageVariables.a}b$!context.stage", []TemplatePart{{Variable: "a"}, text("b"), {Context: "stage"}}, ""},
		{"$context.isCanaryRequest.", []TemplatePart{{Context: "isCanaryRequest"}, text(".")}, ""},
		{"$stageVariables.a-b", nil, "put the reference in braces, such as ${stageVariables.a}"},
		{"$stageVariables.a.b", nil, "in braces"},
		{"$context.stage()", nil, "in braces"},
		{"${stageVariables.a}-b", []TemplatePart{{Variable: "a"}, text("-b")}, ""},
		{`\$context.stage`, nil, "cannot be escaped"},
		{"$input.body", nil, `"$input.body": a template may have references`},
		{"$context.authorizer", nil, "the context has apiId, deploymentId"},
		{"${stageVariables.a", nil, "and nothing else"},
		{"#set($a = 1)", nil, "and nothing else"},
		{"#if(true)x#end", nil, "and nothing else"},
		{"## comment", nil, "and nothing else"},
		{"#*x*#", nil, "and nothing else"},
		{"#[[x]]#", nil, "and nothing else"},
		{"#{if}", nil, "and nothing else"},
		{"#@macro", nil, "and nothing else"},
		{"$stageVariables." + strings.Repeat("a", 65), nil, "up to 64"},
		{strings.Repeat("$context.stage ", 65), nil, "64 references"},
	} {
		got, err := ParseTemplate(tt.template)
		switch {
		case tt.refused == "" && (err != nil || !reflect.DeepEqual(got, tt.want)):
			t.Errorf("%q: %v, %v, want %v", tt.template, got, err, tt.want)
		case tt.refused != "" && (err == nil || !strings.Contains(err.Error(), tt.refused)):
			t.Errorf("%q: %v, %v, want an error with %q", tt.template, got, err, tt.refused)
		}
	}
}

// FuzzParseTemplate: parts put together again are the template but for how references
// are written, and what is no template is one text.
func FuzzParseTemplate(f *testing.F) {
	for _, seed := range []string{"a$stageVariables.b", "${context.stage}", "$5", "#if", `\$context.stage`, "$!{stageVariables.x}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, template string) {
		parts, err := ParseTemplate(template)
		if err != nil {
			return
		}
		if !IsTemplate(template) && template != "" && (len(parts) != 1 || parts[0].Text != template) {
			t.Fatalf("%q is no template and comes to %v", template, parts)
		}
		var again strings.Builder
		for _, p := range parts {
			switch {
			case p.Variable != "":
				again.WriteString("${stageVariables." + p.Variable + "}")
			case p.Context != "":
				again.WriteString("${context." + p.Context + "}")
			default:
				again.WriteString(p.Text)
			}
		}
		second, err := ParseTemplate(again.String())
		if err != nil || !reflect.DeepEqual(parts, second) {
			t.Fatalf("%q: %v; written again as %q: %v, %v", template, parts, again.String(), second, err)
		}
	})
}
