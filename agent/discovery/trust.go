package discovery

import (
	"context"
	"errors"
	"time"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// Trust keeps whom the agent believes on its connections to the control plane. It is
// used by one goroutine at a time.
type Trust interface {
	// Roots returns the SHA-256 of each root that is believed, in DER.
	Roots() [][]byte
	// Believe makes others the roots, in DER, on disk first. A certificate that is not
	// by the root with the SHA-256 issuing is to be renewed within a time, at a random
	// moment; Reconnect then opens the stream with it.
	Believe(roots [][]byte, issuing []byte, within time.Duration) error
}

// errReconnect ends a stream for another one.
var errReconnect = errors.New("the agent has another certificate")

// Reconnect opens the stream anew, if there is one: on a connection of its own, so
// with the certificate of now.
func (c *Client) Reconnect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reconnect != nil {
		c.reconnect(errReconnect)
	}
}

// reconnectable returns a context that Reconnect ends.
func (c *Client) reconnectable(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reconnect = cancel
	return ctx, func() { cancel(nil) }
}

// believe takes whom to trust, and returns the answer to it. What cannot be taken is
// logged: the answer tells who is trusted all the same.
func (c *Client) believe(t *discoveryv1.Trust) *discoveryv1.StreamRequest {
	if err := c.config.Trust.Believe(t.GetRoots(), t.GetIssuing(), t.GetRenewWithin().AsDuration()); err != nil {
		c.log.Error("the cluster's roots cannot be taken: the old ones stay", "error", err)
	}
	return &discoveryv1.StreamRequest{Message: &discoveryv1.StreamRequest_Trusting{
		Trusting: &discoveryv1.Trusting{Roots: c.config.Trust.Roots()},
	}}
}
