package release_test

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fifegateway/fife/controlplane/release"
)

func TestCheckSplit(t *testing.T) {
	name, key := "f.sticky_key", "f.override_key"
	tests := map[string]struct {
		split release.Split
		want  fault
	}{
		"random":           {},
		"client ip":        {split: release.Split{Source: release.KeyClientIP}},
		"header":           {split: release.Split{Source: release.KeyHeader, Name: "X-User!#$%&'*+-.^_`|~0"}},
		"cookie":           {split: release.Split{Source: release.KeyCookie, Name: strings.Repeat("c", 128)}},
		"query":            {split: release.Split{Source: release.KeyQuery, Name: "q"}},
		"override":         {split: release.Split{AllowOverride: true}},
		"signed override":  {split: release.Split{AllowOverride: true, OverrideKey: "0123456789abcde~"}},
		"longest key":      {split: release.Split{AllowOverride: true, OverrideKey: strings.Repeat("k", 256)}},
		"header unnamed":   {release.Split{Source: release.KeyHeader}, fault{name, `name ""`}},
		"cookie unnamed":   {release.Split{Source: release.KeyCookie}, fault{name, `name ""`}},
		"query unnamed":    {release.Split{Source: release.KeyQuery}, fault{name, `name ""`}},
		"name space":       {release.Split{Source: release.KeyHeader, Name: "a b"}, fault{name, `name "a b" must have 1 to 128`}},
		"name colon":       {release.Split{Source: release.KeyHeader, Name: "a:"}, fault{name, `name "a:"`}},
		"name equals":      {release.Split{Source: release.KeyCookie, Name: "a=b"}, fault{name, `name "a=b"`}},
		"name long":        {release.Split{Source: release.KeyQuery, Name: strings.Repeat("q", 129)}, fault{name, "must have 1 to 128"}},
		"key not allowed":  {release.Split{OverrideKey: "0123456789abcdef"}, fault{key, "is set, but allow_override is not"}},
		"key of 15":        {release.Split{AllowOverride: true, OverrideKey: "0123456789abcde"}, fault{key, "must have 16 to 256"}},
		"key of 257":       {release.Split{AllowOverride: true, OverrideKey: strings.Repeat("k", 257)}, fault{key, "must have 16 to 256"}},
		"key with space":   {release.Split{AllowOverride: true, OverrideKey: "0123456789 abcdef"}, fault{key, "without spaces"}},
		"key with control": {release.Split{AllowOverride: true, OverrideKey: "0123456789\nabcdef"}, fault{key, "printable ASCII"}},
		"key with umlaut":  {release.Split{AllowOverride: true, OverrideKey: "0123456789äbcdef"}, fault{key, "printable ASCII"}},
	}
	for what, tt := range tests {
		t.Run(what, func(t *testing.T) {
			var v release.Violations
			release.CheckSplit(&v, "f", tt.split)
			wantFault(t, v, tt.want)
			for _, found := range v {
				if k := tt.split.OverrideKey; k != "" && strings.Contains(found.Description, k) {
					t.Errorf("%q gives the key away", found.Description)
				}
			}
		})
	}
}

// splitVectors holds lines of SALT KEY HASH BUCKET, salt and hash in hex and the
// key quoted, which the agents' split is tested with too.
const splitVectors = "../../agent/route/testdata/split_vectors.txt"

func TestSplitVectors(t *testing.T) {
	f, err := os.Open(splitVectors)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	n := 0
	for in := bufio.NewScanner(f); in.Scan(); n++ {
		var salt, hash uint64
		var key string
		var bucket uint32
		if _, err := fmt.Sscanf(in.Text(), "%x %q %x %d", &salt, &key, &hash, &bucket); err != nil {
			t.Fatalf("vector %d, %q: %v", n+1, in.Text(), err)
		}
		if got := release.Bucket(salt, key); got != bucket {
			t.Errorf("Bucket(%016x, %s) = %d, agents say %d", salt, strconv.QuoteToASCII(key), got, bucket)
		}
	}
	if n < 50 {
		t.Errorf("%s has %d vectors only", splitVectors, n)
	}
}

