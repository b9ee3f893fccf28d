package store

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func createAPI(id string) *storev1.Command {
	return &storev1.Command{Op: &storev1.Command_CreateApi{CreateApi: &storev1.CreateApi{Api: &storev1.Api{Id: id}}}}
}

// TestApplyBatch: a batch is one swap and one wake-up, and each command gets its
// own outcome.
func TestApplyBatch(t *testing.T) {
	r := newReplica()
	before := r.state()
	responses := r.fsm.ApplyBatch([]*raft.Log{
		r.entry(t, createAPI("a")),
		{Index: 2, Type: raft.LogConfiguration, Data: []byte("not for us")},
		r.entry(t, createAPI("a")),
		r.entry(t, createAPI("b")),
	})
	if len(responses) != 4 || responses[1] != nil {
		t.Fatalf("got %v", responses)
	}
	if o := responses[0].(Outcome); o.Refusal != nil || o.API.ID != "a" {
		t.Errorf("the first got %+v", o)
	}
	if o := responses[2].(Outcome); o.Refusal == nil {
		t.Errorf("the second got %+v", o)
	}
	after := r.state()
	if !isClosed(before.Changed()) || isClosed(after.Changed()) {
		t.Errorf("before %v, after %v", isClosed(before.Changed()), isClosed(after.Changed()))
	}
	if _, ok := after.API("b"); !ok || after.Applied().Index != 3 {
		t.Errorf("became %s", stateText(after))
	}
	if _, ok := before.API("a"); ok {
		t.Error("the former state has the new API")
	}
}

// TestBatchWithoutCommands: what is no command is no news.
func TestBatchWithoutCommands(t *testing.T) {
	r := newReplica()
	before := r.state()
	r.fsm.ApplyBatch([]*raft.Log{{Index: 1, Type: raft.LogBarrier}, {Index: 2, Type: raft.LogNoop}})
	r.fsm.ApplyBatch(nil)
	if r.state() != before || isClosed(before.Changed()) {
		t.Error("a batch without commands swapped the state")
	}
}

// TestRerouted: who follows what agents route by sleeps through all else, and
// misses nothing that comes in one batch with it.
func TestRerouted(t *testing.T) {
	seen := func() *storev1.Command { return &storev1.Command{Op: updateAPI("a").GetOp()} }
	unseen := func() *storev1.Command {
		return &storev1.Command{Op: &storev1.Command_PutNode{PutNode: &storev1.PutNode{Node: &storev1.Node{Id: "n"}}}}
	}
	refused := func() *storev1.Command { return createAPI("a") }
	type batch []func() *storev1.Command
	for name, tt := range map[string]struct {
		batch batch
		want  bool
	}{
		"unseen": {batch{unseen}, false}, "refused": {batch{refused}, false}, "both": {batch{unseen, refused, unseen}, false},
		"seen": {batch{seen}, true}, "first": {batch{seen, unseen, refused}, true}, "last": {batch{refused, unseen, seen}, true},
		"twice": {batch{seen, seen}, true},
	} {
		r := newReplica()
		r.apply(t, createAPI("a"))
		before := r.state()
		var logs []*raft.Log
		for _, cmd := range tt.batch {
			logs = append(logs, r.entry(t, cmd()))
		}
		r.fsm.ApplyBatch(logs)
		moved := r.state().Version() != before.Version()
		if got := isClosed(before.Rerouted()); got != tt.want || moved != tt.want || isClosed(r.state().Rerouted()) {
			t.Errorf("%s: rerouted %v, the version moved %v", name, got, moved)
		}
		if !isClosed(before.Changed()) {
			t.Errorf("%s: not changed", name)
		}
	}
	r := newReplica()
	r.apply(t, createAPI("a"))
	before := r.state()
	if err := r.fsm.Restore(io.NopCloser(bytes.NewReader(snapshotBytes(t, before)))); err != nil {
		t.Fatal(err)
	}
	if !isClosed(before.Rerouted()) {
		t.Error("a restore is not noticed")
	}
}

func updateAPI(id string) *storev1.Command {
	return &storev1.Command{Op: &storev1.Command_UpdateApi{UpdateApi: &storev1.UpdateApi{Api: &storev1.Api{Id: id}}}}
}

// TestUnknownCommands: a replica that went on without a command would go apart
// from the others.
func TestUnknownCommands(t *testing.T) {
	// Field 99 of Command: an operation of a later build.
	later := []byte{0x9a, 0x06, 0x02, 0x0a, 0x00}
	if err := proto.Unmarshal(later, &storev1.Command{}); err != nil {
		t.Fatal(err)
	}
	schema, err := proto.Marshal(&storev1.Command{Schema: Schema + 1, Op: createAPI("a").GetOp()})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"none": {}, "later": later, "later schema": schema, "damaged": {0xff}} {
		t.Run(name, func(t *testing.T) {
			r := newReplica()
			before := r.state()
			defer func() {
				p := recover()
				if p == nil || !strings.Contains(fmt.Sprint(p), "apply index 7") {
					t.Errorf("panicked with %v", p)
				}
				if r.state() != before {
					t.Error("the state was swapped")
				}
			}()
			r.fsm.Apply(&raft.Log{Index: 7, Type: raft.LogCommand, Data: data})
		})
	}
}

