package route

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// vectorsFile holds lines of SALT KEY HASH BUCKET, salt and hash in hex, the key
// quoted. Whoever else computes the split tests against the same file.
const vectorsFile = "testdata/split_vectors.txt"

func TestSplitVectors(t *testing.T) {
	if *update {
		if err := os.WriteFile(vectorsFile, []byte(splitVectors(t)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	want, got := lines(string(golden)), lines(splitVectors(t))
	if len(got) != len(want) {
		t.Fatalf("%d vectors, %s has %d; after a wanted change run the test with -update", len(got), vectorsFile, len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("vector %d\n got %s\nwant %s", i+1, got[i], want[i])
		}
	}
}

func splitVectors(t *testing.T) string {
	keys := []string{
		"", "a", "user-1", "user-2", "alice@example.com", "203.0.113.7", "2001:db8::1",
		"0123456789abcdef", "0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef+", "naïve café", "\x00\xff",
		strings.Repeat("long ", 60),
	}
	var b strings.Builder
	for _, salt := range []uint64{0, 1, 42, 0x9e3779b97f4a7c15, math.MaxUint64} {
		s := canaryStage(t, million/2, salt)
		for _, key := range keys {
			h := s.Hash(key)
			fmt.Fprintf(&b, "%016x %s %016x %d\n", salt, strconv.QuoteToASCII(key), h, Bucket(h))
		}
	}
	return b.String()
}

func TestBucket(t *testing.T) {
	tests := []struct {
		n    uint64
		want uint32
	}{
		{0, 0},
		{18_446_744_073_709, 0}, // the last below 2^64 / 1,000,000
		{18_446_744_073_710, 1},
		{1 << 63, 500_000},
		{1<<63 - 1, 499_999},
		{math.MaxUint64, 999_999},
	}
	for _, tt := range tests {
		if got := Bucket(tt.n); got != tt.want {
			t.Errorf("Bucket(%d) = %d, want %d", tt.n, got, tt.want)
		}
	}
}

// TestPickEnds: nothing and everything are exact, for the extremes of n too.
func TestPickEnds(t *testing.T) {
	none, all := canaryStage(t, 0, 7), canaryStage(t, million, 7)
	random := rand.New(rand.NewPCG(1, 2))
	ns := []uint64{0, 1, 1 << 63, math.MaxUint64}
	for range 20_000 {
		ns = append(ns, random.Uint64())
	}
	for _, n := range ns {
		if got := none.Pick(n); got != none.Base() {
			t.Fatalf("at 0 %%, Pick(%d) = %s", n, got.Name)
		}
		if got := all.Pick(n); got != all.Canary() {
			t.Fatalf("at 100 %%, Pick(%d) = %s", n, got.Name)
		}
	}
	one := canaryStage(t, 1, 7)
	if one.Pick(0) != one.Canary() || one.Pick(18_446_744_073_710) != one.Base() {
		t.Error("one part per million is not exactly bucket 0")
	}
}

// TestPickHalf draws 20,000 times at 50 %: the count of canaries must lie within
// four standard deviations, sqrt(n/4) each.
func TestPickHalf(t *testing.T) {
	const n = 20_000
	s := canaryStage(t, million/2, 7)
	random := rand.New(rand.NewPCG(3, 4))
	draws := map[string]func(i int) uint64{
		"random": func(int) uint64 { return random.Uint64() },
		"sticky": func(i int) uint64 { return s.Hash(fmt.Sprint("user-", i)) },
	}
	for name, draw := range draws {
		canary := 0
		for i := range n {
			if s.Pick(draw(i)) == s.Canary() {
				canary++
			}
		}
		if off := math.Abs(float64(canary) - n/2); off > 4*math.Sqrt(n/4) {
			t.Errorf("%s: %d of %d went to the canary", name, canary, n)
		}
	}
}

// TestStickyIsMonotone: over 100,000 keys a higher share takes no key back, and
// two tables that were compiled by themselves agree on every key.
func TestStickyIsMonotone(t *testing.T) {
	const salt = 0x5eed
	low, high, again := canaryStage(t, 50_000, salt), canaryStage(t, 200_000, salt), canaryStage(t, 200_000, salt)
	added := 0
	for i := range 100_000 {
		key := fmt.Sprint("user-", i)
		before, after := low.Pick(low.Hash(key)).Name, high.Pick(high.Hash(key)).Name
		if before == "canary" && after == "base" {
			t.Fatalf("%s went back to the base when the share rose from 5 %% to 20 %%", key)
		}
		if before != after {
			added++
		}
		if other := again.Pick(again.Hash(key)).Name; other != after {
			t.Fatalf("%s: one table says %s, the other %s", key, after, other)
		}
	}
	if added < 14_000 || added > 16_000 {
		t.Errorf("%d of 100,000 keys were added, want about 15,000", added)
	}
}

func TestPickIsMonotone(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		low := rapid.Uint32Range(0, million).Draw(rt, "low")
		high := rapid.Uint32Range(low, million).Draw(rt, "high")
		salt, key := rapid.Uint64().Draw(rt, "salt"), rapid.String().Draw(rt, "key")
		before, after := canaryStage(t, low, salt), canaryStage(t, high, salt)
		if before.Pick(before.Hash(key)).Name == "canary" && after.Pick(after.Hash(key)).Name == "base" {
			rt.Fatalf("key %q left the canary when its share rose from %d to %d", key, low, high)
		}
	})
}

// TestSaltMovesKeys: another canary tries other users.
func TestSaltMovesKeys(t *testing.T) {
	a, b := canaryStage(t, 100_000, 1), canaryStage(t, 100_000, 2)
	both := 0
	for i := range 10_000 {
		key := fmt.Sprint("user-", i)
		if a.Pick(a.Hash(key)) == a.Canary() && b.Pick(b.Hash(key)) == b.Canary() {
			both++
		}
	}
	if both < 50 || both > 150 {
		t.Errorf("%d of 10,000 keys are in both canaries of 10 %%, want about 100", both)
	}
}
