package main

import (
	"context"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newTokenCommand(c *cli) *cobra.Command {
	return newGroup("token", "Tokens with which nodes and agents join",
		newTokenCreateCommand(c), newTokenListCommand(c), newTokenDeleteCommand(c))
}

func newTokenCreateCommand(c *cli) *cobra.Command {
	role := newChoiceFlag("agent", "agent", "server")
	req := &fifev1.CreateTokenRequest{}
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token for --join-token",
		Long: `Make a token with which an agent or a node of the control plane joins: fife-agent or
fife-controlplane --join-token. It is printed once; the cluster keeps a hash. It holds the
fingerprint of the cluster's CA, so that whoever joins tells it to that cluster only.`,
		Example: `  fife token create --role agent --pattern 'edge-*' --ttl 1h --uses 10
  fife token create --role server --pattern n2`,
	}
	f := cmd.Flags()
	f.Var(&role, "role", "what its bearer becomes: agent or server")
	f.StringVar(&req.Pattern, "pattern", "", "`NAMES` that the bearer may have, * and ? stand for any (default any)")
	f.StringSliceVar(&req.Apis, "apis", nil, "`IDS` of the APIs that an agent may hold (default all)")
	f.DurationVar(&ttl, "ttl", time.Hour, "how long it can be used")
	f.Uint32Var(&req.Uses, "uses", 1, "how often it can be used")
	offer(cmd, "role", role.options...)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		req.Role = fifev1.TokenRole_TOKEN_ROLE_AGENT
		if role.value == "server" {
			req.Role = fifev1.TokenRole_TOKEN_ROLE_SERVER
		}
		req.Ttl = durationpb.New(ttl)
		return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.CreateTokenResponse, error) {
			return fifev1.NewTokenServiceClient(at).CreateToken(ctx, req)
		}, func(w io.Writer, r *fifev1.CreateTokenResponse) { linef(w, "%s", clean(r.GetText())) })
	}
	return cmd
}

func newTokenListCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the tokens that can still be used",
		Example: "  fife token list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.ListTokensResponse, error) {
				return allPages(func(token string) (*fifev1.ListTokensResponse, error) {
					return fifev1.NewTokenServiceClient(at).ListTokens(ctx, &fifev1.ListTokensRequest{PageSize: pageSize, PageToken: token})
				})
			}, func(w io.Writer, r *fifev1.ListTokensResponse) {
				if len(r.GetTokens()) == 0 {
					linef(w, "there are no tokens")
					return
				}
				row(w, "TOKEN", "ROLE", "PATTERN", "APIS", "EXPIRES", "USES")
				for _, t := range r.GetTokens() {
					role := strings.ToLower(strings.TrimPrefix(t.GetRole().String(), "TOKEN_ROLE_"))
					row(w, short(t.GetName()), role, t.GetPattern(), strings.Join(t.GetApis(), ","),
						t.GetExpireTime().AsTime().Format(time.RFC3339), strconv.FormatUint(uint64(t.GetUses()), 10))
				}
			})
		},
	}
}

func newTokenDeleteCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "delete TOKEN",
		Short:   "Make a token useless",
		Example: "  fife token delete h2k4m6",
		RunE: func(cmd *cobra.Command, args []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.DeleteTokenResponse, error) {
				return fifev1.NewTokenServiceClient(at).DeleteToken(ctx, &fifev1.DeleteTokenRequest{Name: "tokens/" + args[0], RequestId: newUUID()})
			}, func(w io.Writer, _ *fifev1.DeleteTokenResponse) { linef(w, "token %s deleted", args[0]) })
		},
	}
}

func newCertificateCommand(c *cli) *cobra.Command {
	return newGroup("certificate", "Certificates of nodes, agents and users", newCertificateRenewCommand(c), newCertificateRevokeCommand(c))
}

func newCertificateRevokeCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke CLASS/NAME",
		Short: "Make all certificates of somebody void",
		Long: `Make all certificates void that somebody has been given so far. Every node closes its
connections. With another join token it may join again.`,
		Example: "  fife certificate revoke agent/edge-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.RevokeCertificateResponse, error) {
				return fifev1.NewCertificateServiceClient(at).RevokeCertificate(ctx,
					&fifev1.RevokeCertificateRequest{Name: args[0], RequestId: newUUID()})
			}, func(w io.Writer, _ *fifev1.RevokeCertificateResponse) {
				linef(w, "certificates of %s revoked", args[0])
			})
		},
	}
}
