package http1

import (
	"net/netip"
	"strings"
)

// The limits of a head.
const (
	MaxHead   = 32 << 10 // bytes of a head
	MaxTarget = 8 << 10  // bytes of a request target
	MaxLines  = 100      // field lines of a request
)

const maxMethod = 32

// Request is the head of a request. A value can be used for one request after the
// other: Parse sets all of it, and uses the memory of Fields again.
type Request struct {
	// Method as it came: a token.
	Method string
	// Path and Query are those of the request target, as they came and without the
	// question mark between them. They hold no space, control character or number
	// sign. In absolute-form Path is what follows the authority, and may be empty.
	// It is "*" in asterisk-form, and the authority of a CONNECT.
	Path, Query string
	// Minor is the minor version: 0 or 1.
	Minor int
	// Fields in their order.
	Fields []Field
	// Host is the value of the one Host field: host or host:port. It is empty only
	// in HTTP/1.0.
	Host string
	// Length is how many bytes the body has; -1 if it is chunked.
	Length int64
	// Close says that no request follows on this connection.
	Close bool
	// Connection says that there is a Connection field.
	Connection bool
	// Continue says that the client waits for a 100 before it sends the body.
	Continue bool
}

// Parse reads the head at the beginning of buf and returns how many bytes it has. It
// returns ErrIncomplete if buf does not hold all of it, and an *Error if what is
// there can never become a head. One empty line before the request is skipped, since
// old clients end a body with one.
func (r *Request) Parse(buf []byte) (int, error) {
	n, err := r.parse(buf)
	if err == ErrIncomplete && len(buf) >= MaxHead || err == nil && n > MaxHead { //nolint:errorlint // never wrapped here
		return 0, errHeadLarge
	}
	return n, err
}

func (r *Request) parse(buf []byte) (int, error) {
	i := 0
	if len(buf) > 0 && buf[0] == '\r' {
		if len(buf) == 1 {
			return 0, ErrIncomplete
		}
		if buf[1] != '\n' {
			return 0, errLineEnd
		}
		i = 2
	}
	begin := i
	for i < len(buf) && tokenByte[buf[i]] {
		i++
	}
	if i-begin > maxMethod {
		return 0, errMethod
	}
	if i == len(buf) {
		return 0, ErrIncomplete
	}
	if buf[i] != ' ' || i == begin {
		return 0, errMethod
	}
	r.Method = text(buf[begin:i])

	i++
	begin = i
	question := -1
	for i < len(buf) && targetByte[buf[i]] {
		if buf[i] == '?' && question < 0 {
			question = i
		}
		i++
	}
	if i-begin > MaxTarget {
		return 0, errTargetLong
	}
	if i == len(buf) {
		return 0, ErrIncomplete
	}
	if buf[i] != ' ' || i == begin {
		return 0, errTarget
	}
	if r.Path, r.Query = text(buf[begin:i]), ""; question >= 0 {
		r.Path, r.Query = text(buf[begin:question]), text(buf[question+1:i])
	}

	i++
	const version = "HTTP/1.1\r\n"
	if len(buf)-i < len(version) {
		return 0, incompleteVersion(buf[i:])
	}
	if v := text(buf[i : i+len(version)]); v == version {
		r.Minor = 1
	} else if err := r.otherVersion(v); err != nil {
		return 0, err
	}
	i += len(version)

	var err error
	if r.Fields, i, err = fields(r.Fields[:0], buf, i, MaxLines); err != nil {
		return 0, err
	}
	if err := r.interpret(); err != nil {
		return 0, err
	}
	return i, nil
}

// targetByte holds the bytes of a request target: no spaces, no control characters,
// and no number sign, which begins what a client keeps to itself. Bytes above ASCII
// are let through: who matches paths must encode them.
var targetByte = func() (t [256]bool) {
	for c := range t {
		t[c] = c > ' ' && c != 0x7f && c != '#'
	}
	return t
}()

// incompleteVersion refuses what can no longer become a version: above all a line
// that ends without one, as in HTTP/0.9.
func incompleteVersion(b []byte) error {
	for i, c := range b {
		switch {
		case c == '\n':
			return errVersion
		case i < len("HTTP/") && c != "HTTP/"[i]:
			return errVersion
		}
	}
	return ErrIncomplete
}

