package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// isOpen says whether a promotion still has steps to come.
func isOpen(p *fifev1.Promotion) bool {
	switch p.GetState() {
	case fifev1.Promotion_STATE_PREPARING, fifev1.Promotion_STATE_ROLLING,
		fifev1.Promotion_STATE_HALTED, fifev1.Promotion_STATE_COMMITTED:
		return true
	}
	return false
}

// followLimit is how long a promotion is followed; zero means to its end, however
// long its waves dwell.
func followLimit(cmd *cobra.Command, f *changeFlags) time.Duration {
	if cmd.Flags().Changed("wait-timeout") {
		return f.waitTimeout
	}
	return 0
}

// follower shows a promotion's way to its end.
type follower struct {
	c     *cli
	arg   string // the stage, as it is typed
	opens *fifev1.Promotion
	since *fifev1.Version // of the call that opened or resumed it; nil if there was none
	line  string
	last  *fifev1.Stage
}

// followPromotion follows one promotion until it is complete, aborted or halted, and
// prints its report. What was decided by then stays so: a control plane that goes
// away is asked again, and an interrupt leaves the promotion running.
func (c *cli) followPromotion(cmd *cobra.Command, at *nodes, arg string, opened *fifev1.Promotion, since *fifev1.Version, limit time.Duration) error {
	parent, ctx := cmd.Context(), cmd.Context()
	if limit > 0 {
		limited, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		ctx = limited
	}
	f := &follower{c: c, arg: arg, opens: opened, since: since}
	client := fifev1.NewStageServiceClient(at)
	for {
		err := f.follow(ctx, client)
		hint := fmt.Sprintf("follow it with: fife canary watch %[1]s, or end it with: fife canary abort-promotion %[1]s", arg)
		switch {
		case err == nil:
			return f.finish()
		case parent.Err() != nil:
			return exitf(exitFailed, "interrupted; promotion %d of %s goes on\n%s", opened.GetNumber(), arg, hint)
		case ctx.Err() != nil || limit > 0 && status.Code(err) == codes.DeadlineExceeded:
			return exitf(exitWaitTimeout, "timed out after %s; promotion %d of %s goes on\n%s", limit, opened.GetNumber(), arg, hint)
		case status.Code(err) == codes.NotFound:
			return exitf(exitEnded, "stage %s was deleted, and promotion %d ended with it", arg, opened.GetNumber())
		case errors.Is(err, errReplaced):
			return exitf(exitUnknown, "promotion %d of %s ended unseen, and another was opened since\nsee how it ended with: fife stage history %s", opened.GetNumber(), arg, arg)
		case !passing(err):
			return fmt.Errorf("follow promotion %d of %s (it goes on): %w", opened.GetNumber(), arg, explain(err, nil))
		}
		f.show("the control plane does not answer; trying again")
		select {
		case <-time.After(reopenPause):
		case <-ctx.Done():
		}
	}
}

// errReplaced is a promotion that another one has followed before its end was seen.
var errReplaced = errors.New("another promotion was opened")

// follow reads one stream until the promotion ends or halts.
func (f *follower) follow(ctx context.Context, client fifev1.StageServiceClient) error {
	stream, err := client.WatchStage(ctx, &fifev1.WatchStageRequest{Name: stageName(f.arg)})
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return errEarlyEnd
		}
		if err != nil {
			return err
		}
		p := m.GetStage().GetPromotion()
		switch {
		case older(m.GetVersion(), f.since) || p.GetNumber() < f.opens.GetNumber():
			continue // from a node that has not seen the promotion yet
		case p.GetNumber() > f.opens.GetNumber():
			return errReplaced
		}
		f.last = m.GetStage()
		f.show(stepText(p, len(m.GetStage().GetWaves())))
		if !isOpen(p) || p.GetState() == fifev1.Promotion_STATE_HALTED {
			return nil
		}
	}
}

// older says whether a version comes before another. None is asked for if b is nil.
func older(a, b *fifev1.Version) bool {
	return a.GetEpoch() < b.GetEpoch() || a.GetEpoch() == b.GetEpoch() && a.GetIndex() < b.GetIndex()
}

// show adds a line if it says something new.
func (f *follower) show(text string) {
	if text != f.line {
		f.line = text
		linef(f.c.err, "%s", text)
	}
}

