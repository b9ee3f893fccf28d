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

func newStageCommand(c *cli) *cobra.Command {
	return newGroup("stage", "Make and change stages, and roll them back",
		newStageCreateCommand(c), newStageGetCommand(c), newStageListCommand(c), newStageUpdateCommand(c), newStageDeleteCommand(c),
		newStageHistoryCommand(c), newStageRollbackCommand(c))
}

// stageFlags are the fields of a stage that operators set.
type stageFlags struct {
	description   string
	deployment    numberFlag
	variables     pairsFlag
	secrets       secretsFlag
	split         splitFlags
	exposeHeaders bool
	rollout       rolloutFlags
	throttle      throttleFlags
}

func addStageFlags(cmd *cobra.Command) *stageFlags {
	f := &stageFlags{variables: pairsFlag{}, secrets: secretsFlag{}}
	flags := cmd.Flags()
	flags.StringVar(&f.description, "description", "", "free `TEXT`")
	flags.Var(&f.deployment, "deployment", "number of the deployment that the base serves")
	flags.Var(f.variables, "var", "stage variable; repeatable")
	flags.Var(f.secrets, "secret", "secret stage variable, its value read from a file, or from stdin for -; repeatable")
	flags.BoolVar(&f.exposeHeaders, "expose-headers", false, "tell clients the variant, deployment and version in headers")
	f.split.add(cmd)
	f.rollout.add(cmd)
	f.throttle.add(cmd)
	return f
}

func newStageCreateCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "create API/STAGE",
		Short:   "Make a stage that serves an existing deployment",
		Example: "  fife stage create demo/canary --deployment 1 --var color=blue --sticky header:X-User",
	}
	fields, f := addStageFlags(cmd), addChangeFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if fields.deployment == 0 {
			return usagef(cmd, "say with --deployment N what the stage serves")
		}
		if err := fields.rollout.check(cmd); err != nil {
			return err
		}
		if err := fields.throttle.check(cmd); err != nil {
			return err
		}
		key, err := fields.split.readKey(c, cmd)
		if err != nil {
			return err
		}
		secrets, err := fields.secrets.read(c)
		if err != nil {
			return err
		}
		api, id, _ := strings.Cut(args[0], "/")
		stage := &fifev1.Stage{
			Description: fields.description, Deployment: deploymentOf(args[0], uint64(fields.deployment)),
			Variables: fields.variables, SecretVariables: secrets, ExposeHeaders: fields.exposeHeaders,
			Split: fields.split.policy(cmd, nil, key), Throttle: fields.throttle.throttle(cmd, nil),
		}
		fields.rollout.set(stage)
		return change(c, cmd, f, func(ctx context.Context, at *nodes) (*fifev1.CreateStageResponse, error) {
			return fifev1.NewStageServiceClient(at).CreateStage(ctx, &fifev1.CreateStageRequest{
				Parent: apiName(api), StageId: id, Stage: stage, RequestId: f.requestID, ValidateOnly: f.dryRun,
			})
		}, func(w io.Writer, r *fifev1.CreateStageResponse) {
			f.say(w, r, "stage "+args[0], "created")
			writeStages(w, r.GetStage())
		})
	}
	return cmd
}

func newStageGetCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "get API/STAGE",
		Short:   "Show one stage",
		Example: "  fife stage get demo/canary",
		RunE: func(cmd *cobra.Command, args []string) error {
			return read(c, cmd, getStage(args[0]), func(w io.Writer, r *fifev1.GetStageResponse) { writeStage(w, r.GetStage()) })
		},
	}
}

// getStage returns the call that reads a stage.
func getStage(arg string) func(context.Context, *nodes) (*fifev1.GetStageResponse, error) {
	return func(ctx context.Context, at *nodes) (*fifev1.GetStageResponse, error) {
		return fifev1.NewStageServiceClient(at).GetStage(ctx, &fifev1.GetStageRequest{Name: stageName(arg)})
	}
}

func newStageListCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "list [API]",
		Short:   "List the stages of one API, or of all",
		Example: "  fife stage list demo",
		RunE: func(cmd *cobra.Command, args []string) error {
			return read(c, cmd, listStages(append(args, "-")[0]), func(w io.Writer, r *fifev1.ListStagesResponse) {
				writeStages(w, r.GetStages()...)
			})
		},
	}
}

