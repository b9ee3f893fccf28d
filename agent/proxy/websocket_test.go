package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/fifegateway/fife/agent/route"
)

// dial opens a WebSocket that speaks chat.
func dial(t *testing.T, url string) (*websocket.Conn, http.Header) {
	t.Helper()
	//nolint:bodyclose // the connection owns the body
	c, res, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{Subprotocols: []string{"chat"}})
	if err != nil {
		t.Fatal(err)
	}
	return c, res.Header
}

func TestWebSocket(t *testing.T) {
	closed := make(chan error, 1)
	table := proxied(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Fife-Variant", "canary")
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"}, InsecureSkipVerify: true})
		if err != nil {
			closed <- err
			return
		}
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil {
				closed <- err
				return
			}
			if err := c.Write(r.Context(), kind, append([]byte("echo "), message...)); err != nil {
				closed <- err
				return
			}
		}
	})
	p := newProxy(t, table, nil)
	front := edge(t, p)
	c, header := dial(t, front.URL+"/prod/chat")
	if got := header["X-Fife-Variant"]; len(got) != 1 || got[0] != "base" || !uuid.MatchString(header.Get("X-Amzn-Requestid")) || c.Subprotocol() != "chat" {
		t.Errorf("response headers: %v", header)
	}
	for _, message := range []string{"one", strings.Repeat("two", 10_000)} {
		if err := c.Write(t.Context(), websocket.MessageText, []byte(message)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(t.Context()); err != nil || string(got) != "echo "+message {
			t.Errorf("got %.20q, %v; want echo of %.20q", got, err, message)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := await(t, "the upstream's connection to end", closed); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("upstream: %v", err)
	}
}

// TestWebSocketEndsWithTheServer sees to it that a tunnel does not outlive the time
// that requests under way get in the end.
func TestWebSocketEndsWithTheServer(t *testing.T) {
	table := proxied(t, func(w http.ResponseWriter, r *http.Request) {
		if c, err := websocket.Accept(w, r, nil); err == nil {
			_, _, _ = c.Read(r.Context())
		}
	})
	p := newProxy(t, table, func(c *Config) { c.Drain = time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx, l, nil) }()
	c, _ := dial(t, "http://"+l.Addr().String()+"/prod/chat")
	cancel()
	if _, _, err := c.Read(t.Context()); err == nil {
		t.Error("the tunnel is still open")
	}
	if err := await(t, "the server's end", done); err != nil {
		t.Error(err)
	}
}

// TestUpgradesThatAreNone looks at what an upstream sees of other upgrades.
func TestUpgradesThatAreNone(t *testing.T) {
	saw := make(chan http.Header, 1)
	table := proxied(t, func(_ http.ResponseWriter, r *http.Request) { saw <- r.Header })
	front := edge(t, newProxy(t, table, nil))
	const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
	for name, head := range map[string]string{
		"h2c":        "GET /prod/x HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
		"two":        "GET /prod/x HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c, websocket\r\n" + key,
		"POST":       "POST /prod/x HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + key,
		"HTTP/1.0":   "GET /prod/x HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + key,
		"no key":     "GET /prod/x HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket",
		"not listed": "GET /prod/x HTTP/1.1\r\nConnection: keep-alive\r\nUpgrade: websocket\r\n" + key,
	} {
		conn, err := net.Dial("tcp", front.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, head+"\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		_ = conn.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			t.Errorf("%s: got %v, %v", name, res, err)
			continue
		}
		_ = res.Body.Close()
		h := await(t, "the upstream", saw)
		if h.Get("Connection") != "" || h.Get("Upgrade") != "" || h.Get("Http2-Settings") != "" {
			t.Errorf("%s: upstream saw %v", name, h)
		}
	}
}

// TestFalseSwitch sees to it that an upstream opens no tunnel by a wrong answer.
func TestFalseSwitch(t *testing.T) {
	for name, answer := range map[string]string{
		"wrong accept":   "Upgrade: websocket\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n",
		"no accept":      "Upgrade: websocket\r\n",
		"other protocol": "Upgrade: h2c\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
	} {
		up := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"+answer+"\r\n")
			_, _ = conn.Read(make([]byte, 1)) // until the agent hangs up
			_ = conn.Close()
		}))
		front := edge(t, newProxy(t, compile(t, stage(nil), route.HTTPSpec{URI: up.URL}), nil))
		r := request(t, "GET", front.URL+"/prod/x", nil)
		r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
		if res := fetch(t, r); res.status != http.StatusInternalServerError {
			t.Errorf("%s: got %+v", name, res)
		}
	}
}