func TestPreviewChangesNothing(t *testing.T) {
	r := newReplica()
	before := r.state()
	next, outcome := before.Preview(createAPI("a"))
	if outcome.Refusal != nil || outcome.API.ID != "a" || outcome.Version.Index != 1 {
		t.Errorf("got %+v", outcome)
	}
	if _, ok := next.API("a"); !ok {
		t.Error("the preview lacks the API")
	}
	if r.state() != before || isClosed(before.Changed()) || stateText(before) != stateText(newState()) {
		t.Error("the present state has changed")
	}
}

// TestReplicasAgree: replicas that apply the same commands are the same, whether
// they apply them one by one, in batches, or go on from a snapshot; and no state
// ever changes once another has taken its place.
func TestReplicasAgree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		one, other := newReplica(), newReplica()
		past, looks := []*State{one.state()}, [][]byte{snapshotBytes(t, one.state())}
		for range rapid.IntRange(1, 12).Draw(rt, "batches") {
			var logs []*raft.Log
			var outcomes []string
			for range rapid.IntRange(1, 8).Draw(rt, "commands") {
				log := one.entry(t, drawCommand(rt))
				logs = append(logs, log)
				before := one.state().Version()
				outcome := one.fsm.Apply(log).(Outcome)
				outcomes = append(outcomes, outcomeText(outcome))
				if outcome.Refusal != nil && one.state().Version() != before {
					rt.Fatalf("a refusal moved the version: %v", outcome.Refusal)
				}
				past, looks = append(past, one.state()), append(looks, snapshotBytes(t, one.state()))
			}
			for i, response := range other.fsm.ApplyBatch(logs) {
				if got := outcomeText(response.(Outcome)); got != outcomes[i] {
					rt.Fatalf("entry %d came to\n%s here and to\n%s there", logs[i].Index, outcomes[i], got)
				}
			}
			if !bytes.Equal(snapshotBytes(t, other.state()), looks[len(looks)-1]) {
				rt.Fatalf("one is\n%s\nthe other\n%s", stateText(one.state()), stateText(other.state()))
			}
			if drawFlag(rt) {
				if err := other.fsm.Restore(io.NopCloser(bytes.NewReader(snapshotBytes(t, other.state())))); err != nil {
					rt.Fatal(err)
				}
			}
		}
		for i, s := range past {
			if !bytes.Equal(snapshotBytes(t, s), looks[i]) {
				rt.Fatalf("the state of index %d has changed", s.Applied().Index)
			}
			if closed := isClosed(s.Changed()); closed != (i < len(past)-1) {
				rt.Fatalf("state %d of %d: superseded %v", i, len(past), closed)
			}
		}
		checkState(t, one.state())
	})
}

// outcomeText tells outcomes apart by everything in them.
func outcomeText(o Outcome) string {
	var b strings.Builder
	showOutcome(&b, o)
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(encodeRemembered(remembered{outcome: o}))
	return fmt.Sprintf("%s%x %v", &b, data, err)
}

// TestSinceTellsAll: what Since names is what differs between two states, for
// those who look at resources and their revisions as agents do.
func TestSinceTellsAll(t *testing.T) {
	held := func(s *State) map[string]uint64 {
		m := map[string]uint64{}
		for r := range s.Resources(nil) {
			m[r.Name()] = r.Revision()
		}
		return m
	}
	rapid.Check(t, func(rt *rapid.T) {
		r := newReplica()
		past := []*State{r.state()}
		for range rapid.IntRange(1, 60).Draw(rt, "commands") {
			r.apply(t, drawCommand(rt))
			past = append(past, r.state())
		}
		now := held(r.state())
		for _, s := range past {
			names, ok := r.state().Since(s.Version().Index)
			if !ok {
				rt.Fatal("a short log of changes is forgotten")
			}
			then := held(s)
			for _, name := range names {
				res, ok := r.state().Resource(name)
				if ok != (now[name] != 0) || (ok && (res.Revision() != now[name] || res.Name() != name)) {
					rt.Fatalf("Resource(%s) is %v %+v, Resources say revision %d", name, ok, res, now[name])
				}
				if ok {
					then[name] = res.Revision()
				} else {
					delete(then, name)
				}
			}
			if fmt.Sprint(then) != fmt.Sprint(now) {
				rt.Fatalf("from version %v the changes lead to\n%v, want\n%v", s.Version(), then, now)
			}
		}
	})
}
