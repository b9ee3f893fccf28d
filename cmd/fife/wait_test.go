package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// waiting is a message of a wait: done once all have applied.
func waiting(applied, total int32, laggards ...string) *fifev1.WaitForVersionResponse {
	return &fifev1.WaitForVersionResponse{Applied: applied, Total: total, Laggards: laggards, Done: applied == total,
		Elapsed: durationpb.New(1234567 * time.Microsecond)}
}

// refusedBy adds an agent's refusal to a message.
func refusedBy(m *fifev1.WaitForVersionResponse, agent, reason string) *fifev1.WaitForVersionResponse {
	m.Refused = append(m.Refused, &fifev1.Agent{Name: "agents/" + agent,
		LastNack: &fifev1.Nack{Version: &fifev1.Version{Epoch: 1, Index: 9}, Reason: reason}})
	return m
}

func unreachable(m *fifev1.WaitForVersionResponse, nodes ...string) *fifev1.WaitForVersionResponse {
	m.UnreachableNodes, m.Done = nodes, false
	return m
}

const abortLine = "canary of demo/canary aborted, version 1.9\nSTAGE       BASE  CANARY  PERCENT  REVISION  ETAG\ndemo/plain  1     -       -        1         p1\n"

// inTurn gives each call the next answer, and the last one to all that follow.
func inTurn(answers ...answer) answer {
	return func(ctx context.Context, request proto.Message, send func(proto.Message) error) error {
		next := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		return next(ctx, request, send)
	}
}

// late ends as a node does that saw the caller's deadline pass first.
func late(messages ...proto.Message) answer {
	return refuse(status.Error(codes.DeadlineExceeded, "deadline exceeded"), messages...)
}

