package discovery

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// ServerOption returns what a gRPC server needs to serve a Server: a codec that
// passes messages on which are encoded already. Other services do not notice it.
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