// listStages returns the call that lists the stages of an API; "-" is all APIs.
func listStages(api string) func(context.Context, *nodes) (*fifev1.ListStagesResponse, error) {
	return func(ctx context.Context, at *nodes) (*fifev1.ListStagesResponse, error) {
		client := fifev1.NewStageServiceClient(at)
		return allPages(func(token string) (*fifev1.ListStagesResponse, error) {
			return client.ListStages(ctx, &fifev1.ListStagesRequest{Parent: apiName(api), PageSize: pageSize, PageToken: token})
		})
	}
}

func newStageUpdateCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "update API/STAGE",
		Short: "Change a stage, beside its canary",
		Long: `Change the fields that are given and leave the others, an open canary included.
--var and --unset-var change single variables, the split flags single fields of
the split, the limits single fields of the throttle: the stage is read first, and the change is refused if somebody else
changes it meanwhile.`,
		Example: `  fife stage update demo/canary --var color=red --unset-var size --wait
  fife stage update demo/canary --sticky cookie:session --dry-run
  fife stage update demo/canary --wave label:region/one --wave 10%@5m --stale-policy fail-closed
  fife stage update demo/canary --rate-limit 100 --burst-limit 200 --concurrency-limit 50`,
	}
	fields, f := addStageFlags(cmd), addChangeFlags(cmd)
	f.addEtagFlag(cmd, "stage")
	unsetSecret := cmd.Flags().StringArray("unset-secret", nil, "`NAME` of a secret to remove; repeatable")
	unset := cmd.Flags().StringArray("unset-var", nil, "`NAME` of a variable to remove; repeatable")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		mask, err := maskOf(cmd, "description", "description", "deployment", "deployment",
			"var", "variables", "unset-var", "variables", "secret", "secret_variables", "unset-secret", "secret_variables", "expose-headers", "expose_headers",
			"stale-policy", "stale_policy", "consistent-clients", "consistent_clients", "wave", "waves", "no-waves", "waves",
			"require-other-promoter", "require_other_promoter",
			"sticky", "split", "allow-override", "split", "override-key-file", "split",
			"rate-limit", "throttle", "burst-limit", "throttle", "concurrency-limit", "throttle", "no-throttle", "throttle")
		if err != nil {
			return err
		}
		if err := fields.rollout.check(cmd); err != nil {
			return err
		}
		if err := fields.throttle.check(cmd); err != nil {
			return err
		}
		key, err := fields.split.readKey(c, cmd)
		if err != nil {
			return err
		}
		stage := &fifev1.Stage{
			Name: stageName(args[0]), Description: fields.description,
			Deployment: deploymentOf(args[0], uint64(fields.deployment)), ExposeHeaders: fields.exposeHeaders,
		}
		fields.rollout.set(stage)
		throttles := slices.Contains(mask.GetPaths(), "throttle") && !fields.throttle.none
		secrets, err := fields.secrets.read(c)
		if err != nil {
			return err
		}
		hides := slices.Contains(mask.GetPaths(), "secret_variables")
		splits, variables := slices.Contains(mask.GetPaths(), "split"), slices.Contains(mask.GetPaths(), "variables")
		if splits || variables || throttles || hides {
			current, err := f.current(c, cmd, args[0])
			if err != nil {
				return err
			}
			if splits && current.GetSplit().GetOverrideKeySet() && !cmd.Flags().Changed("override-key-file") {
				return usagef(cmd, "the override key of stage %s cannot be read back: give it again with --override-key-file FILE, or drop it with --override-key-file \"\"", args[0])
			}
			if splits {
				stage.Split = fields.split.policy(cmd, current.GetSplit(), key)
			}
			if throttles {
				stage.Throttle = fields.throttle.throttle(cmd, current.GetThrottle())
			}
			if variables {
				stage.Variables = edited(current.GetVariables(), fields.variables, *unset)
			}
			if hides { // what is read has no values: they stay
				stage.SecretVariables = edited(current.GetSecretVariables(), secrets, *unsetSecret)
			}
		}
		stage.Etag = f.etag
		return change(c, cmd, f, func(ctx context.Context, at *nodes) (*fifev1.UpdateStageResponse, error) {
			return fifev1.NewStageServiceClient(at).UpdateStage(ctx, &fifev1.UpdateStageRequest{
				Stage: stage, UpdateMask: mask, RequestId: f.requestID, ValidateOnly: f.dryRun,
			})
		}, func(w io.Writer, r *fifev1.UpdateStageResponse) {
			f.say(w, r, "stage "+args[0], "updated")
			writeStages(w, r.GetStage())
		})
	}
	return cmd
}

