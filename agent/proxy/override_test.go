package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/fifegateway/fife/agent/route"
)

func TestSignOverride(t *testing.T) {
	// The digest is OpenSSL's: printf demo/prod/canary/1700000000 | openssl dgst -sha256 -hmac 0123456789abcdef
	const want = "canary; exp=1700000000; sig=e7760a10b7ae3322034e486e57583d7c44a97b823e27d58ab0f106cd91d283d2"
	if got := SignOverride("0123456789abcdef", "demo", "prod", "canary", time.Unix(1700000000, 999)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSignedOverride(t *testing.T) {
	const key = "0123456789abcdef"
	now := time.Unix(1_700_000_000, 0)
	table := mocks(t, func(s *route.StageSpec) {
		canary(0)(s)
		s.AllowOverride, s.OverrideKey = true, key
	})
	s, _, _ := table.Lookup("", "/prod", "")
	good := SignOverride(key, "demo", "prod", "canary", now.Add(time.Second))
	for name, c := range map[string]struct {
		value string
		want  *route.Variant
	}{
		"good":           {good, s.Canary()},
		"upper case hex": {strings.Replace(good, good[strings.Index(good, "sig=")+4:], strings.ToUpper(good[strings.Index(good, "sig=")+4:]), 1), s.Canary()},
		"no spaces":      {strings.ReplaceAll(good, " ", ""), s.Canary()},
		"base":           {SignOverride(key, "demo", "prod", "base", now.Add(time.Hour)), s.Base()},
		"expired":        {SignOverride(key, "demo", "prod", "canary", now), nil},
		"other key":      {SignOverride(key+"x", "demo", "prod", "canary", now.Add(time.Hour)), nil},
		"other api":      {SignOverride(key, "demo2", "prod", "canary", now.Add(time.Hour)), nil},
		"other stage":    {SignOverride(key, "demo", "test", "canary", now.Add(time.Hour)), nil},
		"other variant":  {strings.Replace(SignOverride(key, "demo", "prod", "base", now.Add(time.Hour)), "base", "canary", 1), nil},
		"other exp":      {strings.Replace(good, "exp=1", "exp=2", 1), nil},
		"cut":            {good[:len(good)-2], nil},
		"no hex":         {good[:len(good)-1] + "g", nil},
		"more":           {good + "; x=y", nil},
		"no signature":   {"canary", nil},
		"no exp":         {"canary; sig=00", nil},
		"unknown":        {SignOverride(key, "demo", "prod", "other", now.Add(time.Hour)), nil},
		"nothing":        {"", nil},
	} {
		if got := override(s, []string{c.value}, now); got != c.want {
			t.Errorf("%s: %q: got %v, want %v", name, c.value, got, c.want)
		}
	}
	if got := override(s, []string{good, good}, now); got != nil {
		t.Errorf("two headers: got %v, want none", got)
	}
	if got := override(s, nil, now); got != nil {
		t.Errorf("no header: got %v, want none", got)
	}
}
