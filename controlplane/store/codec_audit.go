package store

import (
	"errors"
	"fmt"

	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

func encodeAuditLimits(l AuditLimits) *storev1.AuditLimits {
	if l == (AuditLimits{}) {
		return nil
	}
	return &storev1.AuditLimits{Retention: encodeDuration(l.Retention), MaxBytes: l.MaxBytes}
}

func decodeAuditLimits(p *storev1.AuditLimits) AuditLimits {
	return AuditLimits{Retention: p.GetRetention().AsDuration(), MaxBytes: p.GetMaxBytes()}
}

// encodeAuditChains returns nothing for a cluster that has never kept an audit.
func encodeAuditChains(s *State) []*storev1.AuditChain {
	var chains []*storev1.AuditChain
	for _, l := range s.auditLogs {
		chains = append(chains, &storev1.AuditChain{Forgotten: l.forgotten, Floor: l.floor[:], Last: l.last, Head: l.head[:]})
	}
	if s.auditLogs[AuditChanges].last == 0 && s.auditLogs[AuditRefusals].last == 0 {
		return nil
	}
	return chains
}

var errBadAudit = errors.New("the audit has chains that this build does not know")

func decodeAuditChains(s *State, chains []*storev1.AuditChain) error {
	if len(chains) > int(auditChains) {
		return errBadAudit
	}
	for i, p := range chains {
		l := &s.auditLogs[i]
		l.forgotten, l.last = p.GetForgotten(), p.GetLast()
		if copy(l.floor[:], p.GetFloor()) != len(l.floor) || copy(l.head[:], p.GetHead()) != len(l.head) {
			return fmt.Errorf("chain %d of the audit has no whole hash", i)
		}
	}
	return nil
}

// readAuditRecord takes an entry of a snapshot in. Whether it fits its chain is for
// VerifyAudit to say: a node that would not start could not.
func (s *State) readAuditRecord(p *storev1.AuditRecord) error {
	if p.GetChain() >= uint32(auditChains) {
		return errBadAudit
	}
	r := auditRecord{entry: p.GetEntry()}
	if copy(r.hash[:], p.GetHash()) != len(r.hash) {
		return errors.New("an entry of the audit has no whole hash")
	}
	l := &s.auditLogs[p.GetChain()]
	l.records = l.records.push(r)
	l.bytes += uint64(len(r.entry))
	return nil
}
