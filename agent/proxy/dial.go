package proxy

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// newTransport makes a transport for upstreams that stage variables and
// deployments name: its protocols are set by the caller, and the addresses that
// it dials are checked. It takes no proxy from the environment, follows nothing
// and unpacks nothing.
func newTransport(allowed []netip.Prefix) *http.Transport {
	dialer := &net.Dialer{
		Timeout: 10 * time.Second,
		Control: func(_, address string, _ syscall.RawConn) error { return checkDial(address, allowed) },
	}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		Protocols:              new(http.Protocols),
		DisableCompression:     true,
		TLSHandshakeTimeout:    10 * time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConns:           4096,
		MaxIdleConnsPerHost:    256,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// metadataIPv6 is where AWS serves instance metadata besides 169.254.169.254.
var metadataIPv6 = netip.MustParseAddr("fd00:ec2::254")

// checkDial refuses addresses at which a host gets to know secrets of its own:
// link-local ones, metadata services among them. It sees the address after name
// resolution, so a name that resolves to one is refused too.
func checkDial(address string, allowed []netip.Prefix) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dial %s: want an IP address: %w", address, err)
	}
	addr := ap.Addr().Unmap().WithZone("")
	if (addr.IsLinkLocalUnicast() || addr == metadataIPv6) && !containsAddr(allowed, addr) {
		return fmt.Errorf("dial %s: link-local addresses are not allowed for integrations", addr)
	}
	return nil
}
