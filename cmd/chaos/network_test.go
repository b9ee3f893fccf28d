//go:build linux

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// newNetwork makes hosts in network namespaces, on one bridge with the test, which
// always reaches all of them. Their addresses are of the block that is set
// aside for tests of network devices (RFC 2544). It must be called in the sandbox.
func newNetwork(t *testing.T, hosts int) []site {
	t.Helper()
	must := func(line string, args ...any) {
		t.Helper()
		words := strings.Fields(fmt.Sprintf(line, args...))
		if err := command(words[0], words[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	must("ip link add fife type bridge")
	t.Cleanup(func() { must("ip link delete fife") })
	must("ip addr add 198.18.0.254/24 dev fife")
	must("ip link set fife up")
	dir := t.TempDir()
	var sites []site
	for i := range hosts {
		host, ip := fmt.Sprint("host", i), fmt.Sprint("198.18.0.", i+1)
		must("ip netns add %s", host)
		t.Cleanup(func() { must("ip netns delete %s", host) })
		must("ip link add veth%d type veth peer name eth0 netns %s", i, host)
		must("ip link set veth%d master fife up", i)
		must("ip -n %s addr add %s/24 dev eth0", host, ip)
		must("ip -n %s link set eth0 up", host)
		must("ip -n %s link set lo up", host)
		filter := exec.Command("ip", "netns", "exec", host, "nft", "-f", "-")
		filter.Stdin = strings.NewReader(dropRules)
		if out, err := filter.CombinedOutput(); err != nil {
			t.Fatalf("filter packets of %s: %v: %s", host, err, out)
		}
		sites = append(sites, site{ip: ip, dir: dir, prefix: []string{"ip", "netns", "exec", host}})
	}
	return sites
}

// dropRules drop a host's packets from and to the addresses in two sets.
const dropRules = `
table ip fife {
	set deaf { type ipv4_addr; }
	set mute { type ipv4_addr; }
	chain in {
		type filter hook input priority 0;
		ip saddr @deaf drop
	}
	chain out {
		type filter hook output priority 0;
		ip daddr @mute drop
	}
}
`

// set changes a set of the packet filter of a process's host.
func set(p *process, line string, args ...any) error {
	words := append(append([]string{}, p.prefix...), "nft")
	words = append(words, strings.Fields(fmt.Sprintf(line, args...))...)
	return command(words[0], words[1:]...)
}

// silence lets no packets of one node reach the other.
func silence(from, to *node) error {
	return errors.Join(
		set(&from.process, "add element ip fife mute { %s }", to.ip),
		set(&to.process, "add element ip fife deaf { %s }", from.ip))
}

// cut lets no packets pass between two nodes.
func cut(a, b *node) error { return errors.Join(silence(a, b), silence(b, a)) }

// heal lets all packets pass.
func heal(c *cluster) error {
	var errs []error
	for _, n := range c.nodes {
		errs = append(errs, set(&n.process, "flush set ip fife mute"), set(&n.process, "flush set ip fife deaf"))
	}
	return errors.Join(errs...)
}

// networkFaults need a network.
var networkFaults = []fault{
	{"cut the leader off", partition(func(l *node, f []*node) error {
		return errors.Join(cut(l, f[0]), cut(l, f[1]))
	})},
	{"cut the leader off from one follower", partition(func(l *node, f []*node) error { return cut(l, f[0]) })},
	{"cut a follower off", partition(func(l *node, f []*node) error {
		return errors.Join(cut(f[0], l), cut(f[0], f[1]))
	})},
	{"cut all off", partition(func(l *node, f []*node) error {
		return errors.Join(cut(l, f[0]), cut(l, f[1]), cut(f[0], f[1]))
	})},
	{"the leader speaks and does not hear", partition(func(l *node, f []*node) error {
		return errors.Join(silence(f[0], l), silence(f[1], l))
	})},
	{"the leader hears and does not speak", partition(func(l *node, f []*node) error {
		return errors.Join(silence(l, f[0]), silence(l, f[1]))
	})},
	{"a follower speaks and does not hear", partition(func(l *node, f []*node) error {
		return errors.Join(silence(l, f[0]), silence(f[1], f[0]))
	})},
}

// partition cuts a network for a while.
func partition(apart func(leader *node, followers []*node) error) func(context.Context, *cluster, *rand.Rand) error {
	return partitionFor(5*time.Second, apart)
}

// partitionFor cuts a network for so long at most.
func partitionFor(
	most time.Duration, apart func(leader *node, followers []*node) error,
) func(context.Context, *cluster, *rand.Rand) error {
	return func(ctx context.Context, c *cluster, r *rand.Rand) (err error) {
		hit := victims(ctx, c, r, all)
		if hit == nil {
			return nil
		}
		defer func() { err = errors.Join(err, heal(c)) }()
		err = apart(hit[len(hit)-1], hit[:len(hit)-1])
		pause(ctx, between(r, time.Second, most))
		return err
	}
}

// TestLinearizableWhileNetworkFails mixes partitions with crashes and stops.
func TestLinearizableWhileNetworkFails(t *testing.T) {
	need(t, "ip", "nft")
	c := startCluster(t, newNetwork(t, 3))
	var mixed []fault
	for i := range max(len(networkFaults), len(processFaults)) {
		mixed = append(mixed, networkFaults[i%len(networkFaults)], processFaults[i%len(processFaults)])
	}
	for i := range *histories {
		t.Run(fmt.Sprint("history=", i+1), func(t *testing.T) { record(t, c, i, mixed) })
	}
}
