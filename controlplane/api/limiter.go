package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/fifegateway/fife/controlplane/identity"
)

// Limits are how much each caller may ask of one node of the control plane. Callers
// are told apart by the name in their certificate, by their bearer token or access key,
// and those who are not known by the address that they come from. Calls that a node has
// passed on were counted there, those that a signed request comes to with the request.
type Limits struct {
	Users     Limit
	Addresses Limit // of callers who are not known: of all that come from one address
	Agents    Limit
	Servers   Limit
}

// Limit is how much one caller may ask. The zero Limit is none.
type Limit struct {
	Rate    float64 // calls a second in the long run, and beside them as many streams; 0 for no limit
	Burst   int     // calls at once after a quiet time
	Streams int     // streams that are open at a time; 0 for no limit
}

// DefaultLimits returns limits far above what people, pipelines and agents ask for. Who
// joins is counted by its address, of which many may have the same.
func DefaultLimits() Limits {
	return Limits{
		Users:     Limit{Rate: 100, Burst: 500, Streams: 200},
		Addresses: Limit{Rate: 100, Burst: 1000, Streams: 200},
		Agents:    Limit{Rate: 10, Burst: 100},
		Servers:   Limit{Rate: 2000, Burst: 4000},
	}
}

// Check returns an error that names a limit which makes no sense, or nil.
func (l Limits) Check() error {
	var errs []error
	for _, c := range []struct {
		what string
		Limit
	}{{"users", l.Users}, {"addresses", l.Addresses}, {"agents", l.Agents}, {"servers", l.Servers}} {
		if c.Rate < 0 || c.Rate > 1e6 || c.Burst < 0 || c.Streams < 0 || (c.Rate > 0) != (c.Burst > 0) {
			errs = append(errs, fmt.Errorf(
				"limit of %s: rate %v must lie between 0 and 1,000,000, burst %d and streams %d must not be negative, and rate and burst are both 0 or neither",
				c.what, c.Rate, c.Burst, c.Streams))
		}
	}
	return errors.Join(errs...)
}

// limitError says that a caller is above a limit. Nothing was done.
type limitError struct {
	caller  string
	limit   Limit
	wait    time.Duration // until another call is let through
	streams bool          // whether it has too many streams open
}

func (e *limitError) Error() string {
	if e.streams {
		return fmt.Sprintf("%s has %d streams open on this node, which is the most allowed; end some", e.caller, e.limit.Streams)
	}
	return fmt.Sprintf("%s calls more often than %v times a second, which is the most allowed on a node; nothing was done; try again in %v",
		e.caller, e.limit.Rate, e.wait)
}

// limiter counts what callers ask. A nil *limiter counts nothing. It is safe for
// concurrent use.
type limiter struct {
	users, addresses, agents, servers *usages
}

func newLimiter(l Limits) *limiter {
	return &limiter{newUsages(l.Users), newUsages(l.Addresses), newUsages(l.Agents), newUsages(l.Servers)}
}

// of returns where the calls of a caller are counted, and under which name. verified is
// the context that verification has returned; nil if it has failed. ok is false if the
// call was counted before, by the node that has passed it on.
func (l *limiter) of(ctx, verified context.Context) (u *usages, caller string, ok bool) {
	if verified == nil {
		return l.addresses, addressOf(peerOf(ctx)), true
	}
	if s, ok := verified.Value(signerKey{}).(signer); ok {
		return l.users, "token " + s.key, true
	}
	if len(metadata.ValueFromIncomingContext(verified, forwardedBy)) > 0 {
		return nil, "", false
	}
	id, known := identity.FromContext(verified)
	token, _ := verified.Value(tokenKey{}).(string)
	switch {
	case !known:
		return l.addresses, addressOf(peerOf(ctx)), true
	case token != "":
		return l.users, "token " + token, true
	case id.Class == identity.Agent:
		return l.agents, nameOf(id), true
	case id.Class == identity.Server:
		return l.servers, nameOf(id), true
	}
	return l.users, nameOf(id), true
}

