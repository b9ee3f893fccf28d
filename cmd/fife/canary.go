package main

import (
	"context"
	"io"
	"slices"

	"github.com/spf13/cobra"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newCanaryCommand(c *cli) *cobra.Command {
	return newGroup("canary", "Open, move, promote and abort canaries",
		newCanaryStartCommand(c), newCanarySetCommand(c), newCanaryPromoteCommand(c), newCanaryAbortCommand(c),
		newCanaryWatchCommand(c), newCanaryAbortPromotionCommand(c), newCanaryResumeCommand(c))
}

// canaryFlags are the fields of a canary that operators set.
type canaryFlags struct {
	percent    percentFlag
	deployment numberFlag
	overrides  pairsFlag
	secrets    secretsFlag
}

func addCanaryFlags(cmd *cobra.Command) *canaryFlags {
	f := &canaryFlags{overrides: pairsFlag{}, secrets: secretsFlag{}}
	cmd.Flags().Var(&f.percent, "percent", "share of requests that go to the canary, 0 to 100")
	cmd.Flags().Var(&f.deployment, "deployment", "number of the deployment on trial")
	cmd.Flags().Var(f.overrides, "override", "variable for canary requests only; repeatable")
	cmd.Flags().Var(f.secrets, "secret-override", "secret variable for canary requests only, read from a file, or from stdin for -; repeatable")
	return f
}

func newCanaryStartCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "start API/STAGE",
		Short: "Open a canary on a stage",
		Long: `Open a canary on a stage. Without --deployment it tries the stage's own one, and
the next deploy to the stage goes to the canary alone.`,
		Example: `  fife canary start demo/canary --percent 10 --wait
  fife canary start demo/canary --percent 12.5 --deployment 2 --override color=green --dry-run`,
	}
	fields, f := addCanaryFlags(cmd), addChangeFlags(cmd)
	f.addEtagFlag(cmd, "stage")
	replace := cmd.Flags().Bool("replace", false, "replace a canary that is open")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !cmd.Flags().Changed("percent") {
			return usagef(cmd, "say with --percent what share of requests goes to the canary")
		}
		secrets, err := fields.secrets.read(c)
		if err != nil {
			return err
		}
		canary := &fifev1.Canary{
			Percent: float64(fields.percent), Deployment: deploymentOf(args[0], uint64(fields.deployment)),
			VariableOverrides: fields.overrides, SecretOverrides: secrets,
		}
		return change(c, cmd, f, func(ctx context.Context, at *nodes) (*fifev1.StartCanaryResponse, error) {
			return fifev1.NewStageServiceClient(at).StartCanary(ctx, &fifev1.StartCanaryRequest{
				Name: stageName(args[0]), Canary: canary, Replace: *replace,
				Etag: f.etag, RequestId: f.requestID, ValidateOnly: f.dryRun,
			})
		}, func(w io.Writer, r *fifev1.StartCanaryResponse) {
			f.say(w, r, "canary of "+args[0], "started")
			writeStages(w, r.GetStage())
		})
	}
	return cmd
}

func newCanarySetCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set API/STAGE",
		Short: "Change the open canary of a stage",
		Long: `Change the fields that are given and leave the others. A higher percent only adds
sticky keys. --override and --unset-override change single variables: the stage
is read first, and the change is refused if somebody else changes it meanwhile.`,
		Example: "  fife canary set demo/canary --percent 50 --wait",
	}
	fields, f := addCanaryFlags(cmd), addChangeFlags(cmd)
	f.addEtagFlag(cmd, "stage")
	unsetSecret := cmd.Flags().StringArray("unset-secret-override", nil, "`NAME` of a secret override to remove; repeatable")
	unset := cmd.Flags().StringArray("unset-override", nil, "`NAME` of an override to remove; repeatable")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		mask, err := maskOf(cmd, "percent", "percent", "deployment", "deployment",
			"override", "variable_overrides", "unset-override", "variable_overrides",
			"secret-override", "secret_overrides", "unset-secret-override", "secret_overrides")
		if err != nil {
			return err
		}
		secrets, err := fields.secrets.read(c)
		if err != nil {
			return err
		}
		canary := &fifev1.Canary{
			Percent: float64(fields.percent), Deployment: deploymentOf(args[0], uint64(fields.deployment)),
		}
		if slices.Contains(mask.GetPaths(), "variable_overrides") {
			current, err := f.current(c, cmd, args[0])
			if err != nil {
				return err
			}
			canary.VariableOverrides = edited(current.GetCanary().GetVariableOverrides(), fields.overrides, *unset)
		}
		if slices.Contains(mask.GetPaths(), "secret_overrides") { // what is read has no values: they stay
			current, err := f.current(c, cmd, args[0])
			if err != nil {
				return err
			}
			canary.SecretOverrides = edited(current.GetCanary().GetSecretOverrides(), secrets, *unsetSecret)
		}
		return change(c, cmd, f, func(ctx context.Context, at *nodes) (*fifev1.UpdateCanaryResponse, error) {
			return fifev1.NewStageServiceClient(at).UpdateCanary(ctx, &fifev1.UpdateCanaryRequest{
				Name: stageName(args[0]), Canary: canary, UpdateMask: mask,
				Etag: f.etag, RequestId: f.requestID, ValidateOnly: f.dryRun,
			})
		}, func(w io.Writer, r *fifev1.UpdateCanaryResponse) {
			f.say(w, r, "canary of "+args[0], "changed")
			writeStages(w, r.GetStage())
		})
	}
	return cmd
}

func newCanaryAbortCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "abort API/STAGE",
		Short:   "Close the canary: all requests go to the base",
		Example: "  fife canary abort demo/canary --wait",
	}
	f := addChangeFlags(cmd)
	f.addEtagFlag(cmd, "stage")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return change(c, cmd, f, func(ctx context.Context, at *nodes) (*fifev1.AbortCanaryResponse, error) {
			return fifev1.NewStageServiceClient(at).AbortCanary(ctx, &fifev1.AbortCanaryRequest{
				Name: stageName(args[0]), Etag: f.etag, RequestId: f.requestID, ValidateOnly: f.dryRun,
			})
		}, func(w io.Writer, r *fifev1.AbortCanaryResponse) {
			f.say(w, r, "canary of "+args[0], "aborted")
			writeStages(w, r.GetStage())
		})
	}
	return cmd
}

// canaryText writes a canary in a few words, and a missing one as nothing.
func canaryText(canary *fifev1.Canary) string {
	if canary == nil {
		return ""
	}
	return number(canary.GetDeployment()) + " at " + percentText(canary.GetPercent())
}
