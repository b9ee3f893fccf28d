package controlplane_test

import (
	"context"
	"math/rand/v2"
	"time"
)

// simFaults breaks a world, one thing after the other. Everything heals with heal,
// much of it before.
type simFaults struct {
	world *simWorld
	rng   *rand.Rand
	done  map[string]int // by kind of fault, those that took effect
}

const (
	simFault  = 2 * time.Minute // at most, between two faults
	simPaused = 2 * time.Minute // at most
)

// run breaks things until a time.
func (f *simFaults) run(end time.Time) {
	faults := []struct {
		kind   string
		weight int
		do     func(ctx context.Context) bool
	}{
		{"cut one way", 3, f.cutOneWay},
		{"cut", 2, f.cut},
		{"isolate", 2, f.isolate},
		{"split", 2, f.split},
		{"lose", 1, f.lose},
		{"slow", 2, f.slow},
		{"pause", 3, f.pause},
		{"resume", 2, f.resume},
		{"crash", 4, f.crash},
		{"restart", 5, f.restart},
		{"transfer", 3, f.transfer},
		{"add", 2, f.add},
		{"promote", 2, f.promote},
		{"remove", 2, f.remove},
		{"heal network", 6, f.healNetwork},
	}
	total := 0
	for _, fault := range faults {
		total += fault.weight
	}
	for {
		<-time.After(time.Duration(f.rng.Int64N(int64(simFault))))
		if time.Now().After(end) {
			return
		}
		n := f.rng.IntN(total)
		for _, fault := range faults {
			if n -= fault.weight; n >= 0 {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), simCall)
			if fault.do(ctx) {
				f.done[fault.kind]++
			}
			cancel()
			break
		}
	}
}

// heal ends all faults and starts all nodes.
func (f *simFaults) heal() {
	f.world.network.heal()
	for _, name := range append(f.world.names(true), f.world.names(false)...) {
		f.world.network.resume(simAddress(name))
		f.world.restart(name)
	}
}

// two returns two nodes; ok is false if there are not as many.
func (f *simFaults) two() (link simLink, ok bool) {
	names := f.world.names(true)
	if len(names) < 2 {
		return simLink{}, false
	}
	f.rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return simLink{simAddress(names[0]), simAddress(names[1])}, true
}

func (f *simFaults) cutOneWay(context.Context) bool {
	link, ok := f.two()
	f.world.network.change(func(n *simNetwork) { n.cut[link] = true })
	return ok
}

func (f *simFaults) cut(context.Context) bool {
	link, ok := f.two()
	f.world.network.change(func(n *simNetwork) { n.cut[link], n.cut[simLink{link.to, link.from}] = true, true })
	return ok
}

// isolate cuts what one node sends, what it is sent, or both.
func (f *simFaults) isolate(context.Context) bool {
	names := f.world.names(true)
	if len(names) == 0 {
		return false
	}
	which, alone := f.rng.IntN(3), simAddress(pick(f.rng, names))
	f.world.network.change(func(n *simNetwork) {
		for _, name := range names {
			other := simAddress(name)
			n.cut[simLink{alone, other}] = n.cut[simLink{alone, other}] || which != 0
			n.cut[simLink{other, alone}] = n.cut[simLink{other, alone}] || which != 1
		}
	})
	return true
}

// split parts the nodes into two sides.
func (f *simFaults) split(context.Context) bool {
	side := map[string]bool{}
	names := f.world.names(true)
	for _, name := range names {
		side[name] = f.rng.IntN(2) == 0
	}
	f.world.network.change(func(n *simNetwork) {
		for _, a := range names {
			for _, b := range names {
				if side[a] != side[b] {
					n.cut[simLink{simAddress(a), simAddress(b)}] = true
				}
			}
		}
	})
	return true
}

func (f *simFaults) lose(context.Context) bool {
	link, ok := f.two()
	f.world.network.change(func(n *simNetwork) { n.loss[link] = f.rng.Float64() })
	return ok
}

func (f *simFaults) slow(context.Context) bool {
	link, ok := f.two()
	f.world.network.change(func(n *simNetwork) { n.slow[link] = time.Duration(f.rng.Int64N(int64(15 * time.Second))) })
	return ok
}

// pause holds a node's messages for a while.
func (f *simFaults) pause(context.Context) bool {
	names := f.world.names(true)
	if len(names) == 0 {
		return false
	}
	address := simAddress(pick(f.rng, names))
	f.world.network.pause(address)
	time.AfterFunc(time.Duration(f.rng.Int64N(int64(simPaused))), func() { f.world.network.resume(address) })
	return true
}

func (f *simFaults) resume(context.Context) bool {
	names := f.world.names(true)
	if len(names) == 0 {
		return false
	}
	f.world.network.resume(simAddress(pick(f.rng, names)))
	return true
}

func (f *simFaults) crash(context.Context) bool {
	names := f.world.names(true)
	if len(names) == 0 {
		return false
	}
	f.world.crash(pick(f.rng, names))
	return true
}

func (f *simFaults) restart(context.Context) bool {
	names := f.world.names(false)
	if len(names) == 0 {
		return false
	}
	f.world.restart(pick(f.rng, names))
	return true
}

func (f *simFaults) healNetwork(context.Context) bool {
	f.world.network.heal()
	return true
}

func (f *simFaults) transfer(ctx context.Context) bool {
	to := ""
	if names := f.world.names(true); f.rng.IntN(2) == 0 && len(names) > 0 {
		to = pick(f.rng, names)
	}
	leader, ok := f.world.leader(ctx)
	return ok && leader.TransferLeadership(ctx, to) == nil
}

// add brings a new node in, unless there are enough of them.
func (f *simFaults) add(ctx context.Context) bool {
	return len(f.world.names(true))+len(f.world.names(false)) <= f.world.size+1 && f.world.add(ctx) == nil
}

func (f *simFaults) promote(ctx context.Context) bool {
	leader, ok := f.world.leader(ctx)
	if !ok {
		return false
	}
	members, err := leader.Members()
	if err != nil {
		return false
	}
	for _, m := range members {
		if !m.Voter {
			return f.world.promote(ctx, m.ID) == nil
		}
	}
	return false
}

// remove takes a member out, unless too few would be left to be broken.
func (f *simFaults) remove(ctx context.Context) bool {
	leader, ok := f.world.leader(ctx)
	if !ok {
		return false
	}
	members, err := leader.Members()
	if err != nil || len(members) < f.world.size {
		return false
	}
	return f.world.remove(ctx, pick(f.rng, members).ID) == nil
}
