package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

const (
	dialTimeout = 10 * time.Second
	// shunned is how long an address that could not be reached, or broke off, is
	// asked only after the others.
	shunned = 5 * time.Second
)

// guard says which addresses integrations may be at.
type guard struct {
	allowed []netip.Prefix
	own     func() []netip.AddrPort // where the agent itself listens; may be nil
}

// metadataIPv6 is where AWS serves instance metadata besides 169.254.169.254.
var metadataIPv6 = netip.MustParseAddr("fd00:ec2::254")

// check refuses addresses at which a host gets to know secrets of its own: link-local
// ones, metadata services among them, and the agent's own, whose admin interface
// trusts its network and whose data path would call itself for ever. It is asked
// about the address that is dialled, after name resolution, so a name that leads to
// one is refused too.
func (g *guard) check(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dial %s: want an IP address: %w", address, err)
	}
	addr := ap.Addr().Unmap().WithZone("")
	if containsAddr(g.allowed, addr) {
		return nil
	}
	if addr.IsLinkLocalUnicast() || addr == metadataIPv6 {
		return fmt.Errorf("dial %s: link-local addresses are not allowed for integrations", addr)
	}
	if g.own == nil {
		return nil
	}
	for _, own := range g.own() {
		if own.Port() == ap.Port() && (own.Addr().Unmap() == addr || own.Addr().IsUnspecified() && isLocal(addr)) {
			return fmt.Errorf("dial %s: the agent's own addresses are not allowed for integrations", ap)
		}
	}
	return nil
}

// isLocal reports whether an address is one of this host.
func isLocal(addr netip.Addr) bool {
	if addr.IsLoopback() || addr.IsUnspecified() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true // better one too few than the own
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(addr.AsSlice()) {
			return true
		}
	}
	return false
}

func (g *guard) control(_, address string, _ syscall.RawConn) error { return g.check(address) }

// dialer connects to one host. Every connection resolves the name anew; which of its
// addresses are well is known from those before. Safe for concurrent use.
type dialer struct {
	guard      *guard
	host, port string

	mu     sync.Mutex
	turn   int
	failed map[netip.Addr]time.Time
}

// dial connects to one of the host's addresses, in turn, until ctx ends.
func (d *dialer) dial(ctx context.Context) (net.Conn, error) {
	addrs, err := d.resolve(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for i, addr := range d.order(addrs, time.Now()) {
		conn, err := d.dialAddr(ctx, addr, len(addrs)-i)
		if err == nil {
			d.report(addr, true)
			return conn, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
		d.report(addr, false)
	}
	return nil, errors.Join(errs...)
}

func (d *dialer) resolve(ctx context.Context) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(d.host); err == nil {
		return []netip.Addr{addr}, nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", d.host)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", d.host, err)
	}
	return addrs, nil
}

// dialAddr connects to one address. While there are others to try, it leaves them
// their share of the time.
func (d *dialer) dialAddr(ctx context.Context, addr netip.Addr, left int) (net.Conn, error) {
	timeout := dialTimeout
	if by, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(by)/time.Duration(left))
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	dialer := net.Dialer{Control: d.guard.control}
	return dialer.DialContext(ctx, "tcp", net.JoinHostPort(addr.Unmap().String(), d.port))
}

// order rotates the addresses, so that all get their turn, and puts those last that
// failed a short while ago. None is left out: all may have failed.
func (d *dialer) order(addrs []netip.Addr, now time.Time) []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn++
	well, ill := make([]netip.Addr, 0, len(addrs)), []netip.Addr(nil)
	for i := range addrs {
		addr := addrs[(i+d.turn)%len(addrs)]
		if since, ok := d.failed[addr.Unmap()]; ok && now.Sub(since) < shunned {
			ill = append(ill, addr)
		} else {
			well = append(well, addr)
		}
	}
	return append(well, ill...)
}

// report remembers how an address was found.
func (d *dialer) report(addr netip.Addr, well bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	addr = addr.Unmap().WithZone("")
	if well {
		delete(d.failed, addr)
		return
	}
	if d.failed == nil || len(d.failed) > 64 { // addresses come and go
		d.failed = make(map[netip.Addr]time.Time)
	}
	d.failed[addr] = time.Now()
}
