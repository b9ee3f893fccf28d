//go:build !linux

package agent

import (
	"errors"
	"net"
)

// listenShared needs Linux.
func listenShared(string) (net.Listener, error) {
	return nil, errors.New("sharing an address with another agent needs Linux")
}
