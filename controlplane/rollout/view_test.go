package rollout

import (
	"testing"
	"time"

	"github.com/fifegateway/fife/controlplane/release"
)

// TestWindow: what counts as the time in which both configurations were in use.
func TestWindow(t *testing.T) {
	begin := time.Unix(1000, 0)
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	applied := func(ms int) *agentView { return &agentView{applied: true, at: at(ms), clock: 3 * time.Millisecond} }
	behind := release.PromotionReport{Stale: []string{"gone"}}
	for name, tt := range map[string]struct {
		agents map[string]*agentView
		p      release.Promotion
		want   time.Duration
	}{
		"nobody":              {nil, release.Promotion{}, 0},
		"one":                 {map[string]*agentView{"a": applied(10)}, release.Promotion{}, 0},
		"two":                 {map[string]*agentView{"a": applied(10), "b": applied(25)}, release.Promotion{}, 15 * time.Millisecond},
		"one is cut off":      {map[string]*agentView{"a": applied(10), "b": {id: "b"}}, release.Promotion{}, 90 * time.Millisecond},
		"one was left behind": {map[string]*agentView{"a": applied(10), "gone": {id: "gone"}}, release.Promotion{Report: behind}, 0},
		"timed":               {map[string]*agentView{"a": applied(10), "b": applied(25)}, release.Promotion{FlipTime: at(50)}, 6 * time.Millisecond},
		"timed, one is late":  {map[string]*agentView{"a": applied(10), "b": applied(70)}, release.Promotion{FlipTime: at(50)}, 23 * time.Millisecond},
		"timed, one is cut off": {
			map[string]*agentView{"a": applied(10), "b": {id: "b"}}, release.Promotion{FlipTime: at(50)}, 53 * time.Millisecond,
		},
	} {
		if got := (view{agents: tt.agents}).window(&tt.p, at(100)); got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}
