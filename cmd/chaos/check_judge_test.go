//go:build linux

package chaos_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// planted is a course of events into which TestJudge puts what must not be. At index 10
// each stage serves base 1, from 12 on canary 2 beside it; from 20 (10 s) on base 2,
// which is complete after 20 s; from 50 (50 s) on base 1 again, as it was rolled back. On
// the stage in waves promotion 13 reaches one wave after 5 s, by index 14. Its last
// promotion, 60 to deployment 3, is aborted at index 70.
func planted(stage string, replies, roamed []reply, mode fifev1.SyncMode) evidenceOfStep {
	report := &fifev1.PromotionReport{Stale: []string{"edge-1"}, Window: durationpb.New(6 * time.Second)}
	done := &promotion{
		stage: stage, deployment: 2, options: &fifev1.SyncOptions{Mode: mode}, number: 13, committed: at(10), completed: at(20),
		last: &fifev1.Promotion{State: fifev1.Promotion_STATE_COMPLETE, Committed: &fifev1.Version{Index: 20}, Report: report},
	}
	aborted := &promotion{
		stage: stage, deployment: 3, options: &fifev1.SyncOptions{}, number: 60, ended: 70,
		last: &fifev1.Promotion{State: fifev1.Promotion_STATE_ABORTED},
	}
	if stage == waving {
		done.options, done.reached, done.waves = nil, []time.Time{at(5)}, []uint64{14}
		aborted.options = nil
	}
	return evidenceOfStep{
		replies: map[asked][]reply{{"edge-1", stage}: replies}, roamed: map[int][]reply{0: roamed},
		promotions: []*promotion{done, aborted},
		eras: map[string][]era{stage: {
			{index: 50, base: 1}, {index: 10, base: 1}, {index: 12, base: 1, canary: 2}, {index: 20, base: 2, promotion: done}, {index: 70, base: 1},
		}},
		rings:   map[string]int{"edge-2": 1},
		outages: []outage{{fault: "killed", edge: "edge-1", mute: true, from: at(39), to: at(41)}},
		calm:    at(90),
	}
}

func at(second int) time.Time { return time.Unix(1_000_000_000+int64(second), 0) }

