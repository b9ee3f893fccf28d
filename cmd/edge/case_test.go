//go:build linux

package edge_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// testCase is one conversation and what has to come of it. testdata/README.md
// describes the format of the files.
type testCase struct {
	name, file, why string
	trusted         bool // the agent believes this peer's forwarding fields
	steps           []step
	answer          script // of the upstream
	wants           []want
	end             string // open, close or tunnel
	seen            []message
	nothing         bool // not a byte may reach the upstream
	incomplete      bool // bytes may, but no whole request besides those of seen
}

// step is one thing that the client does: exactly one field is set.
type step struct {
	send  []byte
	await bool // read the next response that is wanted
	shut  bool // end what the client sends
}

// want is one response that the client has to get.
type want struct {
	status   int
	bodiless bool    // it has no body, whatever its fields say
	body     *string // nil: any
	raw      []byte  // bytes behind a 101, instead of a response
	broken   bool    // it does not look complete: it breaks off, or is an error of the proxy's own
	maybe    bool    // or the connection ends without it
	with     []field
	without  []string
}

// message is a request that has to reach the upstream.
type message struct {
	method, target string
	fields         []field
	body           string
}

type field struct{ name, value string }

// script is what the upstream does once it has got a request.
type script struct {
	bytes   []byte // nil: an ordinary answer
	endless bool   // the bytes again and again, until the connection ends
	close   bool   // and then an end of the connection
	reset   bool   // and then a reset of the connection
	hang    bool   // and then nothing
	early   bool   // all of it at the request's head, before the body
}

// readCorpus reads all cases, in the order of files and lines.
func readCorpus(t *testing.T) []*testCase {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var all []*testCase
	names := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		cases, err := parseCases(filepath.Base(file), string(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cases {
			if names[c.name] {
				t.Fatalf("%s: case %s is there twice", file, c.name)
			}
			names[c.name] = true
		}
		all = append(all, cases...)
	}
	return all
}

func parseCases(file, text string) ([]*testCase, error) {
	var all []*testCase
	number := 0
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		number++
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		if name, ok := strings.CutPrefix(line, "case "); ok {
			all = append(all, &testCase{name: name, file: file})
			continue
		}
		if len(all) == 0 {
			return nil, fmt.Errorf("%s:%d: a line before the first case", file, number)
		}
		if err := all[len(all)-1].parse(line); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, number, err)
		}
	}
	for _, c := range all {
		if c.why == "" || len(c.steps) == 0 || c.end == "" || !c.nothing && !c.incomplete && len(c.seen) == 0 {
			return nil, fmt.Errorf("%s: case %s lacks why, a request, then, or seen", file, c.name)
		}
	}
	return all, nil
}

func (c *testCase) parse(line string) (err error) {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "why":
		c.why = strings.TrimSpace(c.why + " " + rest)
	case "peer":
		if rest != "trusted" {
			return fmt.Errorf("peer %q", rest)
		}
		c.trusted = true
	case ">":
		var bytes []byte
		if bytes, err = unescape(rest); err != nil {
			return err
		}
		if n := len(c.steps); n == 0 || c.steps[n-1].send == nil {
			c.steps = append(c.steps, step{send: []byte{}})
		}
		last := &c.steps[len(c.steps)-1]
		last.send = append(last.send, bytes...)
	case "await":
		c.steps = append(c.steps, step{await: true})
	case "shut":
		c.steps = append(c.steps, step{shut: true})
	case "<":
		var bytes []byte
		if bytes, err = unescape(rest); err != nil {
			return err
		}
		c.answer.bytes = append(c.answer.bytes, bytes...)
	case "upstream":
		return c.answer.parse(rest)
	case "want", "maybe", "with", "without":
		return c.parseWant(word, rest)
	case "then":
		if !slices.Contains([]string{"open", "close", "tunnel", "any"}, rest) {
			return fmt.Errorf("then %q", rest)
		}
		c.end = rest
	case "seen":
		return c.parseSeen(rest)
	case "field", "body":
		if len(c.seen) == 0 {
			return fmt.Errorf("%s without a request seen", word)
		}
		last := &c.seen[len(c.seen)-1]
		if word == "body" {
			last.body, err = quoted(rest)
			return err
		}
		name, value, ok := strings.Cut(rest, ":")
		if !ok {
			return fmt.Errorf("field %q", rest)
		}
		last.fields = append(last.fields, field{name, strings.TrimSpace(value)})
	default:
		return fmt.Errorf("unknown word %q", word)
	}
	return nil
}

func (s *script) parse(word string) error {
	switch word {
	case "endless":
		s.endless = true
	case "close":
		s.close = true
	case "reset":
		s.reset = true
	case "hang":
		s.hang = true
	case "early":
		s.early = true
	default:
		return fmt.Errorf("upstream %q", word)
	}
	return nil
}

