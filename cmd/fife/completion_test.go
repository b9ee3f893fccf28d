package main

import (
	"strings"
	"testing"
)

// complete asks as a shell does and returns the words it is offered.
func complete(t *testing.T, servers, line string) (words []string, noFiles bool) {
	t.Helper()
	r := fife(t, servers, append([]string{"__complete"}, strings.Split(line, " ")...)...)
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	for _, word := range lines[:len(lines)-1] {
		word, _, _ = strings.Cut(word, "\t")
		words = append(words, word)
	}
	return words, lines[len(lines)-1] == ":4"
}

func TestCompletion(t *testing.T) {
	f := demo(t)
	for line, want := range map[string]string{
		"route list ":                         "demo other",
		"route list o":                        "other",
		"route list demo ":                    "",
		"route put demo ":                     "GET HEAD POST PUT PATCH DELETE OPTIONS ANY",
		"route put demo P":                    "POST PUT PATCH",
		"route put demo GET ":                 "",
		"canary promote ":                     "demo/canary demo/plain",
		"canary promote demo/p":               "demo/plain",
		"stage list ":                         "demo other",
		"api create ":                         "",
		"stage create ":                       "",
		"deploy demo --stage ":                "canary plain",
		"deploy --stage ":                     "",
		"deploy demo --target ":               "base canary",
		"api list -o ":                        "table json yaml",
		"split sign demo/canary --variant ":   "base canary",
		"canary ab":                           "abort abort-promotion",
		"-s " + f.address + " stage get demo": "demo/canary demo/plain",
	} {
		words, noFiles := complete(t, f.address, line)
		if got := strings.Join(words, " "); got != want {
			t.Errorf("%q completes to %q, want %q", line, got, want)
		}
		if !noFiles {
			t.Errorf("%q falls back to file names", line)
		}
	}
}

// TestCompletionAway: a control plane that is away offers no names and says
// nothing on the line that is being typed.
func TestCompletionAway(t *testing.T) {
	if words, noFiles := complete(t, refusing(t), "canary promote "); len(words) != 0 || !noFiles {
		t.Errorf("offers %q", words)
	}
}

func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := fife(t, "", "completion", shell); r.code != exitOK || !strings.Contains(r.out, "fife") {
			t.Errorf("%s: exit %d", shell, r.code)
		}
	}
}