// TestJudge plants what must not be, one thing at a time.
func TestJudge(t *testing.T) {
	answer := func(sent int, variant string, deployment, index uint64) reply {
		return reply{
			sent: at(sent), received: at(sent).Add(time.Millisecond), status: 200,
			variant: variant, deployment: deployment, version: fmt.Sprintf("1.%d", index),
		}
	}
	status := func(sent, status int) reply {
		return reply{sent: at(sent), received: at(sent).Add(time.Millisecond), status: status}
	}
	roaming := func(sent int, deployment uint64, version string) reply {
		r := answer(sent, "base", deployment, 0)
		r.version = version
		return r
	}
	for name, c := range map[string]struct {
		stage   string
		replies []reply
		roamed  []reply
		want    string // part of the violation; empty for none
	}{
		"in step":                    {closing, []reply{answer(9, "base", 1, 13), answer(11, "base", 1, 13), answer(15, "base", 2, 20), answer(30, "base", 2, 25)}, nil, ""},
		"canaries before":            {closing, []reply{answer(5, "canary", 2, 12), answer(12, "canary", 2, 13)}, nil, ""},
		"rolled back":                {closing, []reply{answer(30, "base", 2, 20), answer(51, "base", 1, 50)}, nil, ""},
		"not yet rolled back":        {closing, []reply{answer(55, "base", 2, 49)}, nil, ""},
		"old after the end":          {closing, []reply{answer(30, "base", 1, 13)}, nil, "complete"},
		"its canary after the end":   {closing, []reply{answer(30, "canary", 2, 13)}, nil, "complete"},
		"old and named":              {serving, []reply{answer(30, "base", 1, 13)}, nil, ""},
		"new before the commit":      {serving, []reply{answer(9, "base", 2, 20)}, nil, "committed"},
		"new of an old version":      {serving, []reply{answer(15, "base", 2, 13)}, nil, "base 1"},
		"old of a new version":       {serving, []reply{answer(15, "base", 1, 20)}, nil, "base 2"},
		"new of what was aborted":    {serving, []reply{answer(60, "base", 3, 65)}, nil, "base 1"},
		"back":                       {serving, []reply{answer(15, "base", 2, 20), answer(17, "base", 1, 13)}, nil, "index 20"},
		"before the stage":           {serving, []reply{answer(15, "base", 1, 9)}, nil, "older than the stage"},
		"withheld":                   {closing, []reply{status(15, 503)}, nil, ""},
		"withheld when all was well": {closing, []reply{status(95, 503)}, nil, "failed"},
		"withheld where it must not": {serving, []reply{status(15, 503)}, nil, "failed"},
		"another failure":            {serving, []reply{status(15, 403)}, nil, "failed"},
		"killed":                     {serving, []reply{status(40, 0)}, nil, ""},
		"no answer while well":       {serving, []reply{status(60, 0)}, nil, "failed"},
		"within the window":          {closing, []reply{answer(11, "base", 2, 20), answer(16, "base", 1, 13)}, nil, "after one"},
		"a client goes on":           {closing, nil, []reply{roaming(15, 1, "1.13"), roaming(16, 2, "1.13-13"), roaming(55, 1, "1.50-13")}, ""},
		"a client goes back":         {closing, nil, []reply{roaming(15, 2, "1.20-13"), roaming(16, 1, "1.13-9")}, "after promotion 13"},
		"a client goes back, unsaid": {closing, nil, []reply{roaming(15, 2, "1.20-13"), roaming(16, 4, "1.20")}, "base 4"},
		"a client is misled":         {closing, nil, []reply{roaming(15, 1, "1.13"), roaming(16, 3, "1.20-13")}, "base 3"},
		"in its wave":                {waving, []reply{answer(6, "base", 2, 14), answer(30, "base", 2, 20)}, nil, ""},
		"not in its wave yet":        {waving, []reply{answer(6, "base", 1, 13)}, nil, ""},
		"before its wave":            {waving, []reply{answer(4, "base", 2, 14)}, nil, "had not reached wave 0"},
		"behind its wave":            {waving, []reply{answer(6, "base", 1, 15)}, nil, "had reached wave 0"},
		"back from its wave":         {waving, []reply{answer(6, "base", 2, 14), answer(7, "base", 1, 13)}, nil, "after one as of 13"},
		"in a wave never reached":    {waving, []reply{answer(61, "base", 3, 65)}, nil, "had not reached wave 0"},
	} {
		t.Run(name, func(t *testing.T) {
			v := judge(planted(c.stage, c.replies, c.roamed, fifev1.SyncMode_SYNC_MODE_VERSION))
			got := strings.Join(v.violations, "\n")
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want a violation with %q", got, c.want)
			}
		})
	}

	t.Run("an agent that is not named", func(t *testing.T) {
		e := planted(serving, nil, nil, fifev1.SyncMode_SYNC_MODE_VERSION)
		e.replies[asked{"edge-2", serving}] = []reply{answer(30, "base", 1, 13)}
		if v := judge(e); len(v.violations) != 1 || !strings.Contains(v.violations[0], "complete") {
			t.Errorf("it was taken for one that is: %v", v.violations)
		}
	})
	t.Run("a timed promotion", func(t *testing.T) {
		e := planted(closing, []reply{answer(11, "base", 1, 20), answer(13, "base", 2, 20)}, nil, fifev1.SyncMode_SYNC_MODE_TIMED)
		if v := judge(e); len(v.violations) != 0 {
			t.Errorf("what is before its time was taken for wrong: %v", v.violations)
		}
	})
	for _, seconds := range []int{5, 8} {
		e := planted(closing, []reply{answer(11, "base", 2, 20)}, nil, fifev1.SyncMode_SYNC_MODE_VERSION)
		e.replies[asked{"edge-2", closing}] = []reply{answer(11+seconds, "base", 1, 13)}
		v := judge(e)
		if wide := seconds > 6; wide != (len(v.violations) == 1) || (wide && !strings.Contains(v.violations[0], "report says 6s")) {
			t.Errorf("both in use for %d s, where 6 are reported: %v", seconds, v.violations)
		}
	}
}