// current reads the stage that a change builds on, and makes its etag a
// condition of the change unless the user gave one.
func (f *changeFlags) current(c *cli, cmd *cobra.Command, arg string) (*fifev1.Stage, error) {
	r, err := fetch(c, cmd, getStage(arg))
	if err != nil {
		return nil, err
	}
	if f.etag == "" {
		f.etag = r.GetStage().GetEtag()
	}
	return r.GetStage(), nil
}

// edited returns old with some variables set and some removed. A name that is
// not there may be removed, so that a repeated command says the same.
func edited(old, set map[string]string, unset []string) map[string]string {
	result := maps.Clone(old)
	if result == nil {
		result = map[string]string{}
	}
	maps.Copy(result, set)
	for _, name := range unset {
		delete(result, name)
	}
	return result
}

func newStageDeleteCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "delete API/STAGE",
		Short:   "Delete a stage with its canary and history",
		Example: "  fife stage delete demo/canary --wait",
	}
	f := addChangeFlags(cmd)
	f.addEtagFlag(cmd, "stage")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return change(c, cmd, f, func(ctx context.Context, at *nodes) (*fifev1.DeleteStageResponse, error) {
			return fifev1.NewStageServiceClient(at).DeleteStage(ctx, &fifev1.DeleteStageRequest{
				Name: stageName(args[0]), Etag: f.etag, RequestId: f.requestID, ValidateOnly: f.dryRun,
			})
		}, func(w io.Writer, r *fifev1.DeleteStageResponse) { f.say(w, r, "stage "+args[0], "deleted") })
	}
	return cmd
}

// writeStages writes stages as a table, which is how a changed one is shown too.
func writeStages(w io.Writer, stages ...*fifev1.Stage) {
	row(w, "STAGE", "BASE", "CANARY", "PERCENT", "REVISION", "ETAG")
	for _, s := range stages {
		percent := ""
		if s.GetCanary() != nil {
			percent = percentText(s.GetCanary().GetPercent())
		}
		row(w, short(s.GetName()), number(s.GetDeployment()), number(s.GetCanary().GetDeployment()), percent,
			strconv.FormatUint(s.GetRevision(), 10), s.GetEtag())
	}
}

func requiredText(required bool) string {
	if required {
		return "required"
	}
	return "not required"
}

func writeStage(w io.Writer, s *fifev1.Stage) {
	row(w, "stage", short(s.GetName()))
	row(w, "description", s.GetDescription())
	row(w, "base", "deployment "+number(s.GetDeployment()))
	row(w, "variables", pairsText(s.GetVariables()))
	if names := slices.Sorted(maps.Keys(s.GetSecretVariables())); len(names) > 0 {
		row(w, "secrets", strings.Join(names, ", "))
	}
	if canary := s.GetCanary(); canary != nil {
		row(w, "canary", canaryText(canary)+" since "+timeText(canary.GetStartTime()))
		row(w, "canary overrides", pairsText(canary.GetVariableOverrides()))
		if len(canary.GetAuthors()) > 0 {
			row(w, "canary authors", strings.Join(canary.GetAuthors(), ", "))
		}
		if names := slices.Sorted(maps.Keys(canary.GetSecretOverrides())); len(names) > 0 {
			row(w, "canary secrets", strings.Join(names, ", "))
		}
	} else {
		row(w, "canary", "")
	}
	row(w, "split", splitText(s.GetSplit()))
	row(w, "expose headers", yesNo(s.GetExposeHeaders()))
	row(w, "stale policy", staleText(s.GetStalePolicy()))
	row(w, "consistent clients", yesNo(s.GetConsistentClients()))
	row(w, "waves", wavesText(s.GetWaves()))
	row(w, "other promoter", requiredText(s.GetRequireOtherPromoter()))
	row(w, "throttle", throttleText(s.GetThrottle()))
	row(w, "revision", strconv.FormatUint(s.GetRevision(), 10))
	row(w, "created", timeText(s.GetCreateTime()))
	row(w, "updated", timeText(s.GetUpdateTime()))
	row(w, "etag", s.GetEtag())
	if s.GetPromotion() != nil {
		linef(w, "")
		writePromotion(w, s.GetPromotion())
	}
}
