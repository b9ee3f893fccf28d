//go:build linux

package edge_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// contestant is one proxy that is measured.
type contestant struct {
	name         string
	process      *process
	http1, http2 string
}

// scenario is one kind of load.
type scenario struct {
	name   string
	load   loadSpec
	share  float64 // of what nginx does when saturated, in requests per second; 0: as many as can be
	pinned bool    // the proxy has one core, load and upstream another; else they share all
	goals  []goal
}

// goal is a target for the agent, in multiples of a peer's figure.
type goal struct {
	quantity string
	peer     string
	ratio    float64
	least    bool // at least; else at most
}

// The quantities that are measured.
const (
	throughput = "requests/s"
	cpu        = "CPU/request"
	p50, p99   = "p50", "p99"
	p999       = "p99.9"
)

var quantities = []string{throughput, cpu, p50, p99, p999}

var scenarios = []scenario{
	{
		name: "HTTP/1.1, 100 B, saturated", load: loadSpec{Path: "/b/x", Length: 100, Conns: 64, Streams: 1}, pinned: true,
		goals: []goal{
			{cpu, "nginx", 0.95, false}, {cpu, "HAProxy", 0.9, false}, {cpu, "Traefik", 0.35, false}, {cpu, "Caddy", 0.18, false},
			{throughput, "nginx", 1.1, true},
		},
	},
	{
		name: "HTTP/1.1, 16 KiB, saturated", load: loadSpec{Path: "/b/16k", Length: 16 << 10, Conns: 64, Streams: 1}, pinned: true,
		goals: []goal{{cpu, "nginx", 1.0, false}, {cpu, "HAProxy", 0.75, false}},
	},
	{
		name: "HTTP/1.1, 100 B, 10 % of saturation", load: loadSpec{Path: "/b/x", Length: 100, Conns: 64, Streams: 1}, share: 0.1, pinned: true,
		goals: []goal{{cpu, "nginx", 1.3, false}, {p99, "nginx", 1.2, false}},
	},
	{
		name: "HTTP/1.1, 16 KiB, 10 % of saturation", load: loadSpec{Path: "/b/16k", Length: 16 << 10, Conns: 64, Streams: 1}, share: 0.1, pinned: true,
	},
	{
		name: "HTTP/1.1, 100 B, saturated, unpinned", load: loadSpec{Path: "/b/x", Length: 100, Conns: 64, Streams: 1},
		goals: []goal{{cpu, "nginx", 1.3, false}, {p99, "nginx", 1.2, false}},
	},
	{
		name: "HTTP/1.1, 100 B, 10 % of saturation, unpinned", load: loadSpec{Path: "/b/x", Length: 100, Conns: 64, Streams: 1}, share: 0.1,
		goals: []goal{{cpu, "nginx", 1.3, false}, {p99, "nginx", 1.2, false}},
	},
	{
		name: "HTTP/2, 100 B, saturated", load: loadSpec{Path: "/b/x", Length: 100, HTTP2: true, Conns: 8, Streams: 8}, pinned: true,
		goals: []goal{{cpu, "nginx", 2.2, false}, {cpu, "Traefik", 0.45, false}},
	},
	{
		name: "HTTP/2, 16 KiB, saturated", load: loadSpec{Path: "/b/16k", Length: 16 << 10, HTTP2: true, Conns: 8, Streams: 8}, pinned: true,
	},
	{
		name: "HTTP/2, 100 B, 10 % of saturation", load: loadSpec{Path: "/b/x", Length: 100, HTTP2: true, Conns: 8, Streams: 8}, share: 0.1, pinned: true,
	},
}

const agentName = "fife-agent"

