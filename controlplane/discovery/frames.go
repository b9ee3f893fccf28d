package discovery

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/fifegateway/fife/controlplane/store"
	discoveryv1 "github.com/fifegateway/fife/gen/fife/discovery/v1"
)

// chunkSize is the most bytes of a frame that travel in one message.
const chunkSize = 256 << 10

// frames builds and encodes the frames that lead to the newest state, each once,
// however many agents need it. It is safe for concurrent use.
type frames struct {
	open opener

	mu      sync.Mutex
	to      store.Version
	entries map[frameKey]*frameEntry
}

// frameKey says which frame to a state: from where, and for which APIs.
type frameKey struct {
	from store.Version // zero for a full snapshot
	apis string
}

type frameEntry struct {
	once     sync.Once
	messages []*message
	err      error
}

// get returns the messages that lead an agent from a version to a state. They
// must not be changed.
func (f *frames) get(to *store.State, from store.Version, apis []string) ([]*message, error) {
	k := frameKey{from: from, apis: strings.Join(apis, "\x00")}
	f.mu.Lock()
	if version := to.Version(); f.to != version || f.entries == nil {
		f.to, f.entries = version, map[frameKey]*frameEntry{}
	}
	e := f.entries[k]
	if e == nil {
		e = &frameEntry{}
		f.entries[k] = e
	}
	f.mu.Unlock()
	e.once.Do(func() {
		var frame *discoveryv1.Frame
		if frame, e.err = buildFrame(to, from, apis, f.open); e.err == nil {
			e.messages, e.err = encode(frame)
		}
	})
	if e.err != nil { // which may pass, as a key comes
		f.mu.Lock()
		if f.entries[k] == e {
			delete(f.entries, k)
		}
		f.mu.Unlock()
	}
	return e.messages, e.err
}

// buildFrame returns the step from a version to a state, or a full snapshot if
// the state does not remember what has changed since.
func buildFrame(to *store.State, from store.Version, apis []string, open opener) (*discoveryv1.Frame, error) {
	frame := &discoveryv1.Frame{To: encodeVersion(to.Version()), ClusterId: to.ClusterID()}
	names, ok := to.Since(from.Index)
	delta := ok && from != (store.Version{}) && from.Epoch == to.Version().Epoch
	if delta {
		frame.From = encodeVersion(from)
		for _, name := range names {
			if !wanted(apis, name) {
				continue
			}
			if r, ok := to.Resource(name); ok {
				p, err := encodeResource(r, open)
				if err != nil {
					return nil, err
				}
				frame.Upserts = append(frame.Upserts, p)
			} else {
				frame.Removes = append(frame.Removes, name)
			}
		}
	}
	for r := range to.Resources(apis) {
		frame.Digest += resourceDigest(r)
		if !delta {
			p, err := encodeResource(r, open)
			if err != nil {
				return nil, err
			}
			frame.Upserts = append(frame.Upserts, p)
		}
	}
	return frame, nil
}

// wanted reports whether an agent that asked for certain APIs, or for all if it
// named none, is to hold a resource.
func wanted(apis []string, name string) bool {
	api, _, _ := strings.Cut(strings.TrimPrefix(name, "apis/"), "/")
	return len(apis) == 0 || slices.Contains(apis, api)
}

// encode returns a frame as one message, or as chunks if it is large. Messages have
// their own memory: a stream that gets stuck in one holds no other.
func encode(frame *discoveryv1.Frame) ([]*message, error) {
	whole := &discoveryv1.StreamResponse{Message: &discoveryv1.StreamResponse_Frame{Frame: frame}}
	if proto.Size(frame) <= chunkSize {
		return encodeMessages(whole)
	}
	data, err := proto.Marshal(frame)
	if err != nil {
		return nil, fmt.Errorf("encode frame: %w", err)
	}
	var chunks []*discoveryv1.StreamResponse
	for chunk := range slices.Chunk(data, chunkSize) {
		chunks = append(chunks, &discoveryv1.StreamResponse{Message: &discoveryv1.StreamResponse_Chunk{
			Chunk: &discoveryv1.Chunk{Data: chunk},
		}})
	}
	chunks[len(chunks)-1].GetChunk().Last = true
	return encodeMessages(chunks...)
}

func encodeMessages(responses ...*discoveryv1.StreamResponse) ([]*message, error) {
	messages := make([]*message, len(responses))
	for i, r := range responses {
		data, err := proto.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("encode message: %w", err)
		}
		messages[i] = newMessage(data)
	}
	return messages, nil
}
