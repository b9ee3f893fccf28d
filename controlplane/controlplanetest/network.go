// Package controlplanetest runs whole clusters in memory, for tests. Nothing in
// it touches a socket or a file, so that it works inside a testing/synctest
// bubble, where an election takes no time.
package controlplanetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/test/bufconn"

	"github.com/fifegateway/fife/controlplane"
)

// Network joins hosts in memory. Any pair of hosts can be cut off from each
// other and joined again. It is safe for concurrent use.
type Network struct {
	mu         sync.Mutex
	listeners  map[string]listener // by address
	transports map[string]transport
	conns      []*conn
	cut        map[[2]string]bool
}

type listener struct {
	host string
	*bufconn.Listener
}

type transport struct {
	host string
	*raft.InmemTransport
}

// NewNetwork returns a network without hosts.
func NewNetwork() *Network {
	return &Network{
		listeners:  map[string]listener{},
		transports: map[string]transport{},
		cut:        map[[2]string]bool{},
	}
}

// Host returns one host's view of the network. A host listens on any address it
// likes.
func (n *Network) Host(name string) *Host { return &Host{name: name, network: n} }

// Cut cuts two hosts off from each other: connections between them break and no
// new ones are made.
func (n *Network) Cut(a, b string) { n.setCut(a, b, true) }

// Join undoes Cut.
func (n *Network) Join(a, b string) { n.setCut(a, b, false) }

func (n *Network) setCut(a, b string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[pair(a, b)] = cut
	n.conns = slices.DeleteFunc(n.conns, func(c *conn) bool {
		broken := cut && c.between == pair(a, b)
		if broken {
			_ = c.Conn.Close() // a broken connection tells nobody
		}
		return broken
	})
	n.connectRaft()
}

// connectRaft makes Raft's links those that are not cut.
func (n *Network) connectRaft() {
	for _, from := range n.transports {
		for address, to := range n.transports {
			if from.host == to.host {
				continue
			}
			if n.cut[pair(from.host, to.host)] {
				from.Disconnect(raft.ServerAddress(address))
			} else {
				from.Connect(raft.ServerAddress(address), to.InmemTransport)
			}
		}
	}
}

func pair(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

type conn struct {
	net.Conn
	between [2]string
}

// Host is one host of a Network.
type Host struct {
	name    string
	network *Network
}

var _ controlplane.Network = (*Host)(nil)

const connBuffer = 256 << 10

// Listen makes the host reachable at an address, until the listener is closed.
func (h *Host) Listen(address string) (net.Listener, error) {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	if _, taken := h.network.listeners[address]; taken {
		return nil, fmt.Errorf("listen %s: address already in use", address)
	}
	l := bufconn.Listen(connBuffer)
	h.network.listeners[address] = listener{h.name, l}
	return &closing{Listener: l, close: func() {
		h.network.mu.Lock()
		defer h.network.mu.Unlock()
		delete(h.network.listeners, address)
	}}, nil
}

// closing runs a function when the listener is closed for the first time.
type closing struct {
	net.Listener
	once  sync.Once
	close func()
}

func (c *closing) Close() error {
	c.once.Do(c.close)
	return c.Listener.Close()
}

var errUnreachable = errors.New("connection refused")

// Dial connects to an address.
func (h *Host) Dial(ctx context.Context, address string) (net.Conn, error) {
	h.network.mu.Lock()
	l, ok := h.network.listeners[address]
	between := pair(h.name, l.host)
	cut := h.network.cut[between]
	h.network.mu.Unlock()
	if !ok || cut {
		return nil, fmt.Errorf("dial %s: %w", address, errUnreachable)
	}
	raw, err := l.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, between: between}
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	if h.network.cut[between] {
		return nil, errors.Join(fmt.Errorf("dial %s: %w", address, errUnreachable), raw.Close())
	}
	h.network.conns = append(h.network.conns, c)
	return c, nil
}

// RaftTransport returns a transport in memory.
func (h *Host) RaftTransport(_, advertise string, _ controlplane.RaftGate, _ *slog.Logger) (raft.Transport, error) {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	_, t := raft.NewInmemTransport(raft.ServerAddress(advertise))
	h.network.transports[advertise] = transport{h.name, t}
	h.network.connectRaft()
	return t, nil
}
