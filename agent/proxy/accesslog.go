package proxy

import (
	"bufio"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// accessLog writes a line of JSON for some requests. The lines are written together,
// now and then: what a crash can take with it are those of the last second. Safe for
// concurrent use; a nil accessLog writes nothing.
type accessLog struct {
	share uint64 // of the requests, as a part of 1<<32

	mu   sync.Mutex
	out  *bufio.Writer
	line []byte
}

func newAccessLog(w io.Writer, share float64) *accessLog {
	if w == nil {
		return nil
	}
	return &accessLog{share: uint64(share * (1 << 32)), out: bufio.NewWriterSize(w, 64<<10)}
}

// record writes the line of a request, if it gets one.
func (l *accessLog) record(x *exchange) {
	if l == nil || x.status < 500 && uint64(rand.Uint32()) >= l.share {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line = x.appendLine(l.line[:0])
	_, _ = l.out.Write(l.line) // there is no other place to say that this one is full
}

// flush writes what was recorded so far.
func (l *accessLog) flush() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.out.Flush() // as above
}

// appendLine appends the exchange as a line of JSON. Times are in milliseconds, sizes
// are those of bodies in bytes.
func (x *exchange) appendLine(dst []byte) []byte {
	dst = append(dst, `{"time":"`...)
	dst = x.start.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	dst = append(dst, '"')
	dst = appendText(dst, "request_id", x.id)
	dst = appendText(dst, "client", x.clientText())
	dst = appendText(dst, "method", x.method)
	dst = appendText(dst, "host", x.host)
	dst = appendText(dst, "path", x.path)
	dst = appendText(dst, "protocol", x.proto)
	dst = appendNumber(dst, "status", int64(x.status))
	dst = appendText(dst, "version", x.table.Version().String())
	if x.stage != nil {
		dst = appendText(dst, "api", x.stage.API)
		dst = appendText(dst, "stage", x.stage.Name)
		dst = appendText(dst, "variant", x.variant.Name)
		dst = appendNumber(dst, "deployment", int64(x.variant.Deployment.Number))
	}
	if x.route != nil {
		dst = appendText(dst, "route", x.route.Method+" "+x.route.Path)
	}
	if x.above != unlimited {
		dst = appendText(dst, "throttled", x.above.String())
	}
	if upstream := x.upstreamText(); upstream != "" {
		dst = appendText(dst, "upstream", upstream)
		dst = appendMillis(dst, "upstream_ms", x.waited)
	}
	dst = appendNumber(dst, "received", x.received)
	dst = appendNumber(dst, "sent", x.sent)
	dst = appendMillis(dst, "duration_ms", x.took)
	return append(dst, "}\n"...)
}

func (x *exchange) clientText() string {
	if x.client == x.peer {
		return x.peerText
	}
	return x.client.String()
}

func appendKey(dst []byte, key string) []byte {
	return append(append(append(dst, `,"`...), key...), `":`...)
}

func appendNumber(dst []byte, key string, n int64) []byte {
	return strconv.AppendInt(appendKey(dst, key), n, 10)
}

func appendMillis(dst []byte, key string, d time.Duration) []byte {
	return strconv.AppendFloat(appendKey(dst, key), float64(d.Microseconds())/1000, 'f', -1, 64)
}

// appendText appends a member whose value is text that a client may have made up.
func appendText(dst []byte, key, value string) []byte {
	dst = append(appendKey(dst, key), '"')
	for i := 0; i < len(value); {
		c := value[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ' || c == 0x7f:
			const digits = "0123456789abcdef"
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, size := utf8.DecodeRuneInString(value[i:])
			dst = utf8.AppendRune(dst, r) // U+FFFD for what is no UTF-8
			i += size
			continue
		}
		i++
	}
	return append(dst, '"')
}
