package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// entries asks a node for its audit.
func (b *bench) entries(node string, req *fifev1.ListAuditEntriesRequest) []*fifev1.AuditEntry {
	b.t.Helper()
	req.PageSize = 1000
	return must(fifev1.NewAuditServiceClient(b.nodes[node]).ListAuditEntries(b.t.Context(), req))(b.t).GetEntries()
}

// recorded waits for an entry of a method.
func (b *bench) recorded(node, method string) *fifev1.AuditEntry {
	b.t.Helper()
	var found *fifev1.AuditEntry
	b.until(method+" is in the audit", func() bool {
		for _, e := range b.entries(node, &fifev1.ListAuditEntriesRequest{}) {
			if e.GetMethod() == method {
				found = e
			}
		}
		return found != nil
	})
	return found
}

// TestAudit: every call that changes something, or was to, is in the audit once,
// whichever node took it and wherever it ended; and all nodes have the same audit.
func TestAudit(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.stock()
		follower, leader := b.follower(), b.leader("n1")
		<-time.After(10 * time.Millisecond) // the clock of a bubble stands still otherwise
		begin := time.Now()
		calls := []struct {
			req      proto.Message
			code     codes.Code
			reason   string
			chain    string
			resource string
		}{
			{&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: 10}}, codes.OK, "", "CHANGES", prod},
			{&fifev1.DeleteStageRequest{Name: prod, Etag: "9"}, codes.Aborted, "STALE_ETAG", "CHANGES", prod},
			{&fifev1.UpdateStageRequest{Stage: &fifev1.Stage{Name: prod, Etag: "x"}, UpdateMask: mask("nothing")}, codes.InvalidArgument, "INVALID_FIELD", "REFUSALS", prod},
			{&fifev1.CreateApiRequest{ApiId: "NO"}, codes.InvalidArgument, "INVALID_FIELD", "REFUSALS", "apis/NO"},
			{&fifev1.RemoveMemberRequest{Name: "members/none"}, codes.NotFound, "RESOURCE_NOT_FOUND", "REFUSALS", "members/none"},
			{&fifev1.TransferLeadershipRequest{Name: "members/" + leader}, codes.OK, "", "CHANGES", "members/" + leader},
			{&fifev1.PromoteCanaryRequest{Name: prod}, codes.OK, "", "CHANGES", prod},
		}
		for _, c := range calls {
			_ = b.call(t.Context(), follower, c.req) // what comes of it is in the audit
			<-time.After(10 * time.Millisecond)
		}
		// Neither of these changes anything.
		b.takes(&fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{}, Replace: true, ValidateOnly: true}, &fifev1.GetStageRequest{Name: prod})
		<-time.After(3 * time.Second)

		for _, c := range calls {
			what := string(c.req.ProtoReflect().Descriptor().Name())
			var found []*fifev1.AuditEntry
			for _, e := range b.entries(follower, &fifev1.ListAuditEntriesRequest{StartTime: timestamppb.New(begin)}) {
				if e.GetMethod()+"Request" == what {
					found = append(found, e)
				}
			}
			if len(found) != 1 {
				t.Errorf("%s is in the audit %d times: %v", what, len(found), found)
				continue
			}
			e := found[0]
			if codes.Code(e.GetCode()) != c.code || e.GetReason() != c.reason || e.GetResource() != c.resource || e.GetCount() != 1 ||
				!strings.HasSuffix(e.GetChain().String(), c.chain) || e.GetActor() != "anonymous" || e.GetSource() == "" ||
				e.GetIndex() == 0 || e.GetTerm() == 0 || e.GetNumber() == 0 || (e.GetMessage() == "") != (c.code == codes.OK) {
				t.Errorf("%s: %v", what, e)
			}
		}
		if e := b.recorded(follower, "StartCanary"); e.GetBefore()["canary.percent"] != "" || e.GetAfter()["canary.percent"] != "10" {
			t.Errorf("StartCanary changed %v to %v", e.GetBefore(), e.GetAfter())
		}
		if n := len(b.entries(follower, &fifev1.ListAuditEntriesRequest{EndTime: timestamppb.New(begin), Resource: prod})); n != 0 {
			t.Errorf("%d entries about %s are from before", n, prod)
		}
		if n := len(b.entries(follower, &fifev1.ListAuditEntriesRequest{Actor: "node/n1", Resource: prod})); n != 0 {
			t.Errorf("%d entries about %s are of n1", n, prod)
		}

		var heads []string
		for name := range b.nodes {
			resp := must(fifev1.NewAuditServiceClient(b.nodes[name]).VerifyAudit(t.Context(),
				&fifev1.VerifyAuditRequest{Consistency: fifev1.ReadConsistency_READ_CONSISTENCY_STALE}))(t)
			head := ""
			for _, chain := range resp.GetChains() {
				if chain.GetFault() != nil || chain.GetLast() == 0 {
					t.Errorf("%s: %v", name, chain)
				}
				head += fmt.Sprintf(" %v:%d:%x", chain.GetChain(), chain.GetLast(), chain.GetHead())
			}
			if resp.GetNode() != name {
				t.Errorf("%s answers for %s", resp.GetNode(), name)
			}
			if heads = append(heads, head); head != heads[0] {
				t.Errorf("the chains end with %s and with %s", heads[0], head)
			}
		}
	})
}

// TestAuditOfFloods: many refused calls cost a node one command a second of a bounded
// size, and none of them is lost from the count.
func TestAuditOfFloods(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		const seconds, perSecond = 10, 300
		for range seconds {
			for i := range perSecond {
				_ = b.call(t.Context(), "n1", &fifev1.CreateApiRequest{ApiId: fmt.Sprint("NO", i)})
			}
			<-time.After(time.Second)
		}
		<-time.After(5 * time.Second)
		total, listed, many, commands := uint64(0), 0, false, map[uint64]bool{}
		for _, e := range b.entries("n1", &fifev1.ListAuditEntriesRequest{}) {
			if e.GetChain() == fifev1.AuditChainName_AUDIT_CHAIN_NAME_REFUSALS {
				commands[e.GetIndex()] = true
				total, listed, many = total+e.GetCount(), listed+1, many || e.GetReason() == "MANY_REFUSED"
			}
		}
		if len(commands) > seconds+2 {
			t.Errorf("%d refused calls made %d commands", seconds*perSecond, len(commands))
		}
		if total != seconds*perSecond || listed > 20*len(commands) || !many {
			t.Errorf("%d calls are counted in %d entries, of %d calls", total, listed, seconds*perSecond)
		}
	})
}

// TestLargeHeaders: a call with headers beyond what a node takes in is refused, and
// the connection goes on.
func TestLargeHeaders(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		large := metadata.AppendToOutgoingContext(t.Context(), "x-large", strings.Repeat("x", 20<<10))
		if err := b.call(large, "n1", &fifev1.GetClusterRequest{}); err == nil {
			t.Error("20 KiB of headers were taken in")
		}
		if err := b.call(t.Context(), "n1", &fifev1.GetClusterRequest{}); err != nil {
			t.Errorf("after it: %v", err)
		}
	})
}
