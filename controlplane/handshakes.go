package controlplane

import (
	"container/list"
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

// Bounds of connections that have not yet said who they are. A handshake takes
// milliseconds unless somebody means it to last.
const (
	handshakeTimeout      = 5 * time.Second
	maxHandshakes         = 2048 // on one port
	maxHandshakesOfSource = 256  // on one port by one IP address
)

// handshakes bounds how many connections of a port, and of a source, are in their
// handshake. When there are too many the oldest is closed, not the newest: one that
// means to finish is done by then, and those who do not cannot keep others out. It
// is safe for concurrent use.
type handshakes struct {
	mu       sync.Mutex
	all      *list.List // of *handshake, oldest first
	bySource map[string]*list.List
}

type handshake struct {
	conn   net.Conn
	source string
	inAll  *list.Element
	inOwn  *list.Element
}

func newHandshakes() *handshakes {
	return &handshakes{all: list.New(), bySource: map[string]*list.List{}}
}

// begin notes that a connection is in its handshake, until the returned function is
// called.
func (h *handshakes) begin(conn net.Conn) (end func()) {
	s := &handshake{conn: conn, source: sourceOf(conn)}
	h.mu.Lock()
	defer h.mu.Unlock()
	own, ok := h.bySource[s.source]
	if !ok {
		own = list.New()
		h.bySource[s.source] = own
	}
	if own.Len() >= maxHandshakesOfSource {
		h.cut(own.Front().Value.(*handshake))
	} else if h.all.Len() >= maxHandshakes {
		h.cut(h.all.Front().Value.(*handshake))
	}
	h.bySource[s.source] = own // cut has removed it if that was its last
	s.inAll, s.inOwn = h.all.PushBack(s), own.PushBack(s)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.remove(s)
	}
}

// cut closes a connection, whereupon its handshake fails.
func (h *handshakes) cut(s *handshake) {
	h.remove(s)
	_ = s.conn.Close() // whoever reads from it notices
}

func (h *handshakes) remove(s *handshake) {
	if s.inAll == nil {
		return // it was cut
	}
	own := h.bySource[s.source]
	h.all.Remove(s.inAll)
	own.Remove(s.inOwn)
	if own.Len() == 0 {
		delete(h.bySource, s.source)
	}
	s.inAll, s.inOwn = nil, nil
}

// sourceOf returns the address that counts as one source.
func sourceOf(conn net.Conn) string {
	host, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		return conn.RemoteAddr().String()
	}
	return host
}

// boundCredentials are credentials of a gRPC server with bounds on its handshakes.
type boundCredentials struct {
	credentials.TransportCredentials
	handshakes *handshakes
}

// ServerHandshake implements credentials.TransportCredentials.
func (c boundCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	defer c.handshakes.begin(conn)()
	return c.TransportCredentials.ServerHandshake(conn)
}

// Clone implements credentials.TransportCredentials.
func (c boundCredentials) Clone() credentials.TransportCredentials {
	return boundCredentials{c.TransportCredentials.Clone(), c.handshakes}
}

// handshaker is a connection that shakes hands, such as *tls.Conn.
type handshaker interface {
	HandshakeContext(ctx context.Context) error
}
