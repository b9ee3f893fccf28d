package proxy

import (
	"net"

	"github.com/fifegateway/fife/agent/http1"
)

// client is who sent a request, whichever version of HTTP it speaks: conn is one of
// HTTP/1, stream one of HTTP/2. All methods are for the goroutine that serves the
// request, but for those that say otherwise.
type client interface {
	// arrived begins to take the request's body. It returns what of it is there
	// already, and whether that is all; a client that waits to be asked for the rest
	// is asked. The bytes stay valid until the request ends. The error is a *failure
	// or errClientGone.
	arrived() (data []byte, whole bool, err error)
	// readBody reads what follows into p, and returns io.EOF at the body's end. Any
	// other error is a *failure or errClientGone. Another goroutine may call it.
	readBody(p []byte) (int, error)
	// stopBody makes a readBody that waits in another goroutine return.
	stopBody()

	// begin sends the head of the response, with the first piece of its body, if
	// there is one already. After it, write sends more, and end ends the body, unless
	// the response has none. An error means that the client is gone.
	begin(x *exchange, res *response, first []byte) error
	write(piece []byte) error
	end(trailer []http1.Field) error

	// block says that the request is going to wait for something else than its client
	// or one of the connections of pools, or with more than one goroutine.
	block()
	// pools returns the connections to integrations that the request can use.
	pools() *pools

	// watch has a called as soon as the client turns out to be gone, until unwatch:
	// after that it is not, and was not.
	watch(a aborter)
	unwatch()
	// gone reports whether the client turned out to be gone.
	gone() bool

	// hijack hands the connection over, with what was read of it beyond the request;
	// nil if there is none that speaks for this client alone.
	hijack() (conn net.Conn, read []byte)
}

// aborter is what waits for an integration: abort makes it stop, from any goroutine.
type aborter interface{ abort() }

// response is what an integration, or the agent, has to say before the body.
type response struct {
	status   int
	reason   string        // empty: the usual one
	fields   []http1.Field // as they came: what may not pass is held back when they are sent
	lists    bool          // whether a Connection field is among them
	length   int64         // of the body; -1 if only its end will tell
	bodiless bool          // there is no body, whatever length says
	flush    bool          // whoever reads the body waits for every piece
}
