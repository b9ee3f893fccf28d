package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// target is a control plane, and what the user shows there: what the global flags say.
// Its paths are absolute in a context.
type target struct {
	Server    string `yaml:"server,omitempty" json:"server"`
	CA        string `yaml:"ca,omitempty" json:"ca,omitempty"`
	Cert      string `yaml:"cert,omitempty" json:"cert,omitempty"`
	Key       string `yaml:"key,omitempty" json:"key,omitempty"`
	TokenFile string `yaml:"token-file,omitempty" json:"tokenFile,omitempty"`
	Plaintext bool   `yaml:"plaintext,omitempty" json:"plaintext,omitempty"`

	from string // what has named the server, for errors
}

// contexts are the targets that a user has given names.
type contexts struct {
	Current  string            `yaml:"current,omitempty" json:"current"`
	Contexts map[string]target `yaml:"contexts" json:"contexts"`
}

// configDir returns the directory of what the CLI keeps for the user.
func configDir() (string, error) {
	if dir := os.Getenv("FIFE_CONFIG_DIR"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the directory of your configuration: %w; name one with FIFE_CONFIG_DIR", err)
	}
	return filepath.Join(dir, "fife"), nil
}

const contextsFile = "contexts.yaml"

// readContexts returns the user's contexts; without a file there are none.
func readContexts() (contexts, error) {
	all := contexts{Contexts: map[string]target{}}
	dir, err := configDir()
	if err != nil {
		return all, nil //nolint:nilerr // who has no directory has no contexts in it
	}
	path := filepath.Join(dir, contextsFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err == nil {
		err = yaml.Unmarshal(data, &all)
	}
	if err != nil {
		return all, exitf(exitUsage, "read your contexts in %s: %v", path, err)
	}
	if all.Contexts == nil {
		all.Contexts = map[string]target{}
	}
	return all, nil
}

func (all contexts) write() error {
	data, err := yaml.Marshal(all)
	if err != nil {
		return err
	}
	return keep(contextsFile, data)
}

// keep writes a file of the user's, which nobody else can read.
func keep(name string, data []byte) error {
	dir, err := configDir()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".fife-*") // of mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name()) // the first error says more
	}
	return err
}

// target returns whom to call and what to show. Flags win over the environment, which
// wins over a context. The current context counts if no server is named: what one
// control plane is shown is no other's business.
func (c *cli) target(cmd *cobra.Command) (target, error) {
	t := target{
		Server: c.server, CA: flagOr(c.credential.ca, "FIFE_CA"), Cert: flagOr(c.credential.cert, "FIFE_CERT"),
		Key: flagOr(c.credential.key, "FIFE_KEY"), TokenFile: flagOr(c.credential.token, "FIFE_TOKEN_FILE"),
		Plaintext: c.credential.plaintext, from: "--server",
	}
	if t.Server == "" {
		t.Server, t.from = os.Getenv("FIFE_SERVER"), "FIFE_SERVER"
	}
	name := flagOr(c.context, "FIFE_CONTEXT")
	if name != "" || t.Server == "" {
		all, err := readContexts()
		if err != nil {
			return t, err
		}
		if name == "" {
			name = all.Current
		}
		kept, ok := all.Contexts[name]
		if name != "" && !ok {
			return t, usagef(cmd, "there is no context %q; see: fife context list", name)
		}
		if ok {
			t.fill(kept, name)
		}
	}
	if t.Server == "" {
		t.Server = defaultServer
	}
	if c.timeout <= 0 {
		return t, usagef(cmd, "--timeout %s is not positive; the default is 30s", c.timeout)
	}
	return t, nil
}

// fill takes what is not said from a context. What is shown comes from one place.
func (t *target) fill(kept target, name string) {
	if t.Server == "" {
		t.Server, t.from = kept.Server, "context "+name
	}
	if t.Cert == "" && t.TokenFile == "" && os.Getenv("FIFE_TOKEN") == "" && !t.Plaintext {
		t.Cert, t.Key, t.TokenFile, t.Plaintext = kept.Cert, kept.Key, kept.TokenFile, kept.Plaintext
	}
	if t.CA == "" {
		t.CA = kept.CA
	}
}

