package controlplane

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/raft"

	"github.com/fifegateway/fife/controlplane/store"
)

// tcpNetwork is the Network of everything but tests.
type tcpNetwork struct{}

func (tcpNetwork) Listen(address string) (net.Listener, error) { return net.Listen("tcp", address) }

func (tcpNetwork) Dial(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

func (tcpNetwork) RaftTransport(listen, advertise string, logger *slog.Logger) (raft.Transport, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	return store.NewTransport(streamLayer{Listener: l, advertise: advertise}, logger), nil
}

// streamLayer carries Raft over TCP. It tells the others an address that may be a
// host name, which Raft's own layer resolves once and for all.
type streamLayer struct {
	net.Listener
	advertise string
}

var _ raft.StreamLayer = streamLayer{}

// Dial connects to another node.
func (streamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(address), timeout)
}

// Addr returns the address that the others are told.
func (s streamLayer) Addr() net.Addr { return advertisedAddr(s.advertise) }

type advertisedAddr string

func (advertisedAddr) Network() string  { return "tcp" }
func (a advertisedAddr) String() string { return string(a) }
