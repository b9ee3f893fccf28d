package release_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fifegateway/fife/controlplane/release"
)

func TestResourceNames(t *testing.T) {
	for got, want := range map[string]string{
		release.APIName("demo"):                              "apis/demo",
		release.DeploymentName("demo", 12):                   "apis/demo/deployments/12",
		release.StageName("demo", "prod"):                    "apis/demo/stages/prod",
		(&release.API{ID: "a"}).Name():                       "apis/a",
		(&release.Deployment{API: "a", Number: 3}).Name():    "apis/a/deployments/3",
		(&release.Stage{API: "a", ID: "S_1"}).Name():         "apis/a/stages/S_1",
		(&release.Route{Method: "GET", Path: "/x"}).String(): "GET /x",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestIDs(t *testing.T) {
	api, stage, node := release.CheckAPIID, release.CheckStageID, release.CheckNodeID
	tests := []struct {
		what  string
		check func(*release.Violations, string, string)
		id    string
		ok    bool
	}{
		{"api", api, "a", true},
		{"api", api, "0", true},
		{"api", api, "pet-store-2", true},
		{"api", api, "a--b", true},
		{"api", api, strings.Repeat("a", 63), true},
		{"api", api, "", false},
		{"api", api, "-", false},
		{"api", api, "-a", false},
		{"api", api, "a-", false},
		{"api", api, "A", false},
		{"api", api, "a_b", false},
		{"api", api, "a.b", false},
		{"api", api, "a/b", false},
		{"api", api, "a\x00b", false},
		{"api", api, "ä", false},
		{"api", api, strings.Repeat("a", 64), false},
		{"stage", stage, "prod", true},
		{"stage", stage, "Prod_1-x", true},
		{"stage", stage, "-", true},
		{"stage", stage, strings.Repeat("s", 64), true},
		{"stage", stage, "", false},
		{"stage", stage, "a b", false},
		{"stage", stage, "a.b", false},
		{"stage", stage, "a/b", false},
		{"stage", stage, "a\x00", false},
		{"stage", stage, "\xff", false},
		{"stage", stage, strings.Repeat("s", 65), false},
		{"node", node, "n1", true},
		{"node", node, "eu-west-1a", true},
		{"node", node, "", false},
		{"node", node, "N1", false},
		{"node", node, "n.1", false},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s/%q", tt.what, tt.id), func(t *testing.T) {
			var v release.Violations
			tt.check(&v, "id", tt.id)
			if tt.ok {
				wantFault(t, v, fault{})
			} else {
				wantFault(t, v, fault{"id", fmt.Sprintf("%q must have 1 to 6", tt.id)})
			}
		})
	}
}

func TestCheckDescription(t *testing.T) {
	var v release.Violations
	release.CheckDescription(&v, "description", strings.Repeat("ü", 1024)) // characters, not bytes
	wantFault(t, v, fault{})
	release.CheckDescription(&v, "description", strings.Repeat("a", 1025))
	wantFault(t, v, fault{"description", "has 1025 characters, at most 1024"})
}

func TestCheckTimeout(t *testing.T) {
	for d, ok := range map[time.Duration]bool{
		0: true, 50 * time.Millisecond: true, 29 * time.Second: true,
		50*time.Millisecond - 1: false, 29*time.Second + 1: false, -time.Second: false, 1: false,
	} {
		var v release.Violations
		release.CheckTimeout(&v, "timeout", d)
		if ok {
			wantFault(t, v, fault{})
		} else {
			wantFault(t, v, fault{"timeout", "must lie between 50ms and 29s"})
		}
	}
}
