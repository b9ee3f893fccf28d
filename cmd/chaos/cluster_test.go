//go:build linux

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// patience is how long a test waits for what has to happen.
const patience = 30 * time.Second

// site is where a node runs.
type site struct {
	ip     string
	dir    string
	prefix []string
}

// loopback returns three sites on loopback addresses that no other run of these
// tests uses at the same time.
func loopback(t *testing.T) []site {
	dir, pid := t.TempDir(), os.Getpid()
	sites := make([]site, 3)
	for i := range sites {
		sites[i] = site{ip: fmt.Sprintf("127.%d.%d.%d", 64+pid/250%128, 1+pid%250, i+1), dir: dir}
	}
	return sites
}

// onDisks moves sites to directories of their own.
func onDisks(sites []site, dir func(i int) string) []site {
	for i := range sites {
		sites[i].dir = dir(i)
	}
	return sites
}

// cluster is a control plane of real processes.
type cluster struct {
	nodes []*node
}

// startCluster founds a cluster and waits until all nodes vote. It is stopped
// when the test ends, which fails if a node has panicked.
func startCluster(t *testing.T, sites []site) *cluster {
	t.Helper()
	c := &cluster{}
	logs := t.TempDir()
	t.Cleanup(func() {
		for _, n := range c.nodes {
			if err := errors.Join(n.close(), n.complaint()); err != nil {
				t.Error(err)
			}
			if t.Failed() {
				t.Logf("last words of %s:\n%s", n.name, n.lastWords())
			}
		}
	})
	for i, s := range sites {
		n, err := newNode(fmt.Sprintf("n%d", i+1), s.ip, s.dir, s.prefix...)
		if err != nil {
			t.Fatal(err)
		}
		n.logFile = filepath.Join(logs, n.name+".log") // which may not break with the disk
		c.nodes = append(c.nodes, n)
		begin := []string{"--bootstrap"}
		if i > 0 {
			begin = []string{"--join", sites[0].ip + ":" + grpcPort}
		}
		if err := n.start(begin...); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			await(t, patience, "the first node leads", func(ctx context.Context) error {
				v, err := n.view(ctx)
				if err == nil && v.GetLeader() != n.name {
					err = fmt.Errorf("leader %q", v.GetLeader())
				}
				return err
			})
		}
	}
	await(t, patience, "all nodes vote", func(ctx context.Context) error {
		resp, err := c.nodes[0].cluster.ListMembers(ctx, &fifev1.ListMembersRequest{})
		voters := 0
		for _, m := range resp.GetMembers() {
			if m.GetVoter() {
				voters++
			}
		}
		if err == nil && voters != len(sites) {
			err = fmt.Errorf("%d voters", voters)
		}
		return err
	})
	return c
}

// startDown starts all nodes that are down.
func (c *cluster) startDown() error {
	for _, n := range c.nodes {
		if n.alive() == nil {
			if err := n.start(); err != nil {
				return err
			}
		}
	}
	return nil
}

// leader returns the node that says it leads and that most nodes agree with.
func (c *cluster) leader(ctx context.Context) (*node, error) {
	votes := map[string]int{}
	claims := map[string]*node{}
	var seen []string
	for _, n := range c.nodes {
		v, err := n.view(ctx)
		if err != nil {
			seen = append(seen, n.name+" is silent")
			continue
		}
		seen = append(seen, fmt.Sprintf("%s follows %q", n.name, v.GetLeader()))
		votes[v.GetLeader()]++
		if v.GetLeader() == n.name {
			claims[n.name] = n
		}
	}
	for name, n := range claims {
		if votes[name] > len(c.nodes)/2 {
			return n, nil
		}
	}
	return nil, fmt.Errorf("no leader: %v", seen)
}

// awaitLeader waits until a node leads.
func (c *cluster) awaitLeader(t *testing.T) *node {
	t.Helper()
	var leader *node
	await(t, patience, "a leader", func(ctx context.Context) (err error) {
		leader, err = c.leader(ctx)
		return err
	})
	return leader
}

// lead makes a node the leader.
func (c *cluster) lead(t *testing.T, n *node) {
	t.Helper()
	await(t, patience, n.name+" leads", func(ctx context.Context) error {
		leader, err := c.leader(ctx)
		if err != nil || leader == n {
			return err
		}
		_, err = n.cluster.TransferLeadership(ctx, &fifev1.TransferLeadershipRequest{Name: "members/" + n.name})
		return errors.Join(fmt.Errorf("%s leads", leader.name), err)
	})
}

// others returns all nodes but one.
func (c *cluster) others(but *node) []*node {
	var others []*node
	for _, n := range c.nodes {
		if n != but {
			others = append(others, n)
		}
	}
	return others
}

// awaitSame waits until all nodes answer and hold the same state.
func (c *cluster) awaitSame(t *testing.T) {
	t.Helper()
	await(t, patience, "all nodes hold the same state", func(ctx context.Context) error {
		resp, err := c.nodes[0].cluster.VerifyCluster(ctx, &fifev1.VerifyClusterRequest{})
		if err != nil || resp.GetConsistent() {
			return err
		}
		for _, m := range resp.GetMembers() {
			if m.GetError() != "" {
				return fmt.Errorf("as of %d: %s: %s", resp.GetIndex(), m.GetName(), m.GetError())
			}
		}
		t.Fatalf("the states of the nodes as of %d differ: %v", resp.GetIndex(), resp.GetMembers())
		return nil
	})
}

// await calls f until it succeeds, and fails the test once patience is over.
func await(t *testing.T, patience time.Duration, what string, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		attempt, stop := context.WithTimeout(ctx, 5*time.Second)
		err := f(attempt)
		stop()
		if err == nil {
			return
		}
		if !pause(ctx, 20*time.Millisecond) {
			t.Fatalf("not within %v: %s: %v", patience, what, err)
		}
	}
}

// pause waits, and reports whether ctx still goes on after that.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
