package main

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/identity/enroll"
)

// renewed is the answer of fife certificate renew.
type renewed struct {
	Name    string    `json:"name"`
	File    string    `json:"file"`
	Expires time.Time `json:"expires"`
}

func newCertificateRenewCommand(c *cli) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "Renew your own certificate",
		Long: `Get another certificate, for a new key, in place of your own before it expires or its root is
retired, and whom to trust with it. It lasts as long as the old one did, which stays valid until it
expires.`,
		Example: "  fife certificate renew --cert admin.pem",
	}
	cmd.Flags().StringVar(&out, "out", "", "`FILE` to write (default that of --cert)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		t, err := c.target(cmd)
		if err != nil {
			return err
		}
		if t.Cert == "" || t.Plaintext {
			return usagef(cmd, "say whose certificate with --cert or FIFE_CERT")
		}
		if out == "" {
			out = t.Cert
		}
		holder, err := t.holder(cmd)
		if err != nil {
			return err
		}
		return read(c, cmd, func(ctx context.Context, at *nodes) (renewed, error) {
			if _, err := enroll.Renew(ctx, at, holder); err != nil {
				return renewed{}, err
			}
			if _, err := identity.CreateHolder(out, holder.Current()); err != nil {
				return renewed{}, err
			}
			now := holder.Current()
			return renewed{string(now.Identity.Class) + "/" + now.Identity.Name, out, now.Leaf().NotAfter.UTC()}, nil
		}, func(w io.Writer, r renewed) {
			linef(w, "certificate of %s renewed in %s, until %s", clean(r.Name), r.File, r.Expires.Format(time.RFC3339))
		})
	}
	return cmd
}
