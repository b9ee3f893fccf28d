package main

import (
	"context"
	"encoding/pem"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newCACommand(c *cli) *cobra.Command {
	return newGroup("ca", "The cluster's certificate authority and key, and their rotation",
		newCAStatusCommand(c), newCAExportCommand(c), newCARotateCommand(c), newCASwitchCommand(c), newCARetireCommand(c),
		newCAAbortCommand(c), newCARotateKeyCommand(c))
}

// settleFlags are those of commands after which others have something to do.
type settleFlags struct {
	wait    bool
	timeout time.Duration
}

func addSettleFlags(cmd *cobra.Command, what string) *settleFlags {
	f := &settleFlags{}
	cmd.Flags().BoolVarP(&f.wait, "wait", "w", false, "wait until "+what)
	cmd.Flags().DurationVar(&f.timeout, "wait-timeout", 5*time.Minute, "how long --wait may take")
	return f
}

func (f *settleFlags) check(cmd *cobra.Command) error {
	if f.timeout <= 0 {
		return usagef(cmd, "--wait-timeout %s is not positive; the default is 5m", f.timeout)
	}
	return nil
}

// settlePause is the time between two looks at who has something left to do.
const settlePause = time.Second

// settle waits, if that was asked for, until nothing is wanting, and says meanwhile what
// is. missing returns that as a text; empty for nothing.
func (f *settleFlags) settle(c *cli, cmd *cobra.Command, missing func(*fifev1.Authority) string) error {
	if !f.wait {
		return nil
	}
	at, err := c.dial(cmd)
	if err != nil {
		return err
	}
	defer at.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	last := ""
	for {
		resp, err := timed(ctx, c.timeout, at, func(ctx context.Context, at *nodes) (*fifev1.GetAuthorityResponse, error) {
			return fifev1.NewAuthorityServiceClient(at).GetAuthority(ctx, &fifev1.GetAuthorityRequest{})
		})
		if err != nil && !passing(err) && ctx.Err() == nil {
			return explain(err, nil)
		}
		text := "the control plane does not answer; trying again"
		if err == nil {
			text = missing(resp.GetAuthority())
		}
		if text == "" {
			return nil
		}
		if text != last {
			last = text
			linef(c.err, "%s", clean(text))
		}
		select {
		case <-time.After(settlePause):
		case <-ctx.Done():
			if cmd.Context().Err() != nil {
				return exitf(exitFailed, "interrupted; the step is made, go on with: fife ca status --wait")
			}
			return exitf(exitWaitTimeout, "not within %s: %s\nthe step is made; go on with: fife ca status --wait", f.timeout, clean(text))
		}
	}
}

// shownHolders keeps a line of names short.
const shownHolders = 5

// unsettled says who keeps the rotation from its next step.
func unsettled(a *fifev1.Authority) string {
	switch {
	case a.GetPhase() == fifev1.RotationPhase_ROTATION_PHASE_RETIRE && len(a.GetPending()) == 0:
		return "the old root is being dropped"
	case len(a.GetPending()) == 0:
		return ""
	}
	var names []string
	for _, h := range a.GetPending()[:min(shownHolders, len(a.GetPending()))] {
		names = append(names, h.GetName()+" ("+h.GetWants()+")")
	}
	text := strconv.Itoa(len(a.GetPending())) + " not ready: " + strings.Join(names, ", ")
	if len(a.GetPending()) > len(names) {
		text += ", ..."
	}
	return text
}

// keyless says which nodes keep the rotation of the key from its end.
func keyless(a *fifev1.Authority) string {
	switch {
	case len(a.GetKeyPending()) > 0:
		return "the key is not yet settled on: " + strings.Join(a.GetKeyPending(), ", ")
	case a.GetNextKey() != "":
		return "what the old key has sealed is sealed anew"
	}
	return ""
}

func newCAStatusCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show whom the cluster trusts, and how far a rotation has come",
		Long: `Show the roots that the cluster trusts, how far a rotation of the root or of the cluster key
has come, and who keeps it from the next step.`,
		Example: `  fife ca status
  fife ca status --wait`,
	}
	settle := addSettleFlags(cmd, "the next step can be made, or the rotation has ended")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := settle.check(cmd); err != nil {
			return err
		}
		err := settle.settle(c, cmd, func(a *fifev1.Authority) string {
			if text := unsettled(a); text != "" {
				return text
			}
			return keyless(a)
		})
		if err != nil {
			return err
		}
		return read(c, cmd, getAuthority, writeAuthority)
	}
	return cmd
}

func getAuthority(ctx context.Context, at *nodes) (*fifev1.GetAuthorityResponse, error) {
	return fifev1.NewAuthorityServiceClient(at).GetAuthority(ctx, &fifev1.GetAuthorityRequest{})
}

func writeAuthority(w io.Writer, r *fifev1.GetAuthorityResponse) {
	a := r.GetAuthority()
	row(w, "ROOT", "EXPIRES", "")
	for _, root := range a.GetRoots() {
		what := ""
		if root.GetNext() {
			what = "new"
		} else if a.GetPhase() != fifev1.RotationPhase_ROTATION_PHASE_UNSPECIFIED {
			what = "old"
		}
		fingerprint := root.GetFingerprint()
		row(w, fingerprint[:min(16, len(fingerprint))], timeText(root.GetExpireTime()), what)
	}
	linef(w, "")
	linef(w, "cluster key %s", clean(a.GetKey()))
	if text := keyless(a); text != "" {
		linef(w, "  %s", clean(text))
	}
	next := map[fifev1.RotationPhase]string{
		fifev1.RotationPhase_ROTATION_PHASE_TRUST:  "trust: all are to trust the new root; then: fife ca switch",
		fifev1.RotationPhase_ROTATION_PHASE_SWITCH: "switch: agents and users get certificates by the new root; then: fife ca retire",
		fifev1.RotationPhase_ROTATION_PHASE_RETIRE: "retire: servers get certificates by the new root; then the old one is dropped",
	}[a.GetPhase()]
	if next == "" {
		linef(w, "no rotation of the root is under way")
		return
	}
	linef(w, "rotation since %s, at %s", timeText(a.GetStartTime()), next)
	if n := a.GetJoinTokens(); n > 0 {
		linef(w, "join tokens that end with fife ca retire: %d", n)
	}
	linef(w, "not ready: %d of %d seen", len(a.GetPending()), a.GetHolders())
	writeHolders(w, a.GetPending())
	if len(a.GetUnknown()) > 0 {
		linef(w, "not known to be ready, and not waited for: %d", len(a.GetUnknown()))
		writeHolders(w, a.GetUnknown())
	}
}

