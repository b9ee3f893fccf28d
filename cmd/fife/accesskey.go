package main

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newAccessKeyCommand(c *cli) *cobra.Command {
	return newGroup("access-key", "Make and end keys for the tools of Amazon Web Services",
		newAccessKeyCreateCommand(c),
		newAccessKeyListCommand(c),
		newAccessKeyDeleteCommand(c),
	)
}

func newAccessKeyCreateCommand(c *cli) *cobra.Command {
	ttl := 30 * 24 * time.Hour
	cmd := &cobra.Command{
		Use:   "create USER",
		Short: "Make an access key that acts as a user",
		Long: `Make an access key that acts as a user, which it is given roles as: user:USER. The AWS CLI
and SDKs sign requests with it to the management API of Amazon API Gateway, which nodes
serve on --http-listen. The secret is printed once; what is printed can be evaluated by a shell.`,
		Example: "  fife access-key create ci --ttl 720h",
		RunE: func(cmd *cobra.Command, args []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.CreateAccessKeyResponse, error) {
				return fifev1.NewAccessKeyServiceClient(at).CreateAccessKey(ctx, &fifev1.CreateAccessKeyRequest{
					User: args[0], Ttl: durationpb.New(ttl), RequestId: c.accessRequestID(),
				})
			}, func(w io.Writer, r *fifev1.CreateAccessKeyResponse) {
				linef(w, "export AWS_ACCESS_KEY_ID=%s", short(r.GetKey().GetName()))
				linef(w, "export AWS_SECRET_ACCESS_KEY=%s", r.GetSecret())
			})
		},
	}
	cmd.Flags().DurationVar(&ttl, "ttl", ttl, "how long it lasts")
	return cmd
}

func newAccessKeyListCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List access keys",
		Example: "  fife access-key list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.ListAccessKeysResponse, error) {
				client := fifev1.NewAccessKeyServiceClient(at)
				return allPages(func(token string) (*fifev1.ListAccessKeysResponse, error) {
					return client.ListAccessKeys(ctx, &fifev1.ListAccessKeysRequest{PageSize: pageSize, PageToken: token})
				})
			}, func(w io.Writer, r *fifev1.ListAccessKeysResponse) {
				row(w, "KEY", "USER", "EXPIRES", "LAST USED")
				for _, k := range r.GetKeys() {
					row(w, short(k.GetName()), k.GetUser(), timeText(k.GetExpireTime()), timeText(k.GetLastUseTime()))
				}
			})
		},
	}
}

func newAccessKeyDeleteCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "delete KEY",
		Short:   "End an access key",
		Long:    "End an access key, by its id as fife access-key list has it. It works at once.",
		Example: "  fife access-key delete FIFEAB12CD34EF56GH78",
		RunE: func(cmd *cobra.Command, args []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.DeleteAccessKeyResponse, error) {
				return fifev1.NewAccessKeyServiceClient(at).DeleteAccessKey(ctx,
					&fifev1.DeleteAccessKeyRequest{Name: "accessKeys/" + args[0], RequestId: c.accessRequestID()})
			}, func(w io.Writer, _ *fifev1.DeleteAccessKeyResponse) { linef(w, "access key %s deleted", args[0]) })
		},
	}
}
