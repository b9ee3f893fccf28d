package proxy

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/fifegateway/fife/agent/http1"
)

// owned are the fields that only the agent, or a trusted peer, may set, and hopByHop
// those that end at the agent, as their documents spell them.
var (
	owned    = []string{"X-Fife-Variant", "X-Fife-Deployment", "X-Fife-Version", "Forwarded", "X-Real-Ip", "X-Original-Url", "X-Rewrite-Url"}
	hopByHop = []string{"Connection", "Content-Length", "Transfer-Encoding", "Te", "Trailer", "Upgrade", "Expect", "Keep-Alive", "Proxy-Connection",
		"Proxy-Authenticate", "Proxy-Authorization", "Http2-Settings", "Proxy", "Host"}
)

// FuzzForwardedFields: whatever fields a client sends, an integration sees none that end
// at the agent or that the client has no right to set, the agent's own once, and all
// others as they came.
func FuzzForwardedFields(f *testing.F) {
	for _, s := range []string{
		"", "X: 1\r\nx: 2\r\n", "Connection: X-A, close\r\nX-A: 1\r\nX-B: 2\r\n", "Connection: x-forwarded-for\r\nX-Forwarded-For: 1.2.3.4\r\n",
		"X_Forwarded_For: 1\r\nX-Forwarded_Host: b\r\nForwarded: for=x\r\n", "TE: trailers\r\nT_E: x\r\nTransfer_Encoding: chunked\r\n", "x-fife-variant: canary\r\nX_FIFE_VERSION: 1\r\n",
		"Proxy: x\r\nX-Real-IP: 1\r\nx-original-url: /\r\nX-Rewrite-Url: /\r\n", "Keep-Alive: 1\r\nHTTP2-Settings: a\r\nContent-Length: 0\r\n", "Connection:,\tX \r\nX:\r\n",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, trusted bool) {
		var r http1.Request
		if _, err := r.Parse(append(append([]byte("GET / HTTP/1.1\r\nHost: a.test\r\n"), in...), "\r\n"...)); err != nil {
			return
		}
		h := head{fields: r.Fields, lists: r.Connection, host: r.Host, scheme: "http", port: "80", peerText: "192.0.2.1", trusted: trusted}
		listed := map[string]bool{}
		for _, field := range r.Fields {
			if http.CanonicalHeaderKey(field.Name) == "Connection" {
				for name := range strings.SplitSeq(field.Value, ",") {
					listed[strings.ToLower(strings.Trim(name, " \t"))] = true
				}
			}
		}
		var want []string
		for _, field := range r.Fields {
			name := http.CanonicalHeaderKey(strings.ReplaceAll(field.Name, "_", "-"))
			forwarding := strings.HasPrefix(name, "X-Forwarded-") || slices.Contains(owned[3:], name)
			switch {
			case slices.Contains(hopByHop, name), slices.Contains(owned[:3], name), listed[strings.ToLower(field.Name)]:
			case forwarding && (!trusted || strings.Contains(field.Name, "_")):
			case name == "X-Forwarded-For": // joined below
			default:
				want = append(want, field.Name+": "+field.Value)
			}
		}
		var got []string
		own := map[string][]string{}
		for _, field := range h.appendForwarded(nil) {
			if !http1.IsToken(field.Name) || !http1.IsFieldValue(field.Value) {
				t.Fatalf("%q: the field %q %q cannot be sent", in, field.Name, field.Value)
			}
			name := http.CanonicalHeaderKey(field.Name)
			switch name {
			case "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port":
				own[name] = append(own[name], field.Value)
				if !trusted || name == "X-Forwarded-For" {
					continue
				}
			}
			got = append(got, field.Name+": "+field.Value)
		}
		for name, value := range map[string]string{
			"X-Forwarded-For": h.peerText, "X-Forwarded-Proto": h.scheme, "X-Forwarded-Host": h.host, "X-Forwarded-Port": h.port,
		} {
			switch {
			case !trusted && !slices.Equal(own[name], []string{value}):
				t.Fatalf("%q: %s is %q, want %q alone", in, name, own[name], value)
			case name == "X-Forwarded-For" && (len(own[name]) != 1 || !strings.HasSuffix(own[name][0], value)):
				t.Fatalf("%q: %s is %q, want one that ends in %q", in, name, own[name], value)
			case trusted && !slices.ContainsFunc(want, func(f string) bool {
				return len(f) > len(name) && http.CanonicalHeaderKey(f[:len(name)]) == name && f[len(name)] == ':'
			}):
				if name != "X-Forwarded-For" {
					want = append(want, name+": "+value)
				}
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("%q, trusted %v:\ngot  %q\nwant %q", in, trusted, got, want)
		}
	})
}
