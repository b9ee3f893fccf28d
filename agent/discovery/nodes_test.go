package discovery

import (
	"slices"
	"testing"
	"time"
)

func TestDelayLimit(t *testing.T) {
	want := []time.Duration{
		100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond,
		1600 * time.Millisecond, 3200 * time.Millisecond, 6400 * time.Millisecond, 12800 * time.Millisecond,
		15 * time.Second, 15 * time.Second,
	}
	for attempt, want := range want {
		if got := delayLimit(attempt, 0); got != want {
			t.Errorf("attempt %d: %v, want %v", attempt, got, want)
		}
	}
	if got := delayLimit(1<<40, 0); got != 15*time.Second {
		t.Errorf("after a very long time: %v", got)
	}
	for attempt, want := range []time.Duration{time.Second, time.Second, time.Second, time.Second, 1600 * time.Millisecond} {
		if got := delayLimit(attempt, time.Second); got != want {
			t.Errorf("attempt %d, spread over a second: %v, want %v", attempt, got, want)
		}
	}
	if got := delayLimit(0, time.Hour); got != 15*time.Second {
		t.Errorf("spread over an hour: %v", got)
	}
}

func TestNodesRotate(t *testing.T) {
	all := []string{"a", "b", "c"}
	n := newNodes(all)
	first := []string{n.next(), n.next(), n.next()}
	second := []string{n.next(), n.next(), n.next()}
	if got := slices.Sorted(slices.Values(first)); !slices.Equal(got, all) || !slices.Equal(first, second) {
		t.Errorf("rounds %v and %v of %v", first, second, all)
	}
}

func TestNodesRedirect(t *testing.T) {
	n := newNodes([]string{"a"})
	n.redirect([]string{"x", "a", "y"})
	round := []string{n.next(), n.next(), n.next()}
	if got := slices.Sorted(slices.Values(round)); !slices.Equal(got, []string{"a", "x", "y"}) {
		t.Errorf("after a redirect: %v", round)
	}
	if got := []string{n.next(), n.next()}; !slices.Equal(got, []string{"a", "a"}) {
		t.Errorf("after the redirect was used up: %v", got)
	}

	// The node that redirected is asked last of the configured ones.
	n = newNodes([]string{"a", "b"})
	last := n.next()
	n.redirect([]string{"x"})
	if got := []string{n.next(), n.next(), n.next()}; got[0] != "x" || got[1] == last || got[2] != last {
		t.Errorf("%s redirected to x, and then came %v", last, got)
	}

	n.redirect(make([]string, 1000))
	if got := len(n.redirected); got != maxRedirects {
		t.Errorf("%d redirects are kept", got)
	}
}

// TestNodesSpread: not every agent asks the first node first.
func TestNodesSpread(t *testing.T) {
	first := make(map[string]int)
	for range 1000 {
		first[newNodes([]string{"a", "b", "c"}).next()]++
	}
	for _, a := range []string{"a", "b", "c"} {
		if first[a] < 200 {
			t.Errorf("%d of 1000 agents ask %s first", first[a], a)
		}
	}
}
