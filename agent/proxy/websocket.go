package proxy

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// isWebSocket reports whether a request opens a WebSocket (RFC 6455, 4.1): the
// one protocol that a connection may be upgraded to.
func isWebSocket(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoMinor == 1 &&
		hasToken(r.Header["Connection"], "upgrade") &&
		len(r.Header["Upgrade"]) == 1 && strings.EqualFold(r.Header["Upgrade"][0], "websocket") &&
		len(r.Header["Sec-Websocket-Key"]) == 1
}

// checkSwitch says why a 101 is not the upstream's own consent to out. Without
// that check an upstream could open a tunnel that nobody asked for.
func checkSwitch(out *http.Request, res *http.Response) error {
	if len(out.Header["Upgrade"]) == 0 {
		return errors.New("upstream switched protocols unasked")
	}
	if u := res.Header["Upgrade"]; len(u) != 1 || !strings.EqualFold(u[0], "websocket") {
		return fmt.Errorf("upstream switched to %q, not to websocket", u)
	}
	sum := sha1.Sum([]byte(out.Header["Sec-Websocket-Key"][0] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if a := res.Header["Sec-Websocket-Accept"]; len(a) != 1 || a[0] != base64.StdEncoding.EncodeToString(sum[:]) {
		return errors.New("upstream's Sec-WebSocket-Accept does not fit the key")
	}
	return nil
}

// tunnel passes on the upstream's consent to a WebSocket, and then bytes both
// ways until one side ends. The tunnel keeps the variant that it was opened on.
func (x *exchange) tunnel(w http.ResponseWriter, r *http.Request, out *http.Request, res *http.Response) error {
	if err := checkSwitch(out, res); err != nil {
		return internalError.because(err)
	}
	upstream, ok := res.Body.(io.ReadWriteCloser)
	if !ok {
		return internalError.because(fmt.Errorf("upstream's connection is a %T: want io.ReadWriteCloser", res.Body))
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return internalError.because(fmt.Errorf("take over the client's connection: %w", err))
	}
	x.status = res.StatusCode
	// From here on nothing is net/http's to answer or to close.
	hangUp := func() {
		_ = client.Close()
		_ = upstream.Close()
	}
	defer hangUp()
	defer context.AfterFunc(r.Context(), hangUp)()

	h := make(http.Header, len(res.Header)+6)
	copyResponseHeader(h, res.Header)
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	x.stamp(h)
	if err := writeSwitch(buffered.Writer, h); err != nil {
		return nil // the client is gone; there is nothing left to break off
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(upstream, buffered.Reader)
		hangUp() // the other direction may be stuck in a read or a write
	}()
	_, _ = io.Copy(client, upstream)
	hangUp()
	<-done
	return nil
}

func writeSwitch(w *bufio.Writer, h http.Header) error {
	_, _ = w.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = h.Write(w)
	_, _ = w.WriteString("\r\n")
	return w.Flush() // fails if anything before did
}
