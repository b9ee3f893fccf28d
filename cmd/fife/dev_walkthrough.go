package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
)

// walkthrough plays the story of a canary release: real commands over the real
// API, real requests to the real agent, and a check after every step.
type walkthrough struct {
	*dev
	url string
}

func newWalkthrough(d *dev) *walkthrough {
	return &walkthrough{dev: d, url: "http://" + d.http + "/canary/canary-demo"}
}

const (
	checkRequests = 200   // requests of a step in which all answers must be alike
	splitRequests = 2_000 // requests over which a split is measured
	v1, v2        = `"Hello from Lambda v1"`, `"Hello from Lambda v2"`
)

// step is one part of the story: what it shows, the commands that do it, and what
// must be seen after them.
type step struct {
	title    string
	commands []string
	expect   func(context.Context) (seen string, err error)
}

func (w *walkthrough) steps() []step {
	route := "route put demo GET /canary-demo --lambda " + devFunction
	return []step{
		{"An API with one route, on version 1 of a function, deployed to a new stage", []string{
			"api create demo",
			route + ":1",
			"deploy demo --stage canary --wait",
		}, w.all(v1)},
		{"A canary takes half of the requests; it starts with what the stage serves", []string{
			"canary start demo/canary --percent 50 --wait",
		}, w.all(v1)},
		{"The route moves to version 2: a draft changes nothing that is served", []string{
			route + ":2",
		}, w.all(v1)},
		{"Deployed again, only the canary has it", []string{
			"deploy demo --stage canary --wait",
		}, w.split(50)},
		{"Aborted: everything goes to the base, at once", []string{
			"canary abort demo/canary --wait",
		}, w.all(v1)},
		{"Once more, and promoted: one entry in the log, one step on every agent", []string{
			"canary start demo/canary --percent 50 --deployment 2 --wait",
			"canary promote demo/canary --wait",
		}, w.all(v2)},
		{"A mistake? Rolled back", []string{
			"stage rollback demo/canary --wait",
		}, w.all(v1)},
		{"What happened, from the stage's own history", []string{
			"stage history demo/canary",
		}, nil},
	}
}

// play plays all steps and returns an error at the first that does not hold.
func (w *walkthrough) play(ctx context.Context) error {
	for i, s := range w.steps() {
		w.say("\n%d. %s\n", i+1, s.title)
		for _, command := range s.commands {
			w.say("   $ fife %s\n", command)
			if err := w.command(ctx, command); err != nil {
				return err
			}
		}
		if s.expect == nil {
			continue
		}
		w.say("   $ curl %s\n", w.url)
		seen, err := s.expect(ctx)
		if err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, s.title, err)
		}
		w.say("     %s\n", seen)
	}
	w.say("\nEvery step held.\n")
	return nil
}

// command runs one command line of this program against the control plane.
func (w *walkthrough) command(ctx context.Context, line string) error {
	out := &indented{to: w.streams.out}
	args := append(strings.Fields(line), "--server", w.grpc)
	if code := run(ctx, args, streams{in: strings.NewReader(""), out: out, err: out}); code != exitOK {
		return fmt.Errorf("fife %s: exit code %d", line, code)
	}
	return nil
}

// all expects one answer from every request.
func (w *walkthrough) all(want string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		for i := range checkRequests {
			got, _, err := w.get(ctx)
			if err != nil {
				return "", err
			}
			if got != want {
				return "", fmt.Errorf("request %d of %d was answered %s instead of %s", i+1, checkRequests, got, want)
			}
		}
		return fmt.Sprintf("%s, %d times out of %d", want, checkRequests, checkRequests), nil
	}
}

// split expects the canary to answer its percent of the requests, to within four
// standard deviations: a fair split misses that once in 16,000 times.
func (w *walkthrough) split(percent float64) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		canary := 0
		for range splitRequests {
			got, variant, err := w.get(ctx)
			if err != nil {
				return "", err
			}
			if (variant == "canary") != (got == v2) || (variant == "base") != (got == v1) {
				return "", fmt.Errorf("the %s answered %s", variant, got)
			}
			if variant == "canary" {
				canary++
			}
		}
		p := percent / 100
		expected := splitRequests * p
		margin := 4 * math.Sqrt(splitRequests*p*(1-p))
		if math.Abs(float64(canary)-expected) > margin {
			return "", fmt.Errorf("the canary answered %d of %d requests, which is not %.0f ± %.0f",
				canary, splitRequests, expected, margin)
		}
		return fmt.Sprintf("%s %d times and %s %d times: the canary has %.1f %% of %d requests",
			v1, splitRequests-canary, v2, canary, 100*float64(canary)/splitRequests, splitRequests), nil
	}
}

// get sends one request to the agent and returns its body and who answered.
func (w *walkthrough) get(ctx context.Context) (body, variant string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url, nil)
	if err != nil {
		return "", "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", "", fmt.Errorf("%s answered %s: %s", w.url, resp.Status, data)
	}
	return string(data), resp.Header.Get("X-Fife-Variant"), nil
}

func (w *walkthrough) say(format string, args ...any) {
	_, _ = fmt.Fprintf(w.streams.out, format, args...) // a closed terminal is the user's choice
}

// indented writes every line a little to the right.
type indented struct {
	to      io.Writer
	midLine bool
}

func (w *indented) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		if !w.midLine {
			line = "     " + line
		}
		w.midLine = !strings.HasSuffix(line, "\n")
		if _, err := io.WriteString(w.to, line); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
