package store

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

// The fixtures are what clusters have on their disks: commands as entries of the
// log, delimited by their lengths, a snapshot of the state that they lead to, and
// that state as text. Once a version is released its fixtures are never written
// again: a change of the format gets new ones, and the old must go on being read.
var update = flag.Bool("update", false, "write the fixtures of today's format instead of reading them")

const (
	commandsFixture = "testdata/commands_v1.bin"
	snapshotFixture = "testdata/snapshot_v1.bin"
	stateFixture    = "testdata/state_v1.golden"
)

// fixtureLines hold every kind of command, every field and every kind of refusal
// that is remembered with details.
const fixtureLines = `
init-cluster id=CLUSTERCLUSTERCLUSTERCLUST epoch=1
put-node id=n1 address=n1.example:7400 schema=1
put-node id=n2 address=n2.example:7400 schema=1
put-node id=n3 address=n3.example:7400 schema=1
delete-node id=n3
checkpoint
configure-audit retention=2160h bytes=100000
create-api name=demo hosts=(api.example, www.example) description=demonstration timeout=5s binary=(image/png, */*) request=create-demo
create-api name=gone hosts=(gone.example)
update-api name=gone description=changed hosts=(www.example) fields=(hosts) request=taken
update-api name=gone description=changed fields=(description)
put-route api=demo method=GET path=/pets/{id} http=https://${stageVariables.host}/pets/{id}?v=${stageVariables.v} timeout=2500ms
put-route api=demo method=ANY path=/pets/{rest+} mock=200 request=clash
put-route api=demo method=ANY path=/ lambda=arn:aws:lambda:eu-west-1:123456789012:function:hello:${stageVariables.v}
put-route api=demo method=GET path=/upstream http=http://h upstream=POST
put-route api=demo method=POST path=/named lambda=hello qualifier=prod
put-route api=demo method=GET path=/mock mock=418 headers=(x-kind=teapot, x-pot=short) body=short
put-route api=demo method=GET path=/left-over mock=200 request=left-over
put-route api=demo method=PUT path=/draft-only
delete-route api=demo method=PUT path=/draft-only
deploy api=demo description=first request=first
create-stage api=demo stage=prod deployment=1 vars=(host=one.example, v=1) description=production sticky=header key=x-user override expose
create-stage api=demo stage=Test_2 deployment=1 sticky=client-ip
create-stage api=demo stage=cookie deployment=1 sticky=cookie key=session override signed=0123456789abcdef
create-stage api=demo stage=query deployment=1 sticky=query key=user
delete-route api=demo method=GET path=/left-over
start-canary api=demo stage=prod percent=25 vars=(v=2, extra=yes) salt=18446744073709551615 request=canary
deploy api=demo description=second stage=prod
update-canary api=demo stage=prod percent=50 fields=(percent)
promote api=demo stage=prod keep request=promoted
abort-canary api=demo stage=prod
rollback api=demo stage=prod request=back
update-stage api=demo stage=prod vars=(host=two.example, v=3) fields=(variables) if=7
update-stage api=demo stage=prod fields=(variables) if=6 request=stale
update-stage api=demo stage=cookie sticky=header key=x-user override keep-key fields=(split)
start-canary api=demo stage=prod deployment=2 percent=10 salt=42
deploy api=demo stage=gone
delete-stage api=demo stage=gone
deploy api=demo
delete-deployment api=demo number=4
delete-deployment api=demo number=1 request=in-use
delete-api name=gone
create-api name=noted notes=(owner=team)
put-route api=noted method=GET path=/a mock=200 notes=(docs=a)
edit-routes api=noted delete=(GET:/a) put=(GET:/b, PUT:/b) notes=(docs=b) description=edited fields=(description, annotations)
deploy api=noted stage=s vars=(v=1) notes=(owner=team) fields=(variables, annotations)
deploy api=noted stage=s canary share=25 overrides=(v=2) salt=5 fields=(canary)
update-stage api=noted stage=s canary=2 share=50 salt=6 notes=(owner=other) fields=(canary, annotations)
create-stage api=noted stage=t deployment=1 canary=2 share=1 salt=8
create-api name=forced
put-route api=forced method=GET path=/a mock=200
deploy api=forced stage=s
delete-api name=forced force
register-agents ids=(edge-1, edge-2) labels=(region=eu, tier=canary)
register-agents ids=(edge-3) labels=(region=us)
forget-agents ids=(edge-2)
create-stage api=demo stage=synced deployment=1 fail-closed consistent
start-canary api=demo stage=synced deployment=2 percent=10 salt=7
open-promotion api=demo stage=synced mode=version late=wait timeout=1s
move-promotion api=demo stage=synced step=abort reason=refused
open-promotion api=demo stage=synced mode=timed late=fence timeout=30s request=opened
move-promotion api=demo stage=synced step=fence
move-promotion api=demo stage=synced step=commit flip=90s agents=3 prepared=2 fenced=(edge-3)
move-promotion api=demo stage=synced step=complete agents=3 prepared=2 fenced=(edge-3) stale=(edge-4) refused=(edge-5) window=5ms clock-error=1ms
create-stage api=demo stage=waved deployment=1 waves=(region@1m, tier=canary, 10%)
start-canary api=demo stage=waved deployment=2 percent=10 salt=9
promote api=demo stage=waved
move-promotion api=demo stage=waved step=wave
move-promotion api=demo stage=waved step=halt reason=refused
record-calls method=PromoteCanary resource=apis/demo/stages/waved code=7 reason=PERMISSION_DENIED message=denied times=3
record-calls method=TransferLeadership resource=cluster
stage-routes api=shop import=i1 part=0 routes=(GET:/a, PUT:/b/{c}:201)
import-routes api=shop import=i1 parts=1 routes=(GET:/d) create description=imported binary=(image/png) request=imported
stage-routes api=shop import=i2 part=0 routes=(GET:/a:404)
stage-routes api=shop import=i2 part=1 routes=(GET:/b)
put-trust cluster=c root=der class=agent certificate=der sealed=key
put-join-token id=t1 secret=s1 class=agent pattern=edge-* apis=(demo) ttl=1h uses=2
put-join-token id=t2 secret=s2 class=server ttl=1h uses=1
put-join-token id=t3 secret=s3 class=server ttl=1h uses=1
delete-join-token id=t3
use-join-token id=t1 secret=s1 class=agent name=edge-1 request=joined
use-join-token id=t1 secret=wrong class=agent name=edge-2 request=not-joined
revoke name=agent/edge-9
start-rotation root=new sealed=key
start-key-rotation key=k1
reseal key=k2 root=new next=new sealed=key
move-rotation root=new from=trust to=switch
create-binding subject=user:root role=admin api=* stage=*
create-binding subject=group:team/web role=deployer api=demo stage=prod
create-binding subject=user:gone role=viewer api=a* stage=*
delete-binding subject=user:gone role=viewer api=a* stage=*
create-token id=ab12cd34 user=ci secret=s ttl=720h
create-token id=gone user=ci secret=t ttl=720h
delete-token id=gone
create-access-key id=FIFEA user=ci sealed=abc ttl=720h
create-access-key id=FIFEGONE user=ci sealed=def ttl=720h
reseal-access-key id=FIFEA sealed=xyz
delete-access-key id=FIFEGONE
record-certificate id=0123456789abcdef user=ann ttl=720h
update-api name=demo description=granted fields=(description) as=user:ann groups=(team/web) need=(apis.edit, demo, "")
update-api name=demo description=denied fields=(description) as=user:ann groups=(team/web) need=(apis.manage, demo, *)
`

