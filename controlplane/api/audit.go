package api

import (
	"context"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/fifegateway/fife/controlplane/release"
	"github.com/fifegateway/fife/controlplane/store"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

type auditService struct {
	fifev1.UnimplementedAuditServiceServer
	changer
}

// ListAuditEntries pages by the place of an entry in the log, which stays what it is
// while entries are added and forgotten.
func (s *auditService) ListAuditEntries(
	ctx context.Context, req *fifev1.ListAuditEntriesRequest,
) (*fifev1.ListAuditEntriesResponse, error) {
	var v release.Violations
	from := parsePosition(&v, pageStart(&v, req, 3))
	if err := v.Err(); err != nil {
		return nil, err
	}
	state, err := s.read(ctx, req)
	if err != nil {
		return nil, err
	}
	wanted := func(yield func(store.AuditEntry) bool) {
		for e := range state.Audit(from) {
			if selects(req, e) && !yield(e) {
				return
			}
		}
	}
	entries, next := page(req, wanted, toAuditEntry, func(e store.AuditEntry) []string {
		return []string{strconv.FormatUint(e.Index, 10), strconv.Itoa(int(e.Chain)), strconv.FormatUint(e.Number, 10)}
	})
	return &fifev1.ListAuditEntriesResponse{Entries: entries, NextPageToken: next, Staleness: state.staleness}, nil
}

// parsePosition reads the parts of a page token, all empty for the first page.
func parsePosition(v *release.Violations, parts []string) store.AuditPosition {
	var numbers [3]uint64
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 64)
		if err != nil && p != "" {
			v.Addf("page_token", "holds %q, which this method did not give out", p)
		}
		numbers[i] = n
	}
	return store.AuditPosition{Index: numbers[0], Chain: store.AuditChain(min(numbers[1], 255)), Number: numbers[2]}
}

// selects reports whether an entry is one that is asked for.
func selects(req *fifev1.ListAuditEntriesRequest, e store.AuditEntry) bool {
	switch {
	case req.GetStartTime() != nil && e.Time.Before(req.GetStartTime().AsTime()),
		req.GetEndTime() != nil && !e.Time.Before(req.GetEndTime().AsTime()),
		req.GetActor() != "" && e.Actor != req.GetActor():
		return false
	}
	r := req.GetResource()
	return r == "" || e.Resource == r || strings.HasPrefix(e.Resource, r+"/")
}

// VerifyAudit runs on the leader, or on the node that is asked if the request is
// content with an older state.
func (s *auditService) VerifyAudit(ctx context.Context, req *fifev1.VerifyAuditRequest) (*fifev1.VerifyAuditResponse, error) {
	state, err := s.read(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := &fifev1.VerifyAuditResponse{Node: s.store.NodeID()}
	for _, r := range state.VerifyAudit() {
		chain := &fifev1.AuditChain{
			Chain: toChain(r.Chain), Entries: uint64(r.Entries), First: r.First, Last: r.Last, Oldest: toTime(r.Oldest), Head: r.Head[:],
		}
		if f := r.Fault; f != nil {
			chain.Fault = &fifev1.AuditFault{Number: f.Number, Index: f.Index, Description: f.Description}
		}
		resp.Chains = append(resp.Chains, chain)
	}
	return resp, nil
}

func toChain(c store.AuditChain) fifev1.AuditChainName {
	if c == store.AuditRefusals {
		return fifev1.AuditChainName_AUDIT_CHAIN_NAME_REFUSALS
	}
	return fifev1.AuditChainName_AUDIT_CHAIN_NAME_CHANGES
}

func toAuditEntry(e store.AuditEntry) *fifev1.AuditEntry {
	code := codes.Code(e.Code)
	if code == codes.OK && e.Reason != "" {
		code = codeOf(release.Reason(e.Reason))
	}
	return &fifev1.AuditEntry{
		Chain: toChain(e.Chain), Number: e.Number, Index: e.Index, Term: e.Term, Time: toTime(e.Time),
		Actor: e.Actor, Source: e.Source, Method: e.Method, Resource: e.Resource, Before: e.Before, After: e.After,
		Code: int32(code), Reason: e.Reason, Message: e.Message, Count: e.Count, Hash: e.Hash[:],
	}
}
