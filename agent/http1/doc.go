// Package http1 reads and writes the framing of HTTP/1.1 (RFC 9112): where a head
// ends, what it says about the body, and how chunks are cut. It works on bytes that
// somebody else has read and knows no connections, so that any engine can be built
// on it.
//
// It is strict. Whatever two implementations are known to read differently is an
// error, since a proxy that reads a request in one way and passes it on to a server
// that reads it in another lets one client speak in another's name. Nothing is
// repaired: no folded lines, no bare line feeds, no lengths in odd spellings.
//
// Parse functions are given everything that was read so far and return ErrIncomplete
// until the head is whole. They copy nothing: all strings of a Request or Response
// are pieces of the buffer that was parsed, and are valid for as long as its owner
// leaves those bytes alone.
package http1
