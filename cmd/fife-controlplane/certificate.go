package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/fifegateway/fife/cmd/daemon"
	"github.com/fifegateway/fife/controlplane"
	"github.com/fifegateway/fife/controlplane/identity"
)

const certificateLong = `Make a credential with the key of the cluster's root, asking nobody: for the first
servers, and for when no server can be asked. --name is server/NODE, agent/ID or user/NAME.
The file that is written holds a new key, its certificate and the cluster's root; keep it
from others.`

func newCertificateCommand() *cobra.Command {
	var name, dataDir, caCert, caKey, out string
	var ttl time.Duration
	cmd := daemon.Command("certificate", "Make a credential with the key of the cluster's root", certificateLong,
		func(_ context.Context, logger *slog.Logger) error {
			if dataDir == "" {
				return daemon.Usage(errNoDataDir)
			}
			if name == "" || out == "" {
				return daemon.Usage(errors.New("--name and --out are required"))
			}
			if (caCert == "") != (caKey == "") {
				return daemon.Usage(errors.New("--ca-cert and --ca-key go together"))
			}
			if ttl <= 0 {
				return daemon.Usage(errors.New("--ttl must be positive"))
			}
			credential, err := controlplane.IssueByRoot(dataDir, caCert, caKey, name, ttl)
			if err != nil {
				return err
			}
			if _, err := identity.CreateHolder(out, credential); err != nil {
				return err
			}
			logger.Info("credential made", "of", credential.Identity, "file", out, "expires", credential.Leaf().NotAfter)
			return nil
		})
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "whose credential: server/NODE, agent/ID or user/NAME")
	f.StringVar(&dataDir, "data-dir", "", "directory of a node of the cluster")
	f.StringVar(&caCert, "ca-cert", "", "PEM file of the root; by default that in --data-dir")
	f.StringVar(&caKey, "ca-key", "", "PEM file of the key of --ca-cert")
	f.StringVar(&out, "out", "", "file to write")
	f.DurationVar(&ttl, "ttl", 90*24*time.Hour, "how long the certificate lasts")
	return cmd
}
