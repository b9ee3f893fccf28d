package proxy

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestNormalizePath(t *testing.T) {
	for _, c := range []struct {
		path, want string
		err        error
	}{
		{path: "", want: "/"},
		{path: "/", want: "/"},
		{path: "/canary/canary-demo", want: "/canary/canary-demo"},
		{path: "/canary/demo/", want: "/canary/demo/"},
		{path: "/canary/a.b/..c/.d/...", want: "/canary/a.b/..c/.d/..."},

		{path: "/canary/./a", want: "/canary/a"},
		{path: "/canary/a/../b", want: "/canary/b"},
		{path: "/canary/a/..", want: "/canary/"},
		{path: "/canary/a/.", want: "/canary/a/"},
		{path: "/..", want: "/"},
		{path: "/.", want: "/"},
		{path: "/../../canary/a", want: "/canary/a"},
		{path: "/canary/%2e/a", want: "/canary/a"},
		{path: "/canary/a/%2e%2E/b", want: "/canary/b"},
		{path: "/canary/a/.%2e/b", want: "/canary/b"},
		{path: "/canary/a/%2e./b", want: "/canary/b"},
		{path: "/canary/%252e%252e/b", want: "/canary/%252e%252e/b"},

		{path: "//canary/a", want: "//canary/a"},
		{path: "/canary//a", want: "/canary//a"},
		{path: "/canary//../a", want: "/canary/a"},
		{path: "/canary/a%2fb", want: "/canary/a%2fb"},
		{path: "/canary/a%2Fb.c", want: "/canary/a%2Fb.c"},
		{path: "/canary/..%2fother", err: errPathHidden},
		{path: "/canary/a%2F%2e%2e", err: errPathHidden},
		{path: "/canary/a%2f.%2fb", err: errPathHidden},

		{path: "/canary/%61", want: "/canary/%61"},
		{path: "/canary/a b|c\"d#e", want: "/canary/a%20b%7Cc%22d%23e"},
		{path: "/canary/é%2f", want: "/canary/%C3%A9%2f"},

		{path: "canary", err: errPathRelative},
		{path: "*", err: errPathRelative},
		{path: "/canary/%00", err: errPathByte},
		{path: "/canary/%1f", err: errPathByte},
		{path: "/canary/%7F", err: errPathByte},
		{path: "/canary/\x01", err: errPathByte},
		{path: "/canary/\x7f", err: errPathByte},
		{path: `/canary/..\a`, err: errPathByte},
		{path: "/canary/..%5ca", err: errPathByte},
		{path: "/canary/..%5Ca", err: errPathByte},
		{path: "/canary/%", err: errPathEscape},
		{path: "/canary/%a", err: errPathEscape},
		{path: "/canary/%zz", err: errPathEscape},
		{path: "/canary/%u002f", err: errPathEscape},
	} {
		got, err := normalizePath(c.path)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("normalizePath(%q) = %q, %v; want %q, %v", c.path, got, err, c.want, c.err)
		}
	}
}

func TestNormalizePathDoesNotCopy(t *testing.T) {
	path := "/canary/pets/a.b/%41"
	if n := testing.AllocsPerRun(100, func() { _, _ = normalizePath(path) }); n != 0 {
		t.Errorf("a normal path costs %v allocations, want none", n)
	}
}

func FuzzNormalizePath(f *testing.F) {
	for _, s := range []string{"/", "/canary/a/../b", "/a/%2e%2e/b", "/a/..%2fb", "//a//", "/\\", "/%5c", "/%", "/é|", "/a/%2F%2e", "/./..//."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got, err := normalizePath(path)
		if err != nil {
			return
		}
		if again, err := normalizePath(got); err != nil || again != got {
			t.Fatalf("normalizePath(%q) = %q, again %q, %v: not a fixed point", path, got, again, err)
		}
		if got[0] != '/' {
			t.Fatalf("normalizePath(%q) = %q: does not begin with a slash", path, got)
		}
		u, err := url.Parse("http://upstream" + got)
		if err != nil || u.EscapedPath() != got {
			t.Fatalf("normalizePath(%q) = %q: is forwarded as %q, %v", path, got, u.EscapedPath(), err)
		}
		if strings.ContainsAny(u.Path, "\\\x00\r\n\x7f") {
			t.Fatalf("normalizePath(%q) = %q: decodes to %q", path, got, u.Path)
		}
		// Also who decodes first and splits then must find nothing to climb.
		for s := range strings.SplitSeq(u.Path, "/") {
			if s == "." || s == ".." {
				t.Fatalf("normalizePath(%q) = %q: decodes to %q", path, got, u.Path)
			}
		}
	})
}

func TestNormalizeQuery(t *testing.T) {
	for query, want := range map[string]string{
		"a=1&b=%20&c=+;d[]=é": "a=1&b=%20&c=+;d[]=%C3%A9",
		"a b#c\r\n":           "a%20b%23c%0D%0A",
		"":                    "",
	} {
		if got := normalizeQuery(query); got != want {
			t.Errorf("normalizeQuery(%q) = %q, want %q", query, got, want)
		}
	}
}