func (r *Request) otherVersion(v string) error {
	isDigit := func(c byte) bool { return '0' <= c && c <= '9' }
	switch {
	case v == "HTTP/1.0\r\n":
		r.Minor = 0
		return nil
	case v[:5] != "HTTP/" || !isDigit(v[5]) || v[6] != '.' || !isDigit(v[7]):
		return errVersion
	case v[:8] == "HTTP/1.1" || v[:8] == "HTTP/1.0":
		return errLineEnd
	}
	return errVersionOther
}

// interpret finds what the fields say about the message.
func (r *Request) interpret() error {
	r.Host, r.Length, r.Close, r.Connection, r.Continue = "", 0, r.Minor == 0, false, false
	hosts, lengths, encodings := 0, 0, 0
	for i := range r.Fields {
		f := &r.Fields[i]
		switch f.Kind {
		case Host:
			hosts++
			r.Host = f.Value
		case ContentLength:
			lengths++
			n, err := length(f.Value)
			if err != nil {
				return err
			}
			r.Length = n
		case TransferEncoding:
			encodings++
			if !EqualFold(f.Value, "chunked") {
				return errEncoding
			}
		case Connection:
			r.Connection = true
			r.Close = r.Close || HasToken(f.Value, "close")
		case Expect:
			if !EqualFold(f.Value, "100-continue") {
				return errExpect
			}
			r.Continue = r.Minor == 1
		}
	}
	switch {
	case lengths > 1:
		return errLengthTwice
	case encodings > 1:
		return errEncodingTwice
	case encodings > 0 && r.Minor == 0:
		return errEncodingOld
	case encodings > 0 && lengths > 0:
		return errBoth
	case encodings > 0:
		r.Length = -1
	}
	if hosts != 1 && (hosts > 1 || r.Minor == 1) {
		return errHostCount
	}
	if hosts == 1 && !IsHost(r.Host) {
		return errHost
	}
	return r.checkTarget()
}

// checkTarget sees to it that the request target has one of the forms of RFC 9112,
// 3.2, and takes the authority of an absolute-form away: it must be the same as
// Host, or two hops could each believe another one.
func (r *Request) checkTarget() error {
	if r.Path != "" && r.Path[0] == '/' {
		return nil
	}
	if r.Method == "CONNECT" {
		return nil // nobody serves it, whatever it asks for
	}
	if r.Path == "*" && r.Query == "" && r.Method == "OPTIONS" {
		return nil
	}
	scheme := 0
	switch {
	case len(r.Path) > 7 && EqualFold(r.Path[:7], "http://"):
		scheme = 7
	case len(r.Path) > 8 && EqualFold(r.Path[:8], "https://"):
		scheme = 8
	default:
		return errTargetForm
	}
	end := scheme
	for end < len(r.Path) && r.Path[end] != '/' {
		end++
	}
	if !sameHost(r.Path[scheme:end], r.Host) {
		return errHostOther
	}
	r.Path = r.Path[end:]
	return nil
}

func sameHost(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c |= 0x20
	}
	return c
}

// IsHost reports whether s is host or host:port, with a host that is a name, an IPv4
// address, or an IPv6 address in brackets. Names have letters, digits, hyphens, dots
// and underscores: the other bytes that RFC 3986 allows are in no DNS name, and some
// of them separate hosts for some readers.
func IsHost(s string) bool {
	i := 0
	if s != "" && s[0] == '[' {
		if i = strings.IndexByte(s, ']'); i < 0 {
			return false
		}
		// A zone means something on one machine only (RFC 6874).
		if a, err := netip.ParseAddr(s[1:i]); err != nil || !a.Is6() || a.Zone() != "" {
			return false
		}
		i++
	} else {
		for ; i < len(s) && s[i] != ':'; i++ {
			if c := lower(s[i]); !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_') {
				return false
			}
		}
		if i == 0 {
			return false
		}
	}
	if i == len(s) {
		return true
	}
	port := s[i+1:]
	if s[i] != ':' || port == "" || len(port) > 5 {
		return false
	}
	n := 0
	for j := 0; j < len(port); j++ {
		if port[j] < '0' || port[j] > '9' {
			return false
		}
		n = n*10 + int(port[j]-'0')
	}
	return n <= 65535
}
