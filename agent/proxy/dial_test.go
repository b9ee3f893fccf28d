package proxy

import (
	"net/netip"
	"strings"
	"testing"
)

// TestTransportChecksWhatItDials would wait in vain if the address were dialled.
func TestTransportChecksWhatItDials(t *testing.T) {
	_, err := newTransport(nil).DialContext(t.Context(), "tcp", "169.254.169.254:80")
	if err == nil || !strings.Contains(err.Error(), "link-local") {
		t.Errorf("got %v", err)
	}
}

func TestCheckDial(t *testing.T) {
	allowed := []netip.Prefix{netip.MustParsePrefix("169.254.10.0/24")}
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
	} {
		if err := checkDial(address, allowed); (err == nil) != ok {
			t.Errorf("checkDial(%s) = %v", address, err)
		}
	}
}
