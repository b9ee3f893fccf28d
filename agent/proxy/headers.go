package proxy

import (
	"strconv"
	"strings"

	"github.com/fifegateway/fife/agent/http1"
	"github.com/fifegateway/fife/agent/route"
)

// Names of the fields that Fife owns: only an agent's own word counts.
const (
	fieldVariant    = "X-Fife-Variant"
	fieldDeployment = "X-Fife-Deployment"
	fieldVersion    = "X-Fife-Version"
	fieldRequestID  = "X-Amzn-RequestId"
	fieldGatewayID  = "X-Amz-Apigw-Id" // of answers at the URLs of Amazon API Gateway only
)

// isFife reports whether a field is one that Fife owns.
func isFife(name string) bool {
	return len(name) >= len(fieldVariant) && (strings.EqualFold(name, fieldVariant) ||
		strings.EqualFold(name, fieldDeployment) || strings.EqualFold(name, fieldVersion))
}

// isForwarding reports whether a field says where a request came from or went to:
// upstreams believe it, so only trusted peers may send it.
func isForwarding(name string) bool {
	const prefix = "x-forwarded-"
	switch len(name) {
	case 9:
		if http1.EqualFold(name, "forwarded") || http1.EqualFold(name, "x-real-ip") {
			return true
		}
	case 13:
		if http1.EqualFold(name, "x-rewrite-url") {
			return true
		}
	case 14:
		if http1.EqualFold(name, "x-original-url") {
			return true
		}
	}
	return len(name) >= len(prefix) && http1.EqualFold(name[:len(prefix)], prefix)
}

// passes reports whether a request's field may go on to an integration: not what
// ends at this hop, nor what the peer has no right to say. An underscore counts as
// the hyphen that many upstreams take it for.
func (h *head) passes(f *http1.Field) bool {
	name, kind := f.Name, f.Kind
	alias := strings.IndexByte(name, '_') >= 0
	if alias {
		name = strings.ReplaceAll(name, "_", "-")
		kind = http1.KindOf(name)
	}
	switch {
	case kind.IsHopByHop(), kind == http1.Host:
		return false
	case name[0]|0x20 != 'x' && name[0]|0x20 != 'f': // neither ours nor about forwarding
	case isFife(name), isForwarding(name) && (!h.trusted || alias):
		return false
	}
	return !h.lists || !h.listed(f.Name)
}

// listed reports whether a Connection field names a field.
func (h *head) listed(name string) bool { return listed(h.fields, name) }

func listed(fields []http1.Field, name string) bool {
	for i := range fields {
		if fields[i].Kind != http1.Connection {
			continue
		}
		for token := range strings.SplitSeq(fields[i].Value, ",") {
			if strings.EqualFold(strings.Trim(token, " \t"), name) {
				return true
			}
		}
	}
	return false
}

// appendForwarded appends the fields that the integration gets to see: those of the
// client that pass, without Host, and behind them the agent's own X-Forwarded-*.
// The strings of dst may be pieces of the request.
func (h *head) appendForwarded(dst []http1.Field) []http1.Field {
	begin := len(dst)
	for i := range h.fields {
		if f := &h.fields[i]; h.passes(f) {
			dst = append(dst, *f)
		}
	}
	peer, proto, host, port := h.peerText, h.scheme, h.host, h.port
	if h.trusted {
		// What the peer says stands, and its address is added to those it names.
		kept := dst[:begin]
		var prior []string
		for _, f := range dst[begin:] {
			switch {
			case strings.EqualFold(f.Name, "X-Forwarded-For"):
				prior = append(prior, f.Value)
				continue
			case strings.EqualFold(f.Name, "X-Forwarded-Proto"):
				proto = ""
			case strings.EqualFold(f.Name, "X-Forwarded-Host"):
				host = ""
			case strings.EqualFold(f.Name, "X-Forwarded-Port"):
				port = ""
			}
			kept = append(kept, f)
		}
		dst = kept
		if len(prior) > 0 {
			peer = strings.Join(append(prior, peer), ", ")
		}
	}
	for _, f := range [...]http1.Field{
		{Name: "X-Forwarded-For", Value: peer}, {Name: "X-Forwarded-Proto", Value: proto},
		{Name: "X-Forwarded-Host", Value: host}, {Name: "X-Forwarded-Port", Value: port},
	} {
		if f.Value != "" {
			dst = append(dst, f)
		}
	}
	return dst
}

// passesBack reports whether a response's field may go on to the client. The agent's
// own are set beside them, and each side frames for itself.
func (r *response) passesBack(f *http1.Field) bool {
	if f.Kind.IsHopByHop() {
		return false
	}
	if len(f.Name) > 2 && f.Name[0]|0x20 == 'x' && (isFife(f.Name) || strings.EqualFold(f.Name, fieldRequestID) || strings.EqualFold(f.Name, fieldGatewayID)) {
		return false
	}
	return !r.lists || !listed(r.fields, f.Name)
}

// stamp yields the agent's own fields of a response.
func (x *exchange) stamp(yield func(name, value string)) {
	yield(fieldRequestID, x.id)
	if route.ExecuteAPI(x.host, x.path) {
		yield(fieldGatewayID, x.id)
	}
	if v := x.version(); v != "" {
		yield(fieldVersion, v)
	}
	if !x.expose {
		return
	}
	if x.variant != nil {
		yield(fieldVariant, x.variant.Name)
		yield(fieldDeployment, strconv.FormatUint(x.variant.Deployment.Number, 10))
	}
}
