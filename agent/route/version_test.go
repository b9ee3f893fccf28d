package route

import (
	"math"
	"testing"
)

func TestVersionCompare(t *testing.T) {
	ordered := []Version{{}, {0, 1}, {0, math.MaxUint64}, {1, 0}, {1, 1}, {2, 0}, {math.MaxUint64, 0}}
	for i, a := range ordered {
		for j, b := range ordered {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := a.Compare(b); got != want {
				t.Errorf("%v.Compare(%v) = %d, want %d", a, b, got, want)
			}
		}
		if a.IsZero() != (i == 0) {
			t.Errorf("%v.IsZero() = %v", a, a.IsZero())
		}
	}
}

func TestParseVersion(t *testing.T) {
	for _, v := range []Version{{}, {1, 42}, {math.MaxUint64, math.MaxUint64}} {
		if got, err := ParseVersion(v.String()); err != nil || got != v {
			t.Errorf("ParseVersion(%q) = %v, %v", v, got, err)
		}
	}
	if got := (Version{1, 42}).String(); got != "1.42" {
		t.Errorf("String() = %q, want 1.42", got)
	}
	for _, s := range []string{"", ".", "1", "1.", ".1", "1.2.3", "-1.2", "+1.2", "01.2", "1.2 ", "1.18446744073709551616", "a.b"} {
		if v, err := ParseVersion(s); err == nil {
			t.Errorf("ParseVersion(%q) = %v, want an error", s, v)
		}
	}
}
