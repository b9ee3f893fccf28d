package proxy

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/fifegateway/fife/agent/route"
)

// TestMaxPerAddress: connections of one IPv4 address count together, however the socket
// spells it, and so do those of one IPv6 /64; what has ended counts no more.
func TestMaxPerAddress(t *testing.T) {
	p := newProxy(t, compile(t, stage(nil), route.MockSpec{}), func(c *Config) { c.MaxPerAddress = 2 })
	open := make(map[string]*memoryConn)
	for _, c := range []struct {
		remote  string
		refused bool
	}{
		{"192.0.2.1:1", false},
		{"[::ffff:192.0.2.1]:2", false},
		{"192.0.2.1:3", true},
		{"[::ffff:192.0.2.1]:4", true},
		{"192.0.2.2:5", false},
		{"[2001:db8:0:1::1]:6", false},
		{"[2001:db8:0:1:ffff:ffff:ffff:ffff]:7", false},
		{"[2001:db8:0:1:8000::]:8", true},
		{"[2001:db8:0:2::1]:9", false},
		{"[2001:db8::1]:10", false},
	} {
		conn := connect(p, c.remote)
		open[c.remote] = conn
		if err := exchangeOne(conn); (err != nil) != c.refused {
			t.Errorf("%s: %v, refused: want %v", c.remote, err, c.refused)
		}
	}
	for _, remote := range []string{"192.0.2.1:1", "[2001:db8:0:1::1]:6"} {
		_ = open[remote].Close()
		await(t, remote+" to end", open[remote].ended)
		for { // it is off the books just after its end
			conn := connect(p, remote)
			err := exchangeOne(conn)
			if err == nil {
				open[remote] = conn
				break
			}
			await(t, remote+" to be refused", conn.ended)
		}
	}
	for _, conn := range open {
		_ = conn.Close()
		await(t, "the end", conn.ended)
	}
}

// exchangeOne sends a request and reads the beginning of its answer.
func exchangeOne(conn net.Conn) error {
	if _, err := io.WriteString(conn, "GET /prod/x HTTP/1.1\r\nHost: demo.localhost\r\n\r\n"); err != nil {
		return err
	}
	answer := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	if string(answer) != "HTTP/1.1 200" {
		return errors.New("answered " + string(answer))
	}
	return nil
}
