package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newAuditCommand(c *cli) *cobra.Command {
	return newGroup("audit", "Show who changed what, and who tried to",
		newAuditListCommand(c), newAuditVerifyCommand(c), newAuditExportCommand(c))
}

// auditFlags say which entries are wanted.
type auditFlags struct{ since, until, actor, resource string }

func addAuditFlags(cmd *cobra.Command) *auditFlags {
	f := &auditFlags{}
	cmd.Flags().StringVar(&f.since, "since", "", "only entries from this `TIME` on: RFC 3339, or how long ago, such as 24h")
	cmd.Flags().StringVar(&f.until, "until", "", "only entries before this `TIME`")
	cmd.Flags().StringVar(&f.actor, "actor", "", "only entries of this `CALLER`")
	cmd.Flags().StringVar(&f.resource, "resource", "", "only entries about this resource `NAME` and those under it")
	return f
}

// request returns the request for the first page.
func (f *auditFlags) request(cmd *cobra.Command) (*fifev1.ListAuditEntriesRequest, error) {
	req := &fifev1.ListAuditEntriesRequest{PageSize: pageSize, Actor: f.actor, Resource: f.resource}
	var err error
	if req.StartTime, err = moment(cmd, "since", f.since); err != nil {
		return nil, err
	}
	if req.EndTime, err = moment(cmd, "until", f.until); err != nil {
		return nil, err
	}
	return req, nil
}

func moment(cmd *cobra.Command, flag, text string) (*timestamppb.Timestamp, error) {
	if text == "" {
		return nil, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return timestamppb.New(time.Now().Add(-ago)), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, usagef(cmd, "--%s %q must be a time such as 2026-11-23T15:00:00Z, or how long ago, such as 24h", flag, text)
	}
	return timestamppb.New(t), nil
}

func newAuditListCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the calls that changed something, or were refused",
		Example: `  fife audit list --since 24h
  fife audit list --resource apis/demo/stages/prod
  fife audit list --actor spiffe://CLUSTER/user/alice`,
	}
	f := addAuditFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		req, err := f.request(cmd)
		if err != nil {
			return err
		}
		return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.ListAuditEntriesResponse, error) {
			client := fifev1.NewAuditServiceClient(at)
			return allPages(func(token string) (*fifev1.ListAuditEntriesResponse, error) {
				req.PageToken = token
				return client.ListAuditEntries(ctx, req)
			})
		}, func(w io.Writer, r *fifev1.ListAuditEntriesResponse) {
			row(w, "ENTRY", "INDEX", "TIME", "ACTOR", "SOURCE", "CALL", "RESOURCE", "OUTCOME", "CHANGED")
			for _, e := range r.GetEntries() {
				row(w, fmt.Sprintf("%s/%d", chainText(e.GetChain()), e.GetNumber()), fmt.Sprintf("%d.%d", e.GetTerm(), e.GetIndex()),
					timeText(e.GetTime()), e.GetActor(), e.GetSource(), e.GetMethod(), e.GetResource(), outcomeText(e), differenceText(e))
			}
		})
	}
	return cmd
}

func chainText(c fifev1.AuditChainName) string {
	return strings.ToLower(strings.TrimPrefix(c.String(), "AUDIT_CHAIN_NAME_"))
}

func outcomeText(e *fifev1.AuditEntry) string {
	text := codes.Code(e.GetCode()).String()
	if e.GetReason() != "" {
		text = e.GetReason()
	}
	if e.GetCount() > 1 {
		text += fmt.Sprintf(", %d times", e.GetCount())
	}
	return text
}

// differenceText writes the fields that a call changed; of none, why not.
func differenceText(e *fifev1.AuditEntry) string {
	if e.GetMessage() != "" {
		return e.GetMessage()
	}
	names := map[string]bool{}
	for _, side := range []map[string]string{e.GetBefore(), e.GetAfter()} {
		for name := range side {
			names[name] = true
		}
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		parts = append(parts, name+": "+none(e.GetBefore()[name])+" -> "+none(e.GetAfter()[name]))
	}
	return strings.Join(parts, "; ")
}

func newAuditVerifyCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Check that no entry of the audit was changed or taken out",
		Long: `Check that no entry of the audit was changed or taken out, by computing all hashes
anew. The exit code is 1 if one does not fit; its index is named. Whoever could rewrite
every entry could compute every hash: keep the heads, or exports, elsewhere, and compare
the nodes with "fife cluster verify".`,
		Example: "  fife audit verify",
		RunE: func(cmd *cobra.Command, _ []string) error {
			faults := 0
			err := read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.VerifyAuditResponse, error) {
				r, err := fifev1.NewAuditServiceClient(at).VerifyAudit(ctx, &fifev1.VerifyAuditRequest{})
				for _, chain := range r.GetChains() {
					if chain.GetFault() != nil {
						faults++
					}
				}
				return r, err
			}, func(w io.Writer, r *fifev1.VerifyAuditResponse) {
				row(w, "CHAIN", "ENTRIES", "FIRST", "LAST", "OLDEST", "HEAD")
				for _, chain := range r.GetChains() {
					row(w, chainText(chain.GetChain()), fmt.Sprint(chain.GetEntries()), fmt.Sprint(chain.GetFirst()),
						fmt.Sprint(chain.GetLast()), timeText(chain.GetOldest()), fmt.Sprintf("%x", chain.GetHead()))
				}
				for _, chain := range r.GetChains() {
					if f := chain.GetFault(); f != nil {
						linef(w, "entry %s/%d, at index %d of the log, does not fit: %s",
							chainText(chain.GetChain()), f.GetNumber(), f.GetIndex(), clean(f.GetDescription()))
					}
				}
			})
			if err == nil && faults > 0 {
				return exitf(exitFailed, "the audit was tampered with or is damaged: see above")
			}
			return err
		},
	}
}

func newAuditExportCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "export",
		Short:   "Write entries of the audit as JSON, one a line",
		Example: "  fife audit export --since 24h",
	}
	f := addAuditFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		req, err := f.request(cmd)
		if err != nil {
			return err
		}
		out := bufio.NewWriter(c.out)
		for more := true; more; more = req.GetPageToken() != "" {
			r, err := fetch(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.ListAuditEntriesResponse, error) {
				return fifev1.NewAuditServiceClient(at).ListAuditEntries(ctx, req)
			})
			if err != nil {
				return err
			}
			for _, e := range r.GetEntries() {
				if err := writeLine(out, e); err != nil {
					return fmt.Errorf("export: %w", err)
				}
			}
			req.PageToken = r.GetNextPageToken()
		}
		return out.Flush()
	}
	return cmd
}

// writeLine writes an entry as one line of JSON.
func writeLine(out *bufio.Writer, e *fifev1.AuditEntry) error {
	raw, err := marshal(e)
	if err != nil {
		return err
	}
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return err
	}
	line.WriteByte('\n')
	_, err = line.WriteTo(out)
	return err
}
