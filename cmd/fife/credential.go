package main

import (
	"bytes"
	"context"
	"crypto/x509"
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
// environment, and then from a context: see target.
type credentialFlags struct {
	cert, key, ca string
	token         string // file of a bearer token
	plaintext     bool
}

func (f *credentialFlags) add(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&f.cert, "cert", "", "`FILE` of your certificate, and of your key and the cluster's CA unless they are in files\nof their own (default $FIFE_CERT; without one, and without fife login, nothing but loopback is talked to)")
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

// proof is how connections are secured, and what goes with every call; bearer is nil
// for nothing.
type proof struct {
	secured credentials.TransportCredentials
	bearer  credentials.PerRPCCredentials
}

// proof returns how the user proves who it is: by a token, a certificate, what it has
// signed in for, or not at all.
func (t target) proof(ctx context.Context, cmd *cobra.Command, addresses []string) (proof, error) {
	token, err := t.token(cmd)
	switch {
	case err != nil:
		return proof{}, err
	case t.Plaintext:
		return proof{secured: insecure.NewCredentials()}, nil
	case token != "":
		if t.Cert != "" || t.CA == "" {
			return proof{}, usagef(cmd, "a token needs the cluster's CA, --ca, and takes the place of --cert")
		}
		roots, err := t.roots(cmd)
		return proof{credentials.NewTLS(identity.AnonymousConfig(roots)), bearer(token)}, err
	case t.Cert != "":
		secured, err := t.certificate(cmd)
		return proof{secured: secured}, err
	}
	s, err := openSession(addresses)
	if err != nil {
		return proof{}, err
	}
	if s != nil {
		return t.signedIn(ctx, cmd, s)
	}
	switch {
	case t.Key != "":
		return proof{}, usagef(cmd, "--key needs --cert")
	case t.CA != "":
		return proof{}, usagef(cmd, "who you are is not known to %s: sign in with fife login, or show a --cert or a token", strings.Join(addresses, ","))
	}
	if away := slices.IndexFunc(addresses, func(a string) bool { return !loopback(a) }); away >= 0 {
		return proof{}, usagef(cmd, "%s is not on this machine: say who you are with --cert or fife login, or --plaintext if it serves without TLS", addresses[away])
	}
	return proof{secured: insecure.NewCredentials()}, nil
}

// token returns a bearer token of Fife's own; empty for none.
func (t target) token(cmd *cobra.Command) (string, error) {
	token := os.Getenv("FIFE_TOKEN")
	if t.TokenFile != "" {
		data, err := os.ReadFile(t.TokenFile)
		if err != nil {
			return "", usagef(cmd, "read token: %v", err)
		}
		token = strings.TrimSpace(string(data))
	}
	if token != "" && t.Plaintext {
		return "", usagef(cmd, "a token is not sent in the clear: leave --plaintext or the token out")
	}
	return token, nil
}

// roots returns the cluster's CA.
func (t target) roots(cmd *cobra.Command) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, usagef(cmd, "read CA: %v", err)
	}
	roots, err := identity.ParseRoots(data)
	if err != nil {
		return nil, usagef(cmd, "read CA %s: %v", t.CA, err)
	}
	return roots, nil
}

// certificate returns connections that show the user's certificate.
func (t target) certificate(cmd *cobra.Command) (credentials.TransportCredentials, error) {
	holder, err := t.holder(cmd)
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(identity.ClientConfig(holder)), nil
}

// holder returns the holder of the user's certificate.
func (t target) holder(cmd *cobra.Command) (*identity.Holder, error) {
	var files [][]byte
	for _, name := range []string{t.Cert, t.Key, t.CA} {
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
		return nil, usagef(cmd, "read credential %s: %v", t.Cert, err)
	}
	if end := c.Leaf().NotAfter; time.Now().After(end) {
		return nil, usagef(cmd, "the certificate of %s in %s has expired at %s", c.Identity, t.Cert, end.UTC().Format(time.RFC3339))
	}
	return identity.NewHolder(c), nil
}

// bearer is a token that says who calls.
type bearer string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (b bearer) RequireTransportSecurity() bool { return true }

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
