package store

import (
	"bytes"
	"encoding/binary"
	"hash"
	"iter"
	"maps"
	"slices"
	"sort"
	"time"
)

// AuditPosition is where an entry stands in the order of Audit.
type AuditPosition struct {
	Index  uint64
	Chain  AuditChain
	Number uint64
}

// Position returns where the entry stands.
func (e AuditEntry) Position() AuditPosition { return AuditPosition{e.Index, e.Chain, e.Number} }

// AuditLimits returns how much audit is kept.
func (s *State) AuditLimits() AuditLimits { return s.auditLimits }

// Audit yields the entries of both chains in the order of the log, from a position
// on. An entry that cannot be read is left out: see VerifyAudit.
func (s *State) Audit(from AuditPosition) iter.Seq[AuditEntry] {
	return func(yield func(AuditEntry) bool) {
		var next [auditChains]int
		for c := range auditChains {
			next[c] = s.auditLogs[c].search(c, from)
		}
		for {
			var first AuditEntry
			for c := range auditChains {
				e, at := s.auditLogs[c].read(c, next[c])
				next[c] = at
				if e.Number != 0 && (first.Number == 0 || e.Index < first.Index) {
					first = e
				}
			}
			if first.Number == 0 {
				return
			}
			next[first.Chain]++
			if !yield(first) {
				return
			}
		}
	}
}

// search returns which of the entries kept is the first that is not before a
// position.
func (l auditLog) search(chain AuditChain, from AuditPosition) int {
	return sort.Search(l.records.len(), func(i int) bool {
		e, err := decodeAuditEntry(l.records.at(i))
		switch {
		case err != nil || e.Index < from.Index:
			return false
		case e.Index > from.Index || chain > from.Chain:
			return true
		}
		return chain == from.Chain && e.Number >= from.Number
	})
}

// read returns the entry at i, or the next one that can be read, and where it is;
// the zero entry at the end.
func (l auditLog) read(chain AuditChain, i int) (AuditEntry, int) {
	for ; i < l.records.len(); i++ {
		if e, err := decodeAuditEntry(l.records.at(i)); err == nil {
			e.Chain = chain
			return e, i
		}
	}
	return AuditEntry{}, i
}

// AuditReport is what a verification of one chain came to.
type AuditReport struct {
	Chain       AuditChain
	Entries     int
	First, Last uint64    // numbers of the oldest entry kept and of the newest; 0 for none
	Oldest      time.Time // of the oldest entry kept
	Head        [32]byte  // hash of the newest
	Fault       *AuditFault
}

// AuditFault is the first entry that does not fit its chain.
type AuditFault struct {
	Number      uint64
	Index       uint64 // in the log; that of the entry before it if it is missing
	Description string
}

// VerifyAudit computes the hashes of all entries kept anew.
func (s *State) VerifyAudit() []AuditReport {
	var reports []AuditReport
	for c := range auditChains {
		reports = append(reports, s.auditLogs[c].verify(c))
	}
	return reports
}

func (l auditLog) verify(chain AuditChain) AuditReport {
	report := AuditReport{Chain: chain, Entries: l.records.len(), Last: l.last, Head: l.head}
	prev, number, index := l.floor, l.forgotten, uint64(0)
	if report.Entries > 0 {
		report.First = number + 1
	}
	fault := func(index uint64, what string) AuditReport {
		report.Fault = &AuditFault{Number: number, Index: index, Description: what}
		return report
	}
	for r := range l.records.from(0) {
		number++
		e, err := decodeAuditEntry(r)
		e.Chain = chain
		switch {
		case err != nil:
			return fault(index, "it cannot be read")
		case e.Number != number:
			return fault(index, "it is missing")
		case !bytes.Equal(encodeAuditEntry(&e), r.entry):
			return fault(e.Index, "it is not as it was written, although it reads the same")
		case auditHash(prev, &e) != r.hash:
			return fault(e.Index, "its hash is another: the entry, its hash or the one before it was changed")
		}
		if report.Oldest.IsZero() {
			report.Oldest = e.Time
		}
		prev, index = r.hash, e.Index
	}
	if number != l.last || prev != l.head {
		number++
		return fault(index, "it is missing at the end")
	}
	return report
}

// canonical writes values so that no two lists of them give the same bytes.
type canonical struct{ hash.Hash }

func (c canonical) numbers(all ...uint64) {
	for _, n := range all {
		_, _ = c.Write(binary.BigEndian.AppendUint64(nil, n)) // a hash never fails
	}
}

func (c canonical) texts(all ...string) {
	for _, t := range all {
		c.numbers(uint64(len(t)))
		_, _ = c.Write([]byte(t))
	}
}

func (c canonical) pairs(m map[string]string) {
	c.numbers(uint64(len(m)))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		c.texts(k, m[k])
	}
}
