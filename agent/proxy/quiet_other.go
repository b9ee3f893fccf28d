//go:build !linux

package proxy

import "net"

// isQuiet takes every connection for good where sockets cannot be asked: a request
// on one that is not is tried again, if it may be.
func isQuiet(net.Conn) bool { return true }

// hasHungUp knows of nobody where sockets cannot be asked: a client that is gone is
// noticed when the answer is written.
func hasHungUp(net.Conn) bool { return false }
