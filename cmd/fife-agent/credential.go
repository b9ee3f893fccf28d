package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fifegateway/fife/agent"
	"github.com/fifegateway/fife/cmd/daemon"
	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/identity/enroll"
)

// credentialFlags say how the agent proves who it is.
type credentialFlags struct {
	file      string
	token     string
	plaintext bool
}

func (c *credentialFlags) add(f *pflag.FlagSet) {
	f.StringVar(&c.file, "credential", "", "file of this agent's key, certificate and CA (default agent.pem in --state-dir)")
	f.StringVar(&c.token, "join-token", "", "token of fife token create --role agent, for the first start; the environment hides it from other users")
	f.BoolVar(&c.plaintext, "plaintext", false, "talk to the control plane without TLS: whoever answers there decides where traffic goes")
}

// open returns the holder of the agent's credential, or nil for plaintext. An agent
// without one joins first, if it has a token.
func (c *credentialFlags) open(ctx context.Context, a agent.Config) (*identity.Holder, error) {
	if c.plaintext {
		return nil, nil
	}
	path := c.file
	if path == "" {
		path = filepath.Join(a.StateDir, "agent.pem")
	}
	holder, err := identity.OpenHolder(path)
	if errors.Is(err, fs.ErrNotExist) && c.token != "" {
		holder, err = c.join(ctx, a, path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, daemon.Usage(fmt.Errorf("there is no credential in %s: join with --join-token, name one with --credential, or say --plaintext", path))
	}
	if err != nil {
		return nil, err
	}
	if is := holder.Current().Identity; is.Class != identity.Agent || is.Name != a.ID {
		return nil, fmt.Errorf("%s is the credential of %s, not of agent/%s", path, is, a.ID)
	}
	return holder, nil
}

func (c *credentialFlags) join(ctx context.Context, a agent.Config, path string) (*identity.Holder, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make directory of the credential: %w", err)
	}
	credential, _, err := enroll.Joiner{
		Addresses: a.ControlPlane, Token: c.token, Name: string(identity.Agent) + "/" + a.ID, Logger: a.Logger,
	}.Join(ctx)
	if err != nil {
		return nil, err
	}
	a.Logger.Info("agent has joined", "as", credential.Identity, "credential", path)
	return identity.CreateHolder(path, credential)
}

// clientCredentials returns those of the connections to the control plane.
func clientCredentials(h *identity.Holder) credentials.TransportCredentials {
	if h == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(identity.ClientConfig(h))
}
