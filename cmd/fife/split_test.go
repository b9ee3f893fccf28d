package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// The signature was computed with openssl:
//
//	printf demo/canary/canary/1772651717 | openssl dgst -sha256 -hmac 0123456789abcdef
func TestOverrideValue(t *testing.T) {
	const want = "canary; exp=1772651717; sig=7e03bc96cc461e9cd0a2c2a0d14429ee54ec95a451afc66b348e8859eb11fce3"
	if got := overrideValue("0123456789abcdef", "demo/canary", "canary", 1772651717); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestSplitSign(t *testing.T) {
	folder := t.TempDir()
	writeFile(t, folder, "override.key", "0123456789abcdef\r\n")
	file := filepath.Join(folder, "override.key")

	before := time.Now().Unix()
	// The address is nonsense: nothing may be dialled.
	r := fife(t, "nonsense", "split", "sign", "demo/canary", "--variant", "base", "--key-file", file, "--ttl", "90s")
	after := time.Now().Unix()
	var exp int64
	if _, err := fmt.Sscanf(r.out, "base; exp=%d; sig=", &exp); err != nil || exp < before+90 || exp > after+90 {
		t.Fatalf("exit %d: %q %v %s", r.code, r.out, err, r.err)
	}
	if want := overrideValue("0123456789abcdef", "demo/canary", "base", exp) + "\n"; r.out != want {
		t.Errorf("%q, want %q", r.out, want)
	}

	r = fifeWith(t.Context(), t, streams{in: strings.NewReader("0123456789abcdef")}, "nonsense",
		"split", "sign", "demo/canary", "--key-file", "-", "-o", "json")
	var signed signedOverride
	if err := json.Unmarshal([]byte(r.out), &signed); err != nil {
		t.Fatalf("%v: %s%s", err, r.out, r.err)
	}
	if want := overrideValue("0123456789abcdef", "demo/canary", "canary", signed.ExpireTime.Unix()); signed.Value != want || signed.Header != "X-Fife-Variant" {
		t.Errorf("%+v, want %s", signed, want)
	}
}

// TestKeysStaySecret: a key that is refused is not shown.
func TestKeysStaySecret(t *testing.T) {
	for _, key := range []string{"short", "sixteen bytes wi\x01th a control", strings.Repeat("k", 257), ""} {
		r := fifeWith(t.Context(), t, streams{in: strings.NewReader(key)}, "", "split", "sign", "demo/canary", "--key-file", "-")
		if r.code != exitUsage || r.out != "" || key != "" && strings.Contains(r.err, key) {
			t.Errorf("%q: exit %d: %s%s", key, r.code, r.out, r.err)
		}
	}
}

func TestSplitText(t *testing.T) {
	sticky := &fifev1.StickyKey{Source: &fifev1.StickyKey_ClientIp{ClientIp: true}}
	for want, policy := range map[string]*fifev1.SplitPolicy{
		"at random":                             nil,
		"at random, override allowed":           {AllowOverride: true},
		"sticky by client-ip":                   {StickyKey: sticky, OverrideKeySet: true},
		"at random, signed override allowed":    {AllowOverride: true, OverrideKeySet: true},
		"sticky by client-ip, override allowed": {StickyKey: sticky, AllowOverride: true},
	} {
		if got := splitText(policy); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
