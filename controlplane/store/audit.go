package store

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// The audit is part of the state: entries are derived in apply from the command, its
// refusal, and the states before and after it. So every replica has the same ones, a
// snapshot, a backup and a node that joins have them without further ado, and they
// outlast the log. What that costs is memory, and so they are bounded in bytes.
//
// It is kept once the log says for how long, which only builds that know of it can
// write: a cluster whose nodes run different builds stays in step.

// AuditLimits say how much audit is kept. The zero value stands for none.
type AuditLimits struct {
	Retention time.Duration // entries are forgotten when they are older
	MaxBytes  uint64        // of entries of changes; of refusals a quarter
}

// AuditChain names a chain of entries. The values are on disk.
type AuditChain uint8

// The chains. A flood of refused calls pushes older ones out, but no change.
const (
	AuditChanges  AuditChain = iota // what was put in the log
	AuditRefusals                   // what was refused before
	auditChains
)

// String returns the chain's name as it is written in messages.
func (c AuditChain) String() string { return [...]string{"changes", "refusals"}[c] }

// AuditEntry says who did what, or tried to.
type AuditEntry struct {
	Chain                           AuditChain
	Number                          uint64 // counts the chain's entries from 1
	Index, Term                     uint64 // of the command in the log
	Time                            time.Time
	Actor, Source, Method, Resource string
	Before, After                   map[string]string // the fields that the call changed
	Code                            uint32            // gRPC code of a call that came to no command
	Reason, Message                 string            // of the refusal, if any
	Count                           uint64            // like calls that the entry stands for, at least 1
	Hash                            [sha256.Size]byte
}

// auditRecord is an entry as it is kept: encoded, as there are many.
type auditRecord struct {
	entry []byte
	hash  [sha256.Size]byte
}

// auditLog is a chain of entries.
type auditLog struct {
	records   queue[auditRecord]
	bytes     uint64            // of the entries kept
	forgotten uint64            // number of the last entry forgotten
	floor     [sha256.Size]byte // its hash
	last      uint64            // number of the last entry
	head      [sha256.Size]byte // its hash
}

// maxAged is how many entries may be forgotten for their age when one is added. More
// would let one command with a time of years ahead, from a node whose clock is wrong,
// empty the chain.
const maxAged = 2

// add appends an entry, whose number and hash it sets, and forgets what is over the
// limits.
func (l auditLog) add(e AuditEntry, limits AuditLimits) auditLog {
	l.last++
	e.Number = l.last
	l.head = auditHash(l.head, &e)
	r := auditRecord{entry: encodeAuditEntry(&e), hash: l.head}
	l.records = l.records.push(r)
	l.bytes += uint64(len(r.entry))
	for l.records.len() > 1 && l.bytes > limits.MaxBytes {
		l = l.forget()
	}
	for range maxAged {
		oldest, err := decodeAuditEntry(l.records.at(0))
		if err != nil || e.Time.Sub(oldest.Time) <= limits.Retention {
			break
		}
		l = l.forget()
	}
	return l
}

func (l auditLog) forget() auditLog {
	oldest := l.records.at(0)
	l.records = l.records.pop()
	l.bytes -= uint64(len(oldest.entry))
	l.forgotten++
	l.floor = oldest.hash
	return l
}

// auditHash returns the hash of an entry that follows one with the hash prev:
// SHA-256 of prev, the numbers as 8 bytes, most significant first, the texts after
// their lengths, and the maps after their lengths in the order of their keys, in the
// order of AuditEntry's fields. It does not depend on how entries are stored.
func auditHash(prev [sha256.Size]byte, e *AuditEntry) (sum [sha256.Size]byte) {
	h := canonical{sha256.New()}
	_, _ = h.Write(prev[:]) // a hash never fails
	h.numbers(uint64(e.Chain), e.Number, e.Index, e.Term, uint64(e.Time.UnixNano()))
	h.texts(e.Actor, e.Source, e.Method, e.Resource)
	h.pairs(e.Before)
	h.pairs(e.After)
	h.numbers(uint64(e.Code))
	h.texts(e.Reason, e.Message)
	h.numbers(e.Count)
	h.Sum(sum[:0])
	return sum
}

// audit adds what a command came to. It is given the states around it.
func (s *State) audit(before *State, term uint64, cmd *storev1.Command, outcome Outcome) {
	if s.auditLimits == (AuditLimits{}) {
		return
	}
	if calls := cmd.GetRecordCalls().GetCalls(); len(calls) > 0 {
		for _, call := range calls {
			s.recordCall(term, call)
		}
		return
	}
	if !audited(cmd) || (cmd.GetRequestId() != "" && before.repeats(cmd)) {
		return
	}
	e := AuditEntry{
		Chain: AuditChanges, Index: s.index, Term: term, Time: decodeTime(cmd.GetTime()),
		Actor: cut(cmd.GetActor(), maxAuditText), Source: cut(cmd.GetSource(), maxAuditText),
		Method: cut(cmd.GetMethod(), maxAuditText), Count: 1,
	}
	subject := subjectOf(cmd, outcome)
	e.Resource = cut(subject.name, maxAuditText)
	if r := outcome.Refusal; r != nil {
		e.Reason, e.Message = string(r.Reason), cut(r.Error(), maxAuditMessage)
	} else {
		e.Before, e.After = differences(subject.fields(before), subject.fields(s))
	}
	s.auditLogs[AuditChanges] = s.auditLogs[AuditChanges].add(e, s.auditLimits)
}

