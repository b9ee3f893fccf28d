package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fifegateway/fife/controlplane/identity"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newCertificateCommand(c *cli) *cobra.Command {
	return newGroup("certificate", "Certificates of nodes, agents and users",
		newCertificateCreateCommand(c), newCertificateListCommand(c), newCertificateRenewCommand(c), newCertificateRevokeCommand(c))
}

func newCertificateCreateCommand(c *cli) *cobra.Command {
	var user, out string
	ttl := 30 * 24 * time.Hour
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a certificate for a user",
		Long: `Make a certificate for a user, for --cert. The key is made here and never leaves this
machine; --out gets the key, the certificate and the cluster's CA, for its owner alone. A
certificate gives no role: see fife access grant.`,
		Example: "  fife certificate create --user ann --ttl 720h --out ann.pem",
	}
	f := cmd.Flags()
	f.StringVar(&user, "user", "", "`NAME` of the user, which roles are given to as user:NAME")
	f.DurationVar(&ttl, "ttl", ttl, "how long it lasts, 1m to 8760h")
	f.StringVar(&out, "out", "", "`FILE` to make")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if user == "" || out == "" {
			return usagef(cmd, "say with --user NAME whose it is, and with --out FILE where to put it")
		}
		if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
			return usagef(cmd, "--out %s is there already; name a new file", out)
		}
		key, err := identity.NewKey()
		if err != nil {
			return err
		}
		csr, err := identity.NewRequest(key)
		if err != nil {
			return err
		}
		return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.CreateCertificateResponse, error) {
			resp, err := fifev1.NewCertificateServiceClient(at).CreateCertificate(ctx, &fifev1.CreateCertificateRequest{
				User: user, Csr: csr, Ttl: durationpb.New(ttl), RequestId: c.accessRequestID(),
			})
			if err != nil {
				return nil, err
			}
			chain, err := parseCertificates(resp.GetChain())
			if err != nil {
				return nil, err
			}
			roots, err := parseCertificates(resp.GetRoots())
			if err != nil {
				return nil, err
			}
			credential, err := identity.NewCredential(key, chain, roots)
			if err != nil {
				return nil, fmt.Errorf("read the answer: %w", err)
			}
			_, err = identity.CreateHolder(out, credential)
			return resp, err
		}, func(w io.Writer, r *fifev1.CreateCertificateResponse) {
			linef(w, "certificate %s of user/%s until %s is in %s", short(r.GetCertificate().GetName()), user, timeText(r.GetCertificate().GetExpireTime()), out)
		})
	}
	return cmd
}

func parseCertificates(ders [][]byte) ([]*x509.Certificate, error) {
	out := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		var err error
		if out[i], err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
	}
	return out, nil
}

func newCertificateListCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the certificates that users have been given",
		Long: `List the certificates of users that were made with fife certificate create and have not
expired. Those that were renewed, or made by hand with the root's key, are not known.`,
		Example: "  fife certificate list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.ListCertificatesResponse, error) {
				client := fifev1.NewCertificateServiceClient(at)
				return allPages(func(token string) (*fifev1.ListCertificatesResponse, error) {
					return client.ListCertificates(ctx, &fifev1.ListCertificatesRequest{PageSize: pageSize, PageToken: token})
				})
			}, func(w io.Writer, r *fifev1.ListCertificatesResponse) {
				row(w, "CERTIFICATE", "USER", "MADE", "BY", "EXPIRES", "REVOKED")
				for _, cert := range r.GetCertificates() {
					row(w, short(cert.GetName()), cert.GetUser(), timeText(cert.GetCreateTime()), cert.GetCreator(),
						timeText(cert.GetExpireTime()), yesNo(cert.GetRevoked()))
				}
			})
		},
	}
}

func newCertificateRevokeCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke CLASS/NAME",
		Short: "Make all certificates of somebody void",
		Long: `Make all certificates void that somebody has been given so far. Every node closes its
connections. With another join token, or another certificate, it is let in again.`,
		Example: "  fife certificate revoke agent/edge-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.RevokeCertificateResponse, error) {
				return fifev1.NewCertificateServiceClient(at).RevokeCertificate(ctx,
					&fifev1.RevokeCertificateRequest{Name: args[0], RequestId: c.accessRequestID()})
			}, func(w io.Writer, _ *fifev1.RevokeCertificateResponse) {
				linef(w, "certificates of %s revoked", args[0])
			})
		},
	}
}
