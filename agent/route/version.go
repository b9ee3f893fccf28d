package route

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Version names one committed state of the control plane: the epoch is raised
// when a cluster is bootstrapped or restored, the index counts the changes
// within it. The zero Version means "none" and is lower than every other.
type Version struct{ Epoch, Index uint64 }

// Compare returns -1, 0 or +1 as v is older than, equal to or newer than o.
func (v Version) Compare(o Version) int {
	return cmp.Or(cmp.Compare(v.Epoch, o.Epoch), cmp.Compare(v.Index, o.Index))
}

// IsZero reports whether v is no version at all.
func (v Version) IsZero() bool { return v == Version{} }

// String returns the form that people and headers see, such as "1.42".
func (v Version) String() string {
	var buf [41]byte // two of the longest uint64 and the dot
	b := strconv.AppendUint(buf[:0], v.Epoch, 10)
	b = append(b, '.')
	return string(strconv.AppendUint(b, v.Index, 10))
}

// ParseVersion reads what String writes, and nothing else.
func ParseVersion(s string) (Version, error) {
	epoch, index, _ := strings.Cut(s, ".")
	e, err1 := strconv.ParseUint(epoch, 10, 64)
	i, err2 := strconv.ParseUint(index, 10, 64)
	v := Version{Epoch: e, Index: i}
	if err1 != nil || err2 != nil || v.String() != s {
		return Version{}, fmt.Errorf("version %q: want EPOCH.INDEX, such as 1.42", s)
	}
	return v, nil
}
