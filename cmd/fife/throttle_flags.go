package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// throttleFlags are the limits of a stage.
type throttleFlags struct {
	rate               float64
	burst, concurrency int32
	none               bool
}

func (f *throttleFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.Float64Var(&f.rate, "rate-limit", 0, "`REQUESTS` per second that each agent lets through in the long run; 0 means any number")
	flags.Int32Var(&f.burst, "burst-limit", 0, "`REQUESTS` that each agent lets through at once after a quiet time (default those of a second)")
	flags.Int32Var(&f.concurrency, "concurrency-limit", 0, "`REQUESTS` that each agent serves at the same time; 0 means any number")
	flags.BoolVar(&f.none, "no-throttle", false, "let all requests through")
}

func (f *throttleFlags) check(cmd *cobra.Command) error {
	if f.none && (cmd.Flags().Changed("rate-limit") || cmd.Flags().Changed("burst-limit") || cmd.Flags().Changed("concurrency-limit")) {
		return usagef(cmd, "--no-throttle and a limit contradict each other; give one of them")
	}
	return nil
}

// throttle returns the present limits, nil for none, with those replaced that are
// given. Without a rate there is no burst.
func (f *throttleFlags) throttle(cmd *cobra.Command, current *fifev1.Throttle) *fifev1.Throttle {
	changed := cmd.Flags().Changed
	if f.none {
		return nil
	}
	t := &fifev1.Throttle{}
	proto.Merge(t, current)
	if changed("rate-limit") {
		if t.RateLimit = f.rate; f.rate == 0 {
			t.BurstLimit = 0
		}
	}
	if changed("burst-limit") {
		t.BurstLimit = f.burst
	}
	if changed("concurrency-limit") {
		t.ConcurrencyLimit = f.concurrency
	}
	if proto.Size(t) == 0 {
		return nil
	}
	return t
}

// throttleText writes limits for people, and none as nothing.
func throttleText(t *fifev1.Throttle) string {
	var parts []string
	if t.GetRateLimit() != 0 {
		parts = append(parts, strconv.FormatFloat(t.GetRateLimit(), 'f', -1, 64)+"/s")
	}
	if t.GetBurstLimit() != 0 {
		parts = append(parts, fmt.Sprintf("in bursts of %d", t.GetBurstLimit()))
	}
	text := strings.Join(parts, " ")
	if t.GetConcurrencyLimit() != 0 {
		text = strings.TrimPrefix(fmt.Sprintf("%s, %d at once", text, t.GetConcurrencyLimit()), ", ")
	}
	return text
}
