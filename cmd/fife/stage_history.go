package main

import (
	"context"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newStageHistoryCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "history API/STAGE",
		Short:   "List who changed a stage, when and how, newest first",
		Example: "  fife stage history demo/canary",
		RunE: func(cmd *cobra.Command, args []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.ListStageRevisionsResponse, error) {
				client := fifev1.NewStageServiceClient(at)
				return allPages(func(token string) (*fifev1.ListStageRevisionsResponse, error) {
					return client.ListStageRevisions(ctx, &fifev1.ListStageRevisionsRequest{
						Parent: stageName(args[0]), PageSize: pageSize, PageToken: token,
					})
				})
			}, func(w io.Writer, r *fifev1.ListStageRevisionsResponse) {
				row(w, "REVISION", "TIME", "ACTOR", "CHANGE", "BASE", "CANARY", "CHANGED VARIABLES")
				for _, rev := range r.GetRevisions() {
					writeRevision(w, rev)
				}
			})
		},
	}
}

func writeRevision(w io.Writer, rev *fifev1.StageRevision) {
	before, after := rev.GetBefore(), rev.GetAfter()
	// Which variables are others now: those of the stage, of the canary, or both.
	var variables []string
	if before != nil && (!maps.Equal(before.GetVariables(), after.GetVariables()) || !slices.Equal(before.GetSecretVariables(), after.GetSecretVariables())) {
		variables = append(variables, "stage")
	}
	if before != nil && !maps.Equal(before.GetCanary().GetVariableOverrides(), after.GetCanary().GetVariableOverrides()) {
		variables = append(variables, "canary")
	}
	row(w, strconv.FormatUint(rev.GetRevision(), 10), timeText(rev.GetCreateTime()), rev.GetActor(), methodText(rev),
		transition(before, number(before.GetDeployment()), number(after.GetDeployment())),
		transition(before, canaryText(before.GetCanary()), canaryText(after.GetCanary())),
		strings.Join(variables, ", "))
}

// transition writes a value and, where it is known and differs, what it was before.
func transition(before *fifev1.StageConfig, was, is string) string {
	if before == nil || was == is {
		return is
	}
	return none(was) + " -> " + none(is)
}

func none(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

func newStageRollbackCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollback API/STAGE",
		Short: "Restore the base from the stage's history",
		Long: `Restore the base, its deployment and variables both, and leave an open canary as
it is. Without --to that is the base before its last change, so that a second
rollback undoes the first.`,
		Example: `  fife stage rollback demo/canary --wait
  fife stage rollback demo/canary --to 3 --dry-run`,
	}
	f := addChangeFlags(cmd)
	f.addEtagFlag(cmd, "stage")
	to := cmd.Flags().Uint64("to", 0, "`REVISION` that left the base as it is wanted (see history)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *to == 0 && cmd.Flags().Changed("to") {
			return usagef(cmd, "--to 0 is no revision; they count from 1: fife stage history %s", args[0])
		}
		return change(c, cmd, f, func(ctx context.Context, at *nodes) (*fifev1.RollbackStageResponse, error) {
			return fifev1.NewStageServiceClient(at).RollbackStage(ctx, &fifev1.RollbackStageRequest{
				Name: stageName(args[0]), ToRevision: *to, Etag: f.etag, RequestId: f.requestID, ValidateOnly: f.dryRun,
			})
		}, func(w io.Writer, r *fifev1.RollbackStageResponse) {
			f.say(w, r, "stage "+args[0], "rolled back")
			writeStages(w, r.GetStage())
		})
	}
	return cmd
}

// methodText says how a revision was made.
func methodText(r *fifev1.StageRevision) string {
	if r.GetNote() == "" {
		return r.GetMethod()
	}
	return r.GetMethod() + ": " + clean(r.GetNote())
}
