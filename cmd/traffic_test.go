package cmd_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rogpeppe/go-internal/testscript"
)

// This file holds the stories' own words around HTTP.

const function = "api-gateway-stage-variables-get"

// cmdPorts puts free loopback addresses into variables: ports VAR...
func cmdPorts(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: ports VAR...")
	}
	for _, name := range args {
		ts.Setenv(name, freeAddress())
	}
}

// freeAddress returns an address that nobody listens on and no other story has
// been given. Its port is below those that outgoing connections get by themselves
// (32768 and up on Linux): one of them could take it before its story does.
func freeAddress() string {
	for {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		if _, given := portsGiven.LoadOrStore(address, true); given {
			continue
		}
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close() // it has accepted nothing
			return address
		}
	}
}

// portsGiven holds the addresses of all stories, which share a process.
var portsGiven sync.Map

// cmdLambda starts a Lambda-compatible endpoint and puts its URL into a variable:
// lambda VAR. Any version of the function answers with its number.
func cmdLambda(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: lambda VAR")
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		version := r.URL.Query().Get("Qualifier")
		if _, qualifier, ok := strings.Cut(r.URL.Path, function+":"); ok {
			version, _, _ = strings.Cut(qualifier, "/")
		}
		_, _ = fmt.Fprintf(w, `{"statusCode":200,"body":"\"Hello from Lambda v%s\""}`, version)
	}))
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.URL)
}

func answerOf(version string) string { return `"Hello from Lambda v` + version + `"` }

// get returns the body of a 200; anything else is an error.
func get(ctx context.Context, url string, header ...string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), err
}

// cmdAnswers expects COUNT requests to be answered by a version of the function:
// answers URL VERSION COUNT
func cmdAnswers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: answers URL VERSION COUNT")
	}
	count, err := strconv.Atoi(args[2])
	ts.Check(err)
	for i := range count {
		body, err := get(context.Background(), args[0])
		ts.Check(err)
		if body != answerOf(args[1]) {
			ts.Fatalf("request %d of %d was answered %s", i+1, count, body)
		}
	}
}

// cmdSettles waits until a version of the function answers 50 requests in a row:
// settles URL VERSION
func cmdSettles(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: settles URL VERSION")
	}
	retry(ts, "version "+args[1], func() error {
		for range 50 {
			body, err := get(context.Background(), args[0])
			ts.Check(err)
			if body != answerOf(args[1]) {
				return fmt.Errorf("answered %s", body)
			}
		}
		return nil
	})
}

// cmdSplit expects version 2 to answer a percent of COUNT requests, to within
// four standard deviations, and version 1 the rest: split URL PERCENT COUNT
func cmdSplit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: split URL PERCENT COUNT")
	}
	percent, err := strconv.ParseFloat(args[1], 64)
	ts.Check(err)
	count, err := strconv.Atoi(args[2])
	ts.Check(err)
	var canary, failed atomic.Int64
	var wg sync.WaitGroup
	const clients = 8
	for range clients {
		wg.Go(func() {
			for range count / clients {
				switch body, err := get(context.Background(), args[0]); {
				case err == nil && body == answerOf("2"):
					canary.Add(1)
				case err != nil || body != answerOf("1"):
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	p, n := percent/100, float64(count/clients*clients)
	margin := 4 * math.Sqrt(n*p*(1-p))
	if failed.Load() > 0 || math.Abs(float64(canary.Load())-n*p) > margin {
		ts.Fatalf("version 2 answered %d of %.0f requests, not %.0f ± %.0f; %d failed",
			canary.Load(), n, n*p, margin, failed.Load())
	}
	ts.Logf("version 2 answered %d of %.0f requests, expected %.0f ± %.0f", canary.Load(), n, n*p, margin)
}

// cmdSame expects every one of COUNT keys to be answered alike at two URLs, and
// both versions to be among the answers: same HEADER COUNT URL URL
func cmdSame(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: same HEADER COUNT URL URL")
	}
	count, err := strconv.Atoi(args[1])
	ts.Check(err)
	seen := map[string]int{}
	for i := range count {
		key := fmt.Sprintf("user-%d", i)
		a, err := get(context.Background(), args[2], args[0], key)
		ts.Check(err)
		b, err := get(context.Background(), args[3], args[0], key)
		ts.Check(err)
		if a != b {
			ts.Fatalf("key %s was answered %s and %s", key, a, b)
		}
		seen[a]++
	}
	if seen[answerOf("1")] == 0 || seen[answerOf("2")] == 0 {
		ts.Fatalf("all %d keys had one answer: %v", count, seen)
	}
}

// traffic is a client that sends requests until it is stopped.
type traffic struct {
	stop   context.CancelFunc
	done   sync.WaitGroup
	sent   atomic.Int64
	failed atomic.Pointer[error]
}

// trafficKey is where a story keeps its traffic.
type trafficKey struct{ name string }

// cmdLoad begins to send requests, one after the other: load NAME URL
func cmdLoad(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: load NAME URL")
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &traffic{stop: cancel}
	ts.Defer(cancel)
	t.done.Go(func() {
		for ctx.Err() == nil {
			body, err := get(context.WithoutCancel(ctx), args[1])
			if err == nil && body != answerOf("1") && body != answerOf("2") {
				err = fmt.Errorf("answered %s", body)
			}
			if err != nil {
				t.failed.CompareAndSwap(nil, &err)
			}
			t.sent.Add(1)
		}
	})
	trafficOf.Store(trafficKey{ts.Getenv("WORK") + args[0]}, t)
}

// trafficOf holds the running traffic of all stories, which share a process.
var trafficOf sync.Map

// cmdUnload stops to send requests, and fails the story if any has failed:
// unload NAME
func cmdUnload(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: unload NAME")
	}
	found, ok := trafficOf.LoadAndDelete(trafficKey{ts.Getenv("WORK") + args[0]})
	if !ok {
		ts.Fatalf("no load is called %s", args[0])
	}
	t := found.(*traffic)
	t.stop()
	t.done.Wait()
	// Requests side by side leave connections that had none yet, and a server that
	// stops waits 5 s for those.
	http.DefaultClient.CloseIdleConnections()
	if err := t.failed.Load(); err != nil {
		ts.Fatalf("of %d requests at least one failed: %v", t.sent.Load(), *err)
	}
	if t.sent.Load() < 100 {
		ts.Fatalf("only %d requests were sent", t.sent.Load())
	}
	ts.Logf("%d requests, none failed", t.sent.Load())
}