func TestWait(t *testing.T) {
	const stillComing = "\n  the change is made, and agents that are late will still get it; look at them with: fife agents\n"
	for name, c := range map[string]struct {
		wait     answer
		terminal bool
		flags    string
		code     int
		err      string
	}{
		"plain lines": {
			wait: reply(waiting(0, 3, "a", "b", "c"), waiting(1, 3, "b", "c"), waiting(1, 3, "b", "c"), waiting(2, 3, "c"), waiting(3, 3)),
			err: "applied by 0 of 3 agents, waiting for a, b, c\napplied by 1 of 3 agents, waiting for b, c\n" +
				"applied by 2 of 3 agents, waiting for c\nversion 1.9 applied by all 3 agents in 1.235s\n",
		},
		"terminal": {
			wait:     reply(waiting(0, 2, "a", "b"), waiting(1, 2, "b"), waiting(2, 2)),
			terminal: true,
			err: "\rapplied by 0 of 2 agents, waiting for a, b\x1b[K\rapplied by 1 of 2 agents, waiting for b\x1b[K" +
				"\rversion 1.9 applied by all 2 agents in 1.235s\x1b[K\n",
		},
		"many laggards": {
			wait: reply(waiting(1, 30, "a", "b", "c", "d", "e"), waiting(30, 30)),
			err:  "applied by 1 of 30 agents, waiting for a, b, c and 26 more\nversion 1.9 applied by all 30 agents in 1.235s\n",
		},
		"laggards by resource name": {
			wait: reply(waiting(0, 2, "agents/a", "agents/b"), waiting(2, 2)),
			err:  "applied by 0 of 2 agents, waiting for a, b\nversion 1.9 applied by all 2 agents in 1.235s\n",
		},
		"no agents": {
			wait: reply(waiting(0, 0)),
			code: exitWaitTimeout,
			err: "fife: no agents are connected: version 1.9 is applied by 0 of 0\n" +
				"  the change is made, and agents get it when they connect; look for them with: fife agents\n",
		},
		"a share is enough": {
			wait:  hang(waiting(1, 3, "a", "b"), waiting(2, 3, "b")),
			flags: "--wait=66.6%",
			err: "applied by 1 of 3 agents, waiting for a, b\n" +
				"version 1.9 applied by 2 of 3 agents, waiting for b in 1.235s; 66.6 % was asked for\n",
		},
		"a share is not enough": {
			wait:  late(waiting(2, 3, "b")),
			flags: "--wait=67% --wait-timeout 2m",
			code:  exitWaitTimeout,
			err: "applied by 2 of 3 agents, waiting for b\n" +
				"fife: timed out after 2m0s: version 1.9 is applied by 2 of 3 agents, waiting for b" + stillComing,
		},
		"a share of a fleet that is not all seen is none": {
			wait:  late(unreachable(waiting(1, 1), "n2")),
			flags: "--wait=50% --wait-timeout 2m",
			code:  exitWaitTimeout,
			err: "applied by 1 of 1 agents; agents of unreachable nodes are not counted: n2\n" +
				"fife: timed out after 2m0s: version 1.9 is applied by 1 of 1 agents; agents of unreachable nodes are not counted: n2" + stillComing,
		},
		"a refusal is told once": {
			wait: reply(refusedBy(waiting(1, 2, "b"), "b", "bad \x1b[31mroute"), refusedBy(waiting(1, 2, "b"), "b", "bad \x1b[31mroute"), waiting(2, 2)),
			err: "b refused version 1.9: bad  [31mroute\napplied by 1 of 2 agents, waiting for b\n" +
				"version 1.9 applied by all 2 agents in 1.235s\n",
		},
		"a refusal on a terminal has its own line": {
			wait:     reply(waiting(1, 2, "b"), refusedBy(waiting(1, 2, "b"), "b", "bad route"), waiting(2, 2)),
			terminal: true,
			err: "\rapplied by 1 of 2 agents, waiting for b\x1b[K\nb refused version 1.9: bad route\n" +
				"\rapplied by 1 of 2 agents, waiting for b\x1b[K\rversion 1.9 applied by all 2 agents in 1.235s\x1b[K\n",
		},
		"time is up": {
			wait:  hang(waiting(1, 30, "a", "b", "c", "d", "e")),
			flags: "--wait-timeout 500ms",
			code:  exitWaitTimeout,
			err: "applied by 1 of 30 agents, waiting for a, b, c and 26 more\n" +
				"fife: timed out after 500ms: version 1.9 is applied by 1 of 30 agents, waiting for a, b, c, d, e and 24 more" + stillComing,
		},
		"time is up on a terminal": {
			wait:     late(waiting(0, 1, "a")),
			terminal: true,
			flags:    "--wait-timeout 2m",
			code:     exitWaitTimeout,
			err: "\rapplied by 0 of 1 agents, waiting for a\x1b[K\n" +
				"fife: timed out after 2m0s: version 1.9 is applied by 0 of 1 agents, waiting for a" + stillComing,
		},
		"time is up after a refusal": {
			wait:  late(refusedBy(waiting(0, 1, "a"), "a", "bad route")),
			flags: "--wait-timeout 2m",
			code:  exitWaitTimeout,
			err: "a refused version 1.9: bad route\napplied by 0 of 1 agents, waiting for a\n" +
				"fife: timed out after 2m0s: version 1.9 is applied by 0 of 1 agents, waiting for a\n  a refused version 1.9: bad route" + stillComing,
		},
		"time is up, a node is away": {
			wait:  late(unreachable(waiting(1, 1), "n2", "n3")),
			flags: "--wait-timeout 2m",
			code:  exitWaitTimeout,
			err: "applied by 1 of 1 agents; agents of unreachable nodes are not counted: n2, n3\n" +
				"fife: timed out after 2m0s: version 1.9 is applied by 1 of 1 agents; agents of unreachable nodes are not counted: n2, n3" + stillComing,
		},
		"time is up without a word": {
			wait:  hang(),
			flags: "--wait-timeout 500ms",
			code:  exitWaitTimeout,
			err:   "fife: timed out after 500ms without word of the agents\n  the change is made; look at them with: fife agents\n",
		},
		"the node restarts": {
			wait: inTurn(refuse(status.Error(codes.Unavailable, "closing"), waiting(1, 2, "b")), reply(waiting(1, 2, "b"), waiting(2, 2))),
			err: "applied by 1 of 2 agents, waiting for b\nthe control plane does not answer; trying again\n" +
				"applied by 1 of 2 agents, waiting for b\nversion 1.9 applied by all 2 agents in 1.235s\n",
		},
		"the stream ends early": {
			wait: inTurn(reply(waiting(1, 2, "b")), reply(waiting(2, 2))),
			err: "applied by 1 of 2 agents, waiting for b\nthe control plane does not answer; trying again\n" +
				"version 1.9 applied by all 2 agents in 1.235s\n",
		},
		"the node stays away": {
			wait:  refuse(status.Error(codes.Unavailable, "closing")),
			flags: "--wait-timeout 500ms",
			code:  exitWaitTimeout,
			err: "the control plane does not answer; trying again\n" +
				"fife: timed out after 500ms without word of the agents\n  the change is made; look at them with: fife agents\n",
		},
		"the control plane cannot wait": {
			wait: refuse(status.Error(codes.Unimplemented, "unknown method")),
			code: exitFailed,
			err: "fife: wait for the agents (the change itself is made): the control plane does not know this call (unknown method)\n" +
				"  its build may be older than this command's; compare: fife version, fife status\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := demo(t)
			f.on("FleetService/WaitForVersion", c.wait)
			r := fifeWith(t.Context(), t, streams{terminal: c.terminal}, f.address,
				strings.Fields("canary abort demo/canary --wait "+c.flags)...)
			r.want(t, c.code, abortLine, c.err)
			for _, call := range f.take()[1:] {
				if v := call.request.(*fifev1.WaitForVersionRequest).GetVersion(); versionText(v) != "1.9" {
					t.Errorf("waited for version %s", versionText(v))
				}
			}
		})
	}
}

