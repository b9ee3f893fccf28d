package http1

import (
	"encoding/binary"
	"math/bits"
	"strings"
	"unsafe"
)

// Field is one field line of a head or a trailer section.
type Field struct {
	// Name as it came, and Value without the white space around it.
	Name, Value string
	// Kind of the name.
	Kind Kind
}

// Kind tells the fields that matter to framing, and those that end at the next hop,
// from all others.
type Kind uint8

// The kinds of fields. Those from Connection to the last end at the next hop (RFC
// 9110, 7.6.1). Content-Length is among them because each hop frames on its own,
// Expect because each hop awaits the body on its own, and Proxy because CGI servers
// would take it for their environment's HTTP_PROXY.
const (
	Other Kind = iota
	Host
	ContentType
	Date
	Connection
	ContentLength
	TransferEncoding
	TE
	Trailer
	Upgrade
	Expect
	HopByHop // Keep-Alive, Proxy-Connection, Proxy-Authenticate, Proxy-Authorization, HTTP2-Settings, Proxy
)

// IsHopByHop reports whether fields of this kind end at the next hop.
func (k Kind) IsHopByHop() bool { return k >= Connection }

// KindOf returns the kind of a field name, whatever its case.
func KindOf(name string) Kind {
	var kind Kind
	var known string
	switch len(name) {
	case 2:
		known, kind = "te", TE
	case 4:
		if name[0]|0x20 == 'h' {
			known, kind = "host", Host
		} else {
			known, kind = "date", Date
		}
	case 5:
		known, kind = "proxy", HopByHop
	case 6:
		known, kind = "expect", Expect
	case 7:
		if name[0]|0x20 == 'u' {
			known, kind = "upgrade", Upgrade
		} else {
			known, kind = "trailer", Trailer
		}
	case 10:
		if name[0]|0x20 == 'c' {
			known, kind = "connection", Connection
		} else {
			known, kind = "keep-alive", HopByHop
		}
	case 12:
		known, kind = "content-type", ContentType
	case 14:
		if name[0]|0x20 == 'c' {
			known, kind = "content-length", ContentLength
		} else {
			known, kind = "http2-settings", HopByHop
		}
	case 16:
		known, kind = "proxy-connection", HopByHop
	case 17:
		known, kind = "transfer-encoding", TransferEncoding
	case 18:
		known, kind = "proxy-authenticate", HopByHop
	case 19:
		known, kind = "proxy-authorization", HopByHop
	default:
		return Other
	}
	if EqualFold(name, known) {
		return kind
	}
	return Other
}

// EqualFold reports whether name equals lower, which is in lower case, when the case
// of ASCII letters does not count.
func EqualFold(name, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// HasToken reports whether a comma-separated list holds a token, which is in lower
// case; the case of the list does not count.
func HasToken(list, token string) bool {
	for more := true; more; {
		var element string
		element, list, more = strings.Cut(list, ",")
		if EqualFold(strings.Trim(element, " \t"), token) {
			return true
		}
	}
	return false
}

// IsToken reports whether s is a token (RFC 9110, 5.6.2), as names and methods are.
func IsToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !tokenByte[s[i]] {
			return false
		}
	}
	return s != ""
}

// IsFieldValue reports whether s can be sent as a field's value.
func IsFieldValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// TrailerAllowed reports whether a field may come behind a body. What frames,
// routes, authenticates or describes a message is needed before it, and who merged
// it afterwards could be told something else than everybody before him (RFC 9110,
// 6.5.1).
func TrailerAllowed(f *Field) bool {
	if f.Kind != Other {
		return false
	}
	switch n := len(f.Name); {
	case n >= 8 && EqualFold(f.Name[:8], "content-"),
		n >= 12 && EqualFold(f.Name[:12], "x-forwarded-"):
		return false
	}
	for _, name := range [...]string{
		"age", "authorization", "cache-control", "cookie", "expires", "forwarded", "location", "max-forwards",
		"pragma", "range", "retry-after", "set-cookie", "vary", "www-authenticate",
	} {
		if EqualFold(f.Name, name) {
			return false
		}
	}
	return true
}

// tokenByte holds the bytes of tokens.
var tokenByte = func() (t [256]bool) {
	for c := range t {
		t[c] = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0
	}
	return t
}()

// control returns the index of the first control character in buf from i on, or
// len(buf). It looks at eight bytes at once: this is where most of a head goes by.
func control(buf []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(buf); i += 8 {
		x := binary.LittleEndian.Uint64(buf[i:])
		below := (x - ones*' ') & ^x // high bit: the byte is below a space
		y := x ^ ones*0x7f           //
		del := (y - ones) & ^y       // high bit: the byte is DEL
		if m := (below | del) & highs; m != 0 {
			// A borrow can set a bit above the first that is right, never below it.
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for ; i < len(buf); i++ {
		if c := buf[i]; c < ' ' || c == 0x7f {
			return i
		}
	}
	return i
}

// fields parses field lines up to and including the empty line, and returns the
// index behind it. The result is appended to dst.
func fields(dst []Field, buf []byte, i, maxLines int) ([]Field, int, error) {
	for {
		if i >= len(buf) {
			return dst, i, ErrIncomplete
		}
		switch buf[i] {
		case '\r':
			if i+1 == len(buf) {
				return dst, i, ErrIncomplete
			}
			if buf[i+1] != '\n' {
				return dst, i, errLineEnd
			}
			return dst, i + 2, nil
		case '\n':
			return dst, i, errLineEnd
		case ' ', '\t':
			return dst, i, errFieldFolded
		}
		if len(dst) == maxLines {
			return dst, i, errHeadLines
		}
		begin := i
		for i < len(buf) && tokenByte[buf[i]] {
			i++
		}
		if i == len(buf) {
			return dst, i, ErrIncomplete
		}
		if buf[i] != ':' || i == begin {
			return dst, i, errFieldName
		}
		name := text(buf[begin:i])
		i++
		for i < len(buf) && (buf[i] == ' ' || buf[i] == '\t') {
			i++
		}
		begin = i
		end, next, err := lineEnd(buf, i, errFieldValue)
		if err != nil {
			return dst, i, err
		}
		for end > begin && (buf[end-1] == ' ' || buf[end-1] == '\t') {
			end--
		}
		dst = append(dst, Field{Name: name, Value: text(buf[begin:end]), Kind: KindOf(name)})
		i = next
	}
}

// lineEnd finds the CRLF of the line in which i is, and returns where it and the
// next line begin. A control character before that, other than a tab, is the error
// given.
func lineEnd(buf []byte, i int, invalid *Error) (end, next int, err error) {
	for {
		i = control(buf, i)
		switch {
		case i == len(buf):
			return 0, 0, ErrIncomplete
		case buf[i] == '\t':
			i++
			continue
		case buf[i] == '\n':
			return 0, 0, errLineEnd
		case buf[i] != '\r':
			return 0, 0, invalid
		case i+1 == len(buf):
			return 0, 0, ErrIncomplete
		case buf[i+1] != '\n':
			return 0, 0, errLineEnd
		}
		return i, i + 2, nil
	}
}

// length parses a Content-Length: digits only, and no more than an int64 can hold.
func length(s string) (int64, error) {
	if s == "" || len(s) > 19 {
		return 0, errLength
	}
	var n uint64
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, errLength
		}
		n = n*10 + uint64(s[i]-'0')
	}
	if n > 1<<63-1 {
		return 0, errLength
	}
	return int64(n), nil
}

// text returns b as a string that shares its bytes.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