// TestBench measures the agent beside other proxies, turn by turn, so that a slow
// moment of the machine hits all of them. The proxy has a core of its own; load and
// upstream have another.
func TestBench(t *testing.T) {
	turns, warm, length := *rounds, *phase/4, *phase
	if !*measured {
		turns, warm, length = 1, 5*time.Millisecond, 20*time.Millisecond
	}
	proxyCore, loadCore := []string{"taskset", "-c", "0"}, []string{"taskset", "-c", "1"}
	if runtime.NumCPU() < 2 {
		t.Log("there is one core only: nothing is pinned")
		proxyCore, loadCore = nil, nil
	}
	saturation := 0.0 // of nginx, or whoever is first
	for _, pinned := range []bool{true, false} {
		core := proxyCore
		if !pinned {
			core, loadCore = nil, nil
		}
		name := "pinned"
		if !pinned {
			name = "unpinned"
		}
		t.Run(name, func(t *testing.T) {
			base, canary := startBenchUpstream(t, loadCore), startBenchUpstream(t, loadCore)
			contestants := enter(t, base, canary, core)
			for _, s := range scenarios {
				if s.pinned != pinned {
					continue
				}
				t.Run(strings.ReplaceAll(s.name, "/", ""), func(t *testing.T) { // a slash would begin a subtest
					spec := s.load
					spec.Warm, spec.Phase = warm, length
					if s.share > 0 {
						spec.Rate = max(100, int(s.share*saturation))
					}
					r := newReport(s, contestants)
					for range turns {
						for i := range contestants {
							r.add(contestants[i].name, measure(t, &contestants[i], spec, loadCore))
						}
					}
					if saturation == 0 {
						saturation = median(r.values[contestants[0].name][throughput])
					}
					if *measured {
						fmt.Fprint(t.Output(), r.show(spec))
					}
				})
			}
		})
	}
}

// enter starts all proxies, nginx first. They have the one core, or if none is named all of
// them, as the agent does.
func enter(t *testing.T, base, canary string, core []string) []contestant {
	t.Helper()
	cores := runtime.NumCPU()
	if len(core) > 0 {
		cores = 1
	}
	var all []contestant
	for i := range peers {
		version, ok := peers[i].installed()
		if !ok {
			t.Logf("%s is skipped: it is not installed (%s)", peers[i].name, peers[i].install)
			continue
		}
		p, http1, http2 := startPeer(t, &peers[i], base, canary, cores, core)
		if *measured {
			fmt.Fprintln(t.Output(), version)
		}
		all = append(all, contestant{peers[i].name, p, http1, http2})
	}
	uri := func(address string) string { return "http://" + address + "/b/{proxy}" }
	plane := startControlPlane(t, apiResource(),
		deploymentResource(1, httpRoute("ANY", "/{proxy+}", uri(base))), deploymentResource(2, httpRoute("ANY", "/{proxy+}", uri(canary))),
		stageResource("b", &discoveryv1.Stage{Deployment: 1, Canary: &discoveryv1.Canary{Deployment: 2, PartsPerMillion: 100_000}}))
	a := startAgent(t, agentName, plane, core)
	return append(all, contestant{agentName, a.process, a.http, a.http})
}

// startBenchUpstream starts a copy of this test as an upstream.
func startBenchUpstream(t *testing.T, behind []string) string {
	t.Helper()
	command := append(append([]string{}, behind...), os.Args[0])
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), roleVariable+"=upstream", "GOMAXPROCS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("start the upstream: %v", err)
	}
	return strings.TrimSpace(line)
}

// measure gives one contestant its turn.
func measure(t *testing.T, c *contestant, spec loadSpec, behind []string) map[string]float64 {
	t.Helper()
	spec.Address = c.http1
	if spec.HTTP2 {
		spec.Address = c.http2
	}
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	command := append(append([]string{}, behind...), os.Args[0])
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), roleVariable+"="+string(text), "GOMAXPROCS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	before, err := c.process.cpu()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("load on %s: %v", c.name, err)
	}
	after, err := c.process.cpu()
	if err != nil {
		t.Fatal(err)
	}
	var result loadResult
	if err := json.Unmarshal(out, &result); err != nil {
		t.Fatal(err)
	}
	return map[string]float64{
		throughput: float64(result.Requests) / result.Seconds, cpu: (after - before).Seconds() / float64(result.All),
		p50: result.P50, p99: result.P99, p999: result.P999,
	}
}

