package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// refusing returns an address where nothing listens.
func refusing(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return address
}

// listening returns an address where handle gets every connection.
func listening(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			handle(conn)
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String()
}

// silent returns an address that accepts connections and says nothing.
func silent(t *testing.T) string {
	return listening(t, func(conn net.Conn) { t.Cleanup(func() { _ = conn.Close() }) })
}

// web returns an address that answers as a plain web server would.
func web(t *testing.T) string {
	return listening(t, func(conn net.Conn) {
		_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"))
		_ = conn.Close()
	})
}

func TestFailOver(t *testing.T) {
	for name, dead := range map[string]string{
		"refused": refusing(t), "silent": silent(t), "no control plane": web(t),
		"unknown host": "fife.invalid:7400", "several": refusing(t) + ", " + web(t),
	} {
		t.Run(name, func(t *testing.T) {
			f := demo(t)
			r := fife(t, dead+","+f.address, "canary", "abort", "demo/canary", "--timeout", "2s", "--plaintext")
			if r.code != exitOK || r.err != "" {
				t.Errorf("exit %d: %s", r.code, r.err)
			}
			if calls := f.take(); len(calls) != 1 {
				t.Errorf("%d calls", len(calls))
			}
		})
	}
}

// TestFailOverRemembers: a command of several calls asks a node that cannot
// answer once, not each time.
func TestFailOverRemembers(t *testing.T) {
	cut, good := newFake(t), demo(t)
	cut.answers = everything(refuse(fifeError(codes.Unavailable, "NO_LEADER", "no leader is known", nil)))
	if r := fife(t, cut.address+","+good.address, "api", "list"); r.code != exitOK {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	if asked, then := len(cut.take()), len(good.take()); asked != 1 || then != 2 {
		t.Errorf("%d calls, then %d", asked, then)
	}
}

func TestUnreachable(t *testing.T) {
	refused, mute, other := refusing(t), silent(t), web(t)
	r := fife(t, "", "-s", refused+","+mute+","+other, "canary", "abort", "demo/canary", "--timeout", "3s")
	r.want(t, exitUnreachable, "", fmt.Sprintf(`fife: no control plane node answered: %s (connection refused), %s (no answer), %s (what listens there is no control plane, or wants a --cert)
  is it running? name its nodes with --server or FIFE_SERVER
`, refused, mute, other))
}

// TestNoLeader: a node that is cut off from its leader does nothing, so another
// one is asked.
func TestNoLeader(t *testing.T) {
	leaderless := refuse(fifeError(codes.Unavailable, "NO_LEADER", "no leader is known", nil))
	cut, good := demo(t), demo(t)
	cut.on("StageService/AbortCanary", leaderless)
	r := fife(t, cut.address+","+good.address, "canary", "abort", "demo/canary")
	asked, again := cut.take(), good.take()
	if r.code != exitOK || len(asked) != 1 || len(again) != 1 {
		t.Fatalf("exit %d, %d and %d calls: %s", r.code, len(asked), len(again), r.err)
	}
	if !proto.Equal(asked[0].request, again[0].request) {
		t.Errorf("sent %s, then %s", oneLine(t, asked[0].request), oneLine(t, again[0].request))
	}

	good.on("StageService/AbortCanary", leaderless)
	r = fife(t, cut.address+","+good.address+","+refusing(t), "canary", "abort", "demo/canary")
	r.want(t, exitUnreachable, "", "fife: no leader is known\n  nothing was done; try again in a moment, or look at the nodes with: fife cluster members\n")
}

// TestCrash: a connection that breaks under a change leaves its outcome open.
// The next node is asked with the same request id; without one the user is told.
func TestCrash(t *testing.T) {
	dying, good := demo(t), demo(t)
	dying.on("StageService/AbortCanary", dying.crash())
	r := fife(t, dying.address+","+good.address, "canary", "abort", "demo/canary")
	asked, again := dying.take(), good.take()
	if r.code != exitOK || len(asked) != 1 || len(again) != 1 {
		t.Fatalf("exit %d, %d and %d calls: %s", r.code, len(asked), len(again), r.err)
	}
	if !proto.Equal(asked[0].request, again[0].request) {
		t.Errorf("sent %s, then %s", oneLine(t, asked[0].request), oneLine(t, again[0].request))
	}

	for name, rest := range map[string]func(*fake){
		"leaderless": func(f *fake) {
			f.on("StageService/AbortCanary", refuse(fifeError(codes.Unavailable, "NO_LEADER", "no leader is known", nil)))
		},
		"mute":  func(f *fake) { f.on("StageService/AbortCanary", hang()) },
		"stops": func(f *fake) { f.server.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			dying, other := demo(t), demo(t)
			dying.on("StageService/AbortCanary", dying.crash())
			rest(other)
			r := fife(t, dying.address+","+other.address, "canary", "abort", "demo/canary", "--request-id", "r1", "--timeout", "1s")
			if r.code != exitUnknown || !strings.Contains(r.err, dying.address+" (the connection broke), "+other.address) ||
				!strings.Contains(r.err, "--request-id r1") {
				t.Errorf("exit %d: %s", r.code, r.err)
			}
		})
	}

	dying = demo(t)
	dying.on("StageService/GetStage", dying.crash())
	r = fife(t, dying.address, "stage", "get", "demo/canary")
	if r.code != exitUnreachable || !strings.Contains(r.err, "the connection broke") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
}

// TestServerFlag: the flag wins over the environment, and the error names the
// one that is wrong.
func TestServerFlag(t *testing.T) {
	f := demo(t)
	if r := fife(t, "nonsense", "-s", f.address, "api", "get", "demo"); r.code != exitOK {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	if r := fife(t, "nonsense", "api", "get", "demo"); r.code != exitUsage || !strings.Contains(r.err, `FIFE_SERVER has "nonsense"`) {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
}

// TestPaced: a call that comes too often is made again when the node says, unless the
// user has less time than that.
func TestPaced(t *testing.T) {
	tooOften := func(delay time.Duration) error {
		st, err := status.Convert(fifeError(codes.ResourceExhausted, "RATE_LIMITED", "user/ann calls more often than 100 times a second", nil)).
			WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})
		if err != nil {
			t.Fatal(err)
		}
		return st.Err()
	}
	f := newFake(t)
	refused := 0
	f.on("StageService/AbortCanary", func(_ context.Context, _ proto.Message, send func(proto.Message) error) error {
		if refused++; refused <= 2 {
			return tooOften(20 * time.Millisecond)
		}
		return send(&fifev1.AbortCanaryResponse{Stage: plainStage()})
	})
	began := time.Now()
	r := fife(t, f.address, "canary", "abort", "demo/canary")
	calls := f.take()
	if r.code != 0 || len(calls) != 3 || time.Since(began) < 40*time.Millisecond {
		t.Fatalf("exit %d after %d calls in %v: %s", r.code, len(calls), time.Since(began), r.err)
	}
	if a, b := calls[0].request.(*fifev1.AbortCanaryRequest), calls[2].request.(*fifev1.AbortCanaryRequest); a.GetRequestId() != b.GetRequestId() {
		t.Errorf("the repeat has another request id: %v, %v", a, b)
	}
	f.on("StageService/AbortCanary", refuse(tooOften(time.Hour)))
	r = fife(t, f.address, "canary", "abort", "demo/canary")
	if n := len(f.take()); r.code != 1 || n != 1 || !strings.Contains(r.err, "more often than") {
		t.Errorf("exit %d after %d calls: %s", r.code, n, r.err)
	}
}
