package proxy

import (
	"bytes"
	"errors"
	"iter"
	"net/url"
	"strings"
)

// What normalizePath refuses.
var (
	errPathRelative = errors.New("path does not begin with a slash")
	errPathEscape   = errors.New("path has a percent sign without two hexadecimal digits")
	errPathByte     = errors.New("path has a control character or a backslash")
	errPathHidden   = errors.New("path hides a dot segment behind an encoded slash")
)

// normalizePath brings the escaped path of a request into the one form that is
// both matched and forwarded, so that agent and upstream never read it
// differently:
//
//   - dot segments are removed (RFC 3986, 5.2.4), also if a dot is written %2e;
//   - bytes that may not stand in a path are percent-encoded;
//   - everything else stays as it came: escapes are not decoded, an encoded
//     slash is no separator, and empty segments are kept.
//
// Control characters and backslashes are refused, encoded ones too, and so is
// an encoded slash beside a dot segment ("..%2f"): it would be inside its stage
// here and outside of it for an upstream that decodes before it splits.
//
// The result is a fixed point. A path that needs nothing is not copied.
func normalizePath(path string) (string, error) {
	if path == "" {
		return "/", nil
	}
	if path[0] != '/' {
		return "", errPathRelative
	}
	var encode, dots, slashes bool
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '%':
			if i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
				return "", errPathEscape
			}
			c = unhex(path[i+1])<<4 | unhex(path[i+2])
			slashes = slashes || c == '/'
			i += 2
		case !isPathByte(c):
			encode = true
		}
		if c < ' ' || c == 0x7f || c == '\\' {
			return "", errPathByte
		}
		dots = dots || c == '.'
	}
	if encode {
		path = percentEncode(path, func(c byte) bool { return isPathByte(c) || c == '%' })
	}
	if dots {
		if slashes && hidesDotSegment(path) {
			return "", errPathHidden
		}
		if hasDotSegment(path) {
			path = removeDotSegments(path)
		}
	}
	return path, nil
}

// dotSegment returns 1 for the segment ".", 2 for "..", however their dots are
// written, and 0 for all others.
func dotSegment(s string) int {
	n := 0
	for ; s != ""; n++ {
		switch {
		case n == 2:
			return 0
		case s[0] == '.':
			s = s[1:]
		case len(s) >= 3 && s[:2] == "%2" && s[2]|0x20 == 'e':
			s = s[3:]
		default:
			return 0
		}
	}
	return n
}

func hasDotSegment(path string) bool {
	for s := range strings.SplitSeq(path, "/") {
		if dotSegment(s) > 0 {
			return true
		}
	}
	return false
}

// hidesDotSegment reports whether an encoded slash cuts off a dot segment.
func hidesDotSegment(path string) bool {
	for s := range strings.SplitSeq(path, "/") {
		decoded := strings.ReplaceAll(strings.ReplaceAll(s, "%2f", "/"), "%2F", "/")
		if decoded != s && hasDotSegment(decoded) {
			return true
		}
	}
	return false
}

// removeDotSegments resolves the dot segments of a path that begins with a
// slash. The root has no parent: what climbs above it stays there.
func removeDotSegments(path string) string {
	out := make([]byte, 0, len(path))
	for rest, more := path[1:], true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		dots := dotSegment(segment)
		if dots == 2 {
			out = out[:max(0, bytes.LastIndexByte(out, '/'))]
		}
		if dots == 0 || !more {
			out = append(out, '/')
		}
		if dots == 0 {
			out = append(out, segment...)
		}
	}
	return string(out)
}

// normalizeQuery percent-encodes what would end a request target or be no part
// of it. Everything else of a query is the business of who reads it.
func normalizeQuery(query string) string {
	return percentEncode(query, isQueryByte)
}

func isQueryByte(c byte) bool { return c > ' ' && c < 0x7f && c != '#' }

// queryPairs yields the decoded names and values of a query in order. What does
// not decode is yielded as it is, as a parameter that an upstream would see must
// not be lost.
func queryPairs(query string) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for pair := range strings.SplitSeq(query, "&") {
			if pair == "" {
				continue
			}
			name, value, _ := strings.Cut(pair, "=")
			if !yield(queryUnescape(name), queryUnescape(value)) {
				return
			}
		}
	}
}

func queryUnescape(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

// percentEncode encodes the bytes of s that are not allowed.
func percentEncode(s string, allowed func(byte) bool) string {
	n := 0
	for i := range len(s) {
		if !allowed(s[i]) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	const digits = "0123456789ABCDEF"
	out := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		if c := s[i]; allowed(c) {
			out = append(out, c)
		} else {
			out = append(out, '%', digits[c>>4], digits[c&15])
		}
	}
	return string(out)
}

// isPathByte reports whether c may stand unescaped in a path: the pchar of RFC
// 3986, the slash, and the brackets that browsers send.
func isPathByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case '/', '-', '.', '_', '~', '!', '$', '&', '\'', '(', ')', '*', '+', ',', ';', '=', ':', '@', '[', ']':
		return true
	}
	return false
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}
