//go:build linux

package bench_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcdCluster is an etcd of real processes, spoken to with its own client. A
// write puts a value about as large as the command that Fife writes; a follower
// is a watch.
type etcdCluster struct {
	nodes  []*etcdNode // the leader first, once that is known
	client *clientv3.Client
	keys   [stages]string
}

type etcdNode struct {
	name, host string
	command    []string
	logFile    string
	process    *process
}

var _ contestant = (*etcdCluster)(nil)

// etcdPrefix begins all keys.
const etcdPrefix = "apis/bench/stages/"

func startEtcd(ctx context.Context, dir string, nodes int) (contestant, error) {
	c := &etcdCluster{}
	for i := range c.keys {
		c.keys[i] = fmt.Sprintf("%sstage-%d", etcdPrefix, i)
	}
	if err := c.found(ctx, directories(dir, nodes)); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// found starts all nodes, with the settings that they have by themselves.
func (c *etcdCluster) found(ctx context.Context, directories []string) error {
	var members []string
	for _, dir := range directories {
		n := &etcdNode{name: filepath.Base(dir), host: nextHost(), logFile: dir + ".log"}
		c.nodes = append(c.nodes, n)
		members = append(members, n.name+"="+n.peer())
	}
	for i, n := range c.nodes {
		n.command = []string{
			*etcd, "--name", n.name, "--data-dir", directories[i],
			"--listen-client-urls", "http://" + n.endpoint(), "--advertise-client-urls", "http://" + n.endpoint(),
			"--listen-peer-urls", n.peer(), "--initial-advertise-peer-urls", n.peer(),
			"--initial-cluster", strings.Join(members, ","), "--initial-cluster-state", "new",
		}
		if err := n.start(); err != nil {
			return err
		}
	}
	if err := await(ctx, "a leader", c.processes(), c.findLeader); err != nil {
		return err
	}
	var err error
	c.client, err = newClient(ctx, c.nodes[0])
	return err
}

func (n *etcdNode) endpoint() string { return net.JoinHostPort(n.host, "2379") }
func (n *etcdNode) peer() string     { return "http://" + net.JoinHostPort(n.host, "2380") }

func (n *etcdNode) start() (err error) {
	n.process, err = start(n.name, n.logFile, n.command...)
	return err
}

func newClient(ctx context.Context, n *etcdNode) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Context: ctx, Endpoints: []string{n.endpoint()}, DialOptions: dialOptions(),
	})
}

// findLeader puts the leader first.
func (c *etcdCluster) findLeader(ctx context.Context) error {
	for i, n := range c.nodes {
		leads, err := n.leads(ctx)
		if err != nil {
			return err
		}
		if leads {
			c.nodes[0], c.nodes[i] = c.nodes[i], c.nodes[0]
			return nil
		}
	}
	return errors.New("no node leads")
}

func (n *etcdNode) leads(ctx context.Context) (bool, error) {
	client, err := newClient(ctx, n)
	if err != nil {
		return false, err
	}
	defer client.Close() //nolint:errcheck // it was only asked
	status, err := client.Status(ctx, n.endpoint())
	if err != nil {
		return false, err
	}
	return status.Leader == status.Header.GetMemberId(), nil
}

// etcdValue is as large as what a write of Fife puts in the log.
var etcdValue = strings.Repeat("v", 200)

func (c *etcdCluster) write(ctx context.Context, n int) (uint64, error) {
	resp, err := c.client.Put(ctx, c.keys[n%stages], etcdValue)
	if err != nil {
		return 0, err
	}
	return uint64(resp.Header.GetRevision()), nil
}

func (c *etcdCluster) follow(ctx context.Context, node int, _ string) (<-chan sighting, error) {
	client, err := newClient(ctx, c.nodes[node])
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = client.Close() }) // nothing is left to be lost
	news := client.Watch(ctx, etcdPrefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if first, ok := <-news; !ok || !first.Created {
		return nil, fmt.Errorf("watch %s: %w", c.nodes[node].name, errors.Join(first.Err(), ctx.Err()))
	}
	seen := make(chan sighting)
	go func() {
		defer close(seen)
		for n := range news {
			select {
			case seen <- sighting{uint64(n.Header.GetRevision()), time.Now()}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return seen, nil
}

func (c *etcdCluster) restart(ctx context.Context) error {
	if err := c.nodes[0].start(); err != nil {
		return err
	}
	return await(ctx, "a write after the start", c.processes(), func(ctx context.Context) error {
		_, err := c.write(ctx, 0)
		return err
	})
}

func (c *etcdCluster) processes() []*process {
	var all []*process
	for _, n := range c.nodes {
		if n.process != nil {
			all = append(all, n.process)
		}
	}
	return all
}

func (c *etcdCluster) close() {
	for _, p := range c.processes() {
		p.kill()
	}
	if c.client != nil {
		_ = c.client.Close() // nothing is left to be lost
	}
}