// TestSplitIsMonotone: a higher share takes no key back, and at 0 % and 100 %
// there is no exception.
func TestSplitIsMonotone(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		salt, key := rapid.Uint64().Draw(rt, "salt"), rapid.String().Draw(rt, "key")
		canary := func(ppm uint32) bool {
			s := release.NewStage(change(1), "a", "s", release.StageValues{
				Deployment: 1, Split: release.Split{Source: release.KeyHeader, Name: "h"},
			})
			s.Config.Canary = &release.Canary{Deployment: 2, PartsPerMillion: ppm, Salt: salt}
			return s.Explain(key).Canary
		}
		low := rapid.Uint32Range(0, release.Buckets).Draw(rt, "low")
		high := rapid.Uint32Range(low, release.Buckets).Draw(rt, "high")
		if canary(low) && !canary(high) {
			rt.Fatalf("key %q leaves the canary as its share rises from %d to %d", key, low, high)
		}
		if canary(0) || !canary(release.Buckets) {
			rt.Fatalf("key %q is an exception to nothing or everything", key)
		}
	})
}

func TestExplain(t *testing.T) {
	const salt, key = 0, "user-2" // bucket 451,505, as the vectors say
	sticky := release.Split{Source: release.KeyHeader, Name: "x-user"}
	canary := func(ppm uint32) *release.Canary {
		return &release.Canary{Deployment: 2, PartsPerMillion: ppm, Salt: salt}
	}
	tests := []struct {
		split  release.Split
		canary *release.Canary
		want   release.Explanation
	}{
		{sticky, nil, release.Explanation{
			Deployment: 1, Text: "the stage has no canary, so every request gets the base",
		}},
		{release.Split{}, canary(250_000), release.Explanation{
			Deployment: 1, Threshold: 250_000,
			Text: "the stage has no sticky key: each request is drawn by itself, 25 % of them for the canary",
		}},
		// Nothing and everything need no drawing.
		{release.Split{}, canary(0), release.Explanation{
			Deployment: 1, Bucket: 451_505, Text: `bucket 451505 of key "user-2" is not below the canary's threshold 0 (0 %)`,
		}},
		{release.Split{}, canary(1_000_000), release.Explanation{
			Canary: true, Deployment: 2, Bucket: 451_505, Threshold: 1_000_000,
			Text: `bucket 451505 of key "user-2" is below the canary's threshold 1000000 (100 %)`,
		}},
		{sticky, canary(451_505), release.Explanation{
			Deployment: 1, Bucket: 451_505, Threshold: 451_505,
			Text: `bucket 451505 of key "user-2" is not below the canary's threshold 451505 (45.1505 %)`,
		}},
		{sticky, canary(451_506), release.Explanation{
			Canary: true, Deployment: 2, Bucket: 451_505, Threshold: 451_506,
			Text: `bucket 451505 of key "user-2" is below the canary's threshold 451506 (45.1506 %)`,
		}},
	}
	for _, tt := range tests {
		s := release.NewStage(change(1), "a", "s", release.StageValues{Deployment: 1, Split: tt.split})
		s.Config.Canary = tt.canary
		if got := s.Explain(key); got != tt.want {
			t.Errorf("got %+v, want %+v", got, tt.want)
		}
	}
}

func TestMoved(t *testing.T) {
	config := func(base, canary uint64, ppm uint32) release.Config {
		c := release.Config{Deployment: base}
		if canary != 0 {
			c.Canary = &release.Canary{Deployment: canary, PartsPerMillion: ppm}
		}
		return c
	}
	tests := map[string]struct {
		from, to release.Config
		want     uint32
	}{
		"nothing":                  {config(1, 0, 0), config(1, 0, 0), 0},
		"another base":             {config(1, 0, 0), config(2, 0, 0), 1_000_000},
		"canary opens":             {config(1, 0, 0), config(1, 2, 100_000), 100_000},
		"canary of the base":       {config(1, 0, 0), config(1, 1, 100_000), 0},
		"canary at 0 %":            {config(1, 0, 0), config(1, 2, 0), 0},
		"canary grows":             {config(1, 2, 100_000), config(1, 2, 250_000), 150_000},
		"canary shrinks":           {config(1, 2, 250_000), config(1, 2, 100_000), 150_000},
		"canary is replaced":       {config(1, 2, 100_000), config(1, 3, 250_000), 250_000},
		"canary aborted":           {config(1, 2, 100_000), config(1, 0, 0), 100_000},
		"canary promoted":          {config(1, 2, 100_000), config(2, 0, 0), 900_000},
		"canary at 100 % promoted": {config(1, 2, 1_000_000), config(2, 0, 0), 0},
		"base beside a canary":     {config(1, 2, 100_000), config(3, 2, 100_000), 900_000},
		"base and canary swap":     {config(1, 2, 300_000), config(2, 1, 300_000), 1_000_000},
		"base beside 100 %":        {config(1, 2, 1_000_000), config(3, 2, 1_000_000), 0},
	}
	for name, tt := range tests {
		if got := release.Moved(&release.Stage{Config: tt.from}, &release.Stage{Config: tt.to}); got != tt.want {
			t.Errorf("%s: got %d, want %d", name, got, tt.want)
		}
	}
}

