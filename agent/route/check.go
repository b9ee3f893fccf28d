package route

import (
	"fmt"
	"strings"
)

// The limits of APIs and stages.
const (
	maxAPIID         = 63
	maxStageID       = 64
	maxHosts         = 20
	maxHost          = 253 // RFC 1035, as text
	maxVariables     = 100
	maxVariableName  = 64
	maxVariableValue = 512
	maxStickyName    = 128
	minOverrideKey   = 16
	maxOverrideKey   = 256
)

// checkAPI takes a DNS label (RFC 1035) of lower-case letters, digits and inner
// hyphens.
func checkAPI(id string) error {
	if id == "" || len(id) > maxAPIID || id[0] == '-' || id[len(id)-1] == '-' ||
		!isEvery(id, func(c byte) bool { return isLowerOrHyphen(c) || isDigit(c) }) {
		return fmt.Errorf("api id %q: want 1 to %d lower-case letters, digits and inner hyphens", id, maxAPIID)
	}
	return nil
}

func checkHost(host string) error {
	if host == "" || len(host) > maxHost || !isEvery(host, func(c byte) bool { return isWord(c) || c == '-' || c == '.' }) {
		return fmt.Errorf("host %q: want a host name without port", host)
	}
	return nil
}

func checkStage(s *StageSpec) error {
	if s.ID == "" || len(s.ID) > maxStageID || !isEvery(s.ID, func(c byte) bool { return isWord(c) || c == '-' }) {
		return fmt.Errorf("stage id %q: want 1 to %d letters, digits, hyphens and underscores", s.ID, maxStageID)
	}
	if err := checkSticky(s.Sticky, s.StickyName); err != nil {
		return err
	}
	if k := s.OverrideKey; k != "" && (len(k) < minOverrideKey || len(k) > maxOverrideKey ||
		!isEvery(k, isPrintable)) {
		// The key is a secret: the error does not repeat it.
		return fmt.Errorf("override key: want %d to %d printable ASCII characters", minOverrideKey, maxOverrideKey)
	}
	return checkThrottle(s.Throttle)
}

func checkConfig(s *ConfigSpec) error {
	if err := checkVariables(s.Variables); err != nil {
		return err
	}
	if s.Canary == nil {
		return nil
	}
	if s.Canary.PartsPerMillion > million {
		return fmt.Errorf("canary: share of %d parts per million: at most %d are allowed", s.Canary.PartsPerMillion, million)
	}
	if err := checkVariables(s.Canary.Overrides); err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	return nil
}

func checkSticky(source KeySource, name string) error {
	switch source {
	case KeyNone, KeyClientIP:
		return nil
	case KeyHeader, KeyCookie:
		if !isToken(name) || len(name) > maxStickyName {
			return fmt.Errorf("sticky key %q: want the name of a header or cookie", name)
		}
	case KeyQuery:
		if name == "" || len(name) > maxStickyName {
			return fmt.Errorf("sticky key %q: want the name of a query parameter", name)
		}
	default:
		return fmt.Errorf("sticky key: unknown source %d", source)
	}
	return nil
}

func checkVariables(vars map[string]string) error {
	if len(vars) > maxVariables {
		return fmt.Errorf("%d variables: at most %d are allowed", len(vars), maxVariables)
	}
	for name, value := range vars {
		if !isVariableName(name) {
			return fmt.Errorf("variable %q: want a name of 1 to %d letters, digits and underscores", name, maxVariableName)
		}
		if value == "" || len(value) > maxVariableValue || !isEvery(value, isVariableByte) {
			// It may be a secret: the error does not repeat it.
			return fmt.Errorf("variable %q: want a value of 1 to %d letters, digits and characters of -._~:/?#&=,", name, maxVariableValue)
		}
	}
	return nil
}

func isVariableName(s string) bool {
	return s != "" && len(s) <= maxVariableName && isEvery(s, isWord)
}

func isVariableByte(c byte) bool {
	return isWord(c) || strings.IndexByte("-.~:/?#&=,", c) >= 0
}

// isToken reports whether s is a token of RFC 9110, as header and cookie names
// are.
func isToken(s string) bool {
	return s != "" && isEvery(s, func(c byte) bool {
		return isWord(c) || strings.IndexByte("!#$%&'*+-.^`|~", c) >= 0
	})
}

func isEvery(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return true
}

func isLowerOrHyphen(c byte) bool { return 'a' <= c && c <= 'z' || c == '-' }

func isPrintable(c byte) bool { return ' ' <= c && c <= '~' }

func isNoControl(c byte) bool { return c >= ' ' && c != 0x7f }

func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
