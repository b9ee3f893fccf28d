package discovery

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// The moments of a timed promotion, by the leader's clock.
var (
	flipAt  = time.Date(2030, 1, 1, 0, 0, 10, 0, time.UTC)
	before  = flipAt.Add(-time.Second)
	unknown time.Time
)

func next(number, promotion uint64, wave ...*discoveryv1.AgentSelector) func(*discoveryv1.Stage) {
	return func(s *discoveryv1.Stage) {
		s.Next, s.Promotion, s.Wave = &discoveryv1.StageConfig{Deployment: number}, promotion, wave
	}
}

func former(number, promotion uint64, at time.Time) func(*discoveryv1.Stage) {
	return func(s *discoveryv1.Stage) {
		s.Former, s.FlipTime = &discoveryv1.StageConfig{Deployment: number}, timestamppb.New(at)
		s.Promotion, s.Promoted = promotion, promotion
	}
}

// servedTo is what served returns, for a request that carries a promotion's number.
func servedTo(h *held, promotion uint64) string {
	s, _, _ := h.table.Lookup("demo.localhost", "/prod", "")
	d := s.At(promotion).Base().Deployment
	return d.API + "/" + strconv.FormatUint(d.Number, 10)
}

func TestPromotions(t *testing.T) {
	for name, tt := range map[string]struct {
		stage func(*discoveryv1.Stage)
		now   time.Time
		own   string // to a request without a number
		asked string // to one that carries 40
	}{
		"none":                {func(*discoveryv1.Stage) {}, before, "demo/1", "demo/1"},
		"ready":               {next(2, 40), before, "demo/1", "demo/2"},
		"ready, other":        {next(2, 41), before, "demo/1", "demo/1"},
		"not in the wave":     {next(2, 40, &discoveryv1.AgentSelector{Agents: []string{"edge-2"}}), before, "demo/1", "demo/2"},
		"in the wave":         {next(2, 40, &discoveryv1.AgentSelector{Agents: []string{"edge-1"}}), before, "demo/2", "demo/2"},
		"before the time":     {former(2, 40, flipAt), before, "demo/2", "demo/1"},
		"at the time":         {former(2, 40, flipAt), flipAt, "demo/1", "demo/1"},
		"without a clock":     {former(2, 40, flipAt), unknown, "demo/1", "demo/1"},
		"long after the time": {former(2, 40, flipAt), flipAt.Add(time.Hour), "demo/1", "demo/1"},
	} {
		t.Run(name, func(t *testing.T) {
			c, empty := newControlPlane(), nothing()
			empty.agent = agent{id: "edge-1"}
			c.step(11, one(stage("demo", "prod", 1, 11, tt.stage)))
			h, err := empty.apply(c.full(), tt.now)
			if err != nil {
				t.Fatal(err)
			}
			if got := servedTo(h, 0); got != tt.own {
				t.Errorf("serves %s, want %s", got, tt.own)
			}
			if got := servedTo(h, 40); got != tt.asked {
				t.Errorf("serves %s to who asks for 40, want %s", got, tt.asked)
			}
		})
	}
}

// TestPromotionNumbers: a response names the promotion that led to what routed it.
func TestPromotionNumbers(t *testing.T) {
	wave := &discoveryv1.AgentSelector{Agents: []string{"edge-1"}}
	promoted := func(s *discoveryv1.Stage) { s.Promoted = 30 }
	for name, tt := range map[string]struct {
		change []func(*discoveryv1.Stage)
		want   uint64
		asked  uint64
	}{
		"promoted":        {[]func(*discoveryv1.Stage){promoted}, 30, 30},
		"ready":           {[]func(*discoveryv1.Stage){promoted, next(2, 40)}, 30, 40},
		"in the wave":     {[]func(*discoveryv1.Stage){promoted, next(2, 40, wave)}, 40, 40},
		"before the time": {[]func(*discoveryv1.Stage){former(2, 40, flipAt)}, 0, 40},
	} {
		c, empty := newControlPlane(), nothing()
		empty.agent = agent{id: "edge-1"}
		c.step(11, one(stage("demo", "prod", 1, 11, tt.change...)))
		h, err := empty.apply(c.full(), before)
		if err != nil {
			t.Fatal(err)
		}
		s, _, _ := h.table.Lookup("demo.localhost", "/prod", "")
		if got := s.Promotion; got != tt.want {
			t.Errorf("%s: number %d, want %d", name, got, tt.want)
		}
		if got := s.At(40).Promotion; got != tt.asked {
			t.Errorf("%s: number %d for who asks for 40, want %d", name, got, tt.asked)
		}
	}
}

// TestBadPromotions: what could not be routed by is refused when it is to be held.
func TestBadPromotions(t *testing.T) {
	for name, tt := range map[string]struct {
		stage func(*discoveryv1.Stage)
		want  string
	}{
		"next is missing":   {next(7, 40), "next configuration: deployment 7"},
		"former is missing": {former(7, 40, flipAt), "deployment 7"},
		"variables": {func(s *discoveryv1.Stage) {
			s.Next = &discoveryv1.StageConfig{Deployment: 2, Variables: map[string]string{"a-b": "x"}}
		}, "next configuration: variable"},
		"both": {func(s *discoveryv1.Stage) {
			next(2, 40)(s)
			former(2, 40, flipAt)(s)
		}, "not both"},
		"no time": {func(s *discoveryv1.Stage) { s.Former = &discoveryv1.StageConfig{Deployment: 2} }, "no valid time"},
		"share":   {next(2, 40, &discoveryv1.AgentSelector{PartsPerMillion: million + 1}), "1000001"},
	} {
		c := newControlPlane()
		h := mustApply(t, nothing(), c.full())
		after, err := h.apply(c.step(11, one(stage("demo", "prod", 1, 11, tt.stage))), before)
		if err == nil || !strings.Contains(err.Error(), tt.want) || after != nil {
			t.Errorf("%s: got %v, want it to say %q", name, err, tt.want)
		}
	}
}

