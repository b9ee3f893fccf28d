package proxy

import (
	"net/netip"
	"testing"
)

func TestClientAddr(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		peer      string
		forwarded []string
		want      string
	}{
		{"192.0.2.1", nil, "192.0.2.1"},
		{"192.0.2.1", []string{"1.1.1.1"}, "192.0.2.1"},
		{"10.0.0.1", nil, "10.0.0.1"},
		{"10.0.0.1", []string{"1.1.1.1"}, "1.1.1.1"},
		{"10.0.0.1", []string{"9.9.9.9, 1.1.1.1 ,10.0.0.2"}, "1.1.1.1"},
		{"10.0.0.1", []string{"9.9.9.9", "1.1.1.1", "10.0.0.2, fd00::1"}, "1.1.1.1"},
		{"10.0.0.1", []string{"10.0.0.3,10.0.0.2"}, "10.0.0.3"},
		{"10.0.0.1", []string{"1.1.1.1, garbage, 10.0.0.2"}, "10.0.0.2"},
		{"10.0.0.1", []string{"::ffff:1.1.1.1"}, "1.1.1.1"},
		{"10.0.0.1", []string{""}, "10.0.0.1"},
	} {
		got := clientAddr(netip.MustParseAddr(c.peer), c.forwarded, func(a netip.Addr) bool { return containsAddr(trusted, a) })
		if got.String() != c.want {
			t.Errorf("peer %s, forwarded for %q: got %s, want %s", c.peer, c.forwarded, got, c.want)
		}
	}
	if got := clientAddr(netip.Addr{}, []string{"1.1.1.1"}, func(a netip.Addr) bool { return containsAddr(trusted, a) }); got.IsValid() {
		t.Errorf("a peer without address: got %s", got)
	}
}

func TestCookie(t *testing.T) {
	for _, c := range []struct {
		headers []string
		want    string
	}{
		{[]string{"user=1"}, "1"},
		{[]string{"a=b", "c=d; user=1; user=2"}, "1"},
		{[]string{"user=\"q\""}, "\"q\""},
		{[]string{"user=a=b"}, "a=b"},
		{[]string{"xuser=1;user ; users=2"}, ""},
		{nil, ""},
	} {
		if got := cookie(c.headers, "user"); got != c.want {
			t.Errorf("cookie(%q) = %q, want %q", c.headers, got, c.want)
		}
	}
}
