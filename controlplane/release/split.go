package release

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// KeySource is where a request carries its sticky key.
type KeySource uint8

// The places a key can be; KeyNone splits at random.
const (
	KeyNone KeySource = iota
	KeyHeader
	KeyCookie
	KeyQuery
	KeyClientIP
)

// Split says how a stage's requests choose between base and canary.
type Split struct {
	Source        KeySource
	Name          string // of the header, cookie or query parameter
	AllowOverride bool   // requests may choose with X-Fife-Variant
	OverrideKey   string // if set, only signed choices count; a SealedValue where there is a key to seal with
}

// CheckSplit notes what is wrong with a split.
func CheckSplit(v *Violations, field string, s Split) {
	if s.Source == KeyHeader || s.Source == KeyCookie || s.Source == KeyQuery {
		if len(s.Name) < 1 || len(s.Name) > 128 || strings.Trim(s.Name, alphanumeric+"!#$%&'*+-.^_`|~") != "" {
			v.Addf(field+".sticky_key", "name %q must have 1 to 128 token characters (RFC 9110)", s.Name)
		}
	}
	if s.OverrideKey == "" {
		return
	}
	if !s.AllowOverride {
		v.Addf(field+".override_key", "is set, but allow_override is not")
	}
	if len(s.OverrideKey) < 16 || len(s.OverrideKey) > 256 ||
		strings.ContainsFunc(s.OverrideKey, func(c rune) bool { return c < '!' || c > '~' }) {
		v.Addf(field+".override_key", "must have 16 to 256 printable ASCII characters without spaces")
	}
}

// Buckets is the number of places that sticky keys fall into.
const Buckets = 1_000_000

// Bucket returns the place of a key: the XXH64 of the key, seeded with the salt,
// scaled to 0..999,999 by multiply and shift. Agents compute the same.
func Bucket(salt uint64, key string) uint32 {
	var d xxhash.Digest
	d.ResetWithSeed(salt)
	_, _ = d.WriteString(key)
	high, _ := bits.Mul64(d.Sum64(), Buckets)
	return uint32(high)
}

// Explanation says which variant of a stage a key gets.
type Explanation struct {
	Canary     bool
	Deployment uint64
	Bucket     uint32
	Threshold  uint32 // the canary's share in parts per million
	Salt       uint64
	Text       string
}

// Explain says which variant a key gets, and why.
func (s *Stage) Explain(key string) Explanation {
	e := Explanation{Deployment: s.Config.Deployment}
	canary := s.Config.Canary
	if canary == nil {
		e.Text = "the stage has no canary, so every request gets the base"
		return e
	}
	e.Threshold, e.Salt = canary.PartsPerMillion, canary.Salt
	if s.Split.Source == KeyNone && canary.PartsPerMillion > 0 && canary.PartsPerMillion < Buckets {
		e.Text = fmt.Sprintf("the stage has no sticky key: each request is drawn by itself, %v %% of them for the canary",
			Percent(canary.PartsPerMillion))
		return e
	}
	e.Bucket = Bucket(canary.Salt, key) // without a sticky key any bucket decides alike here
	order := "is not below"
	if e.Canary = e.Bucket < e.Threshold; e.Canary {
		e.Deployment = canary.Deployment
		order = "is below"
	}
	e.Text = fmt.Sprintf("bucket %d of key %q %s the canary's threshold %d (%v %%)",
		e.Bucket, key, order, e.Threshold, Percent(e.Threshold))
	return e
}

// Moved returns the share of requests, in parts per million, that another
// deployment answers after a change of a stage from one state to the other. Keys
// that keep their salt keep their bucket; under a new salt they are drawn anew.
// Changed variables, and a change of what the key is, are not counted.
func Moved(before, after *Stage) uint32 {
	from, to := before.Config, after.Config
	if before.Split.Source != KeyNone && from.Canary != nil && to.Canary != nil && from.Canary.Salt != to.Canary.Salt {
		return movedAnew(from, to)
	}
	var moved uint32
	low := uint32(0)
	for _, high := range sortedPair(from.threshold(), to.threshold()) {
		if from.at(low) != to.at(low) {
			moved += high - low
		}
		low = high
	}
	if low < Buckets && from.Deployment != to.Deployment {
		moved += Buckets - low
	}
	return moved
}

// movedAnew is Moved for keys that are drawn independently before and after.
func movedAnew(from, to Config) uint32 {
	var same uint64
	for _, a := range from.shares() {
		for _, b := range to.shares() {
			if a.deployment == b.deployment {
				same += uint64(a.share) * uint64(b.share) / Buckets
			}
		}
	}
	return uint32(Buckets - min(same, Buckets))
}

type share struct {
	deployment uint64
	share      uint32
}

func (c Config) shares() []share {
	t := c.threshold()
	return []share{{c.at(0), t}, {c.Deployment, Buckets - t}}
}

func sortedPair(a, b uint32) [2]uint32 { return [2]uint32{min(a, b), max(a, b)} }

func (c Config) threshold() uint32 {
	if c.Canary == nil {
		return 0
	}
	return c.Canary.PartsPerMillion
}

// at returns the deployment that answers a bucket.
func (c Config) at(bucket uint32) uint64 {
	if bucket < c.threshold() {
		return c.Canary.Deployment
	}
	return c.Deployment
}
