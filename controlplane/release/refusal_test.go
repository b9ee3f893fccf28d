package release_test

import (
	"reflect"
	"testing"

	"github.com/fifegateway/fife/controlplane/release"
)

func TestViolationsErr(t *testing.T) {
	var v release.Violations
	if err := v.Err(); err != nil {
		t.Fatalf("no violations give %v", err)
	}
	v.Addf("b", "is %d", 1)
	v.Addf("a", "is first")
	v.Addf("b", "is %d", 2)
	r := wantRefusal(t, v.Err(), release.InvalidField)
	if got, want := r.Error(), "the request has bad fields: a: is first; b: is 1; b: is 2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if v[0].Field != "b" {
		t.Errorf("Err sorted the caller's violations: %v", v)
	}
}

// TestRefusals pins the texts and metadata that clients see.
func TestRefusals(t *testing.T) {
	tests := []struct {
		got      *release.Refusal
		reason   release.Reason
		message  string
		metadata map[string]string
	}{
		{release.Missing("apis/a"), release.NotFound, "apis/a does not exist", vars("resource", "apis/a")},
		{release.Taken("apis/a"), release.Exists, "apis/a already exists", vars("resource", "apis/a")},
		{
			release.ReusedRequestID("r1"), release.RequestIDReused,
			`request_id "r1" was used for another call; use a new one`, vars("request_id", "r1"),
		},
		{
			release.InUse(release.APIInUse, "apis/a", "apis/a/stages/s"), release.APIInUse,
			"apis/a is in use by apis/a/stages/s; change or delete that first",
			vars("resource", "apis/a", "used_by", "apis/a/stages/s"),
		},
		{
			release.TooMany("apis/a", "routes", 5), release.LimitReached,
			"apis/a has 5 routes, which is the most allowed", vars("resource", "apis/a", "limit", "5"),
		},
	}
	for _, tt := range tests {
		if tt.got.Reason != tt.reason || tt.got.Error() != tt.message || !reflect.DeepEqual(tt.got.Metadata, tt.metadata) {
			t.Errorf("got %+v, want %s %q %v", tt.got, tt.reason, tt.message, tt.metadata)
		}
	}
}

func TestCheckRevision(t *testing.T) {
	for _, want := range []uint64{0, 7} {
		if err := release.CheckRevision("apis/a", 7, want); err != nil {
			t.Errorf("want %d: %v", want, err)
		}
	}
	for _, want := range []uint64{6, 8} {
		r := wantRefusal(t, release.CheckRevision("apis/a", 7, want), release.StaleEtag)
		if !reflect.DeepEqual(r.Metadata, vars("resource", "apis/a", "etag", "7")) {
			t.Errorf("metadata %v", r.Metadata)
		}
	}
}
