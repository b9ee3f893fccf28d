package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

const (
	// maxPatience is how long one address may take to be reached.
	maxPatience = 3 * time.Second
	// maxAnswer bounds an answer's bytes. A page of routes with mock bodies
	// outgrows gRPC's own 4 MiB.
	maxAnswer = 64 << 20
)

// nodes is the control plane as the CLI reaches it: a few addresses of which
// any will do. It is a grpc.ClientConnInterface that makes each call on the
// first address that can be reached and has a leader, beginning with the one
// that answered last. A repeated call is the same message with the same request
// id, so the control plane carries it out once. One goroutine may use it.
type nodes struct {
	list     []*node
	patience time.Duration
	first    int
	proof    proof
}

type node struct {
	address string
	silence string // what it may mean that the node closes connections
	conn    *grpc.ClientConn

	mu      sync.Mutex // the connection dials in goroutines of its own
	dialErr error
}

// unreachableError says that no address answered a call.
type unreachableError struct {
	// causes holds one text for each address, the address first.
	causes []string
	// sent says that some connection broke after the call may have left on it.
	sent bool
}

func (e *unreachableError) Error() string {
	return "no control plane node answered: " + strings.Join(e.causes, ", ")
}

// dial prepares connections to the control plane. It sends nothing there.
func (c *cli) dial(cmd *cobra.Command) (*nodes, error) {
	t, err := c.target(cmd)
	if err != nil {
		return nil, err
	}
	addresses, err := t.addresses(cmd)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
	defer cancel()
	p, err := t.proof(ctx, cmd, addresses)
	if err != nil {
		return nil, err
	}
	return c.connect(cmd, addresses, p, t.from)
}

// addresses returns those of a target's nodes.
func (t target) addresses(cmd *cobra.Command) ([]string, error) {
	addresses := strings.Split(t.Server, ",")
	for i, address := range addresses {
		addresses[i] = strings.TrimSpace(address)
		if host, port, err := net.SplitHostPort(addresses[i]); err != nil || host == "" || port == "" {
			return nil, usagef(cmd, "%s has %q, which is not HOST:PORT; write it as %s", t.from, addresses[i], defaultServer)
		}
	}
	return addresses, nil
}

// connect prepares connections to some addresses; from is what has named them.
func (c *cli) connect(cmd *cobra.Command, addresses []string, p proof, from string) (*nodes, error) {
	n := &nodes{patience: min(maxPatience, c.timeout/time.Duration(len(addresses))), proof: p}
	for _, address := range addresses {
		one, err := newNode(address, p)
		if err != nil {
			n.Close()
			return nil, usagef(cmd, "%s has %q: %v", from, address, err)
		}
		n.list = append(n.list, one)
	}
	return n, nil
}

func newNode(address string, p proof) (*node, error) {
	n := &node{address: address, silence: "what listens there is no control plane, or wants a --cert"}
	if p.secured.Info().SecurityProtocol == "tls" {
		n.silence = "it does not take the certificate, or is no control plane"
	}
	var err error
	// The passthrough resolver leaves looking up the name to the dialer, which
	// remembers why it failed; gRPC itself only tells it as part of a longer text.
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(noting{p.secured, n.failed}),
		grpc.WithContextDialer(n.dial),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
	}
	if p.bearer != nil {
		options = append(options, grpc.WithPerRPCCredentials(p.bearer))
	}
	n.conn, err = grpc.NewClient("passthrough:///"+address, options...)
	return n, err
}

func (n *node) dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	n.failed(err)
	return conn, err
}

// failed notes why the node could not be reached, or nil if it could.
func (n *node) failed(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dialErr = err
}

// Close ends all connections.
func (n *nodes) Close() {
	for _, one := range n.list {
		_ = one.conn.Close() // it fails only if it was closed before
	}
}

// Invoke implements grpc.ClientConnInterface.
func (n *nodes) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return n.try(ctx, func(conn *grpc.ClientConn) error {
		return conn.Invoke(ctx, method, args, reply, opts...)
	})
}

// NewStream implements grpc.ClientConnInterface. A stream that breaks later is
// its reader's to open again.
func (n *nodes) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (stream grpc.ClientStream, err error) {
	err = n.try(ctx, func(conn *grpc.ClientConn) (err error) {
		stream, err = conn.NewStream(ctx, desc, method, opts...)
		return err
	})
	return stream, err
}

// try makes a call on one address after the other until one gives an answer
// that another could not better.
func (n *nodes) try(ctx context.Context, call func(*grpc.ClientConn) error) error {
	failed := &unreachableError{}
	var leaderless error
	for i := range n.list {
		at := (n.first + i) % len(n.list)
		one := n.list[at]
		cause := one.reach(ctx, n.patience)
		if cause == nil {
			err := paced(ctx, func() error { return call(one.conn) })
			reason := reasonOf(err)
			switch {
			case err == nil, reason != noReason && reason != fifev1.ErrorReason_ERROR_REASON_NO_LEADER:
				n.first = at
				return err
			case reason == fifev1.ErrorReason_ERROR_REASON_NO_LEADER:
				leaderless = err
				cause = errors.New("no leader")
			case status.Code(err) == codes.Unavailable:
				failed.sent = true
				cause = errors.New("the connection broke")
			case failed.sent:
				// Says nothing of the call that was lost on an earlier address.
				cause = errors.New(status.Convert(err).Message())
			default:
				n.first = at
				return err
			}
		}
		failed.causes = append(failed.causes, fmt.Sprintf("%s (%v)", one.address, cause))
	}
	switch {
	case failed.sent:
		return failed
	case leaderless != nil:
		return leaderless
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	}
	return failed
}

// paced makes a call, and makes it again when the node says to, as long as ctx leaves
// the time: a call that comes too often is not carried out.
func paced(ctx context.Context, call func() error) error {
	for {
		err := call()
		delay, ok := retryDelay(err)
		if deadline, bounded := ctx.Deadline(); !ok || (bounded && time.Until(deadline) < delay) {
			return err
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return err
		}
	}
}

// retryDelay returns when a call that came too often is to be made again.
func retryDelay(err error) (delay time.Duration, ok bool) {
	if reasonOf(err) != fifev1.ErrorReason_ERROR_REASON_RATE_LIMITED {
		return 0, false
	}
	for _, detail := range status.Convert(err).Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			return max(retry.GetRetryDelay().AsDuration(), time.Millisecond), true
		}
	}
	return 0, false
}

// reach waits until the node is connected. Only after that may a call have left
// this machine, which is what tells "nothing was done" from "nobody knows".
func (n *node) reach(ctx context.Context, patience time.Duration) error {
	if ctx.Err() != nil {
		return errors.New("not tried")
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		state := n.conn.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.Idle:
			n.conn.Connect()
		case connectivity.TransientFailure, connectivity.Shutdown:
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.dialErr != nil {
				return innermost(n.dialErr)
			}
			return errors.New(n.silence)
		}
		if !n.conn.WaitForStateChange(ctx, state) {
			return errors.New("no answer")
		}
	}
}

// innermost returns the innermost cause, such as "connection refused".
func innermost(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}
