// Package netloop serves sockets on event loops. Code that reads and writes as if it
// waited runs as a coroutine; where its socket is not ready it steps aside, and the
// loop goes on with another. A request that comes and goes so costs neither a wait in
// the scheduler nor a read that finds nothing, which is a fifth of what passing on a
// small request costs otherwise.
//
// A loop is one goroutine, and its coroutines run one at a time, on it. What they
// share among themselves needs no lock; and while one of them waits for anything but a
// Conn of the same loop, all others wait with it. So whatever else takes time is done
// in Loop.Await, or after Conn.Leave, which makes an ordinary goroutine of the
// coroutine for the rest of its life.
//
// There are loops on Linux only; elsewhere New fails with errors.ErrUnsupported.
package netloop