// finish prints the report, or with -o json the stage as it is in the end.
func (f *follower) finish() error {
	p := f.last.GetPromotion()
	if err := f.c.print(f.last, func(w io.Writer) {
		writePromotion(w, p)
	}); err != nil {
		return err
	}
	reason := clean(p.GetReason())
	switch p.GetState() {
	case fifev1.Promotion_STATE_COMPLETE:
		return nil
	case fifev1.Promotion_STATE_HALTED:
		return exitf(exitEnded, "promotion %d of %[2]s has halted: %[3]s\ngo on with: fife canary resume %[2]s, or end it with: fife canary abort-promotion %[2]s", p.GetNumber(), f.arg, reason)
	}
	return exitf(exitEnded, "promotion %d of %s was aborted: %s\nall agents route as before it", p.GetNumber(), f.arg, reason)
}

// stateText writes a state as a word.
func stateText(state fifev1.Promotion_State) string {
	return strings.ToLower(strings.TrimPrefix(state.String(), "STATE_"))
}

func modeText(mode fifev1.SyncMode) string {
	if mode == fifev1.SyncMode_SYNC_MODE_UNSPECIFIED {
		mode = fifev1.SyncMode_SYNC_MODE_VERSION
	}
	return strings.ToLower(strings.TrimPrefix(mode.String(), "SYNC_MODE_"))
}

// stepText is the line about one state of a promotion.
func stepText(p *fifev1.Promotion, waves int) string {
	text := fmt.Sprintf("promotion %d is %s", p.GetNumber(), stateText(p.GetState()))
	if p.GetMode() == fifev1.SyncMode_SYNC_MODE_WAVES {
		text += fmt.Sprintf(", %d of %d waves reached", p.GetWavesReached(), waves)
	}
	if p.GetState() == fifev1.Promotion_STATE_PREPARING && p.GetDeadline() != nil {
		text += ", until " + timeText(p.GetDeadline())
	}
	if p.GetFenced() {
		text += ", agents that are not prepared are fenced"
	}
	if p.GetFlipTime() != nil && p.GetState() == fifev1.Promotion_STATE_COMMITTED {
		text += ", agents change over at " + timeText(p.GetFlipTime())
	}
	if p.GetReason() != "" {
		text += ": " + clean(p.GetReason())
	}
	return text
}

func writePromotion(w io.Writer, p *fifev1.Promotion) {
	row(w, "promotion", strconv.FormatUint(p.GetNumber(), 10))
	row(w, "state", stateText(p.GetState()))
	row(w, "mode", modeText(p.GetMode()))
	opened := timeText(p.GetCreateTime())
	if p.GetActor() != "" {
		opened += " by " + clean(p.GetActor())
	}
	row(w, "opened", opened)
	if p.GetCommitted() != nil {
		row(w, "committed", "version "+versionText(p.GetCommitted()))
	}
	if p.GetEndTime() != nil {
		row(w, "ended", timeText(p.GetEndTime()))
	}
	if p.GetReason() != "" {
		row(w, "reason", p.GetReason())
	}
	r := p.GetReport()
	if r == nil {
		return
	}
	row(w, "prepared", fmt.Sprintf("%d of %d agents", r.GetPrepared(), r.GetAgents()))
	for _, list := range []struct {
		what string
		ids  []string
	}{{"fenced", r.GetFenced()}, {"stale", r.GetStale()}, {"refused", r.GetRefused()}} {
		row(w, list.what, none(strings.Join(list.ids, ", ")))
	}
	row(w, "window", measured(r.GetWindow()))
	if p.GetMode() == fifev1.SyncMode_SYNC_MODE_TIMED {
		row(w, "clock error", measured(r.GetClockError()))
	}
}

// measured writes a duration; one that was not measured is a dash, not zero.
func measured(d *durationpb.Duration) string {
	if d == nil {
		return ""
	}
	return d.AsDuration().Round(time.Microsecond).String()
}

// writeOpenPromotions writes the open promotions of some stages, if there are any.
func writeOpenPromotions(w io.Writer, stages []*fifev1.Stage) {
	first := true
	for _, s := range stages {
		p := s.GetPromotion()
		if !isOpen(p) {
			continue
		}
		if first {
			linef(w, "")
			row(w, "PROMOTING", "NUMBER", "STATE", "MODE", "WAVES", "SINCE", "REASON")
			first = false
		}
		waves := ""
		if p.GetMode() == fifev1.SyncMode_SYNC_MODE_WAVES {
			waves = fmt.Sprintf("%d of %d", p.GetWavesReached(), len(s.GetWaves()))
		}
		row(w, short(s.GetName()), strconv.FormatUint(p.GetNumber(), 10), stateText(p.GetState()), modeText(p.GetMode()),
			waves, timeText(p.GetCreateTime()), p.GetReason())
	}
}
