package store

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// replica applies commands as Raft would have it do. Every command takes the
// next index and a second of its clock.
type replica struct {
	fsm   *fsm
	index uint64
	clock time.Time
}

func newReplica() *replica { return &replica{fsm: newFSM(), clock: clockStart} }

func (r *replica) state() *State { return r.fsm.state.Load() }

// entry makes the next entry of the log. The command gets the clock's time
// unless it has one.
func (r *replica) entry(t testing.TB, cmd *storev1.Command) *raft.Log {
	t.Helper()
	r.index++
	r.clock = r.clock.Add(time.Second)
	if cmd.GetTime() == nil {
		cmd.Time = timestamppb.New(r.clock)
	}
	data, err := proto.Marshal(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return &raft.Log{Index: r.index, Type: raft.LogCommand, Data: data}
}

func (r *replica) apply(t testing.TB, cmd *storev1.Command) Outcome {
	t.Helper()
	return r.fsm.Apply(r.entry(t, cmd)).(Outcome)
}

// TestApply plays testdata/*.txt. Run with -rewrite after a wanted change, and
// read the difference.
func TestApply(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("found %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			r := newReplica()
			datadriven.RunTest(t, file, func(t *testing.T, line *datadriven.TestData) string {
				return r.play(t, line)
			})
		})
	}
}

// play carries out one line. Every line also checks what must always hold.
func (r *replica) play(t *testing.T, line *datadriven.TestData) string {
	var out strings.Builder
	a := readArgs(t, line)
	before, text := r.state(), snapshotBytes(t, r.state())
	if cmd := a.command(); cmd != nil {
		outcome := r.apply(t, cmd)
		showOutcome(&out, outcome)
		if outcome.Refusal != nil && r.state().Version() != before.Version() {
			t.Errorf("%s: a refusal moved the version", line.Pos)
		}
		if names, _ := r.state().Since(r.index - 1); len(names) > 0 {
			slices.Sort(names)
			fmt.Fprintf(&out, "changed %s\n", strings.Join(names, " "))
		}
	} else {
		r.look(a, &out)
		a.done()
	}
	if !bytes.Equal(text, snapshotBytes(t, before)) {
		t.Errorf("%s: the state before the command has changed", line.Pos)
	}
	checkState(t, r.state())
	return out.String()
}

// look carries out a line that is no command.
func (r *replica) look(a args, out *strings.Builder) {
	s := r.state()
	switch a.line.Cmd {
	case "show":
		showState(out, s)
	case "audit":
		showAudit(out, s)
	case "history":
		stage, _ := s.Stage(a.text("api"), a.text("stage"))
		for _, r := range stage.History {
			fmt.Fprintf(out, "%d %s by %s %q\n", r.Number, r.Change.Method, r.Change.Actor, r.Change.Note)
		}
	case "version":
		fmt.Fprintf(out, "%v applied %v\n", s.Version(), s.Applied())
	case "since":
		names, ok := s.Since(a.number("index"))
		if !ok {
			fmt.Fprintln(out, "forgotten")
			return
		}
		slices.Sort(names)
		for _, name := range names {
			if _, held := s.Resource(name); !held {
				name += " gone"
			}
			fmt.Fprintln(out, name)
		}
	case "resources":
		for res := range s.Resources(a.list("apis")) {
			fmt.Fprintf(out, "%s@%d\n", res.Name(), res.Revision())
		}
	case "wait":
		r.clock = r.clock.Add(a.duration("for"))
	case "outcomes":
		ids := slices.Collect(s.outcomes.byIndex.from(0))
		fmt.Fprintf(out, "%d", len(ids))
		if len(ids) > 0 {
			fmt.Fprintf(out, ", from %s to %s", ids[0], ids[len(ids)-1])
		}
		fmt.Fprintln(out)
	case "changes":
		fmt.Fprintf(out, "%d after %d\n", s.changes.entries.len(), s.changes.floor)
	case "put-nodes": // many small commands, all at one time
		at := r.clock
		for i := range a.number("times") {
			r.apply(a.t, &storev1.Command{
				Time: timestamppb.New(at), RequestId: fmt.Sprint(a.text("request"), i),
				Op: &storev1.Command_PutNode{PutNode: &storev1.PutNode{Node: &storev1.Node{Id: "n"}}},
			})
		}
		r.clock = at
	case "update-apis": // many changes that agents see
		for range a.number("times") {
			r.apply(a.t, updateAPI(a.text("name")))
		}
	default:
		a.line.Fatalf(a.t, "unknown line")
	}
}

func snapshotBytes(t testing.TB, s *State) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := writeSnapshot(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// checkState fails the test unless the indexes of a state agree with what they
// index, and a snapshot of it reads as the same state.
func checkState(t testing.TB, s *State) {
	t.Helper()
	live, hosts := map[string]int{}, map[string]string{}
	for a := range s.APIs("") {
		if n := len(slices.Collect(s.Routes(a.ID, "", ""))); n != a.RouteCount {
			t.Errorf("%s counts %d routes and has %d", a.Name(), a.RouteCount, n)
		}
		for _, h := range a.Hosts {
			hosts[h] = a.ID
		}
		for stage := range s.Stages(a.ID, "") {
			for _, d := range stage.Live() {
				live[release.DeploymentName(a.ID, d)]++
				if _, ok := s.Deployment(a.ID, d); !ok {
					t.Errorf("%s needs deployment %d, which is gone", stage.Name(), d)
				}
			}
		}
		for d := range s.Deployments(a.ID, 0) {
			if s.Live(a.ID, d.Number) != (live[d.Name()] > 0) || d.Number > a.LastDeployment {
				t.Errorf("%s: live %v, needed by %d stages, newest %d", d.Name(), s.Live(a.ID, d.Number), live[d.Name()], a.LastDeployment)
			}
		}
	}
	if s.live.Len() != len(live) || s.hosts.Len() != len(hosts) {
		t.Errorf("%d live deployments and %d hosts are indexed, want %d and %d", s.live.Len(), s.hosts.Len(), len(live), len(hosts))
	}
	for h, api := range hosts {
		if got, _ := s.hosts.Get([]byte(h)); got != api {
			t.Errorf("host %s is of %q, want %s", h, got, api)
		}
	}
	if s.outcomes.byID.Len() != s.outcomes.byIndex.len() {
		t.Errorf("%d outcomes by id, %d by index", s.outcomes.byID.Len(), s.outcomes.byIndex.len())
	}
	for r := range walk(s.outcomes.byID, nil) {
		if o := r.outcome; (o.Stage != nil && o.Stage.History != nil) || (o.Deployment != nil && o.Deployment.Routes != nil) {
			t.Errorf("the outcome of %s holds what the stage and the deployment hold already", r.id)
		}
	}
	for _, r := range s.VerifyAudit() {
		if r.Fault != nil {
			t.Errorf("%v: %+v", r.Chain, *r.Fault)
		}
	}
	data := snapshotBytes(t, s)
	again, err := readSnapshot(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("read back: %v", err)
	}
	if !bytes.Equal(snapshotBytes(t, again), data) || stateText(again) != stateText(s) {
		t.Errorf("a snapshot of\n%s reads as\n%s", stateText(s), stateText(again))
	}
}