// TestMovedUnderNewSalt: a new salt draws the keys anew, those of random requests
// excepted, which have none.
func TestMovedUnderNewSalt(t *testing.T) {
	sticky := release.Split{Source: release.KeyClientIP}
	stage := func(split release.Split, base, canary uint64, ppm uint32, salt uint64) *release.Stage {
		return &release.Stage{Split: split, Config: release.Config{
			Deployment: base, Canary: &release.Canary{Deployment: canary, PartsPerMillion: ppm, Salt: salt},
		}}
	}
	tests := map[string]struct {
		from, to *release.Stage
		want     uint32
	}{
		"same salt":           {stage(sticky, 1, 2, 300_000, 7), stage(sticky, 1, 2, 300_000, 7), 0},
		"new salt":            {stage(sticky, 1, 2, 300_000, 7), stage(sticky, 1, 2, 300_000, 8), 420_000}, // 2 * 0.3 * 0.7
		"new salt and share":  {stage(sticky, 1, 2, 500_000, 7), stage(sticky, 1, 2, 100_000, 8), 500_000},
		"another deployment":  {stage(sticky, 1, 2, 500_000, 7), stage(sticky, 1, 3, 500_000, 8), 750_000},
		"canary of the base":  {stage(sticky, 1, 1, 500_000, 7), stage(sticky, 1, 1, 100_000, 8), 0},
		"from nothing":        {stage(sticky, 1, 2, 0, 7), stage(sticky, 1, 2, 250_000, 8), 250_000},
		"everything":          {stage(sticky, 1, 2, 1_000_000, 7), stage(sticky, 1, 2, 1_000_000, 8), 0},
		"random, so unsalted": {stage(release.Split{}, 1, 2, 300_000, 7), stage(release.Split{}, 1, 2, 300_000, 8), 0},
	}
	for name, tt := range tests {
		if got := release.Moved(tt.from, tt.to); got != tt.want {
			t.Errorf("%s: got %d, want %d", name, got, tt.want)
		}
	}
}

// TestMovedCountsBuckets: the share is that of the buckets which another
// deployment answers, counted one by one.
func TestMovedCountsBuckets(t *testing.T) {
	draw := func(rt *rapid.T, name string) release.Config {
		c := release.Config{Deployment: rapid.Uint64Range(1, 3).Draw(rt, name+" base")}
		if rapid.Bool().Draw(rt, name+" has a canary") {
			c.Canary = &release.Canary{
				Deployment:      rapid.Uint64Range(1, 3).Draw(rt, name+" canary"),
				PartsPerMillion: 1000 * rapid.Uint32Range(0, 1000).Draw(rt, name+" share"),
			}
		}
		return c
	}
	answers := func(c release.Config, bucket uint32) uint64 {
		if c.Canary != nil && bucket < c.Canary.PartsPerMillion {
			return c.Canary.Deployment
		}
		return c.Deployment
	}
	rapid.Check(t, func(rt *rapid.T) {
		from, to := draw(rt, "from"), draw(rt, "to")
		var want uint32
		for bucket := uint32(0); bucket < release.Buckets; bucket += 1000 {
			if answers(from, bucket) != answers(to, bucket) {
				want += 1000
			}
		}
		if got := release.Moved(&release.Stage{Config: from}, &release.Stage{Config: to}); got != want {
			rt.Fatalf("got %d, want %d", got, want)
		}
	})
}
