package main

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newAccessCommand(c *cli) *cobra.Command {
	return newGroup("access", "Say who may do what",
		newAccessGrantCommand(c),
		newAccessRevokeCommand(c),
		newAccessListCommand(c),
		newGroup("token", "Make and end bearer tokens",
			newAccessTokenCreateCommand(c),
			newAccessTokenListCommand(c),
			newAccessTokenDeleteCommand(c),
		),
	)
}

// bindingFlags say for what a role is given.
func bindingFlags(cmd *cobra.Command, b *fifev1.Binding) {
	cmd.Flags().StringVar(&b.Api, "api", "*", "APIs it is for: an id, the beginning of ids with * behind it, or *")
	cmd.Flags().StringVar(&b.Stage, "stage", "*", "stages it is for, likewise")
}

// accessRequestID returns the request id of a change of who may do what.
func (c *cli) accessRequestID() string {
	if c.requestID != "" {
		return c.requestID
	}
	return newUUID()
}

func newAccessGrantCommand(c *cli) *cobra.Command {
	b := &fifev1.Binding{}
	cmd := &cobra.Command{
		Use:   "grant SUBJECT ROLE",
		Short: "Give a role to somebody",
		Long: `Give a role to somebody: user:NAME, the holder of a certificate or of a token made for
that name; oidc:NAME, whom the issuer calls so at which people sign in; or group:NAME, whom
it counts to a group. The roles are viewer, deployer, promoter, operator and admin.`,
		Example: "  fife access grant user:ann deployer --api demo --stage 'test*'",
		RunE: func(cmd *cobra.Command, args []string) error {
			b.Subject, b.Role = args[0], args[1]
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.CreateBindingResponse, error) {
				return fifev1.NewAccessServiceClient(at).CreateBinding(ctx,
					&fifev1.CreateBindingRequest{Binding: b, RequestId: c.accessRequestID()})
			}, func(w io.Writer, _ *fifev1.CreateBindingResponse) {
				linef(w, "%s is now %s of %s/%s", b.GetSubject(), b.GetRole(), b.GetApi(), b.GetStage())
			})
		},
	}
	bindingFlags(cmd, b)
	return cmd
}

func newAccessRevokeCommand(c *cli) *cobra.Command {
	b := &fifev1.Binding{}
	cmd := &cobra.Command{
		Use:   "revoke SUBJECT ROLE",
		Short: "Take a role from somebody",
		Long: `Take a role from somebody, for the APIs and stages as fife access list has them. It works
at once, also on changes that are under way.`,
		Example: "  fife access revoke user:ann deployer --api demo --stage 'test*'",
		RunE: func(cmd *cobra.Command, args []string) error {
			b.Subject, b.Role = args[0], args[1]
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.DeleteBindingResponse, error) {
				return fifev1.NewAccessServiceClient(at).DeleteBinding(ctx,
					&fifev1.DeleteBindingRequest{Binding: b, RequestId: c.accessRequestID()})
			}, func(w io.Writer, _ *fifev1.DeleteBindingResponse) {
				linef(w, "%s is no longer %s of %s/%s", b.GetSubject(), b.GetRole(), b.GetApi(), b.GetStage())
			})
		},
	}
	bindingFlags(cmd, b)
	return cmd
}

func newAccessListCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List who has which role for what",
		Example: "  fife access list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.ListBindingsResponse, error) {
				client := fifev1.NewAccessServiceClient(at)
				return allPages(func(token string) (*fifev1.ListBindingsResponse, error) {
					return client.ListBindings(ctx, &fifev1.ListBindingsRequest{PageSize: pageSize, PageToken: token})
				})
			}, func(w io.Writer, r *fifev1.ListBindingsResponse) { writeBindings(w, r.GetBindings()) })
		},
	}
}

func writeBindings(w io.Writer, bindings []*fifev1.Binding) {
	row(w, "SUBJECT", "ROLE", "API", "STAGE")
	for _, b := range bindings {
		row(w, b.GetSubject(), b.GetRole(), b.GetApi(), b.GetStage())
	}
}

func newAccessTokenCreateCommand(c *cli) *cobra.Command {
	ttl := 30 * 24 * time.Hour
	cmd := &cobra.Command{
		Use:   "create USER",
		Short: "Make a bearer token that acts as a user",
		Long: `Make a bearer token that acts as a user, which it is given roles as: user:USER. The token is
printed once and kept nowhere; programs send it as "authorization: Bearer TOKEN".`,
		Example: "  fife access token create ci --ttl 720h",
		RunE: func(cmd *cobra.Command, args []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.CreateUserTokenResponse, error) {
				return fifev1.NewAccessServiceClient(at).CreateUserToken(ctx, &fifev1.CreateUserTokenRequest{
					User: args[0], Ttl: durationpb.New(ttl), RequestId: c.accessRequestID(),
				})
			}, func(w io.Writer, r *fifev1.CreateUserTokenResponse) { writeSecret(w, r.GetBearer()) })
		},
	}
	cmd.Flags().DurationVar(&ttl, "ttl", ttl, "how long it lasts")
	return cmd
}

func newAccessTokenListCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List bearer tokens",
		Example: "  fife access token list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.ListUserTokensResponse, error) {
				client := fifev1.NewAccessServiceClient(at)
				return allPages(func(token string) (*fifev1.ListUserTokensResponse, error) {
					return client.ListUserTokens(ctx, &fifev1.ListUserTokensRequest{PageSize: pageSize, PageToken: token})
				})
			}, func(w io.Writer, r *fifev1.ListUserTokensResponse) {
				row(w, "TOKEN", "USER", "EXPIRES", "LAST USED")
				for _, t := range r.GetTokens() {
					row(w, short(t.GetName()), t.GetUser(), timeText(t.GetExpireTime()), timeText(t.GetLastUseTime()))
				}
			})
		},
	}
}

func newAccessTokenDeleteCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "delete TOKEN",
		Short:   "End a bearer token",
		Long:    "End a bearer token, by its id as fife access token list has it.",
		Example: "  fife access token delete ab12cd34ef56",
		RunE: func(cmd *cobra.Command, args []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.DeleteUserTokenResponse, error) {
				return fifev1.NewAccessServiceClient(at).DeleteUserToken(ctx,
					&fifev1.DeleteUserTokenRequest{Name: "userTokens/" + args[0], RequestId: c.accessRequestID()})
			}, func(w io.Writer, _ *fifev1.DeleteUserTokenResponse) { linef(w, "token %s deleted", args[0]) })
		},
	}
}

func newWhoAmICommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "whoami",
		Short:   "Say who you are taken for, and your roles",
		Example: "  fife whoami",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.WhoAmIResponse, error) {
				return fifev1.NewAccessServiceClient(at).WhoAmI(ctx, &fifev1.WhoAmIRequest{})
			}, func(w io.Writer, r *fifev1.WhoAmIResponse) {
				linef(w, "%s", subjects(r))
				if len(r.GetBindings()) > 0 {
					writeBindings(w, r.GetBindings())
				}
			})
		},
	}
}
