package main

import (
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/credentials"

	"github.com/fifegateway/fife/controlplane/identity"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// loginPatience is how long a person has to sign in.
const loginPatience = 5 * time.Minute

// loginFlags say where and how to sign in.
type loginFlags struct {
	issuer, clientID, issuerCA string
	device                     bool
	port                       uint16
}

func newLoginCommand(c *cli) *cobra.Command {
	var f loginFlags
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Sign in with a browser, at the issuer that the control plane believes",
		Long: `Sign in with a browser, at the OpenID Connect issuer that the control plane believes. What
the issuer gives is kept for the addresses of --server in your directory of configuration,
readable by you alone, and shown and refreshed by other commands that have no --cert and no
token. With --device another machine's browser will do.`,
		Example: `  fife login --server cp.example.com:7400 --ca root.crt
  fife login --device`,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.login(cmd, f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.issuer, "issuer", "", "https `URL` of the issuer (default what the control plane says)")
	flags.StringVar(&f.clientID, "client-id", "", "`ID` of this command at the issuer (default what the control plane says)")
	flags.StringVar(&f.issuerCA, "issuer-ca", "", "`FILE` of the CAs of the issuer's certificate (default what the control plane says, or the system's)")
	flags.BoolVar(&f.device, "device", false, "sign in with the browser of another machine")
	flags.Uint16Var(&f.port, "callback-port", 0, "port of this machine that the browser is led back to (default any)")
	return cmd
}

func (c *cli) login(cmd *cobra.Command, f loginFlags) error {
	t, err := c.target(cmd)
	if err != nil {
		return err
	}
	addresses, err := t.addresses(cmd)
	switch {
	case err != nil:
		return err
	case t.Plaintext:
		return usagef(cmd, "nodes that serve with --plaintext ask nobody who they are")
	case t.CA == "":
		return usagef(cmd, "signing in needs the cluster's CA, --ca, to know that it is the control plane that is shown what you get")
	}
	ca, err := os.ReadFile(t.CA)
	if err != nil {
		return usagef(cmd, "read CA: %v", err)
	}
	roots, err := t.roots(cmd)
	if err != nil {
		return err
	}
	secured := credentials.NewTLS(identity.AnonymousConfig(roots))
	at, err := c.settings(cmd, f, addresses, secured)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), loginPatience)
	defer cancel()
	var s *session
	if f.device {
		s, err = c.byDevice(ctx, at)
	} else {
		s, err = c.byBrowser(ctx, at, f.port)
	}
	if err != nil {
		return exitf(exitFailed, "sign in at %s: %s", at.url, clean(err.Error()))
	}
	s.Servers, s.CA = slices.Sorted(slices.Values(addresses)), string(ca)
	me, err := c.introduce(cmd, s, addresses, secured)
	if err != nil {
		return err
	}
	if err := s.write(); err != nil {
		return err
	}
	if t.Cert != "" || t.TokenFile != "" || os.Getenv("FIFE_TOKEN") != "" {
		linef(c.err, "note: your --cert or token goes before what you have signed in for")
	}
	return c.print(me, func(w io.Writer) {
		linef(w, "signed in to %s as %s", strings.Join(addresses, ","), subjects(me))
		if len(me.GetBindings()) == 0 {
			linef(w, "you have no role yet; an admin gives one: fife access grant %s viewer", clean(me.GetSubject()))
		}
	})
}

// settings returns the issuer to sign in at: what the flags leave open is asked of the
// control plane, which needs no proof for that.
func (c *cli) settings(
	cmd *cobra.Command, f loginFlags, addresses []string, secured credentials.TransportCredentials,
) (*issuer, error) {
	told := &fifev1.GetSignInSettingsResponse{Issuer: f.issuer, ClientId: f.clientID}
	if f.issuer == "" || f.clientID == "" {
		conns, err := c.connect(cmd, addresses, proof{secured: secured}, "--server")
		if err != nil {
			return nil, err
		}
		defer conns.Close()
		told, err = timed(cmd.Context(), c.timeout, conns, func(ctx context.Context, at *nodes) (*fifev1.GetSignInSettingsResponse, error) {
			return fifev1.NewSignInServiceClient(at).GetSignInSettings(ctx, &fifev1.GetSignInSettingsRequest{})
		})
		if err != nil {
			return nil, explain(err, nil)
		}
		if told.GetIssuer() == "" {
			return nil, exitf(exitFailed, "nobody can sign in there: the node that answered was started without --oidc-issuer")
		}
		if f.issuer != "" && f.issuer != told.GetIssuer() || f.clientID != "" && f.clientID != told.GetClientId() {
			return nil, exitf(exitFailed, "the control plane believes %s with client id %s; leave --issuer and --client-id out, or give both",
				clean(told.GetIssuer()), clean(told.GetClientId()))
		}
	}
	if f.issuerCA != "" {
		data, err := os.ReadFile(f.issuerCA)
		if err != nil {
			return nil, usagef(cmd, "read the CA of the issuer: %v", err)
		}
		told.IssuerCa = string(data)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
	defer cancel()
	return discover(ctx, told.GetIssuer(), told.GetClientId(), told.GetIssuerCa())
}

// introduce shows what was got to the control plane, and returns whom it is taken for:
// what it does not take is not kept.
func (c *cli) introduce(
	cmd *cobra.Command, s *session, addresses []string, secured credentials.TransportCredentials,
) (*fifev1.WhoAmIResponse, error) {
	conns, err := c.connect(cmd, addresses, proof{secured, bearer(s.IDToken)}, "--server")
	if err != nil {
		return nil, err
	}
	defer conns.Close()
	me, err := timed(cmd.Context(), c.timeout, conns, func(ctx context.Context, at *nodes) (*fifev1.WhoAmIResponse, error) {
		return fifev1.NewAccessServiceClient(at).WhoAmI(ctx, &fifev1.WhoAmIRequest{})
	})
	if err != nil {
		return nil, explain(err, nil)
	}
	return me, nil
}

// subjects returns what bindings may call somebody by.
func subjects(me *fifev1.WhoAmIResponse) string {
	all := []string{clean(me.GetSubject())}
	for _, g := range me.GetGroups() {
		all = append(all, clean("group:"+g))
	}
	return strings.Join(all, " ")
}

func newLogoutCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "logout",
		Short:   "Forget what fife login got",
		Long:    "Forget what fife login got for the addresses of --server, and have the issuer take it back.",
		Example: "  fife logout",
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := c.target(cmd)
			if err != nil {
				return err
			}
			addresses, err := t.addresses(cmd)
			if err != nil {
				return err
			}
			s, err := openSession(addresses)
			if err != nil {
				return err
			}
			if s == nil {
				linef(c.out, "you had not signed in to %s", strings.Join(addresses, ","))
				return nil
			}
			if err := s.remove(); err != nil {
				return exitf(exitFailed, "forget what you signed in for: %v", err)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), issuerTimeout)
			defer cancel()
			at, err := discover(ctx, s.Issuer, s.ClientID, s.IssuerCA)
			if err == nil {
				err = at.revoke(ctx, s.RefreshToken)
			}
			if err != nil {
				linef(c.err, "note: it is forgotten here, but %s may not know: %s", clean(s.Issuer), clean(err.Error()))
			}
			linef(c.out, "signed out of %s", strings.Join(addresses, ","))
			return nil
		},
	}
}
