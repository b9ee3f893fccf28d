//go:build linux

package chaos_test

import (
	"strings"
	"testing"
	"time"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// TestJudge plants what must not be, one thing at a time.
func TestJudge(t *testing.T) {
	at := func(second int) time.Time { return time.Unix(1_000_000_000+int64(second), 0) }
	answer := func(sent int, variant string, deployment uint64) reply {
		return reply{sent: at(sent), received: at(sent).Add(time.Millisecond), status: 200, variant: variant, deployment: deployment}
	}
	status := func(sent, status int) reply {
		return reply{sent: at(sent), received: at(sent).Add(time.Millisecond), status: status}
	}
	versioned := func(r reply, version string) reply { r.version = version; return r }
	// One promotion to deployment 2, committed after 10 s and complete after 20 s.
	for name, c := range map[string]struct {
		stage   string
		replies []reply
		roamed  []reply
		want    string // part of the violation; empty for none
	}{
		"in step":                    {closing, []reply{answer(9, "base", 1), answer(11, "base", 1), answer(15, "base", 2), answer(30, "base", 2)}, nil, ""},
		"canaries before":            {closing, []reply{answer(5, "canary", 2), answer(12, "canary", 2)}, nil, ""},
		"the next canary":            {closing, []reply{answer(30, "base", 2), answer(31, "canary", 3)}, nil, ""},
		"old after the end":          {closing, []reply{answer(30, "base", 1)}, nil, "complete"},
		"its canary after the end":   {closing, []reply{answer(30, "canary", 2)}, nil, "complete"},
		"old, though named":          {closing, []reply{answer(30, "base", 1)}, nil, "complete"},
		"old and named":              {serving, []reply{answer(30, "base", 1)}, nil, ""},
		"new before the commit":      {serving, []reply{answer(9, "base", 2)}, nil, "committed"},
		"new of what was aborted":    {serving, []reply{answer(30, "base", 3)}, nil, "committed"},
		"back":                       {serving, []reply{answer(15, "base", 2), answer(17, "base", 1)}, nil, "after one by base 2"},
		"back by version":            {serving, []reply{versioned(answer(15, "base", 2), "1.42-40"), versioned(answer(17, "base", 2), "1.41-40")}, nil, "index 42"},
		"withheld":                   {closing, []reply{status(15, 503)}, nil, ""},
		"withheld when all was well": {closing, []reply{status(95, 503)}, nil, "failed"},
		"withheld where it must not": {serving, []reply{status(15, 503)}, nil, "failed"},
		"another failure":            {serving, []reply{status(15, 403)}, nil, "failed"},
		"killed":                     {serving, []reply{status(40, 0)}, nil, ""},
		"no answer while well":       {serving, []reply{status(60, 0)}, nil, "failed"},
		"a client goes back":         {closing, nil, []reply{answer(15, "base", 2), answer(16, "base", 1)}, "client"},
		"a client goes on":           {closing, nil, []reply{answer(15, "base", 1), answer(16, "base", 2)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			done := &fifev1.Promotion{
				State: fifev1.Promotion_STATE_COMPLETE, Report: &fifev1.PromotionReport{Stale: []string{"edge-1"}},
			}
			v := judge(evidenceOfStep{
				replies: map[asked][]reply{{"edge-1", c.stage}: c.replies},
				roamed:  map[int][]reply{0: c.roamed},
				promotions: []*promotion{
					{stage: c.stage, deployment: 2, committed: at(10), completed: at(20), last: done},
					{stage: c.stage, deployment: 3, last: &fifev1.Promotion{State: fifev1.Promotion_STATE_ABORTED}},
				},
				outages: []outage{{fault: "killed", edge: "edge-1", mute: true, from: at(39), to: at(41)}},
				calm:    at(90),
			})
			got := strings.Join(v.violations, "\n")
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want a violation with %q", got, c.want)
			}
		})
	}
	unnamed := evidenceOfStep{
		replies: map[asked][]reply{{"edge-2", serving}: {answer(30, "base", 1)}},
		promotions: []*promotion{{stage: serving, deployment: 2, committed: at(10), completed: at(20), last: &fifev1.Promotion{
			State: fifev1.Promotion_STATE_COMPLETE, Report: &fifev1.PromotionReport{Stale: []string{"edge-1"}},
		}}},
	}
	if v := judge(unnamed); len(v.violations) != 1 {
		t.Errorf("an agent that the report does not name was taken for one that it names: %v", v.violations)
	}
}