// TestFormerIsLeftOnce: neither other changes nor the same stage once more, under
// another clock, bring a configuration back that has been left.
func TestFormerIsLeftOnce(t *testing.T) {
	c := newControlPlane()
	c.step(11, one(stage("demo", "prod", 1, 11, former(2, 40, flipAt))))
	h, err := nothing().apply(c.full(), unknown)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]*discoveryv1.Frame{
		"snapshot": c.full(),
		"delta":    c.step(12, one(api("shop", 12))),
	} {
		after, err := h.apply(f, before)
		if err != nil {
			t.Fatal(err)
		}
		if got := servedTo(after, 0); got != "demo/1" {
			t.Errorf("%s: serves %s", name, got)
		}
		if _, ok := after.flipTime(); ok {
			t.Errorf("%s: waits for a time", name)
		}
	}
	// Another promotion is another matter.
	after, err := h.apply(c.step(13, one(stage("demo", "prod", 2, 13, former(1, 50, flipAt)))), before)
	if err == nil || after != nil {
		t.Fatal("a frame that skips one was applied")
	}
	after, err = h.apply(c.full(), before)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := after.flipTime(); !ok {
		t.Error("does not wait for the time of another promotion")
	}
}

func TestSelectors(t *testing.T) {
	a := agent{id: "user-1", labels: map[string]string{"zone": "a", "tier": "", "x": "y"}}
	for name, tt := range map[string]struct {
		selector *discoveryv1.AgentSelector
		want     bool
	}{
		"empty":          {&discoveryv1.AgentSelector{}, false},
		"id":             {&discoveryv1.AgentSelector{Agents: []string{"user-2", "user-1"}}, true},
		"other id":       {&discoveryv1.AgentSelector{Agents: []string{"user-2"}}, false},
		"labels":         {&discoveryv1.AgentSelector{Labels: map[string]string{"zone": "a", "x": "y"}}, true},
		"not all labels": {&discoveryv1.AgentSelector{Labels: map[string]string{"zone": "a", "x": "z"}}, false},
		"empty label":    {&discoveryv1.AgentSelector{Labels: map[string]string{"tier": ""}}, true},
		"absent label":   {&discoveryv1.AgentSelector{Labels: map[string]string{"none": ""}}, false},
		"any field":      {&discoveryv1.AgentSelector{Agents: []string{"x"}, Labels: map[string]string{"zone": "a"}}, true},
		"everybody":      {&discoveryv1.AgentSelector{PartsPerMillion: million}, true},
	} {
		if got := a.in([]*discoveryv1.AgentSelector{{}, tt.selector}); got != tt.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
	if a.in(nil) {
		t.Error("no selector selects")
	}
}

// TestShareVectors: the share takes exactly the agents whose hash, as the vectors of
// the split have it, is below it modulo a million.
func TestShareVectors(t *testing.T) {
	f, err := os.Open("../route/testdata/split_vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	tried := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		field := strings.Fields(lines.Text())
		if len(field) != 4 || field[0] != "0000000000000000" {
			continue
		}
		id, err1 := strconv.Unquote(field[1])
		sum, err2 := strconv.ParseUint(field[2], 16, 64)
		if err1 != nil || err2 != nil {
			continue
		}
		a := agent{id: id}
		place := uint32(sum % million)
		if a.in([]*discoveryv1.AgentSelector{{PartsPerMillion: place}}) || !a.in([]*discoveryv1.AgentSelector{{PartsPerMillion: place + 1}}) {
			t.Errorf("agent %q is not at %d", id, place)
		}
		tried++
	}
	if tried < 3 {
		t.Errorf("%d vectors with seed 0", tried)
	}
}

// TestRestartDuringPromotion: a restarted agent routes as it would have: by the wall
// clock, and never again by what it has left.
func TestRestartDuringPromotion(t *testing.T) {
	c, d := newControlPlane(), newDisk(t)
	c.step(11, one(stage("demo", "prod", 1, 11, former(2, 40, time.Now().Add(time.Hour)))))
	h, err := d.held.apply(c.full(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.disk.save(h, c.full(), nil); err != nil {
		t.Fatal(err)
	}
	d.restart()
	d.want("demo/2", 11, 11)
	if got := servedTo(d.held, 40); got != "demo/1" {
		t.Errorf("serves %s to who asks for 40", got)
	}
	later, _ := d.disk.load(agent{}, time.Now().Add(time.Hour))
	if got := servedTo(later, 0); got != "demo/1" {
		t.Errorf("an hour later serves %s", got)
	}
	left, err := d.held.flip(unknown)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.disk.save(left, nil, nil); err != nil {
		t.Fatal(err)
	}
	d.restart()
	d.want("demo/1", 11, 11)

	c.step(12, one(stage("demo", "prod", 1, 12, next(2, 50))))
	d.save(c.full())
	d.restart()
	d.want("demo/1", 12, 12)
	if got := servedTo(d.held, 50); got != "demo/2" {
		t.Errorf("serves %s to who asks for 50", got)
	}
}
