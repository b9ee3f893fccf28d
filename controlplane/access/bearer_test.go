package access

import (
	"strings"
	"testing"
)

func TestKindOf(t *testing.T) {
	for text, want := range map[string]BearerKind{
		"fife_id.secret":                BearerToken,
		"fife_id.a.b":                   BearerToken, // its secret would be a.b
		"fife_id":                       BearerUnknown,
		"fife_":                         BearerUnknown,
		"fife_.x.y":                     BearerUnknown,
		"fife_a..":                      BearerToken,
		"eyJhbGciOiJFUzI1NiJ9.e30.c2ln": BearerJWT,
		"eyJhbGciOiJub25lIn0.e30.":      BearerUnknown,
		"a.b.c":                         BearerJWT,
		"a.b.c.d.e":                     BearerUnknown, // encrypted
		"a.b=.c":                        BearerUnknown,
		"a. b.c":                        BearerUnknown,
		"a.b.c\n":                       BearerUnknown,
		"Fife_a.b.c":                    BearerJWT,
		"fife1.id.secret.pin":           BearerUnknown, // a join token
		"":                              BearerUnknown,
		"..":                            BearerUnknown,
	} {
		if got := KindOf(text); got != want {
			t.Errorf("KindOf(%q) = %v, want %v", text, got, want)
		}
	}
}

// FuzzKindOf: no text is of two kinds, and what is of one can be taken apart as such.
func FuzzKindOf(f *testing.F) {
	for _, seed := range []string{"fife_id.secret", "eyJhbGciOiJFUzI1NiJ9.e30.c2ln", "fife_a.b.c", "a.b.", "..", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, secret, ours := ParseToken(text)
		kind := KindOf(text)
		if ours != (kind == BearerToken) {
			t.Fatalf("%q is of kind %v, and ParseToken says %v", text, kind, ours)
		}
		if ours && (id == "" || secret == "" || strings.Contains(id, ".") || TokenText(id, secret) != text) {
			t.Errorf("%q is taken apart as %q and %q", text, id, secret)
		}
		if kind == BearerJWT {
			if strings.HasPrefix(text, TokenPrefix) || strings.Count(text, ".") != 2 {
				t.Errorf("%q is no JWT", text)
			}
			for _, r := range text {
				if r != '.' && !strings.ContainsRune(base64URL, r) {
					t.Errorf("%q is no JWT: %q", text, r)
				}
			}
		}
	})
}
