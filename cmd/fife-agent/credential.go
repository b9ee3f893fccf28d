package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fifegateway/fife/controlplane/identity"
)

// credentialFlags say how the agent proves who it is.
type credentialFlags struct {
	file      string
	plaintext bool
}

func (c *credentialFlags) add(f *pflag.FlagSet) {
	f.StringVar(&c.file, "credential", "", "file of this agent's key, certificate and CA (default agent.pem in --state-dir)")
	f.BoolVar(&c.plaintext, "plaintext", false, "talk to the control plane without TLS: whoever answers there decides where traffic goes")
}

// open returns the holder of the agent's credential, or nil for plaintext.
func (c *credentialFlags) open(id, stateDir string) (*identity.Holder, error) {
	if c.plaintext {
		return nil, nil
	}
	path := c.file
	if path == "" {
		path = filepath.Join(stateDir, "agent.pem")
	}
	holder, err := identity.OpenHolder(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no credential in %s: name one with --credential, or say --plaintext", path)
	}
	if err != nil {
		return nil, err
	}
	if is := holder.Current().Identity; is.Class != identity.Agent || is.Name != id {
		return nil, fmt.Errorf("%s is the credential of %s, not of agent/%s", path, is, id)
	}
	return holder, nil
}

// clientCredentials returns those of the connections to the control plane.
func clientCredentials(h *identity.Holder) credentials.TransportCredentials {
	if h == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(identity.ClientConfig(h))
}
