package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

func newSplitCommand(c *cli) *cobra.Command {
	return newGroup("split", "Explain how requests are split, and sign exceptions",
		newSplitExplainCommand(c), newSplitSignCommand(c))
}

// splitFlags are the fields of a stage's split policy.
type splitFlags struct {
	sticky        stickyFlag
	allowOverride bool
	keyFile       string
}

func (f *splitFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.Var(&f.sticky, "sticky", "give requests of one key one variant: header:NAME, cookie:NAME,\nquery:NAME, client-ip, or none to split at random")
	flags.BoolVar(&f.allowOverride, "allow-override", false, "let requests choose with the header X-Fife-Variant")
	flags.StringVar(&f.keyFile, "override-key-file", "", "`FILE` with the key that such a choice must be signed with; - is stdin")
}

// readKey returns the override key, or nothing if no file is named.
func (f *splitFlags) readKey(c *cli, cmd *cobra.Command) (string, error) {
	if f.keyFile == "" {
		return "", nil
	}
	return readKey(c, cmd, "--override-key-file", f.keyFile)
}

// policy returns the split that the flags ask for; where a flag is not given,
// old stays.
func (f *splitFlags) policy(cmd *cobra.Command, old *fifev1.SplitPolicy, key string) *fifev1.SplitPolicy {
	policy := &fifev1.SplitPolicy{StickyKey: old.GetStickyKey(), AllowOverride: old.GetAllowOverride(), OverrideKey: key}
	if cmd.Flags().Changed("sticky") {
		policy.StickyKey = f.sticky.key
	}
	if cmd.Flags().Changed("allow-override") {
		policy.AllowOverride = f.allowOverride
	}
	return policy
}

func splitText(p *fifev1.SplitPolicy) string {
	text := "at random"
	if p.GetStickyKey() != nil {
		text = "sticky by " + stickyText(p.GetStickyKey())
	}
	switch {
	case p.GetAllowOverride() && p.GetOverrideKeySet():
		text += ", signed override allowed"
	case p.GetAllowOverride():
		text += ", override allowed"
	}
	return text
}

func newSplitExplainCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "explain API/STAGE",
		Short:   "Say which variant a sticky key gets, and why",
		Example: "  fife split explain demo/canary --key alice",
	}
	key := cmd.Flags().String("key", "", "sticky `KEY`, as a request would carry it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *key == "" {
			return usagef(cmd, "say with --key which sticky key is meant")
		}
		return read(c, cmd, func(ctx context.Context, at *nodes) (*fifev1.ExplainSplitResponse, error) {
			return fifev1.NewStageServiceClient(at).ExplainSplit(ctx, &fifev1.ExplainSplitRequest{Name: stageName(args[0]), Key: *key})
		}, func(w io.Writer, r *fifev1.ExplainSplitResponse) {
			row(w, "variant", r.GetVariant())
			row(w, "deployment", short(r.GetDeployment()))
			row(w, "bucket", strconv.Itoa(int(r.GetBucket())))
			row(w, "threshold", strconv.Itoa(int(r.GetThreshold())))
			row(w, "why", r.GetExplanation())
		})
	}
	return cmd
}

// signedOverride is a value of the header X-Fife-Variant that agents believe
// until it expires.
type signedOverride struct {
	Header     string    `json:"header"`
	Value      string    `json:"value"`
	ExpireTime time.Time `json:"expireTime"`
}

func newSplitSignCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sign API/STAGE",
		Short: "Sign a choice of variant for the header X-Fife-Variant",
		Long: `Print a value of the header X-Fife-Variant, signed with the stage's override key.
It is made here: no control plane is asked. Whoever has the value can choose the
variant until it expires.`,
		Example: "  fife split sign demo/canary --variant canary --key-file override.key --ttl 1h",
	}
	variant := newChoiceFlag("canary", "base", "canary")
	cmd.Flags().Var(&variant, "variant", "variant to choose")
	keyFile := cmd.Flags().String("key-file", "", "`FILE` with the stage's override key; - is stdin")
	ttl := cmd.Flags().Duration("ttl", time.Hour, "how long the value holds, from 1s")
	offer(cmd, "variant", variant.options...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *ttl < time.Second {
			return usagef(cmd, "--ttl %s is under a second", *ttl)
		}
		if *keyFile == "" {
			return usagef(cmd, "say with --key-file where the stage's override key is")
		}
		key, err := readKey(c, cmd, "--key-file", *keyFile)
		if err != nil {
			return err
		}
		expires := time.Now().Add(*ttl).Truncate(time.Second).UTC()
		signed := signedOverride{
			Header: "X-Fife-Variant", Value: overrideValue(key, args[0], variant.value, expires.Unix()), ExpireTime: expires,
		}
		return c.print(signed, func(w io.Writer) { linef(w, "%s", signed.Value) })
	}
	return cmd
}

// overrideValue signs a variant of a stage, API/STAGE, until a Unix time in
// seconds. The signature is the hex HMAC-SHA256 of API/STAGE/VARIANT/EXP.
func overrideValue(key, stage, variant string, exp int64) string {
	mac := hmac.New(sha256.New, []byte(key))
	_, _ = fmt.Fprintf(mac, "%s/%s/%d", stage, variant, exp) // a hash takes every byte
	return fmt.Sprintf("%s; exp=%d; sig=%s", variant, exp, hex.EncodeToString(mac.Sum(nil)))
}

// printable is every printable ASCII character.
const printable = " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"

// readKey reads an override key from a file. The line end that editors add is
// not part of the key. The message never holds the key.
func readKey(c *cli, cmd *cobra.Command, flag, file string) (string, error) {
	var raw []byte
	var err error
	if file == "-" {
		raw, err = io.ReadAll(c.in)
	} else {
		raw, err = os.ReadFile(file)
	}
	if err != nil {
		return "", usagef(cmd, "%s: %v", flag, err)
	}
	key := strings.TrimRight(string(raw), "\r\n")
	if len(key) < 16 || len(key) > 256 || strings.Trim(key, printable) != "" {
		return "", usagef(cmd, "%s: %s holds %d bytes; a key is 16 to 256 printable ASCII characters", flag, file, len(key))
	}
	return key, nil
}
