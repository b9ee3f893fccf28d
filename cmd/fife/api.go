package main

import (
	"context"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newAPICommand(c *cli) *cobra.Command {
	return newGroup("api", "Make and change APIs",
		newAPICreateCommand(c), newAPIGetCommand(c), newAPIListCommand(c), newAPIUpdateCommand(c), newAPIDeleteCommand(c),
		newAPIImportCommand(c), newAPIExportCommand(c))
}

// apiFlags are the fields of an API that operators set.
type apiFlags struct {
	description      string
	hosts            []string
	binaryMediaTypes []string
	defaultTimeout   time.Duration
}

func addAPIFlags(cmd *cobra.Command) *apiFlags {
	f := &apiFlags{}
	cmd.Flags().StringVar(&f.description, "description", "", "free `TEXT`")
	cmd.Flags().StringSliceVar(&f.hosts, "host", nil, "`HOST` that selects the API on an agent; repeatable")
	cmd.Flags().StringSliceVar(&f.binaryMediaTypes, "binary-media-type", nil, "media `TYPE` that is binary for Lambda; repeatable")
	cmd.Flags().DurationVar(&f.defaultTimeout, "default-timeout", 0, "timeout of routes that set none, 50ms to 29s (default 29s)")
	return f
}

func (f *apiFlags) api() *fifev1.Api {
	return &fifev1.Api{
		Description:      f.description,
		Hosts:            f.hosts,
		BinaryMediaTypes: f.binaryMediaTypes,
		DefaultTimeout:   optionalDuration(f.defaultTimeout),
	}
}

func newAPICreateCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "create API",
		Short:   "Make an API with an empty draft",
		Example: "  fife api create demo --host demo.example.com",
	}
	fields, f := addAPIFlags(cmd), addChangeFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return change(c, cmd, f, func(ctx context.Context, at *nodes) (*fifev1.CreateApiResponse, error) {
			return fifev1.NewApiServiceClient(at).CreateApi(ctx, &fifev1.CreateApiRequest{
				ApiId: args[0], Api: fields.api(), RequestId: f.requestID, ValidateOnly: f.dryRun,
			})
		}, func(w io.Writer, r *fifev1.CreateApiResponse) {
			f.say(w, r, "API "+args[0], "created")
		})
	}
	return cmd
}

func newAPIGetCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "get API",
		Short:   "Show one API",
		Example: "  fife api get demo",
		RunE: func(cmd *cobra.Command, args []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.GetApiResponse, error) {
				return fifev1.NewApiServiceClient(at).GetApi(ctx, &fifev1.GetApiRequest{Name: apiName(args[0])})
			}, func(w io.Writer, r *fifev1.GetApiResponse) { writeAPI(w, r.GetApi()) })
		},
	}
}

func newAPIListCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List APIs",
		Example: "  fife api list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return read(c, cmd, listAPIs, func(w io.Writer, r *fifev1.ListApisResponse) {
				row(w, "API", "ROUTES", "HOSTS", "UPDATED", "DESCRIPTION")
				for _, api := range r.GetApis() {
					row(w, short(api.GetName()), strconv.Itoa(int(api.GetRouteCount())), strings.Join(api.GetHosts(), ","),
						timeText(api.GetUpdateTime()), api.GetDescription())
				}
			})
		},
	}
}

func listAPIs(ctx context.Context, at *nodes) (*fifev1.ListApisResponse, error) {
	client := fifev1.NewApiServiceClient(at)
	return allPages(func(token string) (*fifev1.ListApisResponse, error) {
		return client.ListApis(ctx, &fifev1.ListApisRequest{PageSize: pageSize, PageToken: token})
	})
}

func newAPIUpdateCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "update API",
		Short: "Change an API's own fields",
		Long: `Change the fields that are given and leave the others. An empty value clears
a field. Hosts take effect on agents at once, the timeout and the media types
with the next deployment.`,
		Example: "  fife api update demo --host demo.example.com --host demo.example.org --wait",
	}
	fields, f := addAPIFlags(cmd), addChangeFlags(cmd)
	f.addEtagFlag(cmd, "API")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		mask, err := maskOf(cmd, "description", "description", "host", "hosts",
			"binary-media-type", "binary_media_types", "default-timeout", "default_timeout")
		if err != nil {
			return err
		}
		api := fields.api()
		api.Name, api.Etag = apiName(args[0]), f.etag
		return change(c, cmd, f, func(ctx context.Context, at *nodes) (*fifev1.UpdateApiResponse, error) {
			return fifev1.NewApiServiceClient(at).UpdateApi(ctx, &fifev1.UpdateApiRequest{
				Api: api, UpdateMask: mask, RequestId: f.requestID, ValidateOnly: f.dryRun,
			})
		}, func(w io.Writer, r *fifev1.UpdateApiResponse) {
			f.say(w, r, "API "+args[0], "updated")
			writeAPI(w, r.GetApi())
		})
	}
	return cmd
}

func newAPIDeleteCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "delete API",
		Short:   "Delete an API that has no stages, with its draft and deployments",
		Example: "  fife api delete demo",
	}
	f := addChangeFlags(cmd)
	f.addEtagFlag(cmd, "API")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return change(c, cmd, f, func(ctx context.Context, at *nodes) (*fifev1.DeleteApiResponse, error) {
			return fifev1.NewApiServiceClient(at).DeleteApi(ctx, &fifev1.DeleteApiRequest{
				Name: apiName(args[0]), Etag: f.etag, RequestId: f.requestID, ValidateOnly: f.dryRun,
			})
		}, func(w io.Writer, r *fifev1.DeleteApiResponse) { f.say(w, r, "API "+args[0], "deleted") })
	}
	return cmd
}

func writeAPI(w io.Writer, api *fifev1.Api) {
	row(w, "api", short(api.GetName()))
	row(w, "description", api.GetDescription())
	row(w, "hosts", strings.Join(api.GetHosts(), ", "))
	row(w, "default timeout", durationText(api.GetDefaultTimeout()))
	row(w, "binary media types", strings.Join(api.GetBinaryMediaTypes(), ", "))
	row(w, "routes", strconv.Itoa(int(api.GetRouteCount())))
	row(w, "created", timeText(api.GetCreateTime()))
	row(w, "updated", timeText(api.GetUpdateTime()))
	row(w, "etag", api.GetEtag())
}

// maskOf names the fields whose flags were given. pairs holds each flag and its
// field in turn; several flags may belong to one field.
func maskOf(cmd *cobra.Command, pairs ...string) (*fieldmaskpb.FieldMask, error) {
	mask := &fieldmaskpb.FieldMask{}
	var flags []string
	for i := 0; i < len(pairs); i += 2 {
		flags = append(flags, "--"+pairs[i])
		if cmd.Flags().Changed(pairs[i]) && !slices.Contains(mask.Paths, pairs[i+1]) {
			mask.Paths = append(mask.Paths, pairs[i+1])
		}
	}
	if len(mask.Paths) == 0 {
		return nil, usagef(cmd, "there is nothing to change; give at least one of %s", strings.Join(flags, ", "))
	}
	return mask, nil
}

// optionalDuration leaves zero unset, which means the default everywhere.
func optionalDuration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func durationText(d *durationpb.Duration) string {
	if d == nil {
		return ""
	}
	return d.AsDuration().String()
}
