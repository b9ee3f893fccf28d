package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// changeFlags are the flags that every changing command has.
type changeFlags struct {
	etag        string
	dryRun      bool
	wait        waitFlag
	waitTimeout time.Duration
	// requestID is chosen by change before it makes the call.
	requestID string
}

func addChangeFlags(cmd *cobra.Command) *changeFlags {
	f := &changeFlags{}
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would happen and change nothing")
	cmd.Flags().VarP(&f.wait, "wait", "w", "wait until every connected agent has the change, or this share of them (--wait=99%)")
	cmd.Flags().Lookup("wait").NoOptDefVal = "100%"
	cmd.Flags().DurationVar(&f.waitTimeout, "wait-timeout", time.Minute, "how long --wait may wait for agents, once the change is made;\nthe change itself is bounded by --timeout")
	return f
}

// addEtagFlag is for changes of something that is there.
func (f *changeFlags) addEtagFlag(cmd *cobra.Command, what string) {
	cmd.Flags().StringVar(&f.etag, "etag", "", "refuse unless this is the "+what+"'s current `ETAG`")
}

func (f *changeFlags) check(cmd *cobra.Command) error {
	switch {
	case f.wait > 0 && f.dryRun:
		return usagef(cmd, "--wait has nothing to wait for with --dry-run; give one of them")
	case f.wait == 0 && cmd.Flags().Changed("wait-timeout"):
		return usagef(cmd, "--wait-timeout goes with --wait")
	case f.waitTimeout <= 0:
		return usagef(cmd, "--wait-timeout %s is not positive; the default is 1m", f.waitTimeout)
	}
	return nil
}

// say writes what was done and the version that holds it, or with --dry-run what
// would be done.
func (f *changeFlags) say(w io.Writer, response changed, what, done string) {
	if f.dryRun {
		linef(w, "dry run: %s would be %s", what, done)
		return
	}
	linef(w, "%s %s, version %s", what, done, versionText(response.GetVersion()))
}

// identify chooses the request id. A dry run has none: it does nothing that
// could be done twice, and the same id is then free for the change itself.
func (f *changeFlags) identify(c *cli, cmd *cobra.Command) error {
	given := cmd.Flags().Changed("request-id")
	if n := len(c.requestID); given && (n == 0 || n > 64 || strings.Trim(c.requestID, printable) != "") {
		return usagef(cmd, "--request-id %q is not 1 to 64 printable ASCII characters", c.requestID)
	}
	switch {
	case f.dryRun:
		f.requestID = ""
	case given:
		f.requestID = c.requestID
	default:
		f.requestID = newUUID()
	}
	return nil
}

// changed is the response of a changing method. Some also have warnings and a
// preview.
type changed interface {
	proto.Message
	GetVersion() *fifev1.Version
}

// change makes one changing call, prints its response and, with --wait, waits
// for the agents. call takes etag, request id and dry run from f.
func change[R changed](c *cli, cmd *cobra.Command, f *changeFlags, call func(context.Context, *nodes) (R, error), table func(io.Writer, R)) error {
	return changeThen(c, cmd, f, call, func(at *nodes, response R) error { return show(c, cmd, f, at, response, table) })
}

// changeThen makes one changing call, writes its warnings and hands its response
// on, together with the connections that it came by.
func changeThen[R changed](c *cli, cmd *cobra.Command, f *changeFlags, call func(context.Context, *nodes) (R, error), then func(*nodes, R) error) error {
	if err := f.check(cmd); err != nil {
		return err
	}
	if err := f.identify(c, cmd); err != nil {
		return err
	}
	at, err := c.dial(cmd)
	if err != nil {
		return err
	}
	defer at.Close()

	response, err := timed(cmd.Context(), c.timeout, at, call)
	if err != nil {
		return explain(err, f)
	}
	c.warn(response)
	return then(at, response)
}

// show prints the response of a change and, with --wait, waits for the agents.
func show[R changed](c *cli, cmd *cobra.Command, f *changeFlags, at *nodes, response R, table func(io.Writer, R)) error {
	if err := c.print(response, func(w io.Writer) {
		table(w, response)
		if previewed, ok := any(response).(interface{ GetPreview() *fifev1.StagePreview }); ok && f.dryRun {
			writePreview(w, previewed.GetPreview())
		}
	}); err != nil {
		return err
	}
	if f.wait == 0 {
		return nil
	}
	return c.waitForVersion(cmd.Context(), at, response.GetVersion(), f.wait, f.waitTimeout)
}

// read makes calls that change nothing and prints what they return.
func read[R any](c *cli, cmd *cobra.Command, call func(context.Context, *nodes) (R, error), table func(io.Writer, R)) error {
	response, err := fetch(c, cmd, call)
	if err != nil {
		return err
	}
	return c.print(response, func(w io.Writer) { table(w, response) })
}

// fetch makes calls that change nothing.
func fetch[R any](c *cli, cmd *cobra.Command, call func(context.Context, *nodes) (R, error)) (none R, _ error) {
	at, err := c.dial(cmd)
	if err != nil {
		return none, err
	}
	defer at.Close()
	response, err := timed(cmd.Context(), c.timeout, at, call)
	if err != nil {
		return none, explain(err, nil)
	}
	return response, nil
}

func timed[R any](ctx context.Context, timeout time.Duration, at *nodes, call func(context.Context, *nodes) (R, error)) (R, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return call(ctx, at)
}

// pageSize is the largest page that the control plane gives.
const pageSize = 1000

// page is one answer of a listing method.
type page interface {
	proto.Message
	GetNextPageToken() string
}

// allPages fetches pages until the last and returns them merged into one.
func allPages[P page](fetch func(token string) (P, error)) (P, error) {
	all, err := fetch("")
	if err != nil {
		return all, err
	}
	for token := all.GetNextPageToken(); token != ""; {
		next, err := fetch(token)
		if err != nil {
			return all, err
		}
		token = next.GetNextPageToken()
		proto.Merge(all, next)
	}
	merged := all.ProtoReflect()
	merged.Clear(merged.Descriptor().Fields().ByName("next_page_token"))
	return all, nil
}

// warn writes the warnings of a response, if its method has any.
func (c *cli) warn(response any) {
	if warned, ok := response.(interface{ GetWarnings() []string }); ok {
		for _, warning := range warned.GetWarnings() {
			linef(c.err, "warning: %s", clean(warning))
		}
	}
}

// maxNamed is how many routes of each kind a preview names at most.
const maxNamed = 100

func writePreview(w io.Writer, p *fifev1.StagePreview) {
	if p == nil {
		return
	}
	linef(w, "%s of requests would be answered by another deployment than now", percentText(p.GetMovedPercent()))
	for _, group := range []struct {
		sign, what string
		routes     []string
	}{
		{"+", "gain", p.GetRoutesAdded()},
		{"-", "lose", p.GetRoutesRemoved()},
		{"~", "change", p.GetRoutesChanged()},
	} {
		for _, route := range group.routes {
			linef(w, "%s %s", group.sign, clean(route))
		}
		if len(group.routes) >= maxNamed {
			linef(w, "%s (the base may %s more; %d are named)", group.sign, group.what, maxNamed)
		}
	}
}

// newUUID returns a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, says its documentation
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
