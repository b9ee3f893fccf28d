package discovery

import (
	"math/rand/v2"
	"slices"
	"time"
)

// The schedule of attempts: the first after a stream waits up to minDelay, or as long
// as the node has asked for, each further one up to twice as long as minDelay, and so
// on; none waits longer than maxDelay.
const (
	minDelay = 100 * time.Millisecond
	maxDelay = 15 * time.Second
)

// maxRedirects bounds what a node can put before the configured addresses.
const maxRedirects = 16

// delayLimit returns the longest delay before an attempt, counted from 0, of agents
// that are to spread over a time. The delay itself is drawn evenly from below it
// (full jitter), so that the agents of a node that went away do not come to the next
// one all at once.
func delayLimit(attempt int, spread time.Duration) time.Duration {
	if attempt > 8 { // 100 ms << 8 is past the maximum
		return maxDelay
	}
	return min(max(minDelay<<attempt, spread), maxDelay)
}

// nodes says which node to ask next.
type nodes struct {
	configured []string // the one tried last is at the end
	redirected []string // what the last redirect named, and not yet tried
}

// newNodes takes the addresses in random order: agents spread over the nodes.
func newNodes(addresses []string) *nodes {
	return &nodes{configured: shuffled(addresses)}
}

// next returns the address to try. It comes again only after all others.
func (n *nodes) next() string {
	address := n.configured[0]
	if len(n.redirected) > 0 {
		address, n.redirected = n.redirected[0], n.redirected[1:]
	}
	if i := slices.Index(n.configured, address); i >= 0 {
		n.configured = append(slices.Delete(n.configured, i, i+1), address)
	}
	return address
}

// redirect puts addresses before all others. Those that are not configured are
// tried once.
func (n *nodes) redirect(addresses []string) {
	n.redirected = shuffled(addresses[:min(len(addresses), maxRedirects)])
}

func shuffled(addresses []string) []string {
	s := slices.Clone(addresses)
	rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
	return s
}
