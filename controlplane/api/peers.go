package api

import (
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc"
)

// Peers holds one connection to each of the other nodes, made when it is first
// needed. It is safe for concurrent use.
type Peers struct {
	options []grpc.DialOption

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn
}

// NewPeers returns connections that are made with the given options, which must
// say how they are secured.
func NewPeers(options ...grpc.DialOption) *Peers {
	options = append(options, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)))
	return &Peers{options: options, conns: map[string]*grpc.ClientConn{}}
}

// Conn returns the connection to an address. It does not wait until the
// connection stands.
func (p *Peers) Conn(address string) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.conns[address]; ok {
		return c, nil
	}
	c, err := grpc.NewClient("passthrough:///"+address, p.options...)
	if err != nil {
		return nil, fmt.Errorf("connect to node at %s: %w", address, err)
	}
	p.conns[address] = c
	return c, nil
}

// Close closes all connections.
func (p *Peers) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, c := range p.conns {
		errs = append(errs, c.Close())
	}
	clear(p.conns)
	return errors.Join(errs...)
}
