//go:build linux

package bench_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// fleet is a number of agents, each with a connection of its own, that answer
// whatever they are sent.
type fleet struct {
	dialect  *dialect
	size     int
	expected atomic.Int64 // messages to all agents
	answered atomic.Int64
	last     chan time.Time // gets when the last of those expected was answered
	failed   chan error     // gets the first failure
	leave    func()
}

// connect has all agents come at once, and returns how long it took until the last
// one had its first message.
func connect(ctx context.Context, address string, d *dialect, size int) (*fleet, time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	f := &fleet{dialect: d, size: size, last: make(chan time.Time, 1), failed: make(chan error, 1)}
	var agents sync.WaitGroup
	f.leave = func() {
		cancel()
		agents.Wait()
	}
	f.expect()
	begin := time.Now()
	for i := range size {
		agents.Go(func() {
			if err := f.attend(ctx, address, i); ctx.Err() == nil {
				select {
				case f.failed <- fmt.Errorf("agent %d of %d: %w", i, size, err):
				default:
				}
			}
		})
	}
	end, err := f.wait(ctx)
	if err != nil {
		f.leave()
		return nil, 0, err
	}
	return f, end.Sub(begin), nil
}

// attend is one agent, until ctx ends.
func (f *fleet) attend(ctx context.Context, address string, agent int) error {
	conn, err := (&net.Dialer{Timeout: patience, KeepAlive: -1}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is left to be lost
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := conn.Write(f.dialect.opening(agent, address)); err != nil {
		return err
	}
	for w := newWire(conn, f.dialect); ; {
		message, err := w.next()
		if err != nil {
			return err
		}
		reply, err := f.dialect.reply(message)
		if err != nil {
			return err
		}
		if len(reply) > 0 {
			if _, err := conn.Write(reply); err != nil {
				return err
			}
		}
		if f.answered.Add(1) == f.expected.Load() {
			f.last <- time.Now()
		}
	}
}

// expect is called before something is sent to all agents, once the last such has
// been waited for.
func (f *fleet) expect() { f.expected.Add(int64(f.size)) }

// wait returns when the last agent has answered.
func (f *fleet) wait(ctx context.Context) (time.Time, error) {
	select {
	case at := <-f.last:
		return at, nil
	case err := <-f.failed:
		return time.Time{}, err
	case <-time.After(patience):
		return time.Time{}, fmt.Errorf("%d of %d answers within %v", f.answered.Load(), f.expected.Load(), patience)
	case <-ctx.Done():
		return time.Time{}, errors.Join(ctx.Err(), context.Cause(ctx))
	}
}