// report collects the rounds of a scenario.
type report struct {
	scenario
	names  []string
	values map[string]map[string][]float64 // by contestant and quantity, round by round
}

func newReport(s scenario, contestants []contestant) *report {
	r := &report{scenario: s, values: map[string]map[string][]float64{}}
	for _, c := range contestants {
		r.names = append(r.names, c.name)
		r.values[c.name] = map[string][]float64{}
	}
	return r
}

func (r *report) add(name string, values map[string]float64) {
	for q, v := range values {
		r.values[name][q] = append(r.values[name][q], v)
	}
}

// ratios returns the agent's figure in multiples of a peer's, round by round.
func (r *report) ratios(quantity, peer string) []float64 {
	all := slices.Clone(r.values[agentName][quantity])
	for i, v := range r.values[peer][quantity] {
		all[i] /= v
	}
	return all
}

// show returns medians, and ratios beside goals.
func (r *report) show(spec loadSpec) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	title := r.name
	if spec.Rate > 0 {
		title += fmt.Sprintf(" (%d/s)", spec.Rate)
	}
	fmt.Fprintf(w, "%s\t%s\n", title, strings.Join(quantities, "\t"))
	for _, name := range r.names {
		fmt.Fprintf(w, "%s", name)
		for _, q := range quantities {
			fmt.Fprintf(w, "\t%s", format(q, median(r.values[name][q])))
		}
		fmt.Fprintln(w)
	}
	for _, peer := range r.names {
		if peer == agentName {
			continue
		}
		fmt.Fprintf(w, "%s x %s", agentName, peer)
		for _, q := range quantities {
			ratios := r.ratios(q, peer)
			fmt.Fprintf(w, "\t%.2f (%.2f to %.2f)", median(ratios), slices.Min(ratios), slices.Max(ratios))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // a strings.Builder takes all
	for _, g := range r.goals {
		if len(r.values[g.peer]) == 0 {
			continue
		}
		fmt.Fprintf(&text, "goal: %s\n", g.verdict(median(r.ratios(g.quantity, g.peer))))
	}
	return text.String() + "\n"
}

func (g *goal) verdict(ratio float64) string {
	sign, met := "<=", ratio <= g.ratio
	if g.least {
		sign, met = ">=", ratio >= g.ratio
	}
	word := "missed"
	if met {
		word = "met"
	}
	return fmt.Sprintf("%s %s %v x %s: %s, %.2f", g.quantity, sign, g.ratio, g.peer, word, ratio)
}

func format(quantity string, v float64) string {
	if quantity == throughput {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f us", v*1e6)
}

// median sorts a copy, and lies between the two in the middle of an even number.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// TestGoal: ratios are taken round by round, so that a slow moment of the machine,
// which hits all, does not look like a difference.
func TestGoal(t *testing.T) {
	r := newReport(scenarios[0], []contestant{{name: "nginx"}, {name: agentName}})
	for _, slow := range []float64{1, 10, 100} {
		r.add("nginx", map[string]float64{cpu: 10 * slow, throughput: 100 / slow})
		r.add(agentName, map[string]float64{cpu: 9 * slow, throughput: 105 / slow})
	}
	for _, test := range []struct {
		goal goal
		want string
	}{
		{goal{cpu, "nginx", 0.95, false}, "CPU/request <= 0.95 x nginx: met, 0.90"},
		{goal{throughput, "nginx", 1.1, true}, "requests/s >= 1.1 x nginx: missed, 1.05"},
	} {
		if got := test.goal.verdict(median(r.ratios(test.goal.quantity, test.goal.peer))); got != test.want {
			t.Errorf("the verdict is %q, want %q", got, test.want)
		}
	}
}
