package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/fifegateway/fife/controlplane/identity"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// The files of a root that fife ca rotate makes.
const (
	rootCertFile = "root.crt"
	rootKeyFile  = "root.key"
)

func newCARotateCommand(c *cli) *cobra.Command {
	var out, caCert, caKey string
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Trust a new root beside the old one: the first of three steps",
		Long: `Begin to replace the root of the cluster's certificates: everybody trusts a new one beside the
old one. The steps that follow are fife ca switch and fife ca retire; fife ca status says
when, and until switch fife ca abort takes it back.

The root is made in --out, or is there from an earlier attempt, or is given with --ca-cert
and --ca-key. Its key stays on this machine: the servers make the keys of the authorities
below it, and it signs them here. Move it to a safe afterwards.`,
		Example: "  fife ca rotate --out ./ca-2027 --wait",
	}
	settle := addSettleFlags(cmd, "all nodes and connected agents trust it")
	cmd.Flags().StringVar(&out, "out", "", "`DIRECTORY` in which a root is made: root.crt and root.key")
	cmd.Flags().StringVar(&caCert, "ca-cert", "", "PEM `FILE` of a root that is there")
	cmd.Flags().StringVar(&caKey, "ca-key", "", "PEM `FILE` of the key of --ca-cert")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if (out == "") == (caCert == "") || (caCert == "") != (caKey == "") {
			return usagef(cmd, "say where the root is to be made with --out, or give one with --ca-cert and --ca-key")
		}
		return caStep(c, cmd, settle, unsettled, func(ctx context.Context, at *nodes) (*fifev1.StartRotationResponse, error) {
			client := fifev1.NewAuthorityServiceClient(at)
			prepared, err := client.PrepareRotation(ctx, &fifev1.PrepareRotationRequest{})
			if err != nil {
				return nil, err
			}
			root, err := newRoot(prepared.GetCluster(), out, caCert, caKey)
			if err != nil {
				return nil, err
			}
			req, err := signIssuers(root, prepared)
			if err != nil {
				return nil, err
			}
			return client.StartRotation(ctx, req)
		}, func(w io.Writer, _ *fifev1.StartRotationResponse) {
			linef(w, "the new root is trusted beside the old one")
			if out != "" {
				linef(w, "move its key to a safe: %s", filepath.Join(out, rootKeyFile))
			}
		})
	}
	return cmd
}

// newRoot returns the root to rotate to. One that is made is on disk before anybody
// trusts it.
func newRoot(cluster, out, caCert, caKey string) (identity.Authority, error) {
	if out != "" {
		caCert, caKey = filepath.Join(out, rootCertFile), filepath.Join(out, rootKeyFile)
		if _, err := os.Stat(caCert); errors.Is(err, fs.ErrNotExist) {
			if err := makeRoot(cluster, out); err != nil {
				return identity.Authority{}, fmt.Errorf("make a root: %w", err)
			}
		}
	}
	cert, err := os.ReadFile(caCert)
	if err != nil {
		return identity.Authority{}, fmt.Errorf("read root: %w", err)
	}
	key, err := os.ReadFile(caKey)
	if err != nil {
		return identity.Authority{}, fmt.Errorf("read key of the root: %w", err)
	}
	root, err := identity.ParseAuthority(cert, key)
	if err != nil {
		return root, fmt.Errorf("read root %s and %s: %w", caCert, caKey, err)
	}
	return root, nil
}

// makeRoot writes a new root, the certificate last.
func makeRoot(cluster, out string) error {
	root, err := identity.NewRoot(cluster)
	if err != nil {
		return err
	}
	cert, key, err := root.PEM()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return err
	}
	if err := identity.WriteSecret(filepath.Join(out, rootKeyFile), key); err != nil {
		return err
	}
	return identity.WriteSecret(filepath.Join(out, rootCertFile), cert)
}

// signIssuers makes the certificates of the authorities whose keys the servers have
// made.
func signIssuers(root identity.Authority, prepared *fifev1.PrepareRotationResponse) (*fifev1.StartRotationRequest, error) {
	req := &fifev1.StartRotationRequest{Root: root.Certificate.Raw, Keys: prepared.GetKeys(), RequestId: newUUID()}
	for _, key := range req.GetKeys() {
		public, err := identity.RequestedKey(key.GetCsr())
		if err != nil {
			return nil, err
		}
		cert, err := root.CertifyIntermediate(prepared.GetCluster(), identity.Class(key.GetClass()), public)
		if err != nil {
			return nil, err
		}
		key.Certificate = cert.Raw
	}
	return req, nil
}
