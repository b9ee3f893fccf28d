package controlplanetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fifegateway/fife/controlplane"
	"github.com/fifegateway/fife/controlplane/identity"
	"github.com/fifegateway/fife/controlplane/store"
)

// Cluster is a control plane in memory. Its nodes are called n1, n2, ..., live on
// hosts of the same names and take gRPC at NAME:7400 and Amazon's management API at NAME:7403. It belongs to one test and
// is not safe for concurrent use. The test must run in a synctest bubble.
type Cluster struct {
	Network *Network
	Sealer  *identity.Sealer // of its nodes
	t       testing.TB
	nodes   map[string]*node
	conns   []*grpc.ClientConn
}

type node struct {
	storage *store.Storage
	stop    context.CancelFunc
	done    chan error
}

// Start starts a cluster of n nodes, n1 founding it and the others joining. The
// cluster is stopped when the test ends.
func Start(t testing.TB, n int) *Cluster {
	t.Helper()
	sealer, err := identity.NewSealer(identity.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{Network: NewNetwork(), Sealer: sealer, t: t, nodes: map[string]*node{}}
	for i := range n {
		c.AddNode(fmt.Sprintf("n%d", i+1))
	}
	t.Cleanup(c.stop)
	return c
}

// GRPC returns where a node takes gRPC.
func GRPC(name string) string { return name + ":7400" }

// Addresses returns where the nodes take gRPC.
func (c *Cluster) Addresses() []string {
	var addresses []string
	for i := range c.nodes {
		addresses = append(addresses, GRPC(i))
	}
	return addresses
}

// StartNode starts a node, for the first time or again with the disk it had.
func (c *Cluster) StartNode(name string) {
	c.t.Helper()
	n := c.nodes[name]
	used, err := n.storage.Used()
	if err != nil {
		c.t.Fatal(err)
	}
	config := controlplane.Config{
		Name:       name,
		GRPCListen: GRPC(name),
		RaftListen: name + ":7401",
		HTTPListen: name + ":7403",
		Logger:     slog.New(slog.DiscardHandler),
		Registry:   prometheus.NewRegistry(),
		Build:      "test",
		Sealer:     c.Sealer,
		Network:    c.Network.Host(name),
		Storage:    n.storage,
	}
	if !used {
		config.Bootstrap = name == "n1"
		if !config.Bootstrap {
			config.Join = []string{GRPC("n1")}
		}
	}
	cp, err := controlplane.New(config)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.stop, n.done = cancel, make(chan error, 1)
	go func() { n.done <- cp.Run(ctx) }()
}

// AddNode starts a new node, which joins through n1.
func (c *Cluster) AddNode(name string) {
	c.t.Helper()
	c.nodes[name] = &node{storage: store.NewMemory()}
	c.StartNode(name)
}

// WipeNode gives a node that is stopped an empty disk.
func (c *Cluster) WipeNode(name string) { c.nodes[name].storage = store.NewMemory() }

// Exited waits until a node ends by itself, for a minute at most, and returns why
// it did.
func (c *Cluster) Exited(name string) error {
	c.t.Helper()
	n := c.nodes[name]
	select {
	case err := <-n.done:
		n.stop()
		n.stop = nil
		return err
	case <-time.After(time.Minute):
		c.t.Fatalf("node %s runs on", name)
		return nil
	}
}

// StopNode stops a node in an orderly way. Its disk stays.
func (c *Cluster) StopNode(name string) {
	c.t.Helper()
	n := c.nodes[name]
	if n.stop == nil {
		return
	}
	n.stop()
	n.stop = nil
	if err := <-n.done; err != nil && !errors.Is(err, context.Canceled) {
		c.t.Errorf("node %s: %v", name, err)
	}
}

// Isolate cuts a node off from all other nodes, and from the given hosts.
func (c *Cluster) Isolate(name string, hosts ...string) {
	for other := range c.nodes {
		if other != name {
			c.Network.Cut(name, other)
		}
	}
	for _, h := range hosts {
		c.Network.Cut(name, h)
	}
}

// Heal undoes Isolate.
func (c *Cluster) Heal(name string, hosts ...string) {
	for other := range c.nodes {
		if other != name {
			c.Network.Join(name, other)
		}
	}
	for _, h := range hosts {
		c.Network.Join(name, h)
	}
}

// Conn returns a connection from a host of its own, `client`, to a node.
func (c *Cluster) Conn(name string) *grpc.ClientConn {
	c.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+GRPC(name),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(c.Network.Host("client").Dial))
	if err != nil {
		c.t.Fatal(err)
	}
	c.conns = append(c.conns, conn)
	return conn
}

func (c *Cluster) stop() {
	for _, conn := range c.conns {
		_ = conn.Close() // the nodes close their ends next
	}
	for name := range c.nodes {
		c.StopNode(name)
	}
	<-time.After(leftovers)
}

// leftovers is how long a stopped Raft may leave calls behind that nobody will
// answer. The clock of a bubble stands still once its test has ended.
const leftovers = time.Minute
