package proxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/fifegateway/fife/agent/route"
)

// SignOverride returns the value of an X-Fife-Variant header that chooses
// variant ("base" or "canary") on a stage whose override key is key, until exp,
// in whole seconds:
//
//	canary; exp=UNIXSECONDS; sig=HEX
//
// where sig is HMAC-SHA256 over "API/STAGE/VARIANT/UNIXSECONDS".
func SignOverride(key, api, stage, variant string, exp time.Time) string {
	seconds := strconv.FormatInt(exp.Unix(), 10)
	sig := hex.EncodeToString(overrideMAC(key, api, stage, variant, seconds))
	return variant + "; exp=" + seconds + "; sig=" + sig
}

func overrideMAC(key, api, stage, variant, exp string) []byte {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(api + "/" + stage + "/" + variant + "/" + exp))
	return mac.Sum(nil)
}

// override returns the variant that the values of X-Fife-Variant choose, or nil
// if they do not count: the stage does not allow it, they are no variant's name,
// or the stage wants a signature and this one is missing, wrong or expired.
func override(s *route.Stage, values []string, now time.Time) *route.Variant {
	if !s.AllowOverride || len(values) != 1 {
		return nil
	}
	name, params, _ := strings.Cut(values[0], ";")
	name = strings.TrimSpace(name)
	if name != "base" && name != "canary" {
		return nil
	}
	if s.OverrideKey != "" && !signed(s, name, params, now) {
		return nil
	}
	if c := s.Canary(); c != nil && name == "canary" {
		return c
	}
	return s.Base()
}

func signed(s *route.Stage, variant, params string, now time.Time) bool {
	exp, sig, _ := strings.Cut(params, ";")
	exp, ok1 := strings.CutPrefix(strings.TrimSpace(exp), "exp=")
	sig, ok2 := strings.CutPrefix(strings.TrimSpace(sig), "sig=")
	if !ok1 || !ok2 {
		return false
	}
	seconds, err1 := strconv.ParseInt(exp, 10, 64)
	mac, err2 := hex.DecodeString(sig)
	if err1 != nil || err2 != nil {
		return false
	}
	return hmac.Equal(mac, overrideMAC(s.OverrideKey, s.API, s.Name, variant, exp)) && now.Unix() < seconds
}
