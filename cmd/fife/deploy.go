package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newDeployCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "deploy API",
		Short: "Freeze the draft into a deployment and put it on a stage",
		Long: `Freeze the draft into a deployment. With --stage the same step puts it there:
a stage that does not exist is made, one without a canary serves it at once, and
one with a canary gives it to the canary alone, unless --target says otherwise.`,
		Example: `  fife deploy demo --stage canary --wait
  fife deploy demo --stage canary --target base --dry-run`,
	}
	f := addChangeFlags(cmd)
	f.addEtagFlag(cmd, "stage")
	var stage, description string
	target := newChoiceFlag("", "base", "canary")
	cmd.Flags().StringVar(&stage, "stage", "", "`STAGE` of the API to put the deployment on")
	cmd.Flags().StringVar(&description, "description", "", "free `TEXT`")
	cmd.Flags().Var(&target, "target", "part of the stage that gets it (default the canary, if there is one)")
	offer(cmd, "target", target.options...)
	c.offerStages(cmd, "stage")

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, flag := range []string{"target", "etag"} {
			if stage == "" && cmd.Flags().Changed(flag) {
				return usagef(cmd, "--%s goes with --stage", flag)
			}
		}
		request := &fifev1.CreateDeploymentRequest{
			Parent: apiName(args[0]), Description: description, StageId: stage,
			Etag: f.etag, ValidateOnly: f.dryRun,
		}
		switch target.value {
		case "base":
			request.Target = fifev1.DeploymentTarget_DEPLOYMENT_TARGET_BASE
		case "canary":
			request.Target = fifev1.DeploymentTarget_DEPLOYMENT_TARGET_CANARY
		}
		return change(c, cmd, f, func(ctx context.Context, at *nodes) (*fifev1.CreateDeploymentResponse, error) {
			request.RequestId = f.requestID
			return fifev1.NewDeploymentServiceClient(at).CreateDeployment(ctx, request)
		}, func(w io.Writer, r *fifev1.CreateDeploymentResponse) {
			f.say(w, r, "deployment "+short(r.GetDeployment().GetName()), "created")
			if r.GetStage() != nil {
				writeStages(w, r.GetStage())
			}
		})
	}
	return cmd
}
