package release_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fifegateway/fife/controlplane/release"
)

// fault is what a check is to find: a field, and a part of its description. The
// zero fault is none.
type fault struct{ field, text string }

// wantFault fails the test unless the check has found exactly one fault, or none
// if none is wanted.
func wantFault(t *testing.T, v release.Violations, want fault) {
	t.Helper()
	switch {
	case want == (fault{}) && len(v) == 0:
	case want == (fault{}):
		t.Errorf("found %v, want nothing", v)
	case len(v) != 1:
		t.Errorf("found %v, want one fault of %s with %q", v, want.field, want.text)
	case v[0].Field != want.field || !strings.Contains(v[0].Description, want.text):
		t.Errorf("found %v, want %s with %q", v[0], want.field, want.text)
	}
}

// wantRefusal fails the test unless err is a refusal for the given reason.
func wantRefusal(t *testing.T, err error, want release.Reason) *release.Refusal {
	t.Helper()
	var r *release.Refusal
	if !errors.As(err, &r) || r.Reason != want {
		t.Fatalf("got %v, want a refusal with %s", err, want)
	}
	return r
}

// change returns the n-th change of a test's stage.
func change(n int) release.Change {
	return release.Change{
		Time: time.Unix(int64(1000+n), 0).UTC(), Actor: fmt.Sprintf("actor-%d", n), Method: fmt.Sprintf("Method%d", n),
	}
}

// vars makes variables of alternating names and values.
func vars(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

// manyVars makes n variables whose names begin with prefix.
func manyVars(prefix string, n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprint(prefix, i)] = "v"
	}
	return m
}
