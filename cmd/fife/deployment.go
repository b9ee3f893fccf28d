package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newDeploymentCommand(c *cli) *cobra.Command {
	return newGroup("deployment", "Look at deployments and delete old ones",
		newDeploymentListCommand(c), newDeploymentGetCommand(c), newDeploymentDeleteCommand(c))
}

func newDeploymentListCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "list API",
		Short:   "List the deployments of an API, oldest first",
		Example: "  fife deployment list demo",
		RunE: func(cmd *cobra.Command, args []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.ListDeploymentsResponse, error) {
				client := fifev1.NewDeploymentServiceClient(at)
				return allPages(func(token string) (*fifev1.ListDeploymentsResponse, error) {
					return client.ListDeployments(ctx, &fifev1.ListDeploymentsRequest{
						Parent: apiName(args[0]), PageSize: pageSize, PageToken: token,
					})
				})
			}, func(w io.Writer, r *fifev1.ListDeploymentsResponse) {
				row(w, "DEPLOYMENT", "ROUTES", "DIGEST", "CREATED", "DESCRIPTION")
				for _, d := range r.GetDeployments() {
					row(w, short(d.GetName()), strconv.Itoa(int(d.GetRouteCount())), fmt.Sprintf("%.12s", d.GetDigest()),
						timeText(d.GetCreateTime()), d.GetDescription())
				}
			})
		},
	}
}

func newDeploymentGetCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "get API/N",
		Short:   "Show one deployment, or the routes it froze",
		Example: "  fife deployment get demo/3 --routes",
	}
	routes := cmd.Flags().Bool("routes", false, "show the deployment's routes instead")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := deploymentName(args[0])
		if *routes {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.ListDeploymentRoutesResponse, error) {
				client := fifev1.NewDeploymentServiceClient(at)
				return allPages(func(token string) (*fifev1.ListDeploymentRoutesResponse, error) {
					return client.ListDeploymentRoutes(ctx, &fifev1.ListDeploymentRoutesRequest{
						Parent: name, PageSize: pageSize, PageToken: token,
					})
				})
			}, func(w io.Writer, r *fifev1.ListDeploymentRoutesResponse) { writeRoutes(w, r.GetRoutes()) })
		}
		return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.GetDeploymentResponse, error) {
			return fifev1.NewDeploymentServiceClient(at).GetDeployment(ctx, &fifev1.GetDeploymentRequest{Name: name})
		}, func(w io.Writer, r *fifev1.GetDeploymentResponse) {
			d := r.GetDeployment()
			row(w, "deployment", short(d.GetName()))
			row(w, "description", d.GetDescription())
			row(w, "routes", strconv.Itoa(int(d.GetRouteCount())))
			row(w, "default timeout", durationText(d.GetDefaultTimeout()))
			row(w, "binary media types", strings.Join(d.GetBinaryMediaTypes(), ", "))
			row(w, "digest", d.GetDigest())
			row(w, "created", timeText(d.GetCreateTime()))
			row(w, "etag", d.GetEtag())
		})
	}
	return cmd
}

func newDeploymentDeleteCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "delete API/N",
		Short:   "Delete a deployment that no stage, canary or kept revision needs",
		Example: "  fife deployment delete demo/3",
	}
	f := addChangeFlags(cmd)
	f.addEtagFlag(cmd, "deployment")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return change(c, cmd, f, func(ctx context.Context, at *nodes) (*fifev1.DeleteDeploymentResponse, error) {
			return fifev1.NewDeploymentServiceClient(at).DeleteDeployment(ctx, &fifev1.DeleteDeploymentRequest{
				Name: deploymentName(args[0]), Etag: f.etag, RequestId: f.requestID, ValidateOnly: f.dryRun,
			})
		}, func(w io.Writer, r *fifev1.DeleteDeploymentResponse) { f.say(w, r, "deployment "+args[0], "deleted") })
	}
	return cmd
}