// call counts a call.
func (l *limiter) call(ctx, verified context.Context) error {
	if l == nil {
		return nil
	}
	if u, caller, ok := l.of(ctx, verified); ok {
		return u.call(caller)
	}
	return nil
}

// open counts a stream. The function that it returns must be called at its end.
func (l *limiter) open(ctx, verified context.Context) (end func(), err error) {
	if l == nil {
		return func() {}, nil
	}
	if u, caller, ok := l.of(ctx, verified); ok {
		return u.open(caller)
	}
	return func() {}, nil
}

// addressOf returns by what callers from an address are counted: a host of IPv4, and of
// IPv6 the network of 64 bits that a host has to itself.
func addressOf(source string) string {
	a, err := netip.ParseAddrPort(source)
	if err != nil {
		return "address " + cmp.Or(source, "unknown")
	}
	ip := a.Addr().Unmap().WithZone("")
	if ip.Is6() {
		network, _ := ip.Prefix(64) // it has as many bits
		return "network " + network.String()
	}
	return "address " + ip.String()
}

// maxUsages is how many callers of one kind are told apart at a time; those who are more
// share a usage. Callers who have used up nothing are not remembered.
const maxUsages = 16384

// usages count what the callers of one kind have used up of their limit.
type usages struct {
	limit Limit

	mu      sync.Mutex
	of      map[string]*usage
	others  usage     // of all who are beyond maxUsages
	cleared time.Time // when those who have used up nothing were last forgotten
}

func newUsages(l Limit) *usages { return &usages{limit: l, of: map[string]*usage{}} }

// usage is what one caller has used up. The times are when a bucket of tokens will be
// full again, in nanoseconds: the theoretical arrival time of the generic cell rate
// algorithm (ITU-T I.371).
type usage struct {
	calls, streams int64
	open           int
}

func (u *usage) idle(now int64) bool { return u.open == 0 && u.calls <= now && u.streams <= now }

// get returns what a caller has used up. The caller of get holds mu.
func (u *usages) get(caller string, now time.Time) *usage {
	if known, ok := u.of[caller]; ok {
		return known
	}
	if len(u.of) >= maxUsages {
		if now.Sub(u.cleared) < time.Second {
			return &u.others
		}
		u.cleared = now
		for name, known := range u.of {
			if known.idle(now.UnixNano()) {
				delete(u.of, name)
			}
		}
		if len(u.of) >= maxUsages {
			return &u.others
		}
	}
	fresh := &usage{}
	u.of[caller] = fresh
	return fresh
}

// call counts a call. The error is a *limitError.
func (u *usages) call(caller string) error {
	if u.limit.Rate == 0 {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	return u.take(caller, &u.get(caller, now).calls, now)
}

// open counts a stream that is opened, and is open until end is called. The error is a
// *limitError.
func (u *usages) open(caller string) (end func(), err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	used := u.get(caller, now)
	if u.limit.Streams > 0 && used.open >= u.limit.Streams {
		return nil, &limitError{caller: caller, limit: u.limit, streams: true}
	}
	if err := u.take(caller, &used.streams, now); err != nil {
		return nil, err
	}
	if u.limit.Streams == 0 {
		return func() {}, nil // those who have no limit of them need not be remembered for them
	}
	used.open++
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		used.open--
	}, nil
}

// take takes a token out of a bucket. The caller of take holds mu.
func (u *usages) take(caller string, due *int64, at time.Time) error {
	if u.limit.Rate == 0 {
		return nil
	}
	now, interval := at.UnixNano(), int64(float64(time.Second)/u.limit.Rate)
	depth := interval * int64(u.limit.Burst)
	full := min(max(*due, now), now+depth) // a clock that was set back leaves nobody out for longer
	if wait := full + interval - now - depth; wait > 0 {
		*due = full
		return &limitError{caller: caller, limit: u.limit, wait: time.Duration(wait)}
	}
	*due = full + interval
	return nil
}
