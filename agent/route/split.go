package route

import (
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// million is how many buckets there are: shares are parts per million.
const million = 1_000_000

// Bucket maps n onto 0 to 999,999 by multiply and shift: the high word of
// n * 1,000,000. Unlike n % total it needs no division and favours no bucket
// by more than one part in 2^44.
func Bucket(n uint64) uint32 {
	hi, _ := bits.Mul64(n, million)
	return uint32(hi)
}

// Pick chooses the variant for n, which the caller brings: a random number, or
// Hash of a sticky key. The canary gets exactly the buckets below its share, so
// 0 sends it nothing and 1,000,000 everything, and a higher share only ever
// adds numbers. A canary that is not there gets nothing.
func (s *Stage) Pick(n uint64) *Variant {
	if Bucket(n) < s.share {
		return s.canary
	}
	return s.base
}

// Hash turns a sticky key into the number for Pick: XXH64 of the key's bytes,
// seeded with the canary's salt. Every agent gives a key the same number.
func (s *Stage) Hash(key string) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(s.salt)
	_, _ = d.WriteString(key)
	return d.Sum64()
}