func writeHolders(w io.Writer, holders []*fifev1.Holder) {
	for _, h := range holders {
		linef(w, "  %s: %s", clean(h.GetName()), clean(h.GetWants()))
	}
}

func newCAExportCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "export",
		Short: "Print the roots that the cluster trusts, in PEM",
		Long: `Print the certificates of the roots that the cluster trusts, in PEM: the file for --ca of
those who call with a bearer token.`,
		Example: "  fife ca export",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return read(c, cmd, getAuthority, func(w io.Writer, r *fifev1.GetAuthorityResponse) {
				for _, root := range r.GetAuthority().GetRoots() {
					_ = pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: root.GetCertificate()}) // w keeps all in memory
				}
			})
		},
	}
}

// caStep makes one step of a rotation, says what was done, and waits.
func caStep[R any](c *cli, cmd *cobra.Command, f *settleFlags, missing func(*fifev1.Authority) string,
	call func(context.Context, *nodes) (R, error), table func(io.Writer, R),
) error {
	if err := f.check(cmd); err != nil {
		return err
	}
	if err := read(c, cmd, call, table); err != nil {
		return err
	}
	return f.settle(c, cmd, missing)
}

func newCASwitchCommand(c *cli) *cobra.Command {
	req := &fifev1.SwitchRotationRequest{RequestId: newUUID()}
	cmd := &cobra.Command{
		Use:   "switch",
		Short: "Issue certificates of agents and users by the new root",
		Long: `Issue certificates of agents and users by the new root. Agents renew theirs by themselves, one
after the other; users with: fife certificate renew. It is refused while a node or a connected
agent does not trust the new root; who is meant is named.`,
		Example: "  fife ca switch --wait",
	}
	settle := addSettleFlags(cmd, "nobody seen has a certificate by the old root")
	cmd.Flags().BoolVar(&req.Force, "force", false, "leave those behind who are named")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return caStep(c, cmd, settle, unsettled, func(ctx context.Context, at *nodes) (*fifev1.SwitchRotationResponse, error) {
			return fifev1.NewAuthorityServiceClient(at).SwitchRotation(ctx, req)
		}, func(w io.Writer, _ *fifev1.SwitchRotationResponse) {
			linef(w, "certificates of agents and users are by the new root from now on")
		})
	}
	return cmd
}

func newCARetireCommand(c *cli) *cobra.Command {
	req := &fifev1.RetireRootRequest{RequestId: newUUID()}
	cmd := &cobra.Command{
		Use:   "retire",
		Short: "Have servers use the new root, and drop the old one",
		Long: `Have servers get certificates by the new root, and then drop the old one: its certificates are
refused, and so are the join tokens made before. It is refused while somebody is known who
could not connect then; who is meant is named. Who is left behind with --force needs a
credential made anew: see docs/security.md.`,
		Example: "  fife ca retire --wait",
	}
	settle := addSettleFlags(cmd, "the old root is dropped")
	cmd.Flags().BoolVar(&req.Force, "force", false, "leave those behind who are named; repeated, do not wait for servers either")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return caStep(c, cmd, settle, unsettled, func(ctx context.Context, at *nodes) (*fifev1.RetireRootResponse, error) {
			return fifev1.NewAuthorityServiceClient(at).RetireRoot(ctx, req)
		}, func(w io.Writer, _ *fifev1.RetireRootResponse) {
			linef(w, "the old root is dropped as soon as all servers have certificates by the new one")
		})
	}
	return cmd
}

func newCAAbortCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "abort",
		Short:   "Drop the new root, before switch",
		Example: "  fife ca abort",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.AbortRotationResponse, error) {
				return fifev1.NewAuthorityServiceClient(at).AbortRotation(ctx, &fifev1.AbortRotationRequest{RequestId: newUUID()})
			}, func(w io.Writer, _ *fifev1.AbortRotationResponse) { linef(w, "the new root is dropped") })
		},
	}
}

func newCARotateKeyCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate-key",
		Short: "Have the servers share another key",
		Long: `Have the servers share another key, which seals what only they may read. It travels over their
own connections; once all of them have it, what the old one has sealed is sealed anew, and
the old one is forgotten.`,
		Example: "  fife ca rotate-key --wait",
	}
	settle := addSettleFlags(cmd, "the old key is forgotten")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return caStep(c, cmd, settle, keyless, func(ctx context.Context, at *nodes) (*fifev1.RotateClusterKeyResponse, error) {
			return fifev1.NewAuthorityServiceClient(at).RotateClusterKey(ctx, &fifev1.RotateClusterKeyRequest{RequestId: newUUID()})
		}, func(w io.Writer, r *fifev1.RotateClusterKeyResponse) {
			linef(w, "cluster key %s takes over once all nodes have it", clean(r.GetKey()))
		})
	}
	return cmd
}
