package api

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// Peers holds one connection to each of the other nodes, made when it is first
// needed. It is safe for concurrent use.
type Peers struct {
	options []grpc.DialOption

	mu      sync.Mutex
	conns   map[string]*grpc.ClientConn
	leaving map[*grpc.ClientConn]struct{} // used by calls under way only
}

// NewPeers returns connections that are made with the given options, which must
// say how they are secured.
func NewPeers(options ...grpc.DialOption) *Peers {
	options = append(options, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)))
	return &Peers{options: options, conns: map[string]*grpc.ClientConn{}, leaving: map[*grpc.ClientConn]struct{}{}}
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

// Renew has later calls made on connections of their own, which show what is to be
// shown now. Calls under way end where they began, unless they take very long.
func (p *Peers) Renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, c := range p.conns {
		delete(p.conns, address)
		p.leaving[c] = struct{}{}
		time.AfterFunc(leaveAfter, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if _, ok := p.leaving[c]; ok {
				delete(p.leaving, c)
				_ = c.Close() // it has nothing left to say
			}
		})
	}
}

// leaveAfter is longer than a call between nodes may take, but for streams, which are
// opened anew.
const leaveAfter = 2 * forwardBudget

// Close closes all connections.
func (p *Peers) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, c := range p.conns {
		errs = append(errs, c.Close())
	}
	for c := range p.leaving {
		errs = append(errs, c.Close())
	}
	clear(p.conns)
	clear(p.leaving)
	return errors.Join(errs...)
}
