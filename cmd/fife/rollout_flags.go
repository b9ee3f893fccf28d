package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// rolloutFlags are the fields of a stage that say how a promotion reaches the
// agents, and what they do when they are cut off.
type rolloutFlags struct {
	stale      choiceFlag
	consistent bool
	waves      wavesFlag
	noWaves    bool
	other      bool
}

func (f *rolloutFlags) add(cmd *cobra.Command) {
	f.stale = newChoiceFlag("", "serve-stale", "fail-closed")
	flags := cmd.Flags()
	flags.Var(&f.stale, "stale-policy", "what agents do with the stage once their lease has run out (default serve-stale)")
	flags.BoolVar(&f.consistent, "consistent-clients", false, "never answer a client by an older promotion than it has seen")
	flags.Var(&f.waves, "wave", "agents that a promotion reaches next: label:NAME/one, NAME=VALUE,... or PERCENT,\neach with @DWELL if it is to stay there, such as 10%@5m; repeatable, in order")
	flags.BoolVar(&f.noWaves, "no-waves", false, "promote on all agents at once")
	flags.BoolVar(&f.other, "require-other-promoter", false, "keep who has started a canary or changed what it serves from promoting it")
	offer(cmd, "stale-policy", f.stale.options...)
}

func (f *rolloutFlags) check(cmd *cobra.Command) error {
	if cmd.Flags().Changed("no-waves") && !f.noWaves {
		return usagef(cmd, "--no-waves=false says nothing of which waves; give --wave, or leave the flag out to keep those there are")
	}
	if f.noWaves && len(f.waves) > 0 {
		return usagef(cmd, "--wave and --no-waves contradict each other; give one of them")
	}
	return nil
}

// set copies the fields to a stage; what was not given is left unset.
func (f *rolloutFlags) set(stage *fifev1.Stage) {
	switch f.stale.value {
	case "serve-stale":
		stage.StalePolicy = fifev1.StalePolicy_STALE_POLICY_SERVE_STALE
	case "fail-closed":
		stage.StalePolicy = fifev1.StalePolicy_STALE_POLICY_FAIL_CLOSED
	}
	stage.ConsistentClients, stage.Waves, stage.RequireOtherPromoter = f.consistent, f.waves, f.other
}

// wavesFlag collects waves, one for each use of the flag, in order.
type wavesFlag []*fifev1.Wave

func (f *wavesFlag) Set(text string) error {
	wave, err := parseWave(text)
	if err != nil {
		return err
	}
	*f = append(*f, wave)
	return nil
}

func (f *wavesFlag) String() string { return wavesText(*f) }
func (*wavesFlag) Type() string     { return "WAVE" }

// parseWave reads a wave: label:NAME/one, NAME=VALUE,... or a percentage, with
// @DWELL if it has a dwell.
func parseWave(text string) (*fifev1.Wave, error) {
	selection, dwell := text, ""
	wave := &fifev1.Wave{}
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		selection, dwell = text[:i], text[i+1:]
		d, err := time.ParseDuration(dwell)
		if err != nil || d < 0 || d > 24*time.Hour {
			return nil, fmt.Errorf("dwell %q is not a time from 0 to 24h, such as 10%%@5m", dwell)
		}
		wave.Dwell = durationpb.New(d)
	}
	var share percentFlag
	label, one := strings.CutPrefix(selection, "label:")
	switch {
	case one:
		name, found := strings.CutSuffix(label, "/one")
		if !found || name == "" {
			return nil, errors.New("want label:NAME/one, such as label:region/one")
		}
		wave.Selection = &fifev1.Wave_OnePerLabel{OnePerLabel: name}
	case strings.Contains(selection, "="):
		labels := pairsFlag{}
		for pair := range strings.SplitSeq(selection, ",") {
			if err := labels.Set(pair); err != nil {
				return nil, fmt.Errorf("labels %q: %w", selection, err)
			}
		}
		wave.Selection = &fifev1.Wave_Labels{Labels: &fifev1.AgentLabels{Labels: labels}}
	case share.Set(selection) == nil && share > 0:
		wave.Selection = &fifev1.Wave_Percent{Percent: float64(share)}
	default:
		return nil, errors.New("want label:NAME/one, NAME=VALUE,... or a percentage above 0, such as label:region/one, region=eu,tier=canary or 10%@5m")
	}
	return wave, nil
}

// waveText writes a wave as it is typed.
func waveText(wave *fifev1.Wave) string {
	var text string
	switch s := wave.GetSelection().(type) {
	case *fifev1.Wave_OnePerLabel:
		text = "label:" + s.OnePerLabel + "/one"
	case *fifev1.Wave_Labels:
		text = strings.ReplaceAll(pairsText(s.Labels.GetLabels()), " ", ",")
	case *fifev1.Wave_Percent:
		share := percentFlag(s.Percent)
		text = share.String() + "%"
	}
	if d := wave.GetDwell().AsDuration(); d > 0 {
		text += "@" + d.String()
	}
	return text
}

// wavesText writes waves in order, and none as nothing.
func wavesText(waves []*fifev1.Wave) string {
	var texts []string
	for _, wave := range waves {
		texts = append(texts, waveText(wave))
	}
	return strings.Join(texts, ", ")
}

func staleText(policy fifev1.StalePolicy) string {
	if policy == fifev1.StalePolicy_STALE_POLICY_FAIL_CLOSED {
		return "fail-closed"
	}
	return "serve-stale"
}
