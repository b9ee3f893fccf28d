package main

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// syncFlags ask for a synchronised promotion.
type syncFlags struct {
	sync           bool
	mode           choiceFlag
	onTimeout      choiceFlag
	prepareTimeout time.Duration
}

func addSyncFlags(cmd *cobra.Command) *syncFlags {
	f := &syncFlags{mode: newChoiceFlag("version", "version", "timed"), onTimeout: newChoiceFlag("abort", "abort", "wait", "fence")}
	flags := cmd.Flags()
	flags.BoolVar(&f.sync, "sync", false, "change over only once every agent that may serve is ready")
	flags.Var(&f.mode, "mode", "change over when an agent learns of it, or at one time")
	flags.Var(&f.onTimeout, "on-timeout", "what happens if agents are not ready in time")
	flags.DurationVar(&f.prepareTimeout, "prepare-timeout", 30*time.Second, "time for the agents to get ready, 1s to 10m")
	offer(cmd, "mode", f.mode.options...)
	offer(cmd, "on-timeout", f.onTimeout.options...)
	return f
}

// options returns what was asked for, nil without --sync.
func (f *syncFlags) options(cmd *cobra.Command) (*fifev1.SyncOptions, error) {
	if !f.sync {
		for _, name := range []string{"mode", "on-timeout", "prepare-timeout"} {
			if cmd.Flags().Changed(name) {
				return nil, usagef(cmd, "--%s goes with --sync", name)
			}
		}
		return nil, nil
	}
	if f.prepareTimeout < time.Second || f.prepareTimeout > 10*time.Minute {
		return nil, usagef(cmd, "--prepare-timeout %s is not 1s to 10m", f.prepareTimeout)
	}
	options := &fifev1.SyncOptions{
		Mode: fifev1.SyncMode_SYNC_MODE_VERSION, OnTimeout: fifev1.TimeoutPolicy_TIMEOUT_POLICY_ABORT,
		PrepareTimeout: durationpb.New(f.prepareTimeout),
	}
	if f.mode.value == "timed" {
		options.Mode = fifev1.SyncMode_SYNC_MODE_TIMED
	}
	switch f.onTimeout.value {
	case "wait":
		options.OnTimeout = fifev1.TimeoutPolicy_TIMEOUT_POLICY_WAIT
	case "fence":
		options.OnTimeout = fifev1.TimeoutPolicy_TIMEOUT_POLICY_FENCE
	}
	return options, nil
}

func newCanaryPromoteCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "promote API/STAGE",
		Short: "Make the canary the base",
		Long: `Make the canary the base: the base takes the canary's deployment, the stage's
variables take its overrides, and the canary is closed.

This is one step, unless it is synchronised (--sync) or the stage has waves. Then
a promotion is opened and followed to its end, which --no-wait leaves out;
--wait-timeout, with --wait, bounds how long it is followed. Code 6 says that it
was aborted or has halted.`,
		Example: `  fife canary promote demo/canary --wait
  fife canary promote demo/canary --sync --mode timed --on-timeout fence`,
	}
	f, syncs := addChangeFlags(cmd), addSyncFlags(cmd)
	f.addEtagFlag(cmd, "stage")
	keep := cmd.Flags().Bool("keep-canary", false, "leave the canary open, at 0 % and without overrides")
	breakGlass := cmd.Flags().Bool("break-glass", false, "skip the stage's waves, and promote even if it requires somebody else; the history says so")
	noWait := addNoWaitFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *noWait && f.wait > 0 {
			return usagef(cmd, "--wait and --no-wait contradict each other; give one of them")
		}
		options, err := syncs.options(cmd)
		if err != nil {
			return err
		}
		return changeThen(c, cmd, f, func(ctx context.Context, at *nodes) (*fifev1.PromoteCanaryResponse, error) {
			return fifev1.NewStageServiceClient(at).PromoteCanary(ctx, &fifev1.PromoteCanaryRequest{
				Name: stageName(args[0]), KeepCanary: *keep, Etag: f.etag, RequestId: f.requestID, ValidateOnly: f.dryRun,
				Sync: options, BreakGlass: *breakGlass,
			})
		}, func(at *nodes, r *fifev1.PromoteCanaryResponse) error {
			opened := r.GetStage().GetPromotion()
			if f.dryRun || !isOpen(opened) {
				return show(c, cmd, f, at, r, func(w io.Writer, r *fifev1.PromoteCanaryResponse) {
					f.say(w, r, "canary of "+args[0], "promoted")
					writeStages(w, r.GetStage())
				})
			}
			if *noWait {
				return c.print(r, func(w io.Writer) {
					f.say(w, r, "promotion of "+args[0], "opened")
					writePromotion(w, opened)
				})
			}
			return c.followPromotion(cmd, at, args[0], opened, r.GetVersion(), followLimit(cmd, f))
		})
	}
	return cmd
}

