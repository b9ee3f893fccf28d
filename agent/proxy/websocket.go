package proxy

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/fifegateway/fife/agent/http1"
)

// isWebSocket reports whether a request opens a WebSocket (RFC 6455, 4.1): the one
// protocol that a connection may be upgraded to.
func (h *head) isWebSocket() bool {
	upgrades, keys, upgrade := 0, 0, false
	for i := range h.fields {
		f := &h.fields[i]
		switch {
		case f.Kind == http1.Connection:
			upgrade = upgrade || http1.HasToken(f.Value, "upgrade")
		case f.Kind == http1.Upgrade:
			if upgrades++; !http1.EqualFold(f.Value, "websocket") {
				return false
			}
		case len(f.Name) == len("Sec-WebSocket-Key") && strings.EqualFold(f.Name, "Sec-WebSocket-Key"):
			keys++
		}
	}
	return upgrade && upgrades == 1 && keys == 1 && h.method == http.MethodGet && h.proto == "HTTP/1.1"
}

// checkSwitch says why a 101 is not the upstream's own consent. Without that check an
// upstream could open a tunnel that nobody asked for.
func checkSwitch(key string, res *http1.Response) error {
	protocols, accepts := []string(nil), []string(nil)
	for _, f := range res.Fields {
		switch {
		case f.Kind == http1.Upgrade:
			protocols = append(protocols, f.Value)
		case strings.EqualFold(f.Name, "Sec-WebSocket-Accept"):
			accepts = append(accepts, f.Value)
		}
	}
	if len(protocols) != 1 || !http1.EqualFold(protocols[0], "websocket") {
		return fmt.Errorf("upstream switched to %q, not to websocket", protocols)
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if len(accepts) != 1 || accepts[0] != base64.StdEncoding.EncodeToString(sum[:]) {
		return errors.New("upstream's Sec-WebSocket-Accept does not fit the key")
	}
	return nil
}

// tunnel passes on the upstream's consent to a WebSocket, and then bytes both ways
// until one side ends. The tunnel keeps the variant that it was opened on. It ends
// the connection to the upstream.
func (x *exchange) tunnel(c client, u *upstream) error {
	defer u.close()
	defer c.unwatch()
	if err := checkSwitch(x.first("Sec-WebSocket-Key"), &u.res); err != nil {
		return internalError.because(err)
	}
	res := response{status: u.res.Status, reason: u.res.Reason, fields: u.res.Fields, lists: u.res.Connection, length: -1, bodiless: true}
	x.status = res.status
	if err := c.begin(x, &res, nil); err != nil {
		return errClientGone
	}
	conn, read := c.hijack()
	hangUp := func() {
		_ = conn.Close()
		_ = u.Conn.Close()
	}
	for _, side := range []net.Conn{conn, u.Conn} {
		_ = side.SetDeadline(time.Time{}) // a tunnel may be quiet for as long as it likes
	}
	done := make(chan int64)
	go func() {
		n, _ := u.Conn.Write(read)
		m, _ := io.Copy(u.Conn, conn)
		hangUp() // the other direction may be stuck in a read or a write
		done <- int64(n) + m
	}()
	n, _ := conn.Write(u.buf[u.r:u.w])
	m, _ := io.Copy(conn, u.Conn)
	hangUp()
	x.sent = int64(n) + m
	x.received = <-done
	return nil
}