func (c *testCase) parseWant(word, rest string) error {
	if word == "with" || word == "without" {
		if len(c.wants) == 0 {
			return fmt.Errorf("%s without a response", word)
		}
		last := &c.wants[len(c.wants)-1]
		if word == "without" {
			last.without = append(last.without, rest)
			return nil
		}
		name, value, ok := strings.Cut(rest, ":")
		if !ok {
			return fmt.Errorf("with %q", rest)
		}
		last.with = append(last.with, field{name, strings.TrimSpace(value)})
		return nil
	}
	if rest == "nothing" {
		return nil
	}
	first, rest, _ := strings.Cut(rest, " ")
	w := want{maybe: word == "maybe"}
	if first == "raw" {
		text, err := quoted(rest)
		if err != nil {
			return err
		}
		c.wants = append(c.wants, want{raw: []byte(text)})
		return nil
	}
	var err error
	if w.status, err = strconv.Atoi(first); err != nil {
		return fmt.Errorf("want %q", first)
	}
	for _, flag := range []struct {
		word string
		set  *bool
	}{{"bodiless", &w.bodiless}, {"broken", &w.broken}} {
		if after, ok := strings.CutPrefix(rest, flag.word); ok {
			*flag.set, rest = true, strings.TrimSpace(after)
		}
	}
	if rest != "" {
		text, err := quoted(rest)
		if err != nil {
			return err
		}
		w.body = &text
	}
	c.wants = append(c.wants, w)
	return nil
}

func (c *testCase) parseSeen(rest string) error {
	switch rest {
	case "nothing":
		c.nothing = true
	case "incomplete":
		c.incomplete = true
	default:
		method, target, ok := strings.Cut(rest, " ")
		if !ok {
			return fmt.Errorf("seen %q", rest)
		}
		bytes, err := unescape(target + `\+`)
		if err != nil {
			return err
		}
		c.seen = append(c.seen, message{method: method, target: string(bytes)})
	}
	return nil
}

func quoted(s string) (string, error) {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return "", fmt.Errorf("%s is not in quotes", s)
	}
	bytes, err := unescape(s[1:len(s)-1] + `\+`)
	return string(bytes), err
}

// unescape reads one line of bytes, to which CRLF is added unless it ends in \+.
func unescape(s string) ([]byte, error) {
	out := []byte{}
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		i++
		if i == len(s) {
			return nil, fmt.Errorf("%q ends in a backslash", s)
		}
		switch s[i] {
		case 'r':
			out = append(out, '\r')
		case 'n':
			out = append(out, '\n')
		case 't':
			out = append(out, '\t')
		case '0':
			out = append(out, 0)
		case '\\':
			out = append(out, '\\')
		case '+':
			if i != len(s)-1 {
				return nil, fmt.Errorf(`%q: \+ ends a line`, s)
			}
			return out, nil
		case 'x':
			if i+2 >= len(s) {
				return nil, fmt.Errorf(`%q: \x takes two digits`, s)
			}
			b, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", s, err)
			}
			out = append(out, byte(b))
			i += 2
		case '*': // \*COUNT(bytes), in which # is the number of the copy
			count, rest, ok1 := strings.Cut(s[i+1:], "(")
			text, _, ok2 := strings.Cut(rest, ")")
			n, err := strconv.Atoi(count)
			if !ok1 || !ok2 || err != nil {
				return nil, fmt.Errorf(`%q: want \*COUNT(bytes)`, s)
			}
			inner, err := unescape(text + `\+`)
			if err != nil {
				return nil, err
			}
			for k := range n {
				out = append(out, strings.ReplaceAll(string(inner), "#", strconv.Itoa(k))...)
			}
			i += len("*") + len(count) + len("(") + len(text) + len(")") - 1
		default:
			return nil, fmt.Errorf(`%q: unknown escape \%c`, s, s[i])
		}
	}
	return append(out, '\r', '\n'), nil
}

func TestUnescape(t *testing.T) {
	for _, test := range []struct{ in, out string }{
		{`a`, "a\r\n"},
		{`a\+`, "a"},
		{`\x41\\\t\0\r\n`, "A\\\t\x00\r\n\r\n"},
		{`x\*3(ab)y`, "xabababy\r\n"},
		{`\*2(h#: 1\r\n)\+`, "h0: 1\r\nh1: 1\r\n"},
	} {
		if got, err := unescape(test.in); err != nil || string(got) != test.out {
			t.Errorf("unescape(%q) = %q, %v; want %q", test.in, got, err, test.out)
		}
	}
	for _, bad := range []string{`\`, `\q`, `\x4`, `\+a`, `\*2`, `\*a(b)`} {
		if got, err := unescape(bad); err == nil {
			t.Errorf("unescape(%q) = %q, want an error", bad, got)
		}
	}
}
