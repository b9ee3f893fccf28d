package release

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Wave selects the agents that a promotion reaches together, by exactly one of its
// fields but Dwell.
type Wave struct {
	OnePerLabel     string            // one agent for each value of this label
	Labels          map[string]string // the agents that have all of them
	PartsPerMillion uint32            // a share of all
	Dwell           time.Duration     // how long the promotion stays here once all have applied it
}

// ReachedWave selects the agents of a wave that a promotion has reached.
type ReachedWave struct {
	Agents          []string // ids, chosen when it was reached
	Labels          map[string]string
	PartsPerMillion uint32
	Index           uint64 // of the change that reached it
	Dwell           time.Duration
}

// Agent is an agent on the record.
type Agent struct {
	ID     string
	Labels map[string]string
}

// Limits of waves.
const (
	MaxWaves = 20
	MaxDwell = 24 * time.Hour
)

// CheckWaves notes what is wrong with a stage's waves.
func CheckWaves(v *Violations, field string, waves []Wave) {
	if len(waves) > MaxWaves {
		v.Addf(field, "%d waves, at most %d are allowed", len(waves), MaxWaves)
	}
	for i, w := range waves {
		at := fmt.Sprintf("%s[%d]", field, i)
		if w.OnePerLabel == "" && len(w.Labels) == 0 && w.PartsPerMillion == 0 {
			v.Addf(at, "selects no agents; name labels or a percent above 0")
		}
		if w.Dwell < 0 || w.Dwell > MaxDwell {
			v.Addf(at+".dwell", "%v must lie between 0 and %v", w.Dwell, MaxDwell)
		}
	}
}

// NextWave takes a promotion to its next wave, at an index. A wave of one agent for
// each value of a label chooses them now: the first by id, so that every replica
// chooses the same.
func (s *Stage) NextWave(c Change, index, number uint64, agents func(yield func(Agent) bool)) (*Stage, error) {
	p, err := s.open(number, Rolling)
	if err != nil {
		return nil, err
	}
	if len(p.Waves) >= len(s.Waves) {
		return nil, refuse(NoPromotion, s.Name(), "promotion %d of %s has reached all its waves", p.Number, s.Name())
	}
	w := s.Waves[len(p.Waves)]
	reached := ReachedWave{Labels: w.Labels, PartsPerMillion: w.PartsPerMillion, Index: index, Dwell: w.Dwell}
	if w.OnePerLabel != "" {
		chosen := map[string]string{}
		for a := range agents {
			if value, ok := a.Labels[w.OnePerLabel]; ok && cmp.Or(chosen[value], a.ID) >= a.ID {
				chosen[value] = a.ID
			}
		}
		reached.Agents = slices.Sorted(maps.Values(chosen))
	}
	p.Waves = append(slices.Clip(p.Waves), reached)
	return s.withPromotion(c, s.Config, p), nil
}

// Selects reports whether a wave selects an agent. A share takes the agents whose
// hash, XXH64 with seed 0 of the id modulo a million, is below it: the same on every
// node and agent, and a larger share only adds.
func (w ReachedWave) Selects(a Agent) bool {
	if slices.Contains(w.Agents, a.ID) {
		return true
	}
	if len(w.Labels) > 0 {
		all := true
		for k, v := range w.Labels {
			all = all && a.Labels[k] == v
		}
		if all {
			return true
		}
	}
	return xxhash.Sum64String(a.ID)%1_000_000 < uint64(w.PartsPerMillion)
}
