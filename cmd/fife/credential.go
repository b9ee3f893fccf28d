package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fifegateway/fife/controlplane/identity"
)

// credentialFlags say how the user proves who it is. Unset flags are taken from the
// environment.
type credentialFlags struct {
	cert, key, ca string
	token         string // file of a bearer token
	plaintext     bool
}

func (f *credentialFlags) add(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&f.cert, "cert", "", "`FILE` of your certificate, and of your key and the cluster's CA unless they are in files\nof their own (default $FIFE_CERT; without one nothing but loopback is talked to)")
	flags.StringVar(&f.key, "key", "", "`FILE` of the key of --cert (default $FIFE_KEY)")
	flags.StringVar(&f.ca, "ca", "", "`FILE` of the cluster's CA (default $FIFE_CA)")
	flags.StringVar(&f.token, "token-file", "", "`FILE` of a bearer token, which takes the place of --cert and needs --ca (default $FIFE_TOKEN_FILE;\n$FIFE_TOKEN is a token itself)")
	flags.BoolVar(&f.plaintext, "plaintext", false, "talk without TLS to nodes beyond loopback, which serve with --plaintext")
}

func flagOr(flag, variable string) string {
	if flag == "" {
		return os.Getenv(variable)
	}
	return flag
}

// bearer returns the token that goes with every call; empty for none.
func (f *credentialFlags) bearer(cmd *cobra.Command) (bearer, error) {
	file := flagOr(f.token, "FIFE_TOKEN_FILE")
	token := os.Getenv("FIFE_TOKEN")
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", usagef(cmd, "read token: %v", err)
		}
		token = strings.TrimSpace(string(data))
	}
	if token != "" && f.plaintext {
		return "", usagef(cmd, "a token is not sent in the clear: leave --plaintext or the token out")
	}
	return bearer(token), nil
}

// bearer is a token that says who calls.
type bearer string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (b bearer) RequireTransportSecurity() bool { return true }

// transport returns how connections to the given addresses are secured, on which a
// token goes along or not.
func (f *credentialFlags) transport(cmd *cobra.Command, addresses []string, token bearer) (credentials.TransportCredentials, error) {
	cert, key, ca := flagOr(f.cert, "FIFE_CERT"), flagOr(f.key, "FIFE_KEY"), flagOr(f.ca, "FIFE_CA")
	if f.plaintext {
		return insecure.NewCredentials(), nil
	}
	if token != "" {
		if cert != "" || ca == "" {
			return nil, usagef(cmd, "a token needs the cluster's CA, --ca, and takes the place of --cert")
		}
		data, err := os.ReadFile(ca)
		if err != nil {
			return nil, usagef(cmd, "read CA: %v", err)
		}
		roots, err := identity.ParseRoots(data)
		if err != nil {
			return nil, usagef(cmd, "read CA %s: %v", ca, err)
		}
		return credentials.NewTLS(identity.AnonymousConfig(roots)), nil
	}
	if cert == "" {
		if key != "" || ca != "" {
			return nil, usagef(cmd, "--key needs --cert, and --ca a --cert or a token")
		}
		if away := slices.IndexFunc(addresses, func(a string) bool { return !loopback(a) }); away >= 0 {
			return nil, usagef(cmd, "%s is not on this machine: say who you are with --cert, or --plaintext if it serves without TLS", addresses[away])
		}
		return insecure.NewCredentials(), nil
	}
	var files [][]byte
	for _, name := range []string{cert, key, ca} {
		if name == "" {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, usagef(cmd, "read credential: %v", err)
		}
		if !slices.ContainsFunc(files, func(f []byte) bool { return bytes.Equal(f, data) }) {
			files = append(files, data)
		}
	}
	c, err := identity.ParseCredential(files...)
	if err != nil {
		return nil, usagef(cmd, "read credential %s: %v", cert, err)
	}
	if end := c.Leaf().NotAfter; time.Now().After(end) {
		return nil, usagef(cmd, "the certificate of %s in %s has expired at %s", c.Identity, cert, end.UTC().Format(time.RFC3339))
	}
	return credentials.NewTLS(identity.ClientConfig(identity.NewHolder(c))), nil
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || (ip != nil && ip.IsLoopback()))
}

// noting are credentials that note why a handshake has failed, of which gRPC tells
// only as part of a longer text.
type noting struct {
	credentials.TransportCredentials
	note func(error)
}

// ClientHandshake implements credentials.TransportCredentials.
func (n noting) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := n.TransportCredentials.ClientHandshake(ctx, authority, conn)
	if err != nil {
		n.note(fmt.Errorf("no TLS connection: %w", innermost(err)))
	}
	return secure, info, err
}

// Clone implements credentials.TransportCredentials.
func (n noting) Clone() credentials.TransportCredentials {
	return noting{n.TransportCredentials.Clone(), n.note}
}
