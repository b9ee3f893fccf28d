package proxy

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/fifegateway/fife/agent/route"
)

// head is what a request says before its body, in plain values: everything that
// is decided is decided from here, whichever engine read the bytes.
type head struct {
	method string
	host   string      // as sent, may carry a port
	path   string      // escaped; as it came, and normalised once decided
	query  string      // escaped, without the question mark
	header http.Header // canonical names; read only
	scheme string      // http or https, as the client used it
	port   string      // the one that the client connected to

	peer    netip.Addr // who is connected; invalid if that is no IP address
	client  netip.Addr // who the request is from, as trusted peers tell it
	trusted bool       // whether the peer is trusted
}

// exchange is one request on its way through. It keeps the table that it began
// with, so that a swap in the meantime never gives it two minds.
type exchange struct {
	head
	id     string
	start  time.Time
	table  *route.Table
	expose bool // say on the response what routed it

	stage   *route.Stage   // nil: no such stage
	variant *route.Variant // nil with stage
	route   *route.Route   // nil: no such route
	rest    string         // path below the stage
	params  route.Params

	status int // of the response, once there is one
	unset  bool
}

// decide takes a request from its head to its route. The error is a *failure.
func (p *Proxy) decide(x *exchange) error {
	if x.method == http.MethodConnect || x.method == http.MethodTrace {
		return methodNotAllowed.because(nil)
	}
	path, err := normalizePath(x.path)
	if err != nil {
		return badRequest.because(err)
	}
	x.path, x.query = path, normalizeQuery(x.query)
	stage, rest, ok := x.table.Lookup(x.host, path, p.defaultAPI)
	if !ok {
		return noRoute.because(nil)
	}
	x.stage, x.rest = stage, rest
	x.expose = x.expose || stage.ExposeHeaders
	x.variant = p.choose(stage, &x.head, x.start)
	if x.route = x.variant.Match(x.method, rest, &x.params); x.route == nil {
		return noRoute.because(nil)
	}
	return nil
}

// choose picks the variant: the one that the request is allowed to ask for, else
// by its sticky key, else by chance.
func (p *Proxy) choose(s *route.Stage, h *head, now time.Time) *route.Variant {
	if s.Canary() == nil {
		return s.Base()
	}
	if v := override(s, h.header[headerVariant], now); v != nil {
		return v
	}
	if key := stickyKey(s, h); key != "" {
		return s.Pick(s.Hash(key))
	}
	return s.Pick(p.rand())
}

// stickyKey returns the key that the request is split by, or "" if it has none.
// The text matters, since every agent must hash the same bytes: headers and
// cookies as they came, a query parameter decoded, an address in its canonical
// form with IPv4 never mapped into IPv6.
func stickyKey(s *route.Stage, h *head) string {
	switch s.Sticky {
	case route.KeyHeader:
		if values := h.header[s.StickyName]; len(values) > 0 {
			return values[0]
		}
	case route.KeyCookie:
		return cookie(h.header["Cookie"], s.StickyName)
	case route.KeyQuery:
		for name, value := range queryPairs(h.query) {
			if name == s.StickyName {
				return value
			}
		}
	case route.KeyClientIP:
		if h.client.IsValid() {
			return h.client.String()
		}
	}
	return ""
}

// cookie returns the value of the first cookie of that name.
func cookie(headers []string, name string) string {
	for _, line := range headers {
		for pair := range strings.SplitSeq(line, ";") {
			n, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
			if n == name {
				return value
			}
		}
	}
	return ""
}

// clientAddr returns who a request is from. Every trusted proxy appended whom it
// got the request from, so the client is the last address that is not itself a
// trusted proxy's; what stands before that may be made up.
func clientAddr(peer netip.Addr, forwardedFor []string, trusted func(netip.Addr) bool) netip.Addr {
	client := peer
	for i := len(forwardedFor) - 1; i >= 0; i-- {
		for line, more := forwardedFor[i], true; more; {
			if !trusted(client) {
				return client
			}
			var last string
			if j := strings.LastIndexByte(line, ','); j >= 0 {
				line, last = line[:j], line[j+1:]
			} else {
				last, more = line, false
			}
			addr, err := netip.ParseAddr(strings.Trim(last, " \t"))
			if err != nil {
				return client
			}
			client = addr.Unmap().WithZone("")
		}
	}
	return client
}

// stamp sets the agent's own headers on a response, after those of the
// integration: nobody else's word on them gets through.
func (x *exchange) stamp(h http.Header) {
	h["X-Amzn-Requestid"] = []string{x.id}
	if !x.expose {
		return
	}
	h[headerVersion] = []string{x.table.Version().String()}
	if x.variant != nil {
		h[headerVariant] = []string{x.variant.Name}
		h[headerDeployment] = []string{strconv.FormatUint(x.variant.Deployment.Number, 10)}
	}
}
