package store

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// TestAuditFindsWhatWasChanged: an entry of which a bit is turned, that is taken out
// or put elsewhere is named, whichever it is, and also in a snapshot whose checksum
// was made to fit.
func TestAuditFindsWhatWasChanged(t *testing.T) {
	s := exampleState(t)
	for chain := range auditChains {
		l := s.auditLogs[chain]
		if l.records.len() == 0 {
			t.Fatalf("%v has no entries", chain)
		}
		var kept []auditRecord
		for r := range l.records.from(0) {
			kept = append(kept, r)
		}
		verify := func(records []auditRecord) *AuditFault {
			changed := l
			changed.records = queue[auditRecord]{}
			for _, r := range records {
				changed.records = changed.records.push(r)
			}
			return changed.verify(chain).Fault
		}
		if fault := verify(kept); fault != nil {
			t.Fatalf("untouched: %+v", *fault)
		}
		for i, r := range kept {
			want := fmt.Sprintf("%v %d", chain, i+1)
			for at := range r.entry {
				bit := 8*at + (i+at)%8 // another one in each byte and entry
				turned := auditRecord{entry: bytes.Clone(r.entry), hash: r.hash}
				turned.entry[bit/8] ^= 1 << (bit % 8)
				fault := verify(slices.Concat(kept[:i], []auditRecord{turned}, kept[i+1:]))
				if fault == nil || fault.Number != uint64(i+1) {
					t.Fatalf("%s, bit %d turned: %+v", want, bit, fault)
				}
			}
			forged := r
			forged.hash[0] ^= 1
			if fault := verify(slices.Concat(kept[:i], []auditRecord{forged}, kept[i+1:])); fault == nil || fault.Number != uint64(i+1) {
				t.Errorf("%s with another hash: %+v", want, fault)
			}
			if fault := verify(slices.Concat(kept[:i], kept[i+1:])); fault == nil || fault.Number != uint64(i+1) {
				t.Errorf("%s taken out: %+v", want, fault)
			}
			e, err := decodeAuditEntry(r)
			if err != nil || e.Index == 0 {
				t.Fatalf("%s: %+v, %v", want, e, err)
			}
			if i > 0 {
				swapped := slices.Clone(kept)
				swapped[i-1], swapped[i] = swapped[i], swapped[i-1]
				if fault := verify(swapped); fault == nil || fault.Number != uint64(i) {
					t.Errorf("%s put before its predecessor: %+v", want, fault)
				}
			}
		}
	}

	all := records(t, snapshotBytes(t, s))
	all = all[:len(all)-1]
	at := slices.IndexFunc(all, func(r *storev1.SnapshotRecord) bool { return r.GetAudit() != nil }) + 3
	index := decodedIndex(t, all[at])
	entry := all[at].GetAudit().GetEntry()
	entry[bytes.Index(entry, []byte("op"))] ^= 1 // who did it
	changed, err := readSnapshot(bytes.NewReader(seal(t, all)))
	if err != nil {
		t.Fatal(err)
	}
	fault := changed.VerifyAudit()[AuditChanges].Fault
	if fault == nil || fault.Number != 4 || fault.Index != index {
		t.Errorf("the snapshot's fourth entry, at index %d, names another actor: %+v", index, fault)
	}
}

func decodedIndex(t *testing.T, r *storev1.SnapshotRecord) uint64 {
	t.Helper()
	e, err := decodeAuditEntry(auditRecord{entry: r.GetAudit().GetEntry()})
	if err != nil {
		t.Fatal(err)
	}
	return e.Index
}

// auditing returns a replica that keeps an audit.
func auditing(t *testing.T, limits AuditLimits) *replica {
	t.Helper()
	r := newReplica()
	r.apply(t, &storev1.Command{Op: &storev1.Command_ConfigureAudit{
		ConfigureAudit: &storev1.ConfigureAudit{Limits: encodeAuditLimits(limits)},
	}})
	return r
}

func recordCalls(n int) *storev1.Command {
	op := &storev1.RecordCalls{}
	for i := range n {
		op.Calls = append(op.Calls, &storev1.AuditEntry{
			Actor: "spiffe://c/user/mallory", Method: "PromoteCanary", Resource: fmt.Sprint("apis/a", i), Code: 7, Reason: "PERMISSION_DENIED",
		})
	}
	return &storev1.Command{Op: &storev1.Command_RecordCalls{RecordCalls: op}}
}

