package main

import (
	"context"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newRouteCommand(c *cli) *cobra.Command {
	return newGroup("route", "Edit the draft routes of an API",
		newRoutePutCommand(c), newRouteListCommand(c), newRouteDeleteCommand(c))
}

// integrationFlags are the fields of an integration; the flag that is named
// after its kind chooses it.
type integrationFlags struct {
	http, httpMethod  string
	lambda, qualifier string
	mockStatus        int32
	mockHeaders       pairsFlag
	mockBody          string
	mockTemplate      bool
}

func addIntegrationFlags(cmd *cobra.Command) *integrationFlags {
	f := &integrationFlags{mockHeaders: pairsFlag{}}
	flags := cmd.Flags()
	flags.StringVar(&f.http, "http", "", "pass requests on to this `URI`")
	flags.StringVar(&f.httpMethod, "http-method", "", "`METHOD` to use upstream (default the request's own)")
	flags.StringVar(&f.lambda, "lambda", "", "invoke this Lambda function, `ARN` or name")
	flags.StringVar(&f.qualifier, "qualifier", "", "`VERSION` or alias of the function")
	flags.Int32Var(&f.mockStatus, "mock-status", 0, "answer from the agent itself with this `STATUS`")
	flags.Var(f.mockHeaders, "mock-header", "header of the answer; repeatable")
	flags.StringVar(&f.mockBody, "mock-body", "", "`TEXT` of the answer")
	flags.BoolVar(&f.mockTemplate, "mock-template", false, "fill in references in --mock-body such as ${stageVariables.x} and ${context.isCanaryRequest}")
	return f
}

// integration returns what the flags ask for, or a usage error unless they ask
// for exactly one kind.
func (f *integrationFlags) integration(cmd *cobra.Command) (*fifev1.Integration, error) {
	given := cmd.Flags().Changed
	for _, rule := range [][2]string{
		{"http-method", "http"}, {"qualifier", "lambda"}, {"mock-header", "mock-status"}, {"mock-body", "mock-status"}, {"mock-template", "mock-body"},
	} {
		if given(rule[0]) && !given(rule[1]) {
			return nil, usagef(cmd, "--%s goes with --%s", rule[0], rule[1])
		}
	}
	var kinds []string
	for _, kind := range []string{"http", "lambda", "mock-status"} {
		if given(kind) {
			kinds = append(kinds, "--"+kind)
		}
	}
	switch {
	case len(kinds) == 0:
		return nil, usagef(cmd, "say what answers the route: --http URI, --lambda FUNCTION or --mock-status STATUS")
	case len(kinds) > 1:
		return nil, usagef(cmd, "%s exclude each other; a route has one integration", strings.Join(kinds, " and "))
	case given("http"):
		return &fifev1.Integration{Kind: &fifev1.Integration_Http{
			Http: &fifev1.HttpIntegration{Uri: f.http, Method: strings.ToUpper(f.httpMethod)},
		}}, nil
	case given("lambda"):
		return &fifev1.Integration{Kind: &fifev1.Integration_Lambda{
			Lambda: &fifev1.LambdaIntegration{Function: f.lambda, Qualifier: f.qualifier},
		}}, nil
	}
	return &fifev1.Integration{Kind: &fifev1.Integration_Mock{
		Mock: &fifev1.MockIntegration{Status: f.mockStatus, Headers: f.mockHeaders, Body: f.mockBody, Template: f.mockTemplate},
	}}, nil
}

func newRoutePutCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "put API METHOD PATH",
		Short: "Write a route of the draft",
		Long: `Write a route of the draft, in place of one with the same method and path.
METHOD may be ANY. PATH may have variables: /users/{id}, /files/{path+}.
Nothing that is served changes until the draft is deployed.`,
		Example: `  fife route put demo GET /users/{id} --http http://users.internal/v1/{id}
  fife route put demo GET /hello --lambda arn:aws:lambda:eu-west-1:123456789012:function:hello --qualifier live
  fife route put demo ANY /health --mock-status 200 --mock-header content-type=text/plain --mock-body ok`,
	}
	kind, f := addIntegrationFlags(cmd), addChangeFlags(cmd)
	f.addEtagFlag(cmd, "route")
	var timeout time.Duration
	cmd.Flags().DurationVar(&timeout, "integration-timeout", 0, "how long the integration may take, 50ms to 29s (default the API's)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		integration, err := kind.integration(cmd)
		if err != nil {
			return err
		}
		route := &fifev1.Route{
			Method: strings.ToUpper(args[1]), Path: args[2], Integration: integration,
			Timeout: optionalDuration(timeout), Etag: f.etag,
		}
		return change(c, cmd, f, func(ctx context.Context, at *nodes) (*fifev1.PutRouteResponse, error) {
			return fifev1.NewApiServiceClient(at).PutRoute(ctx, &fifev1.PutRouteRequest{
				Parent: apiName(args[0]), Route: route, RequestId: f.requestID, ValidateOnly: f.dryRun,
			})
		}, func(w io.Writer, r *fifev1.PutRouteResponse) {
			f.say(w, r, "route "+route.GetMethod()+" "+route.GetPath()+" of "+args[0], "written to the draft")
		})
	}
	return cmd
}

func newRouteListCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "list API",
		Short:   "List the routes of the draft",
		Example: "  fife route list demo",
		RunE: func(cmd *cobra.Command, args []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.ListRoutesResponse, error) {
				client := fifev1.NewApiServiceClient(at)
				return allPages(func(token string) (*fifev1.ListRoutesResponse, error) {
					return client.ListRoutes(ctx, &fifev1.ListRoutesRequest{
						Parent: apiName(args[0]), PageSize: pageSize, PageToken: token,
					})
				})
			}, func(w io.Writer, r *fifev1.ListRoutesResponse) { writeRoutes(w, r.GetRoutes()) })
		},
	}
}

func newRouteDeleteCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "delete API METHOD PATH",
		Short:   "Remove a route from the draft",
		Example: "  fife route delete demo GET /users/{id}",
	}
	f := addChangeFlags(cmd)
	f.addEtagFlag(cmd, "route")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		method := strings.ToUpper(args[1])
		return change(c, cmd, f, func(ctx context.Context, at *nodes) (*fifev1.DeleteRouteResponse, error) {
			return fifev1.NewApiServiceClient(at).DeleteRoute(ctx, &fifev1.DeleteRouteRequest{
				Parent: apiName(args[0]), Method: method, Path: args[2],
				Etag: f.etag, RequestId: f.requestID, ValidateOnly: f.dryRun,
			})
		}, func(w io.Writer, r *fifev1.DeleteRouteResponse) {
			f.say(w, r, "route "+method+" "+args[2]+" of "+args[0], "deleted from the draft")
		})
	}
	return cmd
}

// writeRoutes writes the routes of a draft or of a deployment.
func writeRoutes(w io.Writer, routes []*fifev1.Route) {
	row(w, "METHOD", "PATH", "INTEGRATION", "TIMEOUT", "ETAG")
	for _, route := range routes {
		row(w, route.GetMethod(), route.GetPath(), integrationText(route.GetIntegration()),
			durationText(route.GetTimeout()), route.GetEtag())
	}
}

func integrationText(integration *fifev1.Integration) string {
	switch kind := integration.GetKind().(type) {
	case *fifev1.Integration_Http:
		return strings.Join(strings.Fields("http "+kind.Http.GetMethod()+" "+kind.Http.GetUri()), " ")
	case *fifev1.Integration_Lambda:
		text := "lambda " + kind.Lambda.GetFunction()
		if kind.Lambda.GetQualifier() != "" {
			text += ":" + kind.Lambda.GetQualifier()
		}
		return text
	case *fifev1.Integration_Mock:
		return "mock " + strconv.Itoa(int(max(kind.Mock.GetStatus(), 200)))
	}
	return ""
}