// auditTakeover adds that a state was put in the place of another one, without a
// command. What the audit of the former came to is noted.
func (s *State) auditTakeover(former *State, method, actor string, term uint64) {
	if s.auditLimits == (AuditLimits{}) {
		return
	}
	was := map[string]string{"cluster_id": former.clusterID, "applied": former.Applied().String()}
	for c, l := range former.auditLogs {
		was["audit."+AuditChain(c).String()] = fmt.Sprintf("%d entries, head %x", l.last, l.head)
	}
	before, after := differences(was, map[string]string{"cluster_id": s.clusterID, "applied": s.Applied().String()})
	s.auditLogs[AuditChanges] = s.auditLogs[AuditChanges].add(AuditEntry{
		Chain: AuditChanges, Index: s.index, Term: term, Time: time.Now(), Actor: actor, Method: method, Resource: "cluster",
		Before: before, After: after, Count: 1,
	}, s.auditLimits)
}

// audited reports whether a command is one that is to be found in the audit. What the
// fleet and the cluster do all the time by themselves is not.
func audited(cmd *storev1.Command) bool {
	switch cmd.GetOp().(type) {
	case *storev1.Command_RegisterAgents, *storev1.Command_ForgetAgents, *storev1.Command_Checkpoint,
		*storev1.Command_RecordCalls:
		return false
	}
	return true
}

// repeats reports whether a command is one that was carried out before: it finds the
// first one's outcome.
func (s *State) repeats(cmd *storev1.Command) bool {
	r, ok := s.outcomes.byID.Get([]byte(cmd.GetRequestId()))
	return ok && string(r.fingerprint) == string(cmd.GetFingerprint())
}

// recordCall adds a call that came to no command.
func (s *State) recordCall(term uint64, call *storev1.AuditEntry) {
	e := AuditEntry{
		Chain: AuditRefusals, Index: s.index, Term: term, Time: decodeTime(call.GetTime()),
		Actor: cut(call.GetActor(), maxAuditText), Source: cut(call.GetSource(), maxAuditText),
		Method: cut(call.GetMethod(), maxAuditText), Resource: cut(call.GetResource(), maxAuditText),
		Code: call.GetCode(), Reason: cut(call.GetReason(), maxAuditText), Message: cut(call.GetMessage(), maxAuditMessage),
		Count: max(call.GetCount(), 1),
	}
	limits := s.auditLimits
	limits.MaxBytes /= 4
	if e.Code == 0 { // a change that is not one of the state, such as of who leads
		e.Chain, limits = AuditChanges, s.auditLimits
	}
	s.auditLogs[e.Chain] = s.auditLogs[e.Chain].add(e, limits)
}

func (t *tx) configureAudit(op *storev1.ConfigureAudit) (Outcome, error) {
	t.next.auditLimits = decodeAuditLimits(op.GetLimits())
	return Outcome{}, nil
}

// Lengths in bytes beyond which texts are cut.
const (
	maxAuditText    = 512
	maxAuditMessage = 1024
)

// cut returns a text of at most n bytes and a remark on what is missing. What is no
// UTF-8, which could not be encoded, is replaced.
func cut(text string, n int) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= n {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	return fmt.Sprintf("%s... (%d bytes, SHA-256 %x...)", strings.ToValidUTF8(text[:n], ""), len(text), sum[:8])
}

func encodeAuditEntry(e *AuditEntry) []byte {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(&storev1.AuditEntry{
		Number: e.Number, Index: e.Index, Term: e.Term, Time: encodeTime(e.Time),
		Actor: e.Actor, Source: e.Source, Method: e.Method, Resource: e.Resource, Before: e.Before, After: e.After,
		Code: e.Code, Reason: e.Reason, Message: e.Message, Count: e.Count,
	})
	if err != nil {
		panic(fmt.Sprintf("encode audit entry %d: %v", e.Number, err)) // its texts are valid UTF-8, as gRPC saw to it
	}
	return data
}

func decodeAuditEntry(r auditRecord) (AuditEntry, error) {
	var p storev1.AuditEntry
	if err := proto.Unmarshal(r.entry, &p); err != nil {
		return AuditEntry{}, fmt.Errorf("decode audit entry: %w", err)
	}
	return AuditEntry{
		Number: p.GetNumber(), Index: p.GetIndex(), Term: p.GetTerm(), Time: decodeTime(p.GetTime()),
		Actor: p.GetActor(), Source: p.GetSource(), Method: p.GetMethod(), Resource: p.GetResource(),
		Before: p.GetBefore(), After: p.GetAfter(),
		Code: p.GetCode(), Reason: p.GetReason(), Message: p.GetMessage(), Count: p.GetCount(), Hash: r.hash,
	}, nil
}
