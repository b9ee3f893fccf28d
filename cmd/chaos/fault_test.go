//go:build linux

package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

// fault is something that happens to a cluster. strike breaks it, waits a while,
// and heals it again, even if ctx has ended.
type fault struct {
	name   string
	strike func(ctx context.Context, c *cluster, r *rand.Rand) error
}

// processFaults need nothing but processes.
var processFaults = []fault{
	{"kill -9 the leader", kill(theLeader)},
	{"stop the leader", stop(theLeader, 4*time.Second)},
	{"kill -9 a follower", kill(aFollower)},
	{"kill -9 a majority", kill(theMajority)},
	{"stop a follower", stop(aFollower, 3*time.Second)},
	{"kill -9 all", kill(all)},
	{"stop a majority", stop(theMajority, 3*time.Second)},
	{"hand over to a follower", handOver},
}

// choose picks the nodes that a fault hits, given the leader and the followers.
type choose func(leader *node, followers []*node) []*node

func theLeader(leader *node, _ []*node) []*node           { return []*node{leader} }
func aFollower(_ *node, followers []*node) []*node        { return followers[:1] }
func theMajority(leader *node, followers []*node) []*node { return []*node{leader, followers[0]} }
func all(leader *node, followers []*node) []*node         { return append(followers, leader) }

// between draws a time.
func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)))
}

// victims waits for a leader and chooses. It returns nothing if ctx ends first.
func victims(ctx context.Context, c *cluster, r *rand.Rand, which choose) []*node {
	for {
		if leader, err := c.leader(ctx); err == nil {
			followers := c.others(leader)
			r.Shuffle(len(followers), func(i, j int) { followers[i], followers[j] = followers[j], followers[i] })
			return which(leader, followers)
		}
		if !pause(ctx, 50*time.Millisecond) {
			return nil
		}
	}
}

// kill ends processes as a crash does, and starts them again.
func kill(which choose) func(context.Context, *cluster, *rand.Rand) error {
	return func(ctx context.Context, c *cluster, r *rand.Rand) error {
		hit := victims(ctx, c, r, which)
		for _, n := range hit {
			if err := n.kill(); err != nil {
				return err
			}
		}
		pause(ctx, between(r, 100*time.Millisecond, 2*time.Second))
		for _, n := range hit {
			if err := n.start(); err != nil {
				return err
			}
		}
		return nil
	}
}

// stop suspends processes, for as long as it takes to elect another leader, and
// lets them go on as if nothing had been.
func stop(which choose, most time.Duration) func(context.Context, *cluster, *rand.Rand) error {
	return func(ctx context.Context, c *cluster, r *rand.Rand) error {
		hit := victims(ctx, c, r, which)
		for _, n := range hit {
			n.signal(syscall.SIGSTOP)
			defer n.signal(syscall.SIGCONT)
		}
		pause(ctx, between(r, most/2, most))
		return nil
	}
}

// handOver moves leadership as an operator would. That it may fail is no bug.
func handOver(ctx context.Context, c *cluster, r *rand.Rand) error {
	for _, n := range victims(ctx, c, r, aFollower) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := n.cluster.TransferLeadership(ctx, &fifev1.TransferLeadershipRequest{Name: "members/" + n.name})
		if info(err).GetReason() == "INTERNAL" {
			return fmt.Errorf("hand over to %s: %w", n.name, err)
		}
	}
	return nil
}
