//go:build linux

package bench_test

import (
	"bytes"
	"context"
	wirebytes "encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	endpointservice "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	xds "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
)

// This file holds the peers that are libraries, or less: this test's binary runs
// as their servers. A POST to their second port changes what the agents have, a
// GET tells how often they have said that they have it.

// peerServer is such a server.
type peerServer interface {
	serve(net.Listener) error
	update() error
	acks() int64
}

// serve runs one, until the process is killed.
func serve(kind, address, control string) error {
	var s peerServer
	switch kind {
	case floor:
		s = &bareServer{conns: map[net.Conn]bool{}}
	case linear:
		s = newLinearServer()
	default:
		return fmt.Errorf("no server %q", kind)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	ended := make(chan error, 2)
	go func() { ended <- s.serve(l) }()
	go func() {
		ended <- http.ListenAndServe(control, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				if err := s.update(); err != nil {
					http.Error(w, err.Error(), http.StatusInternalServerError)
				}
				return
			}
			fmt.Fprint(w, s.acks())
		}))
	}()
	return <-ended
}

// payload is what an update carries.
func payload(n int64) string {
	return fmt.Sprintf("%0*d", updateBytes, n)
}

// bareServer is the floor: it writes bytes to connections and reads answers.
type bareServer struct {
	answers, updates atomic.Int64
	mu               sync.Mutex
	conns            map[net.Conn]bool
}

func (s *bareServer) serve(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() { _ = s.attend(conn) }() // it fails when the agent leaves
	}
}

func (s *bareServer) attend(conn net.Conn) error {
	defer conn.Close() //nolint:errcheck // nothing is left to be lost
	for first, b := true, make([]byte, 64); ; {
		if _, err := io.ReadFull(conn, b[:5]); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, b[:wirebytes.BigEndian.Uint32(b[1:])]); err != nil {
			return err
		}
		if !first {
			s.answers.Add(1)
			continue
		}
		first = false
		s.mu.Lock()
		s.conns[conn] = true
		s.mu.Unlock()
		if _, err := conn.Write(bareMessage(0)); err != nil {
			return err
		}
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.conns, conn)
		}()
	}
}

func bareMessage(n int64) []byte {
	return (&dialect{}).frame([]byte(payload(n)))
}

func (s *bareServer) update() error {
	message := bareMessage(s.updates.Add(1))
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		if _, err := conn.Write(message); err != nil {
			return err
		}
	}
	return nil
}

func (s *bareServer) acks() int64 { return s.answers.Load() }

func bareDialect() *dialect {
	return &dialect{
		hello: func(int) []byte { return []byte("hello") },
		answer: func(message []byte) ([]byte, error) {
			if len(message) != updateBytes {
				return nil, fmt.Errorf("got %d bytes", len(message))
			}
			return []byte("ack, and 16 more"), nil
		},
	}
}

// linearServer is go-control-plane's server over its linear cache, both with the
// settings that they have by themselves.
type linearServer struct {
	answers, updates atomic.Int64
	cache            *cache.LinearCache
}

// linearName is of the one resource that all agents have.
const linearName = "bench"

func newLinearServer() *linearServer {
	return &linearServer{cache: cache.NewLinearCache(resource.EndpointType,
		cache.WithInitialResources(map[string]types.Resource{linearName: assignment(0)}))}
}

func assignment(n int64) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{
		ClusterName: linearName,
		NamedEndpoints: map[string]*endpointv3.Endpoint{
			"payload": {Hostname: payload(n)},
		},
	}
}

func (s *linearServer) serve(l net.Listener) error {
	server := grpc.NewServer()
	endpointservice.RegisterEndpointDiscoveryServiceServer(server, xds.NewServer(context.Background(), s.cache,
		xds.CallbackFuncs{StreamRequestFunc: func(_ int64, r *discoveryv3.DiscoveryRequest) error {
			if r.GetResponseNonce() != "" {
				s.answers.Add(1)
			}
			return nil
		}}))
	return server.Serve(l)
}

func (s *linearServer) update() error {
	return s.cache.UpdateResource(linearName, assignment(s.updates.Add(1)))
}

func (s *linearServer) acks() int64 { return s.answers.Load() }

// call asks a server on its second port.
func call(ctx context.Context, method, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", method, url, err, bytes.TrimSpace(body))
	}
	return string(body), nil
}

// metric returns a value of a page of metrics.
func metric(page, name string) (int64, error) {
	for line := range strings.Lines(page) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			return int64(v), err
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}
