package proxy

import (
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/fifegateway/fife/agent/http1"
	"github.com/fifegateway/fife/agent/route"
)

// head is what a request says before its body, in plain values: everything that
// is decided is decided from here, whichever engine read the bytes.
type head struct {
	method string
	host   string        // as sent, may carry a port
	path   string        // escaped; as it came, and normalised once decided
	query  string        // escaped, without the question mark
	fields []http1.Field // in their order; read only
	lists  bool          // whether a Connection field is among them
	length int64         // of the body; -1 if only its end will tell
	proto  string        // HTTP/1.0, HTTP/1.1 or HTTP/2.0
	scheme string        // http or https, as the client used it
	port   string        // the one that the client connected to

	peer    netip.Addr // who is connected; invalid if that is no IP address
	client  netip.Addr // who the request is from, as trusted peers tell it
	trusted bool       // whether the peer is trusted

	peerText string // peer, as text
}

// values returns the values of all fields of a name, whose case does not matter.
func (h *head) values(name string) []string {
	var out []string
	for i := range h.fields {
		if strings.EqualFold(h.fields[i].Name, name) {
			out = append(out, h.fields[i].Value)
		}
	}
	return out
}

// first returns the value of the first field of a name, or "".
func (h *head) first(name string) string {
	for i := range h.fields {
		if strings.EqualFold(h.fields[i].Name, name) {
			return h.fields[i].Value
		}
	}
	return ""
}

// exchange is one request on its way through. It keeps the table that it began
// with, so that a swap in the meantime never gives it two minds.
type exchange struct {
	head
	id     string
	start  time.Time
	leased time.Time // until when the agent has a lease
	table  *route.Table
	expose bool // say on the response what routed it

	stage   *route.Stage   // nil: no such stage
	variant *route.Variant // nil with stage
	route   *route.Route   // nil: no such route
	rest    string         // path below the stage
	params  route.Params

	inside     *gate         // to leave at the end; nil if the stage does not limit concurrency
	above      limit         // of the stage
	retryAfter time.Duration // with above; 0 if nobody knows

	scratch *scratch

	status   int           // of the response, once there is one
	upstream string        // address, or function, that was asked
	waited   time.Duration // until the integration's response began
	received int64         // bytes of the request's body
	sent     int64         // bytes of the response's body
	took     time.Duration // until the end of the response
	unset    bool
}

// scratch is memory that a request needs for as long as it lasts.
type scratch struct {
	id     [36]byte
	uri    []byte
	out    []byte        // what is written next, to either side
	fields []http1.Field // what the integration gets to see
}

var scratches = sync.Pool{New: func() any {
	return &scratch{out: make([]byte, 0, 2<<10), fields: make([]http1.Field, 0, 32)}
}}

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
	if stage.ConsistentClients {
		stage = stage.At(asked(x.first(fieldVersion), x.table.Version().Epoch))
	}
	x.stage, x.rest = stage, rest
	x.expose = x.expose || stage.ExposeHeaders
	x.variant = p.choose(stage, &x.head, x.start)
	if stage.FailClosed && !x.start.Before(x.leased) {
		p.metrics.noLease.Inc()
		return unavailable.because(nil)
	}
	if err := p.admit(x); err != nil {
		return err
	}
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
	if s.AllowOverride {
		if v := override(s, h.values("x-fife-variant"), now); v != nil {
			return v
		}
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
		return h.first(s.StickyName)
	case route.KeyCookie:
		return cookie(h.values("Cookie"), s.StickyName)
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