func fixtureCommands(t testing.TB) []*storev1.Command {
	t.Helper()
	var commands []*storev1.Command
	for i, text := range strings.Split(strings.TrimSpace(fixtureLines), "\n") {
		name, arguments, err := datadriven.ParseLine(text)
		if err != nil {
			t.Fatal(err)
		}
		cmd := readArgs(t, &datadriven.TestData{Pos: fmt.Sprint("fixture line ", i+1), Cmd: name, CmdArgs: arguments}).command()
		cmd.Time = timestamppb.New(clockStart.Add(time.Duration(i+1) * 1500 * time.Millisecond))
		cmd.Schema = commandSchema(cmd)
		commands = append(commands, cmd)
	}
	return commands
}

// TestFixtureHasEveryCommand: whoever adds a command adds it to the fixtures.
func TestFixtureHasEveryCommand(t *testing.T) {
	has := map[string]bool{}
	for _, cmd := range fixtureCommands(t) {
		m := cmd.ProtoReflect()
		has[string(m.WhichOneof(m.Descriptor().Oneofs().ByName("op")).Name())] = true
	}
	ops := (&storev1.Command{}).ProtoReflect().Descriptor().Oneofs().ByName("op").Fields()
	for i := range ops.Len() {
		if name := string(ops.Get(i).Name()); !has[name] {
			t.Errorf("no fixture has %s", name)
		}
	}
}

// TestCommandFixture: entries of the log that were written by the first release
// are read and lead to the state that they led to then.
func TestCommandFixture(t *testing.T) {
	if *update {
		var out bytes.Buffer
		for _, cmd := range fixtureCommands(t) {
			if _, err := protodelim.MarshalTo(&out, cmd); err != nil {
				t.Fatal(err)
			}
		}
		writeFixture(t, commandsFixture, out.Bytes())
		writeFixture(t, stateFixture, []byte(wholeText(exampleState(t))))
	}
	in := bufio.NewReader(bytes.NewReader(readFixture(t, commandsFixture)))
	r := newReplica()
	for {
		var cmd storev1.Command
		err := protodelim.UnmarshalFrom(in, &cmd)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("after %d entries: %v", r.index, err)
		}
		r.apply(t, &cmd)
	}
	wantFixtureState(t, r.state())
}

// TestSnapshotFixture: a snapshot that was written by the first release is read as
// the state that it was written of.
func TestSnapshotFixture(t *testing.T) {
	if *update {
		writeFixture(t, snapshotFixture, snapshotBytes(t, exampleState(t)))
	}
	f := newFSM()
	if err := f.Restore(io.NopCloser(bytes.NewReader(readFixture(t, snapshotFixture)))); err != nil {
		t.Fatal(err)
	}
	wantFixtureState(t, f.state.Load())
}

func wantFixtureState(t *testing.T, s *State) {
	t.Helper()
	if got, want := wholeText(s), string(readFixture(t, stateFixture)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	checkState(t, s)
}

// wholeText writes a state with what it remembers of requests and changes.
func wholeText(s *State) string {
	var b strings.Builder
	showState(&b, s)
	for id := range s.outcomes.byIndex.from(0) {
		r, _ := s.outcomes.byID.Get([]byte(id))
		fmt.Fprintf(&b, "request %s index %d at %s, call %q: ", r.id, r.index, showTime(r.time), r.fingerprint)
		showOutcome(&b, r.outcome)
		if refusal := r.outcome.Refusal; refusal != nil {
			fmt.Fprintf(&b, "violations %v\n", refusal.Violations)
		}
	}
	showAudit(&b, s)
	for c := range s.changes.entries.from(0) {
		fmt.Fprintf(&b, "change %d: %s\n", c.index, strings.Join(c.names, " "))
	}
	return b.String()
}

func readFixture(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFixture(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