// TestAuditIsBounded: entries go when they are too many or too old, the chain goes on
// from the last one that has gone, and refused calls push out no change.
func TestAuditIsBounded(t *testing.T) {
	const bound = 4_000
	r := auditing(t, AuditLimits{Retention: time.Hour, MaxBytes: bound})
	r.apply(t, createAPI("kept"))
	for range 50 {
		r.apply(t, recordCalls(10))
	}
	changes, refusals := r.state().auditLogs[AuditChanges], r.state().auditLogs[AuditRefusals]
	if changes.forgotten != 0 || changes.last != 2 {
		t.Errorf("a flood of refusals left changes %d to %d", changes.forgotten+1, changes.last)
	}
	if refusals.last != 500 || refusals.bytes > bound/4 || refusals.forgotten == 0 {
		t.Errorf("refusals %d to %d are kept in %d bytes", refusals.forgotten+1, refusals.last, refusals.bytes)
	}
	checkState(t, r.state())

	for i := range 100 {
		r.apply(t, createAPI(fmt.Sprint("a", i)))
	}
	changes = r.state().auditLogs[AuditChanges]
	if changes.bytes > bound || changes.forgotten == 0 {
		t.Errorf("changes %d to %d are kept in %d bytes", changes.forgotten+1, changes.last, changes.bytes)
	}
	checkState(t, r.state())

	r = auditing(t, AuditLimits{Retention: time.Hour, MaxBytes: 1 << 20})
	for range 20 {
		r.apply(t, createAPI("kept"))
	}
	late := createAPI("kept")
	late.Time = encodeTime(r.clock.Add(1000 * time.Hour))
	r.apply(t, late)
	if gone := r.state().auditLogs[AuditChanges].forgotten; gone != maxAged {
		t.Errorf("one command with a time of years ahead made %d entries go", gone)
	}
	r.clock = r.clock.Add(1000 * time.Hour)
	for range 20 {
		r.apply(t, createAPI("kept"))
	}
	if changes = r.state().auditLogs[AuditChanges]; changes.records.len() > 21 {
		t.Errorf("%d entries are kept, most of them after their time", changes.records.len())
	}
	checkState(t, r.state())
}

// TestAuditOfRepeats: a repeat of a change, which finds the first one's outcome, is
// no second change; another call under its request id is a refusal.
func TestAuditOfRepeats(t *testing.T) {
	r := auditing(t, AuditLimits{Retention: time.Hour, MaxBytes: 1 << 20})
	first := createAPI("a")
	first.RequestId, first.Fingerprint = "r", []byte("f")
	for range 3 {
		r.apply(t, first)
	}
	other := createAPI("b")
	other.RequestId, other.Fingerprint = "r", []byte("g")
	r.apply(t, other)
	var b strings.Builder
	showAudit(&b, r.state())
	if n := r.state().auditLogs[AuditChanges].last; n != 3 || !strings.Contains(b.String(), "REQUEST_ID_REUSED") {
		t.Errorf("%d entries:\n%s", n, b.String())
	}
}

// TestAuditValues: long values are cut, many are counted, and what is no UTF-8 does
// not stop the replicas.
func TestAuditValues(t *testing.T) {
	was, is := map[string]string{"same": "x"}, map[string]string{"same": "x", "long": strings.Repeat("é", 300), "bad": "\xff"}
	for i := range 100 {
		is[fmt.Sprint("v", i)] = strings.Repeat("w", 100)
	}
	before, after := differences(was, is)
	size := 0
	for k, v := range after {
		size += len(k) + len(v)
	}
	if len(before) != 0 || size > maxAuditFields+100 || after["..."] == "" || after["bad"] != "?" || after["same"] != "" {
		t.Errorf("%d bytes after, before %v: %v", size, before, after)
	}
	r := auditing(t, AuditLimits{Retention: time.Hour, MaxBytes: 1 << 20})
	cmd := recordCalls(1)
	cmd.GetRecordCalls().Calls[0].Message = strings.Repeat("é", 9000)
	r.state().audit(r.state(), 1, cmd, Outcome{})
	for e := range r.state().Audit(AuditPosition{}) {
		if len(e.Message) > maxAuditMessage+100 {
			t.Errorf("a message of %d bytes", len(e.Message))
		}
	}
}

// TestAuditStartsAnywhere: a page begins where the last one ended.
func TestAuditStartsAnywhere(t *testing.T) {
	r := auditing(t, AuditLimits{Retention: time.Hour, MaxBytes: 1 << 20})
	for i := range 5 {
		r.apply(t, createAPI(fmt.Sprint("a", i)))
		r.apply(t, recordCalls(3))
	}
	all := slices.Collect(r.state().Audit(AuditPosition{}))
	if len(all) != 21 {
		t.Fatalf("%d entries", len(all))
	}
	for i, e := range all {
		rest := slices.Collect(r.state().Audit(e.Position()))
		if len(rest) != len(all)-i || rest[0].Hash != e.Hash {
			t.Errorf("from entry %d: %d entries", i, len(rest))
		}
	}
}