func newContextCommand(c *cli) *cobra.Command {
	return newGroup("context", "Names for control planes and what you show there",
		newContextListCommand(c), newContextSetCommand(c), newContextUseCommand(c), newContextDeleteCommand(c))
}

func newContextListCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List your contexts",
		Example: "  fife context list",
		RunE: func(*cobra.Command, []string) error {
			all, err := readContexts()
			if err != nil {
				return err
			}
			return c.print(all, func(w io.Writer) {
				if len(all.Contexts) == 0 {
					linef(w, "there are no contexts; make one with: fife context set NAME --server HOST:PORT --ca FILE")
					return
				}
				row(w, "", "CONTEXT", "SERVER", "CA", "SHOWS")
				for _, name := range slices.Sorted(maps.Keys(all.Contexts)) {
					t, mark := all.Contexts[name], " "
					if name == all.Current {
						mark = "*"
					}
					row(w, mark, name, t.Server, t.CA, t.shows())
				}
			})
		},
	}
}

// shows says what a target is shown.
func (t target) shows() string {
	switch {
	case t.Plaintext:
		return "nothing, in the clear"
	case t.Cert != "":
		return t.Cert
	case t.TokenFile != "":
		return t.TokenFile
	}
	return "what fife login got"
}

var contextName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

func newContextSetCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "set NAME",
		Short: "Keep this command's --server, --ca, --cert and so on under a name",
		Long: `Keep this command's --server, --ca, --cert, --key, --token-file and --plaintext under a
name, in the place of what was there. The first context becomes the current one. No
secret is kept, but where it is.`,
		Example: "  fife context set prod --server 127.0.0.1:7400 --ca root.crt",
		RunE: func(cmd *cobra.Command, args []string) error {
			f := c.credential
			t := target{Server: c.server, CA: f.ca, Cert: f.cert, Key: f.key, TokenFile: f.token, Plaintext: f.plaintext}
			if !contextName.MatchString(args[0]) {
				return usagef(cmd, "%q must be letters, digits, and . _ - inside, 63 at most", args[0])
			}
			if _, err := t.addresses(cmd); t.Server == "" || err != nil {
				return errors.Join(err, usagef(cmd, "--server is required"))
			}
			for _, path := range []*string{&t.CA, &t.Cert, &t.Key, &t.TokenFile} {
				if *path == "" {
					continue
				}
				var err error
				if *path, err = filepath.Abs(*path); err != nil {
					return err
				}
			}
			return c.changeContexts(func(all *contexts) error {
				all.Contexts[args[0]] = t
				if all.Current == "" {
					all.Current = args[0]
				}
				return nil
			}, "context "+args[0]+" set")
		},
	}
}

func newContextUseCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "use NAME",
		Short:   "Make a context the current one",
		Long:    "Make a context the one that counts where no --context, --server or FIFE_SERVER is given.",
		Example: "  fife context use prod",
		RunE: func(_ *cobra.Command, args []string) error {
			return c.changeContexts(func(all *contexts) error {
				if _, ok := all.Contexts[args[0]]; !ok {
					return exitf(exitFailed, "there is no context %q; see: fife context list", args[0])
				}
				all.Current = args[0]
				return nil
			}, "context "+args[0]+" is current")
		},
	}
}

func newContextDeleteCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME",
		Short:   "Forget a context",
		Example: "  fife context delete old",
		RunE: func(_ *cobra.Command, args []string) error {
			return c.changeContexts(func(all *contexts) error {
				if _, ok := all.Contexts[args[0]]; !ok {
					return exitf(exitFailed, "there is no context %q; see: fife context list", args[0])
				}
				delete(all.Contexts, args[0])
				if all.Current == args[0] {
					all.Current = ""
				}
				return nil
			}, "context "+args[0]+" deleted")
		},
	}
}

func (c *cli) changeContexts(change func(*contexts) error, done string) error {
	all, err := readContexts()
	if err != nil {
		return err
	}
	if err := change(&all); err != nil {
		return err
	}
	if err := all.write(); err != nil {
		return exitf(exitFailed, "keep your contexts: %v", err)
	}
	linef(c.out, "%s", done)
	return nil
}
