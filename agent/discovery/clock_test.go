package discovery

import (
	"testing"
	"time"
)

func TestEstimate(t *testing.T) {
	own, leader := time.Now(), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	after := func(ms int) time.Time { return own.Add(time.Duration(ms) * time.Millisecond) }
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	var none estimate
	if !none.now(own).IsZero() || none.known() {
		t.Error("knows a clock from nothing")
	}
	e := none.better(estimateOf(own, after(40), leader, ms(5)), after(40))
	if got := e.now(after(20)); !got.Equal(leader) || e.wrong(after(20)) != ms(25) {
		t.Errorf("in the middle it is %v to within %v", got, e.wrong(after(20)))
	}
	if got := e.now(after(1020)); !got.Equal(leader.Add(time.Second)) || e.wrong(after(1020)) != ms(35) {
		t.Errorf("a second later it is %v to within %v", got, e.wrong(after(1020)))
	}
	for name, tt := range map[string]struct {
		newer estimate
		taken bool
	}{
		"better":             {estimateOf(after(1000), after(1010), leader.Add(ms(985)), 0), true},
		"worse":              {estimateOf(after(1000), after(1100), leader.Add(ms(1030)), ms(5)), false},
		"not worse any more": {estimateOf(after(5000), after(5100), leader.Add(ms(5030)), ms(5)), true},
		"of another leader":  {estimateOf(after(1000), after(1100), leader.Add(ms(1300)), ms(5)), true},
	} {
		at := tt.newer.at
		if got := e.better(tt.newer, at); (got == tt.newer) != tt.taken {
			t.Errorf("%s: taken %v", name, got == tt.newer)
		}
	}
}
