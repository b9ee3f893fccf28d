package discovery

import (
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// ServerOption returns what a gRPC server needs to serve a Server: a codec that
// passes messages on which are encoded already, and takes none from agents that are
// larger than any agent's. Other services do not notice it.
func ServerOption() grpc.ServerOption {
	return grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(proto.Name)})
}

// codec is gRPC's codec for protocol buffers, and knows parcels.
type codec struct{ encoding.CodecV2 }

func (c codec) Marshal(m any) (mem.BufferSlice, error) {
	if p, ok := m.(parcel); ok {
		return mem.BufferSlice{mem.NewBuffer(&p.message.data, p.receipt)}, nil
	}
	return c.CodecV2.Marshal(m)
}

// maxRequest is how much an agent may say at once, by the protocol. A hello with all
// that it may hold has less.
const maxRequest = 256 << 10

func (c codec) Unmarshal(data mem.BufferSlice, m any) error {
	if _, ok := m.(*discoveryv1.StreamRequest); ok && data.Len() > maxRequest {
		return fmt.Errorf("%d bytes: an agent may say %d at once", data.Len(), maxRequest)
	}
	return c.CodecV2.Unmarshal(data, m)
}

// message is an encoded StreamResponse, shared by all streams that it goes to.
type message struct{ data []byte }

// newMessage takes data over. Of a buffer that it takes for small gRPC does not
// say when it is done with it, and a buffer's capacity is what it goes by.
func newMessage(data []byte) *message {
	if mem.IsBelowBufferPoolingThreshold(cap(data)) {
		data = append(make([]byte, 0, receiptCapacity), data...)
	}
	return &message{data}
}

// receiptCapacity is over gRPC's threshold, which it does not tell.
const receiptCapacity = 1<<10 + 1

// parcel is a message on its way to one stream.
type parcel struct {
	message *message
	receipt receipt
}

// receipt is called once gRPC has written a parcel to the connection, or has given
// it up. It stands in for the pool that would get the buffer back. The call may
// come from within SendMsg, or from the connection's own goroutine, which must not
// be held up.
type receipt func()

// Get is not called: gRPC takes no buffer from here.
func (receipt) Get(int) *[]byte { return new([]byte) }

// Put signs the receipt. The buffer stays what it was, for the other streams.
func (r receipt) Put(*[]byte) { r() }
