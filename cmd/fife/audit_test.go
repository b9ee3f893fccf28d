package main

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// audited is demo with an audit of two pages and a chain that does not fit.
func audited(t *testing.T) *fake {
	t.Helper()
	f := demo(t)
	changes, refusals := fifev1.AuditChainName_AUDIT_CHAIN_NAME_CHANGES, fifev1.AuditChainName_AUDIT_CHAIN_NAME_REFUSALS
	f.on("AuditService/ListAuditEntries", func(_ context.Context, request proto.Message, send func(proto.Message) error) error {
		if request.(*fifev1.ListAuditEntriesRequest).GetPageToken() == "" {
			return send(&fifev1.ListAuditEntriesResponse{NextPageToken: "more", Entries: []*fifev1.AuditEntry{{
				Chain: changes, Number: 7, Index: 12, Term: 2, Time: at(5), Actor: "spiffe://c/user/alice", Source: "192.0.2.7:40000",
				Method: "PromoteCanary", Resource: "apis/demo/stages/prod", Count: 1, Hash: []byte{1},
				Before: map[string]string{"deployment": "1", "canary.percent": "50"}, After: map[string]string{"deployment": "2"},
			}}})
		}
		return send(&fifev1.ListAuditEntriesResponse{Entries: []*fifev1.AuditEntry{{
			Chain: refusals, Number: 1, Index: 13, Term: 2, Time: at(6), Actor: "spiffe://c/user/mallory", Source: "192.0.2.8:40000",
			Method: "DeleteApi", Resource: "apis/demo", Code: 7, Reason: "PERMISSION_DENIED", Message: "not\x1b[31m allowed", Count: 3, Hash: []byte{2},
		}}})
	})
	f.on("AuditService/VerifyAudit", reply(&fifev1.VerifyAuditResponse{Node: "n1", Chains: []*fifev1.AuditChain{
		{Chain: changes, Entries: 7, First: 1, Last: 7, Oldest: at(1), Head: []byte{1}},
		{Chain: refusals, Head: []byte{2}, Last: 2, Entries: 1, First: 2, Fault: &fifev1.AuditFault{Number: 2, Index: 13, Description: "it is missing"}},
	}}))
	return f
}

// TestAuditTranscript compares, for each command on the audit, what was sent, what
// was printed, and the exit code.
func TestAuditTranscript(t *testing.T) {
	golden(t, "audit", transcript(t, audited(t), t.TempDir(), []string{
		"audit list",
		"audit list --since 2026-03-04T19:00:00Z --until 2026-03-04T20:00:00Z --actor me --resource apis/demo",
		"audit list --since yesterday",
		"audit verify",
		"audit verify -o json",
		"audit export",
		"audit export x",
	}))
}

// TestAuditSince: a duration is how long ago.
func TestAuditSince(t *testing.T) {
	f := audited(t)
	if r := fife(t, f.address, "audit", "list", "--since", "24h"); r.code != exitOK {
		t.Fatalf("exit %d: %s", r.code, r.err)
	}
	for _, c := range f.take() {
		if since := c.request.(*fifev1.ListAuditEntriesRequest).GetStartTime(); since == nil || !strings.HasPrefix(c.method, "AuditService/") {
			t.Errorf("%s %v", c.method, c.request)
		}
	}
}
