package main

import (
	"strings"
	"testing"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// TestLongPreview: a preview that names as many routes as it may is not taken
// for a whole one.
func TestLongPreview(t *testing.T) {
	var text strings.Builder
	writePreview(&text, &fifev1.StagePreview{RoutesRemoved: make([]string, maxNamed)})
	if want := "- (the base may lose more; 100 are named)\n"; !strings.HasSuffix(text.String(), want) {
		t.Errorf("%q does not end with %q", text.String(), want)
	}
	text.Reset()
	writePreview(&text, nil)
	if text.Len() != 0 {
		t.Errorf("%q for no preview", text.String())
	}
}

// TestClean: what agents and other operators write cannot steer a terminal, nor
// make up lines or cells.
func TestClean(t *testing.T) {
	for text, want := range map[string]string{
		"plain": "plain", "a\x1b[2Jb": "a [2Jb", "a\nb\tc\r": "a b c ", "a\u202eb": "a b", "é 漢": "é 漢", "a\u009bb": "a b",
	} {
		if got := clean(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	var line strings.Builder
	row(&line, "a\tb", "", "c")
	if line.String() != "a b\t-\tc\n" {
		t.Errorf("%q", line.String())
	}
}
