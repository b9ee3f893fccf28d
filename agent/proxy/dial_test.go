package proxy

import (
	"net/netip"
	"strings"
	"testing"
)

// TestDialsAreChecked would wait in vain if the addresses were dialled.
func TestDialsAreChecked(t *testing.T) {
	d := &dialer{guard: &guard{}, host: "169.254.169.254", port: "80"}
	if _, err := d.dial(t.Context()); err == nil || !strings.Contains(err.Error(), "link-local") {
		t.Errorf("dialer: got %v", err)
	}
	if _, err := newTransport(&guard{}).DialContext(t.Context(), "tcp", "169.254.169.254:80"); err == nil || !strings.Contains(err.Error(), "link-local") {
		t.Errorf("transport: got %v", err)
	}
}

func TestGuard(t *testing.T) {
	g := &guard{
		allowed: []netip.Prefix{netip.MustParsePrefix("169.254.10.0/24"), netip.MustParsePrefix("127.0.0.9/32")},
		own: func() []netip.AddrPort {
			return []netip.AddrPort{netip.MustParseAddrPort("[::]:8080"), netip.MustParseAddrPort("127.0.0.1:8081")}
		},
	}
	for address, ok := range map[string]bool{
		"127.0.0.1:80":                true,
		"10.0.0.1:80":                 true,
		"[2001:db8::1]:443":           true,
		"169.254.10.1:80":             true,
		"169.254.169.254:80":          false,
		"[::ffff:169.254.169.254]:80": false,
		"[fe80::1%eth0]:80":           false,
		"[fd00:ec2::254]:80":          false,
		"/run/socket":                 false,
		"127.0.0.1:8080":              false, // the agent's own
		"127.0.0.2:8080":              false,
		"[::1]:8080":                  false,
		"[::ffff:127.0.0.1]:8080":     false,
		"0.0.0.0:8080":                false,
		"127.0.0.9:8080":              true,
		"192.0.2.1:8080":              true,
		"127.0.0.1:8081":              false,
		"127.0.0.2:8081":              true,
	} {
		if err := g.check(address); (err == nil) != ok {
			t.Errorf("check(%s) = %v", address, err)
		}
	}
}
