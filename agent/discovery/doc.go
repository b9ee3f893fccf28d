// Package discovery is the agent's end of fife.discovery.v1: it turns a stream
// of frames into a route.Table that is always one whole committed state.
//
// A frame goes through four hands, in this order, and whatever refuses it leaves
// everything as it was:
//
//	client.go     receives it, whole or in chunks
//	frames.go     checks that it fits what is held and compiles the next table
//	lastgood.go   puts it on disk
//	client.go     swaps one pointer, and only then says Ack
//
// A refusal is answered with a Nack that says why; one that a full snapshot would
// mend asks for it. The version on disk and the version routed by are therefore
// never behind what the control plane believes.
//
// Beside the frames, lease.go asks for leases and learns the leader's clock (clock.go),
// by which promotion.go says which of a stage's configurations counts.
//
// The control plane may be away, at the start and for ever: the agent serves the
// last good table from its disk and goes on asking. What it serves never gets
// older, whichever node it talks to.
package discovery