// addNoWaitFlag is for commands that follow a promotion.
func addNoWaitFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("no-wait", false, "do not follow the promotion")
}

func newCanaryWatchCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "watch API/STAGE",
		Short:   "Follow the open promotion to its end, or show the last one",
		Example: "  fife canary watch demo/canary",
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := c.dial(cmd)
			if err != nil {
				return err
			}
			defer at.Close()
			r, err := timed(cmd.Context(), c.timeout, at, getStage(args[0]))
			if err != nil {
				return explain(err, nil)
			}
			if r.GetStage().GetPromotion() == nil {
				return exitf(exitFailed, "stage %s has no promotion that could be followed\nopen one with: fife canary promote %s --sync", args[0], args[0])
			}
			return c.followPromotion(cmd, at, args[0], r.GetStage().GetPromotion(), nil, 0)
		},
	}
}

func newCanaryAbortPromotionCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "abort-promotion API/STAGE",
		Short:   "End an open promotion; all agents route as before it",
		Example: "  fife canary abort-promotion demo/canary",
	}
	f := addChangeFlags(cmd)
	f.addEtagFlag(cmd, "stage")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return change(c, cmd, f, func(ctx context.Context, at *nodes) (*fifev1.AbortPromotionResponse, error) {
			return fifev1.NewStageServiceClient(at).AbortPromotion(ctx, &fifev1.AbortPromotionRequest{
				Name: stageName(args[0]), Etag: f.etag, RequestId: f.requestID, ValidateOnly: f.dryRun,
			})
		}, func(w io.Writer, r *fifev1.AbortPromotionResponse) {
			f.say(w, r, "promotion of "+args[0], "aborted")
			writeStages(w, r.GetStage())
		})
	}
	return cmd
}

func newCanaryResumeCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "resume API/STAGE",
		Short:   "Go on with a promotion in waves that has halted",
		Example: "  fife canary resume demo/canary",
	}
	f := addChangeFlags(cmd)
	f.addEtagFlag(cmd, "stage")
	noWait := addNoWaitFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *noWait && f.wait > 0 {
			return usagef(cmd, "--wait and --no-wait contradict each other; give one of them")
		}
		return changeThen(c, cmd, f, func(ctx context.Context, at *nodes) (*fifev1.ResumePromotionResponse, error) {
			return fifev1.NewStageServiceClient(at).ResumePromotion(ctx, &fifev1.ResumePromotionRequest{
				Name: stageName(args[0]), Etag: f.etag, RequestId: f.requestID, ValidateOnly: f.dryRun,
			})
		}, func(at *nodes, r *fifev1.ResumePromotionResponse) error {
			resumed := r.GetStage().GetPromotion()
			if f.dryRun || *noWait || !isOpen(resumed) {
				return c.print(r, func(w io.Writer) {
					f.say(w, r, "promotion of "+args[0], "resumed")
					writeStages(w, r.GetStage())
				})
			}
			return c.followPromotion(cmd, at, args[0], resumed, r.GetVersion(), followLimit(cmd, f))
		})
	}
	return cmd
}