// TestWaitFailsOver: the node that took the change may go away during the wait.
func TestWaitFailsOver(t *testing.T) {
	dying, good := demo(t), demo(t)
	dying.on("FleetService/WaitForVersion", dying.crash())
	good.on("FleetService/WaitForVersion", reply(waiting(2, 2)))
	r := fife(t, dying.address+","+good.address, "canary", "abort", "demo/canary", "--wait")
	r.want(t, exitOK, abortLine, "the control plane does not answer; trying again\nversion 1.9 applied by all 2 agents in 1.235s\n")
}

func TestWaitInterrupted(t *testing.T) {
	f := demo(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.on("FleetService/WaitForVersion", func(ctx context.Context, _ proto.Message, _ func(proto.Message) error) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	r := fifeWith(ctx, t, streams{}, f.address, "canary", "abort", "demo/canary", "--wait")
	r.want(t, exitFailed, abortLine, "fife: interrupted; the change is made, and agents that are late will still get it\n")
}

// TestWaitKeepsOutClean: a script that reads the answer never sees progress in it.
func TestWaitKeepsOutClean(t *testing.T) {
	f := demo(t)
	f.on("FleetService/WaitForVersion", reply(waiting(1, 2, "b"), waiting(2, 2)))
	r := fife(t, f.address, "deploy", "demo", "--stage", "canary", "--wait", "-o", "json")
	if r.code != exitOK || !json.Valid([]byte(r.out)) {
		t.Errorf("exit %d: %s", r.code, r.out)
	}
	if want := "warning: GET /b: stage variable region is unset\napplied by 1 of 2 agents"; !strings.HasPrefix(r.err, want) {
		t.Errorf("%q does not begin with %q", r.err, want)
	}
}

// TestStatusOfAgents covers what the transcript of status does not: no agents,
// and a cluster that has no leader.
func TestStatusOfAgents(t *testing.T) {
	f := demo(t)
	f.on("FleetService/WaitForVersion", reply(waiting(0, 0)))
	if r := fife(t, f.address, "status"); !strings.Contains(r.out, "agents       no agents are connected\n") {
		t.Errorf("%s", r.out)
	}

	cluster := &fifev1.Cluster{ClusterId: "c-1", Node: "n2", Version: &fifev1.Version{Epoch: 1, Index: 9}, Build: "v0.1.0"}
	f.on("ClusterService/GetCluster", reply(&fifev1.GetClusterResponse{Cluster: cluster}))
	leaderless := refuse(fifeError(codes.Unavailable, "NO_LEADER", "no leader is known", nil))
	f.on("StageService/ListStages", leaderless)
	f.on("FleetService/WaitForVersion", leaderless)
	r := fife(t, f.address, "status")
	if r.code != exitUnreachable || !strings.Contains(r.err, "no leader is known") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	for _, want := range []string{"leader       none\n", "agents       unknown\n", "n1    yes"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is missing from:\n%s", want, r.out)
		}
	}
	if strings.Contains(r.out, "STAGE") {
		t.Errorf("stages that could not be read are shown:\n%s", r.out)
	}
	r = fife(t, f.address, "status", "-o", "json")
	if strings.Contains(r.out, `"stages"`) || !json.Valid([]byte(r.out)) || r.code != exitUnreachable {
		t.Errorf("exit %d:\n%s", r.code, r.out)
	}
}
