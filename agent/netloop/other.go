//go:build !linux

package netloop

import (
	"context"
	"errors"
	"net"
)

// Loop is not to be had.
type Loop struct{}

// New fails.
func New(int) ([]*Loop, error) { return nil, errors.ErrUnsupported }

// Run fails.
func (*Loop) Run(context.Context) error { return errors.ErrUnsupported }

// Go does nothing.
func (*Loop) Go(func()) {}

// Await does nothing.
func (*Loop) Await(func()) {}

// Adopt fails.
func (*Loop) Adopt(net.Conn) (*Conn, error) { return nil, errors.ErrUnsupported }

// Add fails.
func (*Loop) Add(*Conn) error { return errors.ErrUnsupported }

// Conn is not to be had.
type Conn struct{ net.TCPConn }

// WriteBuffers fails.
func (*Conn) WriteBuffers(*net.Buffers) (int64, error) { return 0, errors.ErrUnsupported }

// Leave fails.
func (*Conn) Leave() error { return errors.ErrUnsupported }

// Left returns nil.
func (*Conn) Left() *net.TCPConn { return nil }

// HungUp returns false.
func (*Conn) HungUp() bool { return false }

// Quiet returns true.
func (*Conn) Quiet() bool { return true }
