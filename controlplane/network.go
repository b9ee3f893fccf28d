package controlplane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/fifegateway/fife/controlplane/api"
	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/store"
)

// tcpNetwork is the Network of everything but tests.
type tcpNetwork struct{}

func (tcpNetwork) Listen(address string) (net.Listener, error) { return net.Listen("tcp", address) }

func (tcpNetwork) Dial(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

func (tcpNetwork) RaftTransport(
	listen, advertise string, gate RaftGate, logger *slog.Logger,
) (raft.Transport, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	return store.NewTransport(newStreamLayer(l, advertise, gate, logger), logger), nil
}

// RaftGate says whom the raft port of a node talks to.
type RaftGate struct {
	// ClusterID returns the node's cluster; empty until it belongs to one, and nobody
	// else does either.
	ClusterID func() string

	secrets *secrets // nil for plaintext
}

// streamLayer carries Raft over TCP and, unless it is a plaintext node's, mutual TLS.
// It tells the others an address that may be a host name, which Raft's own layer
// resolves once and for all. Every connection begins with the caller's cluster, and
// ends there if it is not the callee's: an address that has moved to another cluster
// must not bring the two logs together.
type streamLayer struct {
	net.Listener
	advertise  string
	gate       RaftGate
	handshakes *handshakes
	logger     *slog.Logger
}

var _ raft.StreamLayer = streamLayer{}

func newStreamLayer(l net.Listener, advertise string, gate RaftGate, logger *slog.Logger) streamLayer {
	return streamLayer{l, advertise, gate, newHandshakes(), logger}
}

// raftGreeting begins a connection; the cluster's id and a line feed follow.
const raftGreeting = "fife-raft 1 "

// Dial connects to another node.
func (s streamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", string(address))
	if err != nil {
		return nil, err
	}
	if s.gate.secrets != nil {
		secure := tls.Client(conn, identity.ClientConfig(s.gate.secrets.holder))
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		conn = secure
	}
	if _, err := io.WriteString(conn, raftGreeting+s.gate.ClusterID()+"\n"); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// Accept returns the next connection. Its handshake and greeting are read with its
// first bytes, so that a caller who says nothing holds up nobody else.
func (s streamLayer) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	end := s.handshakes.begin(conn)
	if s.gate.secrets != nil {
		conn = tls.Server(conn, identity.ServerConfig(s.gate.secrets.holder, false, s.gate.secrets.admitsToRaft))
	}
	return &greetedConn{Conn: conn, layer: s, greeted: end}, nil
}

// greetedConn checks who calls before it yields anything.
type greetedConn struct {
	net.Conn
	layer   streamLayer
	greeted func()
	once    sync.Once
	err     error
}

// Read reads what follows the greeting. One reader at a time, as Raft has it.
func (c *greetedConn) Read(p []byte) (int, error) {
	c.once.Do(func() {
		defer c.greeted()
		if c.err = c.greeting(); c.err != nil {
			c.layer.logger.Warn("raft connection refused", "from", c.RemoteAddr().String(), "error", c.err)
		}
	})
	if c.err != nil {
		return 0, c.err
	}
	return c.Conn.Read(p)
}

// Close closes the connection, greeted or not.
func (c *greetedConn) Close() error {
	c.greeted()
	if s := c.layer.gate.secrets; s != nil {
		s.raft.remove(c)
	}
	return c.Conn.Close()
}

var errNoCluster = errors.New("this node belongs to no cluster yet")

// greeting reads byte by byte, so that it takes nothing of what follows.
func (c *greetedConn) greeting() error {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	if secure, ok := c.Conn.(handshaker); ok {
		if err := secure.HandshakeContext(ctx); err != nil {
			return err
		}
	}
	deadline, _ := ctx.Deadline()
	if err := c.SetReadDeadline(deadline); err != nil {
		return err
	}
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(c.Conn, b); err != nil {
			return fmt.Errorf("read greeting: %w", err)
		}
		if b[0] == '\n' {
			break
		}
		if line = append(line, b[0]); len(line) > 128 {
			return errors.New("no greeting of a node")
		}
	}
	theirs, ok := strings.CutPrefix(string(line), raftGreeting)
	if !ok {
		return fmt.Errorf("no greeting of a node: %q", line)
	}
	switch ours := c.layer.gate.ClusterID(); {
	case ours == "":
		return errNoCluster
	case ours != theirs:
		return fmt.Errorf("%w: it is of %q, this node of %s", api.ErrOtherCluster, theirs, ours)
	}
	if secure, ok := c.Conn.(*tls.Conn); ok {
		peer, _ := identity.PeerOf(secure.ConnectionState().PeerCertificates)
		c.layer.gate.secrets.raft.add(c, peer)
	}
	return c.SetReadDeadline(time.Time{})
}

// raftConns are the connections that others have made to the raft port of a node that
// speaks TLS. It is safe for concurrent use.
type raftConns struct {
	mu   sync.Mutex
	open map[*greetedConn]identity.Peer
}

func (r *raftConns) add(c *greetedConn, p identity.Peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = map[*greetedConn]identity.Peer{}
	}
	r.open[c] = p
}

func (r *raftConns) remove(c *greetedConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
}

// recheck closes the connections whose callers are no longer admitted, or whose
// certificates have expired: they may connect anew with what is valid now.
func (r *raftConns) recheck(admits identity.Check) {
	r.mu.Lock()
	open := maps.Clone(r.open)
	r.mu.Unlock()
	for c, p := range open {
		if err := admits(p); err != nil || time.Now().After(p.NotAfter) {
			c.layer.logger.Warn("raft connection closed", "from", p.String(), "expires", p.NotAfter, "error", err)
			_ = c.Close() // whoever reads from it notices
		}
	}
}

// Addr returns the address that the others are told.
func (s streamLayer) Addr() net.Addr { return advertisedAddr(s.advertise) }

type advertisedAddr string

func (advertisedAddr) Network() string  { return "tcp" }
func (a advertisedAddr) String() string { return string(a) }
