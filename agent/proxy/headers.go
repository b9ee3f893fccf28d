package proxy

import (
	"net/http"
	"net/textproto"
	"strings"
)

// Header names that Fife owns: only an agent's own word counts.
const (
	headerVariant    = "X-Fife-Variant"
	headerDeployment = "X-Fife-Deployment"
	headerVersion    = "X-Fife-Version"
)

func isFife(name string) bool {
	return name == headerVariant || name == headerDeployment || name == headerVersion
}

// isHopByHop reports whether a header ends at the next hop (RFC 9110, 7.6.1).
// Content-Length and Expect are among them because each hop frames, and awaits
// the body, on its own; Proxy because CGI upstreams take it for their
// environment's HTTP_PROXY.
func isHopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings", "Content-Length", "Expect", "Proxy":
		return true
	}
	return false
}

// isForwarding reports whether a header says where a request came from or went
// to: upstreams believe it, so only trusted peers may send it.
func isForwarding(name string) bool {
	switch name {
	case "Forwarded", "X-Real-Ip", "X-Original-Url", "X-Rewrite-Url":
		return true
	}
	return strings.HasPrefix(name, "X-Forwarded-")
}

// fold returns the name that an upstream may take a header's name for: many
// treat an underscore as a hyphen.
func fold(name string) string {
	if strings.IndexByte(name, '_') < 0 {
		return name
	}
	return textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
}

// hasToken reports whether a header's comma-separated values hold token, in any
// case.
func hasToken(values []string, token string) bool {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(textproto.TrimString(t), token) {
				return true
			}
		}
	}
	return false
}

// upstreamHeader returns the headers that the integration gets to see: what the
// client sent, without what ends here or what it has no right to say, and with
// the agent's own X-Forwarded-*. The result may share values with h.header,
// never the map.
func (h *head) upstreamHeader() http.Header {
	connection := h.header["Connection"]
	out := make(http.Header, len(h.header)+4)
	for name, values := range h.header {
		folded := fold(name)
		switch {
		case isHopByHop(folded), isFife(folded),
			isForwarding(folded) && (!h.trusted || folded != name),
			len(connection) > 0 && hasToken(connection, name):
		default:
			out[name] = values
		}
	}
	if h.peer.IsValid() {
		peer := h.peer.String()
		if prior := out["X-Forwarded-For"]; len(prior) > 0 {
			peer = strings.Join(prior, ", ") + ", " + peer
		}
		out["X-Forwarded-For"] = []string{peer}
	}
	setDefault(out, "X-Forwarded-Proto", h.scheme)
	setDefault(out, "X-Forwarded-Host", h.host)
	setDefault(out, "X-Forwarded-Port", h.port)
	return out
}

// setDefault sets what no trusted peer has said.
func setDefault(h http.Header, name, value string) {
	if len(h[name]) == 0 && value != "" {
		h[name] = []string{value}
	}
}

// copyResponseHeader adds to dst what the client may see of an integration's
// headers. The agent's own are set after it.
func copyResponseHeader(dst, src http.Header) {
	connection := src["Connection"]
	for name, values := range src {
		if !isFife(name) && (!isHopByHop(name) || name == "Content-Length") &&
			(len(connection) == 0 || !hasToken(connection, name)) {
			dst[name] = values
		}
	}
}
